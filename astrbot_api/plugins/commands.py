"""Commands: messages such as ``/help`` that are answered without the model.

:mod:`.builtin.commands` has the built-in ones. :mod:`astrbot_api.chat.turns.commands` runs them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..agent.cancel import Cancellation
from ..db.sessions import SessionRow, make_umo
from ..db.store import Store

#: This command is accepted beyond the limits of waiting turns.
_STOP = "stop"

_DECIDING = ("approve", "reject")

#: A name, then a space or a new line. As in AstrBot, spaces may precede the name.
_COMMAND = re.compile(r"/\s*(\S+)\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The turn of a command.

    :param message_number: Number of the stored message, or None if it is not stored.
    :param arguments: Text after the command's name.
    :param commands: All commands that are available in this turn.
    :param decide: Approves or rejects all of the session's waiting tool calls, given the person's
        comment; returns the tools' names.
    :param stopped: Number of turns of the session that ``/stop`` has stopped.
    :param settings: The config's settings for the command's plugin.
    :param cancel: Fires when the turn is stopped or the command's time is over.
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

        It identifies the conversation for proactive messages: ``platform:message type:session``.
        """
        return make_umo(self.session.platform_id, self.session.session_id, self.username)


@dataclass(frozen=True, slots=True)
class AskModel:
    """Result of a command that the model should answer.

    :param text: Text for the model in place of the message. The stored message stays unchanged.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name without the slash, one line of help, and its function.

    :param name: A word in lower case. Users may write it in any case.
    :param run: Returns the answer, or an :class:`AskModel`.
    :param resumable: Whether it may run again after its worker died.
    :param stops_earlier: Whether it stops the earlier turns of its session, as ``/stop`` does.
    """

    name: str
    help: str
    run: Callable[[CommandContext], str | AskModel]
    resumable: bool = False
    stops_earlier: bool = False

    def __post_init__(self) -> None:
        if self.name.split() != [self.name.lower().lstrip("/")]:
            raise ValueError(
                f"command {self.name!r}: a name is one word in lower case, without the slash"
            )
        if inspect.iscoroutinefunction(self.run):
            raise ValueError(
                f"command {self.name!r}: an async function cannot be a command; "
                "write a plain one that calls run_async"
            )


def find_command(
    commands: Mapping[str, Command], text: str
) -> tuple[Command, str] | tuple[None, str]:
    """Return the command of a message, or None, and the rest of the message.

    Messages with an unknown command go to the model.
    """
    word, rest = _split(text)
    command = commands.get(word)
    return (command, rest) if command else (None, "")


def asks_to_stop(text: str) -> bool:
    """Return whether a message is ``/stop``, even if the config disables commands."""
    return _split(text)[0] == _STOP


def asks_to_decide(text: str) -> bool:
    """Return whether a message is ``/approve`` or ``/reject``."""
    return _split(text)[0] in _DECIDING


def _split(text: str) -> tuple[str, str]:
    """Return the name of a message's command in lower case, and the rest; or empty strings."""
    match = _COMMAND.fullmatch(text.strip())
    return (match[1].lower(), match[2]) if match else ("", "")
