"""Find the command of a message.

:mod:`astrbot_api.plugins.builtin.commands` has the built-in commands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...errors import ToolError
from ...mcp.prompts import Prompt
from ...plugins.commands import AskModel, Command, CommandContext

#: This command is accepted beyond the limits of waiting turns.
_STOP = "stop"

_DECIDING = ("approve", "reject")

#: A name, then a space or a new line. As in AstrBot, spaces may precede the name.
_COMMAND = re.compile(r"/\s*(\S+)\s*(.*)", re.DOTALL)


def find_command(
    commands: Mapping[str, Command], text: str
) -> tuple[Command, str] | tuple[None, str]:
    """Return the command of a message, or None, and the rest of the message.

    Messages with an unknown command go to the model.
    """
    word, rest = _split(text)
    command = commands.get(word)
    return (command, rest) if command else (None, "")


def make_prompt_command(prompt: Prompt) -> Command:
    """Return a command that sends a prompt of an MCP server to the model."""

    def run(context: CommandContext) -> str | AskModel:
        try:
            return AskModel(prompt.fill(context.arguments, context.cancel))
        except ToolError as error:
            return str(error)

    # Fetching a prompt has no side effects.
    return Command(prompt.name, prompt.help, run, resumable=True)


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
