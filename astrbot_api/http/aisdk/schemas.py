"""Request schemas of the AI SDK's transport."""

from __future__ import annotations

from typing import Any

from ..fields import AnyObject, Text, any_value, optional_flag, optional_text
from ..openai.parameters import MAX_TOOLS
from ..openai.reading import MAX_MESSAGES
from ..openai.schemas import TOOL_MEMBERS, TOOL_NAME
from ..schemas import RequestSchema, enum_of, member, object_schema
from .reading import ROLES

_PART = object_schema(
    ("type",), {"type": member("string", "Type of the part.", "text")}, additionalProperties=True
)

_EXAMPLE = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}

#: A message in the format of ``useChat``.
_MESSAGE = object_schema(
    ("role", "parts"),
    {
        "id": member("string", "The client's id of the message.", "m1"),
        "role": {**enum_of("Author of the message.", *ROLES), "example": "user"},
        "parts": member(
            "array",
            "Parts of the message: `text`. For a user also `file` with a `data:` URL or the URL "
            "of a file on this server. For an assistant also tool calls with their results. "
            "Others are ignored.",
            _EXAMPLE["parts"],
            items=_PART,
        ),
    },
)

#: Tools as an object keyed by name, or as a list.
_TOOLS = [
    {
        "type": "object",
        "additionalProperties": {"type": "object", "properties": TOOL_MEMBERS},
        "propertyNames": {"pattern": TOOL_NAME["pattern"]},
        "maxProperties": MAX_TOOLS,
    },
    {
        "type": "array",
        "maxItems": MAX_TOOLS,
        "items": object_schema(("name",), {**TOOL_MEMBERS, "name": TOOL_NAME}),
    },
    {"type": "null"},
]


class _ConfigName(Text):
    """Id or name of a config. assistant-ui sends an object with its ``modelName`` instead."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = (value.get("modelName") or "") if isinstance(value, dict) else value
        return super()._deserialize(name, attr, data, **kwargs)


class UIChatSchema(RequestSchema):
    carries_message = True

    id = optional_text(
        "Id of the chat, which is the session that stores the turn. By default a new session.",
        "my_chat_001", max_chars="max_session_id_chars",
    )  # fmt: skip
    messages = any_value(
        "The conversation. The messages before the user's last message are the context of the "
        "turn. Send either `messages` or `message`.",
        [_EXAMPLE],
        type="array", items=_MESSAGE, minItems=1, maxItems=MAX_MESSAGES,
    )  # fmt: skip
    message = AnyObject(
        load_default=None,
        allow_none=True,
        metadata={
            **_MESSAGE,
            "description": "Only the new message. The session's history is the context.",
            "example": _EXAMPLE,
        },
    )
    trigger = optional_text(
        "With `regenerate-message`, the new answer replaces the last one.", "submit-message"
    )
    messageId = optional_text(
        "Id of the assistant's message that continues, if it is not the last one.", "m2"
    )
    username = optional_text(
        "The session's username. By default the key's username, or `aisdk:` and the beginning of "
        "the key.",
        "alice", max_chars="max_username_chars",
    )  # fmt: skip
    config = _ConfigName(
        load_default="",
        allow_none=True,
        metadata={
            "type": ["string", "integer", "object"],
            "description": "Id or name of a config, or an object with it as `modelName`. By "
            "default the session's config, or the default config.",
            "example": "default",
        },
    )
    approvals = optional_flag(
        "With `true`, a call that needs approval sends a `tool-approval-request`, which the SDK "
        "supports since version 6. Otherwise the call is rejected.",
        default=False,
        example=True,
    )
    system = optional_text("Instructions, after the config's own prompt.", "Be brief.")
    tools = any_value(
        "Tools that run on the client: an object keyed by name, or a list of tools with a "
        "`name`. A call of one ends the turn.",
        {"get_weather": {"description": "The weather.", "parameters": {}}},
        anyOf=_TOOLS,
    )
