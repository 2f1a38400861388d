"""What a client of AG-UI sends: ``RunAgentInput``."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..conversation import MAX_ANSWERS
from ..fields import NOT_BLANK, Text, optional_text
from ..openai.parameters import MAX_TOOLS
from ..openai.reading import MAX_MESSAGES
from .reading import ROLES

#: Longest ``runId``, in characters.
_MAX_ID_CHARS = 255

_MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "id": {"type": "string", "description": "The client's name of it.", "example": "m1"},
        "role": {
            "type": "string",
            "description": "Who says it. `activity` and `reasoning` are left out.",
            "enum": list(ROLES),
            "example": "user",
        },
        "content": {
            "description": (
                "A string; of the user also parts: `text`, and `image`, `audio`, `video`, "
                "`document` with a `source` (`data`, `file`, or `url` with a `data:` URL)."
            ),
            "example": "Hello",
        },
        "toolCalls": {
            "description": "Calls that the assistant made. One without a result is left out.",
            "type": ["array", "null"],
            "items": {"type": "object"},
            "example": [],
        },
        "toolCallId": {
            "description": "The call that a message of the role `tool` answers.",
            "type": ["string", "null"],
            "example": "call_1",
        },
    },
}

_TOOL: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,64}$",
            "description": "How it is called.",
            "example": "get_weather",
        },
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

_CONTEXT: dict[str, Any] = {
    "type": "object",
    "required": ["description", "value"],
    "properties": {
        "description": {"type": "string", "description": "What it is.", "example": "The page"},
        "value": {
            "type": "string",
            "description": "What it says.",
            "example": "https://example.com/cart",
        },
    },
}


_INTERRUPT_ID = {
    "type": "string",
    "description": "The interrupt.",
    "example": "0a5a83f1-9f5b-5f0e-a0ce-1c3f3b2f7f10",
}


def _status(value: str, description: str) -> dict[str, Any]:
    return {"type": "string", "description": description, "enum": [value], "example": value}


#: An answer to an interrupt.
_RESOLVED: dict[str, Any] = {
    "type": "object",
    "required": ["interruptId", "status", "payload"],
    "properties": {
        "interruptId": _INTERRUPT_ID,
        "status": _status("resolved", "It was answered."),
        "payload": {
            "type": "object",
            "description": "The answer.",
            "example": {"approved": True},
            "required": ["approved"],
            "properties": {
                "approved": {"type": "boolean", "description": "Yes or no.", "example": True},
                "comment": {
                    "type": ["string", "null"], "description": "For the model.", "example": "",
                },
                "arguments": {
                    "type": ["object", "null"],
                    "description": "In place of those of the call.",
                    "example": None,
                },
            },
        },
    },
}  # fmt: skip

#: An interrupt that nobody answered: a rejection.
_CANCELLED: dict[str, Any] = {
    "type": "object",
    "required": ["interruptId", "status"],
    "properties": {
        "interruptId": _INTERRUPT_ID,
        "status": _status("cancelled", "It was not answered."),
    },
}


class RunAgentInputSchema(ma.Schema):
    """A run of AG-UI. Fields that are not named here are ignored."""

    carries_message = True

    class Meta:
        unknown = ma.EXCLUDE

    threadId = Text(
        required=True,
        max_chars="max_session_id_chars",
        validate=ma.validate.Length(min=1, error="threadId is empty"),
        error_messages={"required": "Missing key: threadId", "null": "Missing key: threadId"},
        metadata={
            "description": "The conversation: the session that the turn is stored in.",
            "pattern": NOT_BLANK,
            "example": "my_session_001",
        },
    )
    runId = Text(
        required=True,
        validate=ma.validate.Length(
            1, _MAX_ID_CHARS, error=f"runId must have 1 to {_MAX_ID_CHARS} characters"
        ),
        error_messages={"required": "Missing key: runId", "null": "Missing key: runId"},
        metadata={
            "description": "The client's name of the run; the server's own is in `X-Run-ID`.",
            "pattern": NOT_BLANK,
            "example": "run-1",
        },
    )
    protocolVersion = optional_text(
        "The version that the client knows. With it the end has `outcome` and `usage`.", "1.0"
    )
    messages = ma.fields.Raw(
        required=True,
        error_messages={"required": "Missing key: messages", "null": "Missing key: messages"},
        metadata={
            "description": (
                "The conversation. What comes before the user's last message is the context of "
                "this turn."
            ),
            "type": "array",
            "items": _MESSAGE,
            "minItems": 1,
            "maxItems": MAX_MESSAGES,
            "example": [{"id": "m1", "role": "user", "content": "Hello"}],
        },
    )
    tools = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "Tools that the client runs. A call of one ends the turn.",
            "type": "array",
            "items": _TOOL,
            "maxItems": MAX_TOOLS,
            "example": [{"name": "get_weather", "description": "The weather of a city."}],
        },
    )
    context = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "What the interface knows: instructions, below the config's prompt.",
            "type": "array",
            "items": _CONTEXT,
            "example": [{"description": "The page", "value": "https://example.com/cart"}],
        },
    )
    state = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "The shared state. It comes back as it is, as `STATE_SNAPSHOT`.",
            "example": {"cart": []},
        },
    )
    forwardedProps = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": (
                "`username` (absent: the key's, or `agui:` and the beginning of the key) and "
                "`config` (id or name) are read; others are ignored."
            ),
            "example": {"username": "alice", "config": "default"},
        },
    )
    resume = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": (
                "Answers to the interrupts of the run before. `payload` has `approved`, and "
                "perhaps a `comment` or other `arguments`; a `cancelled` one is a rejection."
            ),
            "type": "array",
            "items": {"oneOf": [_RESOLVED, _CANCELLED]},
            "maxItems": MAX_ANSWERS,
            "example": [],
        },
    )
