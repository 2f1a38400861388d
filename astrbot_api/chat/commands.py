"""Commands: a message such as ``/help`` is answered here, not by the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..db import messages, sessions
from ..db.store import Store

#: How far back ``/stats`` looks.
_STATS_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Where a command was given.

    ``umo`` names the conversation for proactive messages:
    ``platform:message type:session``.
    """

    store: Store
    session: sessions.SessionRow
    username: str
    message_number: int | None
    arguments: str
    commands: Mapping[str, Command]

    @property
    def umo(self) -> str:
        """The conversation's unified message origin."""
        name = f"webchat!{self.username}!{self.session.session_id}"
        return f"{self.session.platform_id}:FriendMessage:{name}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name without the slash, one line of help, what it does."""

    name: str
    help: str
    run: Callable[[CommandContext], str]


def find_command(
    commands: Mapping[str, Command], text: str
) -> tuple[Command, str] | tuple[None, str]:
    """Return the command that a message names and the rest of the message.

    An unknown one is none: the message goes to the model.
    """
    stripped = text.strip()
    if not stripped.startswith("/"):
        return None, ""
    word, _, rest = stripped[1:].partition(" ")
    command = commands.get(word.lower())
    return (command, rest.strip()) if command else (None, "")


def _help(context: CommandContext) -> str:
    lines = (f"/{one.name} - {one.help}" for one in context.commands.values())
    return "\n".join(lines)


def _sid(context: CommandContext) -> str:
    return f"UMO: 「{context.umo}」\nUID: 「{context.username}」"


def _reset(context: CommandContext) -> str:
    session = context.session.id
    last = context.message_number
    if last is None:  # the command itself was not stored
        with context.store.read() as db:
            newest = messages.list_messages_before(db, session, before=2**63 - 1, limit=1)
        last = newest[0].id if newest else 0
    context.store.write(lambda db: sessions.forget_context(db, session, last))
    return "The conversation so far is forgotten."


def _stats(context: CommandContext) -> str:
    with context.store.read() as db:
        rows = messages.list_messages_before(
            db, context.session.id, before=2**63 - 1, limit=_STATS_MESSAGES
        )
    turns = tokens_in = tokens_cached = tokens_out = 0
    for row in rows:
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


BUILT_IN: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command("help", "list the commands", _help),
        Command("sid", "show this conversation's UMO and your user id", _sid),
        Command("reset", "forget the conversation so far", _reset),
        Command("new", "start a fresh conversation in this session", _reset),
        Command("stats", "show the tokens that this session has used", _stats),
    )
}
