"""Commands: a message such as ``/help`` that is answered without the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..agent.cancel import Cancellation
from ..db.sessions import WEBCHAT, SessionRow
from ..db.store import Store


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Where a command was given.

    :param message_number: The stored message's number; None: it is not stored.
    :param arguments: What stands behind the command's name.
    :param commands: Every command that could have been given here.
    :param decide: Approves, or rejects, all tool calls of the session that wait for a person;
        is given the person's comment, and returns their tools.
    :param stopped: How many turns of the session ``/stop`` has stopped.
    :param settings: What the config sets for the plugin the command is of.
    :param cancel: Fires when the turn is stopped, and when the command's time is up.
    """

    store: Store
    session: SessionRow
    username: str
    message_number: int | None
    arguments: str
    commands: Mapping[str, Command]
    config_id: str = "default"
    decide: Callable[[bool, str], list[str]] = lambda approved, comment: []
    stopped: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    cancel: Cancellation = field(default_factory=Cancellation)

    @property
    def umo(self) -> str:
        """The conversation's unified message origin.

        It names the conversation for proactive messages:
        ``platform:message type:session``.
        """
        return make_umo(self.session, self.username)


@dataclass(frozen=True, slots=True)
class AskModel:
    """What a command returns that the model is to answer.

    :param text: What the model is given in place of the message; stored is what was sent.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name without the slash, one line of help, what it does.

    :param run: Returns the answer, or an :class:`AskModel`.
    :param resumable: Whether it may be run again when its worker died before it was answered.
    """

    name: str
    help: str
    run: Callable[[CommandContext], str | AskModel]
    resumable: bool = False


def make_umo(session: SessionRow, username: str) -> str:
    """Return the UMO of a session: that of a messenger is its name."""
    if session.platform_id != WEBCHAT:
        return session.session_id
    return f"{WEBCHAT}:FriendMessage:{WEBCHAT}!{username}!{session.session_id}"
