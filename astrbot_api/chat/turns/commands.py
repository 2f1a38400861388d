"""Find the command of a message.

:mod:`astrbot_api.plugins.builtin.commands` has the built-in commands.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import ToolError
from ...mcp.prompts import Prompt
from ...plugins.commands import AskModel, Command, CommandContext

__all__ = [
    "AskModel",
    "Command",
    "CommandContext",
    "asks_to_decide",
    "asks_to_stop",
    "find_command",
]

#: This command runs before its turn comes, and stops the turns ahead of it.
_STOP = "stop"

_DECIDING = ("approve", "reject")


def find_command(
    commands: Mapping[str, Command], text: str
) -> tuple[Command, str] | tuple[None, str]:
    """Return the command of a message, or None, and the rest of the message.

    Messages with an unknown command go to the model.
    """
    stripped = text.strip()
    if not stripped.startswith("/"):
        return None, ""
    word, _, rest = stripped[1:].partition(" ")
    command = commands.get(word.lower())
    return (command, rest.strip()) if command else (None, "")


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
    return _find_word(text) == _STOP


def asks_to_decide(text: str) -> bool:
    """Return whether a message is ``/approve`` or ``/reject``."""
    return _find_word(text) in _DECIDING


def _find_word(text: str) -> str:
    stripped = text.strip()
    return stripped[1:].partition(" ")[0].lower() if stripped.startswith("/") else ""
