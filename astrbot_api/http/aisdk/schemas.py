"""What the AI SDK's transport sends."""

from __future__ import annotations

from ..fields import AnyObject, any_value, optional_text, switch
from ..openai.parameters import MAX_TOOLS
from ..openai.reading import MAX_MESSAGES
from ..openai.schemas import TOOL_MEMBERS, TOOL_NAME
from ..schemas import RequestSchema, member, object_with, one_of
from .reading import ROLES

_PART = object_with(
    ("type",), {"type": member("string", "What it is.", "text")}, additionalProperties=True
)

_EXAMPLE = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}

#: A message, as ``useChat`` keeps it.
_MESSAGE = object_with(
    ("role", "parts"),
    {
        "id": member("string", "The client's name of it.", "m1"),
        "role": {**one_of("Who says it.", *ROLES), "example": "user"},
        "parts": member(
            "array",
            "`text`; of the user `file` with a `data:` URL or the address of a file of this "
            "server; of the assistant the calls of tools with their results. Others are left out.",
            _EXAMPLE["parts"],
            items=_PART,
        ),
    },
)

#: Tools by their names, or in a list.
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
        "items": object_with(("name",), {**TOOL_MEMBERS, "name": TOOL_NAME}),
    },
    {"type": "null"},
]


class ResumeQuerySchema(RequestSchema):
    """Whose chat it is."""

    username = optional_text(
        "Whose session it is. Absent: the turn must be of this key.",
        "alice", max_chars="max_username_chars",
    )  # fmt: skip


class UIChatSchema(RequestSchema):
    """A conversation of the AI SDK. Fields that are not named here are ignored."""

    carries_message = True

    id = optional_text(
        "The chat: the session that the turn is stored in. Absent: a new one.",
        "my_session_001", max_chars="max_session_id_chars",
    )  # fmt: skip
    messages = any_value(
        "The conversation. What comes before the user's last message is the context of this turn. "
        "Or else `message`.",
        [_EXAMPLE],
        type="array", items=_MESSAGE, minItems=1, maxItems=MAX_MESSAGES,
    )  # fmt: skip
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
    approvals = switch(
        "approvals",
        "`true`: a call that a person must approve is asked about in a `tool-approval-request`, "
        "as version 6 of the SDK knows it. Otherwise such a call is rejected.",
        example=True,
    )
    system = optional_text("Instructions, below the config's own prompt.", "Be brief.")
    tools = any_value(
        "Tools that the client runs, by their names; or a list, each with a `name`. "
        "A call of one ends the turn.",
        {"get_weather": {"description": "The weather.", "parameters": {}}},
        anyOf=_TOOLS,
    )
