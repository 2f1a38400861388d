"""The built-in commands, as section 7 of the contract lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...db import messages, sessions
from ...runtime.threads import let_others_run
from ..commands import Command, CommandContext
from ..hookspecs import hookimpl

#: Number of newer messages among which ``/reset`` looks for one that waits.
_LATER_MESSAGES = 20

#: Maximum number of pages that ``/stats`` reads, and of messages in each. A page of long messages
#: has few of them.
_STATS_PAGES = 30
_STATS_PAGE = 100


class Commands:
    """``/help``, ``/sid``, ``/reset``, ``/new``, ``/stop``, ``/approve``, ``/reject``, ``/stats``.

    ``/approve`` and ``/reject`` decide the tool calls that wait for a person.
    """

    name = "commands"

    @hookimpl
    def register_commands(self) -> list[Command]:
        """Return the commands in the order of ``/help``."""
        commands: tuple[tuple[str, str, Callable[[CommandContext], str]], ...] = (
            ("help", "list the commands", _help),
            ("sid", "show this conversation's UMO and your user id", _sid),
            ("reset", "forget the earlier conversation", _reset),
            ("new", "start a new conversation in this session", _reset),
            ("stop", "stop the current answer", _stop),
            ("approve", "approve the waiting tool calls", lambda context: _decide(context, True)),
            ("reject", "reject the waiting tool calls", lambda context: _decide(context, False)),
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


def _decide(context: CommandContext, approved: bool) -> str:
    tools = context.decide(approved, context.arguments)
    if not tools:
        return "No tool call waits for approval in this session."
    return f"{'Approved' if approved else 'Rejected'}: {', '.join(tools)}."


def _stop(context: CommandContext) -> str:
    # The turns were stopped when the message arrived, and this one waited for them.
    if not context.stopped:
        return "Nothing is running in this session."
    return "Stopped." if context.stopped == 1 else f"Stopped {context.stopped} turns."


def _iter_newest(context: CommandContext) -> Iterator[messages.MessageRow]:
    """Yield the newest messages. Other greenlets run between pages."""
    before = 2**63 - 1
    for _ in range(_STATS_PAGES):
        with context.store.read() as db:
            page, has_more = messages.list_messages_before(
                db, context.session.id, before=before, limit=_STATS_PAGE
            )
        yield from page
        if not has_more:
            return
        before = page[-1].id
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
