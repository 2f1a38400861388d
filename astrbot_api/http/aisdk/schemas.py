"""What the AI SDK's transport sends."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..fields import AnyObject, optional_text
from ..openai.parameters import MAX_TOOLS
from ..openai.reading import MAX_MESSAGES
from .reading import ROLES

#: A message, as ``useChat`` keeps it.
_MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["role", "parts"],
    "properties": {
        "id": {"type": "string", "description": "The client's name of it.", "example": "m1"},
        "role": {
            "type": "string",
            "description": "Who says it.",
            "enum": list(ROLES),
            "example": "user",
        },
        "parts": {
            "type": "array",
            "description": (
                "`text`; of the user `file` with a `data:` URL or the address of a file of this "
                "server; of the assistant the calls of tools with their results. Others are "
                "left out."
            ),
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {"type": "string", "description": "What it is.", "example": "text"}
                },
                "additionalProperties": True,
            },
            "example": [{"type": "text", "text": "Hello"}],
        },
    },
}

_EXAMPLE = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}

_TOOL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "description": {
            "type": ["string", "null"],
            "description": "When the model should call it.",
            "example": "The weather of a city.",
        },
        "parameters": {
            "type": ["object", "null"],
            "description": "Its arguments, as a JSON schema.",
            "example": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
}


class UIChatSchema(ma.Schema):
    """A conversation of the AI SDK. Fields that are not named here are ignored."""

    carries_message = True

    class Meta:
        unknown = ma.EXCLUDE

    id = optional_text(
        "The chat: the session that the turn is stored in. Absent: a new one.",
        "my_session_001", max_chars="max_session_id_chars",
    )  # fmt: skip
    messages = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": (
                "The conversation. What comes before the user's last message is the context of "
                "this turn. Or else `message`."
            ),
            "type": "array",
            "items": _MESSAGE,
            "minItems": 1,
            "maxItems": MAX_MESSAGES,
            "example": [_EXAMPLE],
        },
    )
    message = AnyObject(
        load_default=None,
        allow_none=True,
        metadata={
            **_MESSAGE,
            "description": "The new message alone: the session's own history is the context.",
            "example": _EXAMPLE,
        },
    )
    trigger = optional_text(
        "`regenerate-message`: the new answer takes the place of the last one.", "submit-message"
    )
    messageId = optional_text("Not read: `messages` end where the answer is wanted.", "m2")
    username = optional_text(
        "Whose session it is. Absent: the key's, or `aisdk:` and the beginning of the key.",
        "alice", max_chars="max_username_chars",
    )  # fmt: skip
    config = optional_text(
        "A config, by its id or its name. Absent: the session's, or the default.", "default"
    )
    approvals = ma.fields.Boolean(
        load_default=False,
        error_messages={"invalid": "approvals must be true or false"},
        metadata={
            "description": (
                "`true`: a call that a person must approve is asked about in a "
                "`tool-approval-request`, as version 6 of the SDK knows it. Otherwise such a call "
                "is rejected."
            ),
            "example": True,
        },
    )
    system = optional_text("Instructions, below the config's own prompt.", "Be brief.")
    tools = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": (
                "Tools that the client runs, by their names; or a list, each with a `name`. "
                "A call of one ends the turn."
            ),
            "anyOf": [
                {
                    "type": "object",
                    "additionalProperties": _TOOL,
                    "propertyNames": {"pattern": "^[A-Za-z0-9_-]{1,64}$"},
                    "maxProperties": MAX_TOOLS,
                },
                {
                    "type": "array",
                    "maxItems": MAX_TOOLS,
                    "items": {
                        **_TOOL,
                        "required": ["name"],
                        "properties": {
                            **_TOOL["properties"],
                            "name": {
                                "type": "string",
                                "pattern": "^[A-Za-z0-9_-]{1,64}$",
                                "description": "How it is called.",
                                "example": "get_weather",
                            },
                        },
                    },
                },
                {"type": "null"},
            ],
            "example": {"get_weather": {"description": "The weather.", "parameters": {}}},
        },
    )


class ResumeQuerySchema(ma.Schema):
    """Whose chat it is."""

    class Meta:
        unknown = ma.EXCLUDE

    username = optional_text(
        "Whose session it is. Absent: the turn must be of this key.",
        "alice", max_chars="max_username_chars",
    )  # fmt: skip
