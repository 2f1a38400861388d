"""``send_message_to_user``: send a message before the answer is complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...agent.tools import Tool, ToolContext
from ..hookspecs import hookimpl

_PARAMETERS = {
    "type": "object",
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 1,
            "description": "The parts of the message, in order.",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"enum": ["plain", "image", "record", "video", "file"]},
                    "text": {"type": "string", "description": "The text of a plain part."},
                    "attachment_id": {
                        "type": "string",
                        "description": "The file's id, for the other types.",
                    },
                },
                "required": ["type"],
            },
        }
    },
    "required": ["messages"],
}


class Messages:
    """Provides ``send_message_to_user``."""

    name = "messages"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        description = (
            "Send the user a message immediately, while you are still working, for example to "
            "report progress. Do not repeat it in your answer."
        )
        return [Tool("send_message_to_user", description, _send, _PARAMETERS)]


def _send(arguments: Mapping[str, Any], context: ToolContext) -> str:
    umo = context.send_message(arguments["messages"])
    return f"Message sent to session {umo}"
