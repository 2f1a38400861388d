"""Documentation-only schemas of stream events and message parts. Nothing is validated with them.

With these schemas, generated clients can distinguish events by ``type``.
:mod:`astrbot_api.events` explains the events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...messages import MEDIA_TYPES
from ..schemas import ATTACHMENT_ID_EXAMPLE, RUN_ID_EXAMPLE, member

Schema = dict[str, Any]


def _make_reference(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(
    text: str, types: Sequence[str], required: Mapping[str, Schema], **optional: Schema
) -> Schema:
    """Return the schema of an object with a ``type``, and required and optional members."""
    named = member("string", "The type.", types[0], enum=list(types))
    return {
        "type": "object", "description": text, "required": ["type", *required],
        "properties": {"type": named, **required, **optional},
    }  # fmt: skip


def _one_of(text: str, schemas: Mapping[str, Schema]) -> Schema:
    types = {name: one["properties"]["type"]["enum"] for name, one in schemas.items()}
    mapping = {
        kind: _make_reference(name)["$ref"] for name, kinds in types.items() for kind in kinds
    }
    return {
        "description": text,
        "oneOf": [_make_reference(name) for name in schemas],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }


_TEXT_PART = _object(
    "Text.", ["plain"],
    {"text": member(["string", "number", "null"], "The text, optionally as Markdown.", "Hello")},
)  # fmt: skip

_MEDIA_PART = _object(
    "A file.", MEDIA_TYPES,
    {
        "attachment_id": member(
            "string", "The file's id, from the response to its upload.", ATTACHMENT_ID_EXAMPLE,
            pattern=r"\S",
        )
    },
)  # fmt: skip

_REPLY_PART = _object(
    "A quoted message. A message cannot consist of quotations only.", ["reply"],
    {
        "message_id": member(
            ["string", "integer"], "Id of the quoted message, which must be in the same session.",
            42,
        )
    },
    selected_text=member(
        ["string", "number", "null"], "The quoted part of the message.", "Paris"
    ),
)  # fmt: skip

_PARTS = {"TextPart": _TEXT_PART, "ReplyPart": _REPLY_PART, "MediaPart": _MEDIA_PART}
_SENT_PARTS = {"TextPart": _TEXT_PART, "MediaPart": _MEDIA_PART}

_MESSAGE_ID = member("string", "The run's id.", RUN_ID_EXAMPLE)
_STREAMING = member("boolean", "Whether the text is sent in pieces.", True)
_TRUNCATED = member(
    "boolean", "Whether the content was shortened because the line was too long.", True
)
_SAVED = member(
    "object", "The stored message: `id`, `created_at`, `llm_checkpoint_id`.",
    {"id": 42, "created_at": "2026-11-23T16:41:51.860786+00:00", "llm_checkpoint_id": None},
)  # fmt: skip

_CHAT_EVENTS = {
    "SessionIdEvent": _object(
        "Identifies the session. Always the first event.", ["session_id"],
        {
            "session_id": member(["string", "integer"], "The session's id.", "my_session_001"),
            # Generators for Python fail at a property that is only null.
            "data": member(["string", "null"], "Always `null`.", None),
        },
    ),
    "UserMessageSavedEvent": _object(
        "The user's message was stored.", ["user_message_saved"], {"data": _SAVED}
    ),
    "RunStartedEvent": _object(
        "The turn has started as a run with an id.", ["run_started"],
        {
            "data": member("object", "`run_id`.", {"run_id": RUN_ID_EXAMPLE}),
            "message_id": _MESSAGE_ID,
            "streaming": _STREAMING,
        },
    ),
    "QueuePositionEvent": _object(
        "The turn is waiting in the queue.", ["queue_position"],
        {
            "data": member("object", "`position` in the queue, starting at 1.", {"position": 3}),
            "message_id": _MESSAGE_ID,
        },
    ),
    "PlainEvent": _object(
        "A piece of text or reasoning, a tool call or a tool result.", ["plain"],
        {
            "data": member("string", "The text. For tool calls and results, JSON.", "It is half"),
            "chain_type": member(
                ["string", "null"],
                "`null` for the reply's text, or `reasoning`, `tool_call` or `tool_call_result`.",
                None,
            ),
            "streaming": _STREAMING,
        },
        message_id=_MESSAGE_ID,  # a message that is pushed into the session belongs to no run
    ),
    "MediaEvent": _object(
        "A tool created a file.", MEDIA_TYPES,
        {
            "data": member(
                "string", "The type in brackets, followed by the file's name.", "[IMAGE]a.png"
            ),
            "streaming": _STREAMING,
        },
        message_id=_MESSAGE_ID,
    ),
    "AttachmentSavedEvent": _object(
        "The file of the previous event was stored.", ["attachment_saved"],
        {
            "data": member(
                "object", "`id` and `type`.", {"id": ATTACHMENT_ID_EXAMPLE, "type": "image"}
            )
        },
    ),
    "ToolProgressEvent": _object(
        "A tool reports its progress.", ["tool_progress"],
        {
            "data": member(
                "object", "`id` of the call, `progress`, and optionally `total` and `message`.",
                {"id": "call_1", "progress": 3, "total": 10, "message": "Reading"},
            ),
            "message_id": _MESSAGE_ID,
        },
    ),
    "ApprovalRequiredEvent": _object(
        "A person must approve a tool call. The stream ends here.", ["approval_required"],
        {
            "data": member(
                "object", "`id`, `tool`, `arguments` and `expires_at`.",
                {"id": "a1", "tool": "send_mail", "arguments": {}, "expires_at": "2026-11-24"},
            ),
            "message_id": _MESSAGE_ID,
        },
        truncated=_TRUNCATED,
    ),
    "RewindEvent": _object(
        "Discard the events after a given number.", ["rewind"],
        {
            "data": member(
                "object",
                "`to`: number of the last valid event. `chars`: how many characters to remove "
                "from the text.",
                {"to": 3, "chars": 24},
            ),
            "message_id": _MESSAGE_ID,
        },
    ),
    "AgentStatsEvent": _object(
        "Token counts and durations of the turn.", ["agent_stats"],
        {"data": member("object", "The statistics.", {"current_context_tokens": 20})},
    ),
    "CompleteEvent": _object(
        "The complete reply.", ["complete"],
        {
            "data": member("string", "The reply's text.", "It is half past six."),
            "reasoning": member("string", "The reasoning.", ""),
            "streaming": _STREAMING,
            "message_id": _MESSAGE_ID,
        },
        finish_reason=member("string", "Why the reply ended.", "stop"),
        truncated=_TRUNCATED,
    ),
    "MessageSavedEvent": _object("The reply was stored.", ["message_saved"], {"data": _SAVED}),
    "ErrorEvent": _object(
        "The turn failed.", ["error"],
        {
            "code": member("string", "A stable error code for programs.", "provider_error"),
            "data": member("string", "The error message for people.", "The model did not answer."),
            "message_id": _MESSAGE_ID,
        },
        reason=member(
            "string", "The error code that a response without streaming would have.",
            "provider_rate_limited",
        ),
        retry_after_s=member("number", "Seconds to wait before a retry.", 5),
    ),
    "EndEvent": _object(
        "The last event of a turn.", ["end"],
        {
            "data": member("string", "Always empty.", ""),
            "streaming": _STREAMING,
            "message_id": _MESSAGE_ID,
        },
    ),
    "RunSnapshotEvent": _object(
        "The state and text of a run so far.", ["run_snapshot"],
        {
            "data": member(
                "object", "The run with its `content` and `revision`.", {"revision": 9}
            ),
            "message_id": _MESSAGE_ID,
        },
        truncated=_TRUNCATED,
    ),
}  # fmt: skip

_INBOX_EVENTS = {
    "InboxOpenedEvent": _object(
        "The position at which the inbox begins. Always the first event.", ["inbox_opened"],
        {
            "data": member(
                "object",
                "`after`: the position. `reset`: whether messages were skipped because there were "
                "too many.",
                {"after": 41, "reset": False},
            )
        },
    ),
    "InboxMessageEvent": _object(
        "A message in one of the user's sessions.", ["message"],
        {
            "session_id": member("string", "The session's id.", "my_session_001"),
            "data": member("object", "The stored message.", {"id": 42}),
        },
        truncated=_TRUNCATED,
    ),
}  # fmt: skip

#: All schemas of this module by their name in the document.
SHAPES: dict[str, Schema] = {
    **_PARTS,
    "MessagePart": _one_of("A part of a message.", _PARTS),
    "SentPart": _one_of("A part of a pushed message.", _SENT_PARTS),
    **_CHAT_EVENTS,
    "ChatEvent": _one_of("An event of a turn, as the JSON of a `data:` line.", _CHAT_EVENTS),
    **_INBOX_EVENTS,
    "InboxEvent": _one_of("An event of an inbox, as the JSON of a `data:` line.", _INBOX_EVENTS),
}

CHAT_EVENT, INBOX_EVENT = _make_reference("ChatEvent"), _make_reference("InboxEvent")
MESSAGE_PART, SENT_PART = _make_reference("MessagePart"), _make_reference("SentPart")
