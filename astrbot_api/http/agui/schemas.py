"""Request schema of AG-UI: ``RunAgentInput``."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ..decisions import MAX_ANSWERS
from ..fields import any_value, optional_text, required_text, required_value
from ..openai.parameters import MAX_TOOLS
from ..openai.reading import MAX_MESSAGES
from ..openai.schemas import TOOL_CALL_ID, TOOL_MEMBERS, TOOL_NAME
from ..schemas import APPROVAL_ID_EXAMPLE, RequestSchema, enum_of, member, object_schema
from .reading import ROLES, to_protocol_names

_MAX_ID_CHARS = 255

_MESSAGE = object_schema(
    ("role",),
    {
        "id": member("string", "The client's id of the message.", "m1"),
        "role": {
            **enum_of(
                "Author of the message. `activity` and `reasoning` messages are ignored.", *ROLES
            ),
            "example": "user",
        },
        "content": {
            "description": (
                "A string. For a user's message also a list of parts: `text`, and `image`, "
                "`audio`, `video`, `document` with a `source` (`data`, `file`, or `url` with a "
                "`data:` URL)."
            ),
            "example": "Hello",
        },
        "toolCalls": member(
            ["array", "null"],
            "Calls made by the assistant. Calls without a result are ignored.",
            [],
            items={"type": "object"},
        ),
        "toolCallId": TOOL_CALL_ID,
    },
)

_TOOL = object_schema(("name",), {"name": TOOL_NAME, **TOOL_MEMBERS})

_CONTEXT = object_schema(
    ("description", "value"),
    {
        "description": member("string", "Description of the value.", "The page"),
        "value": member("string", "The value.", "https://example.com/cart"),
    },
)

_INTERRUPT_ID = member("string", "Id of the interrupt to answer.", APPROVAL_ID_EXAMPLE)

_PAYLOAD = object_schema(
    ("approved",),
    {
        "approved": member("boolean", "Whether the call is approved.", True),
        "reason": member(["string", "null"], "A comment for the model.", ""),
        "editedArgs": member(["object", "null"], "Arguments that replace those of the call.", None),
    },
    description="The decision.",
    example={"approved": True},
)

#: An answer to an interrupt.
_RESOLVED = object_schema(
    ("interruptId", "status", "payload"),
    {
        "interruptId": _INTERRUPT_ID,
        "status": enum_of("The interrupt was answered.", "resolved"),
        "payload": _PAYLOAD,
    },
)

#: An interrupt without an answer, which rejects the call.
_CANCELLED = object_schema(
    ("interruptId", "status"),
    {
        "interruptId": _INTERRUPT_ID,
        "status": enum_of("The interrupt was not answered.", "cancelled"),
    },
)


class RunAgentInputSchema(RequestSchema):
    carries_message = True

    @ma.pre_load
    def accept_python_names(self, data: Any, **_: Any) -> Any:
        """Accept the names of the protocol's Python types."""
        return to_protocol_names(data)

    threadId = required_text(
        "Id of the conversation, which is the session that stores the turn.",
        "my_thread_001",
        max_chars="max_session_id_chars",
        validate=ma.validate.Length(min=1, error="threadId is empty"),
    )
    runId = required_text(
        "The client's id of the run. The server's id is in `X-Run-ID`.",
        "run-1",
        validate=ma.validate.Length(
            1, _MAX_ID_CHARS, error=f"runId must have 1 to {_MAX_ID_CHARS} characters"
        ),
    )
    protocolVersion = optional_text(
        "Protocol version of the client. If it is sent, the last event has `outcome` and `usage`.",
        "1.0",
    )
    messages = required_value(
        "The conversation. The messages before the user's last message are the context of the "
        "turn.",
        [{"id": "m1", "role": "user", "content": "Hello"}],
        type="array", items=_MESSAGE, minItems=1, maxItems=MAX_MESSAGES,
    )  # fmt: skip
    tools = any_value(
        "Tools that run on the client. A call of one ends the turn.",
        [{"name": "get_weather", "description": "The weather of a city."}],
        type="array", items=_TOOL, maxItems=MAX_TOOLS,
    )  # fmt: skip
    context = any_value(
        "Context from the user interface, added to the instructions after the config's prompt.",
        [{"description": "The page", "value": "https://example.com/cart"}],
        type="array", items=_CONTEXT,
    )  # fmt: skip
    state = any_value(
        "The shared state. It is sent back unchanged as `STATE_SNAPSHOT`.", {"cart": []}
    )
    forwardedProps = any_value(
        "The members `username`, `config` (id or name) and `approvals` are read, others are "
        "ignored. The default username is the key's, or `agui:` and the beginning of the key. With "
        "`approvals: true`, clients before version 1.0 also get interrupts.",
        {"username": "alice", "config": "default"},
    )
    resume = any_value(
        "Answers to the interrupts of the previous run. `payload` has `approved`, and optionally "
        "`reason` or new `editedArgs`. `cancelled` rejects the call.",
        [],
        type="array", items={"oneOf": [_RESOLVED, _CANCELLED]}, maxItems=MAX_ANSWERS,
    )  # fmt: skip
