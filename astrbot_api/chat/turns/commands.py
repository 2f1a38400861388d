"""Commands: which one a message names. The built-in ones are a plugin's.

:mod:`astrbot_api.plugins.builtin.commands` has them.
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

#: The command that is heard before its turn comes: it ends the turns ahead of it.
_STOP = "stop"

_DECIDING = ("approve", "reject")


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


def make_prompt_command(prompt: Prompt) -> Command:
    """Return a command that has the model answer a prompt of an MCP server."""

    def run(context: CommandContext) -> str | AskModel:
        try:
            return AskModel(prompt.fill(context.arguments, context.cancel))
        except ToolError as error:
            return str(error)

    # It asks for words and does nothing else.
    return Command(prompt.name, prompt.help, run, resumable=True)


def asks_to_stop(text: str) -> bool:
    """Return whether a message is ``/stop``, whatever the config's commands are."""
    return _find_word(text) == _STOP


def asks_to_decide(text: str) -> bool:
    """Return whether a message is ``/approve`` or ``/reject``, which decide what waits."""
    return _find_word(text) in _DECIDING


def _find_word(text: str) -> str:
    stripped = text.strip()
    return stripped[1:].partition(" ")[0].lower() if stripped.startswith("/") else ""
