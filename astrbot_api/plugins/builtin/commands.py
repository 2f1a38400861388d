"""The built-in commands, as section 7 of the contract lists them."""

from __future__ import annotations

from collections.abc import Iterator

from ...db import messages, sessions
from ...runtime.threads import let_others_run
from ..commands import Command, CommandContext
from ..hookspecs import hookimpl

#: Number of messages that ``/stats`` counts.
_STATS_MESSAGES = 1000

#: Number of newer messages among which ``/reset`` looks for one that waits.
_LATER_MESSAGES = 20

#: Maximum number of pages to read. A page of long messages has few of them.
_STATS_PAGES = 30


_NOTHING_WAITS = "No tool call waits for approval in this session."


class Commands:
    """``/help``, ``/sid``, ``/reset``, ``/new``, ``/stop``, ``/approve``, ``/reject``, ``/stats``.

    ``/approve`` and ``/reject`` decide the tool calls that wait for a person.
    """

    name = "commands"

    @hookimpl
    def register_commands(self) -> list[Command]:
        """Return the commands in the order of ``/help``."""
        commands = (
            ("help", "list the commands", _help),
            ("sid", "show this conversation's UMO and your user id", _sid),
            ("reset", "forget the earlier conversation", _reset),
            ("new", "start a new conversation in this session", _reset),
            ("stop", "stop the current answer", _stop),
            ("approve", "approve the waiting tool calls", _approve),
            ("reject", "reject the waiting tool calls", _reject),
            ("stats", "show the tokens that this session has used", _stats),
        )
        return [
            # Otherwise, a long answer would delay them. Source: AstrBot.
            Command(*one, resumable=True, stops_earlier=one[0] in ("reset", "new", "stop"))
            for one in commands
        ]


def _help(context: CommandContext) -> str:
    lines = (f"/{one.name} - {one.help}" for one in context.commands.values())
    return "\n".join(lines)


def _sid(context: CommandContext) -> str:
    return f"UMO: 「{context.umo}」\nUID: 「{context.username}」"


def _reset(context: CommandContext) -> str:
    session, own = context.session.id, context.message_number or 0
    with context.store.read() as db:
        later, _ = messages.list_messages_before(db, session, after=own, limit=_LATER_MESSAGES)
    # An answer that was stored since the command arrived belongs to the earlier conversation.
    # Messages that wait behind the command do not.
    waits = own and any(one.content["type"] == "user" for one in later)
    last = later[0].id if later and not waits else own
    context.store.write(lambda db: sessions.forget_context(db, session, last))
    return "The earlier conversation is forgotten."


def _approve(context: CommandContext) -> str:
    tools = context.decide(True, context.arguments)
    return f"Approved: {', '.join(tools)}." if tools else _NOTHING_WAITS


def _reject(context: CommandContext) -> str:
    tools = context.decide(False, context.arguments)
    return f"Rejected: {', '.join(tools)}." if tools else _NOTHING_WAITS


def _stop(context: CommandContext) -> str:
    # The turns were stopped when the message arrived, and this one waited for them.
    if not context.stopped:
        return "Nothing is running in this session."
    return "Stopped." if context.stopped == 1 else f"Stopped {context.stopped} turns."


def _iter_newest(context: CommandContext) -> Iterator[messages.MessageRow]:
    """Yield the newest messages. Other greenlets run between pages."""
    before, left_pages, left = 2**63 - 1, _STATS_PAGES, _STATS_MESSAGES
    has_more = True
    while has_more and left > 0 and left_pages > 0:
        with context.store.read() as db:
            page, has_more = messages.list_messages_before(
                db, context.session.id, before=before, limit=min(left, 100)
            )
        yield from page
        if page:
            before = page[-1].id
        left -= len(page)
        left_pages -= 1
        let_others_run()


def _stats(context: CommandContext) -> str:
    turns = tokens_in = tokens_cached = tokens_out = 0
    for row in _iter_newest(context):
        usage = row.content.get("agent_stats", {}).get("token_usage")
        if usage:
            turns += 1
            tokens_in += usage["input_other"]
            tokens_cached += usage["input_cached"]
            tokens_out += usage["output"]
    return (
        f"Answers: {turns}\nTokens in: {tokens_in} (and {tokens_cached} from a cache)\n"
        f"Tokens out: {tokens_out}"
    )
