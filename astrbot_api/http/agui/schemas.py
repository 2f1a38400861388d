"""What a client of AG-UI sends: ``RunAgentInput``."""

from __future__ import annotations

import marshmallow as ma

from ..conversation import MAX_ANSWERS
from ..fields import any_value, optional_text, required_text, required_value
from ..openai.parameters import MAX_TOOLS
from ..openai.reading import MAX_MESSAGES
from ..openai.schemas import TOOL_CALL_ID, TOOL_MEMBERS, TOOL_NAME
from ..schemas import RequestSchema, member, object_with, one_of
from .reading import ROLES

#: Longest ``runId``, in characters.
_MAX_ID_CHARS = 255

_MESSAGE = object_with(
    ("role",),
    {
        "id": member("string", "The client's name of it.", "m1"),
        "role": {
            **one_of("Who says it. `activity` and `reasoning` are left out.", *ROLES),
            "example": "user",
        },
        "content": {
            "description": (
                "A string; of the user also parts: `text`, and `image`, `audio`, `video`, "
                "`document` with a `source` (`data`, `file`, or `url` with a `data:` URL)."
            ),
            "example": "Hello",
        },
        "toolCalls": member(
            ["array", "null"],
            "Calls that the assistant made. One without a result is left out.",
            [],
            items={"type": "object"},
        ),
        "toolCallId": TOOL_CALL_ID,
    },
)

_TOOL = object_with(("name",), {"name": TOOL_NAME, **TOOL_MEMBERS})

_CONTEXT = object_with(
    ("description", "value"),
    {
        "description": member("string", "What it is.", "The page"),
        "value": member("string", "What it says.", "https://example.com/cart"),
    },
)

_INTERRUPT_ID = member("string", "The interrupt.", "0a5a83f1-9f5b-5f0e-a0ce-1c3f3b2f7f10")

_PAYLOAD = object_with(
    ("approved",),
    {
        "approved": member("boolean", "Yes or no.", True),
        "comment": member(["string", "null"], "For the model.", ""),
        "arguments": member(["object", "null"], "In place of those of the call.", None),
    },
    description="The answer.",
    example={"approved": True},
)

#: An answer to an interrupt.
_RESOLVED = object_with(
    ("interruptId", "status", "payload"),
    {
        "interruptId": _INTERRUPT_ID,
        "status": one_of("It was answered.", "resolved"),
        "payload": _PAYLOAD,
    },
)

#: An interrupt that nobody answered: a rejection.
_CANCELLED = object_with(
    ("interruptId", "status"),
    {"interruptId": _INTERRUPT_ID, "status": one_of("It was not answered.", "cancelled")},
)


class RunAgentInputSchema(RequestSchema):
    """A run of AG-UI. Fields that are not named here are ignored."""

    carries_message = True

    threadId = required_text(
        "threadId",
        "The conversation: the session that the turn is stored in.",
        "my_session_001",
        max_chars="max_session_id_chars",
        validate=ma.validate.Length(min=1, error="threadId is empty"),
    )
    runId = required_text(
        "runId",
        "The client's name of the run; the server's own is in `X-Run-ID`.",
        "run-1",
        validate=ma.validate.Length(
            1, _MAX_ID_CHARS, error=f"runId must have 1 to {_MAX_ID_CHARS} characters"
        ),
    )
    protocolVersion = optional_text(
        "The version that the client knows. With it the end has `outcome` and `usage`.", "1.0"
    )
    messages = required_value(
        "messages",
        "The conversation. What comes before the user's last message is the context of this turn.",
        [{"id": "m1", "role": "user", "content": "Hello"}],
        type="array", items=_MESSAGE, minItems=1, maxItems=MAX_MESSAGES,
    )  # fmt: skip
    tools = any_value(
        "Tools that the client runs. A call of one ends the turn.",
        [{"name": "get_weather", "description": "The weather of a city."}],
        type="array", items=_TOOL, maxItems=MAX_TOOLS,
    )  # fmt: skip
    context = any_value(
        "What the interface knows: instructions, below the config's prompt.",
        [{"description": "The page", "value": "https://example.com/cart"}],
        type="array", items=_CONTEXT,
    )  # fmt: skip
    state = any_value(
        "The shared state. It comes back as it is, as `STATE_SNAPSHOT`.", {"cart": []}
    )
    forwardedProps = any_value(
        "`username` (absent: the key's, or `agui:` and the beginning of the key) and `config` (id "
        "or name) are read; others are ignored.",
        {"username": "alice", "config": "default"},
    )
    resume = any_value(
        "Answers to the interrupts of the run before. `payload` has `approved`, and perhaps a "
        "`comment` or other `arguments`; a `cancelled` one is a rejection.",
        [],
        type="array", items={"oneOf": [_RESOLVED, _CANCELLED]}, maxItems=MAX_ANSWERS,
    )  # fmt: skip
