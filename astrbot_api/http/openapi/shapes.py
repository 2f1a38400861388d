"""Schemas that no request or answer is checked with: the events of streams, the parts of messages.

The document has them, so that generated clients know each event by its ``type``.
What the events mean is said in :mod:`astrbot_api.events`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..schemas import member

Schema = dict[str, Any]

_RUN = "7254cd9a-814f-498e-a202-2c1777b1bd2d"
_ATTACHMENT = "19281dd2-996d-4f73-ad81-0bc5992a3074"
_MEDIA = ("image", "record", "video", "file")


def refer(name: str) -> Schema:
    """Return a reference to one of these schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(text: str, types: Sequence[str], members: Mapping[str, Schema]) -> Schema:
    """Return an object that is known by its ``type``; all of its members are there.

    A member with ``optional`` may be missing.
    """
    named = member("string", "What it is.", types[0], enum=list(types))
    required = ["type", *(name for name, one in members.items() if "optional" not in one)]
    shown = {
        name: {key: value for key, value in one.items() if key != "optional"}
        for name, one in members.items()
    }
    return {
        "type": "object", "description": text, "required": required,
        "properties": {"type": named, **shown},
    }  # fmt: skip


def _one_of(text: str, schemas: Mapping[str, Schema]) -> Schema:
    types = {name: one["properties"]["type"]["enum"] for name, one in schemas.items()}
    mapping = {kind: refer(name)["$ref"] for name, kinds in types.items() for kind in kinds}
    return {
        "description": text,
        "oneOf": [refer(name) for name in schemas],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }


_TEXT_PART = _object(
    "Text.", ["plain"],
    {"text": member(["string", "number", "null"], "The text; it may be Markdown.", "Hello")},
)  # fmt: skip

_MEDIA_PART = _object(
    "A file.", _MEDIA,
    {
        "attachment_id": member(
            "string", "The file, by the id that its upload answered.", _ATTACHMENT, pattern=r"\S"
        )
    },
)  # fmt: skip

_REPLY_PART = _object(
    "A quotation; it may not stand alone.", ["reply"],
    {
        "message_id": member(
            ["string", "integer"], "The stored message of this session that is quoted.", 42
        ),
        "selected_text": member(
            ["string", "number", "null"], "The part of the message that is quoted.", "Paris",
            optional=True,
        ),
    },
)  # fmt: skip

_PARTS = {"TextPart": _TEXT_PART, "ReplyPart": _REPLY_PART, "MediaPart": _MEDIA_PART}
_SENT_PARTS = {"TextPart": _TEXT_PART, "MediaPart": _MEDIA_PART}

_MESSAGE_ID = member("string", "The run.", _RUN)
_STREAMING = member("boolean", "Whether text comes piece by piece.", True)
_SAVED = member(
    "object", "The stored message: `id`, `created_at`, `llm_checkpoint_id`.",
    {"id": 42, "created_at": "2026-11-23T16:41:51.860786+00:00", "llm_checkpoint_id": None},
)  # fmt: skip

_CHAT_EVENTS = {
    "SessionIdEvent": _object(
        "Which session this is: always the first event.", ["session_id"],
        {
            "session_id": member(["string", "integer"], "The session.", "my_session_001"),
            "data": member("null", "Always `null`.", None),
        },
    ),
    "UserMessageSavedEvent": _object(
        "The user's message is stored.", ["user_message_saved"], {"data": _SAVED}
    ),
    "RunStartedEvent": _object(
        "The turn has an id.", ["run_started"],
        {
            "data": member("object", "`run_id`.", {"run_id": _RUN}),
            "message_id": _MESSAGE_ID,
            "streaming": _STREAMING,
        },
    ),
    "QueuePositionEvent": _object(
        "The turn waits for a place.", ["queue_position"],
        {
            "data": member("object", "`position`, from 1.", {"position": 3}),
            "message_id": _MESSAGE_ID,
        },
    ),
    "PlainEvent": _object(
        "A piece of text, of thinking, or a tool's call or result.", ["plain"],
        {
            "data": member("string", "The piece; of a tool, JSON.", "It is half"),
            "chain_type": member(
                ["string", "null"],
                "`null`: the answer's text; `reasoning`, `tool_call`, `tool_call_result`.",
                None,
            ),
            "streaming": _STREAMING,
            # A message that is pushed into the session meanwhile is of no run.
            "message_id": {**_MESSAGE_ID, "optional": True},
        },
    ),
    "MediaEvent": _object(
        "A tool has made a file.", _MEDIA,
        {
            "data": member("string", "The type in brackets, and the file's name.", "[IMAGE]a.png"),
            "streaming": _STREAMING,
            "message_id": {**_MESSAGE_ID, "optional": True},
        },
    ),
    "AttachmentSavedEvent": _object(
        "The file of the event before is stored.", ["attachment_saved"],
        {"data": member("object", "`id` and `type`.", {"id": _ATTACHMENT, "type": "image"})},
    ),
    "ToolProgressEvent": _object(
        "A tool says how far it is.", ["tool_progress"],
        {
            "data": member(
                "object", "`id` of the call, `progress`, perhaps `total` and `message`.",
                {"id": "call_1", "progress": 3, "total": 10, "message": "Reading"},
            ),
            "message_id": _MESSAGE_ID,
        },
    ),
    "ApprovalRequiredEvent": _object(
        "A person must approve a tool's call; the stream ends here.", ["approval_required"],
        {
            "data": member(
                "object", "`id`, `tool`, `arguments` and `expires_at`.",
                {"id": "a1", "tool": "send_mail", "arguments": {}, "expires_at": "2026-11-24"},
            ),
            "truncated": member("boolean", "Whether the line was too long.", True, optional=True),
            "message_id": _MESSAGE_ID,
        },
    ),
    "RewindEvent": _object(
        "The events after a number do not count.", ["rewind"],
        {
            "data": member("object", "`to` and `chars`.", {"to": 3, "chars": 24}),
            "message_id": _MESSAGE_ID,
        },
    ),
    "AgentStatsEvent": _object(
        "Tokens and times of the turn.", ["agent_stats"],
        {"data": member("object", "The numbers.", {"current_context_tokens": 20})},
    ),
    "CompleteEvent": _object(
        "The whole answer.", ["complete"],
        {
            "data": member("string", "The answer's text.", "It is half past six."),
            "reasoning": member("string", "The thinking.", ""),
            "finish_reason": member("string", "Why it ended.", "stop", optional=True),
            "truncated": member("boolean", "Whether the line was too long.", True, optional=True),
            "streaming": _STREAMING,
            "message_id": _MESSAGE_ID,
        },
    ),
    "MessageSavedEvent": _object("The answer is stored.", ["message_saved"], {"data": _SAVED}),
    "ErrorEvent": _object(
        "The turn has failed.", ["error"],
        {
            "code": member("string", "A stable word to match.", "provider_error"),
            "data": member("string", "What went wrong, for people.", "The model did not answer."),
            "reason": member(
                "string", "The code of a blocking answer.", "provider_rate_limited", optional=True
            ),
            "retry_after_s": member("number", "How long to wait.", 5, optional=True),
            "message_id": _MESSAGE_ID,
        },
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
        "What a run has said so far.", ["run_snapshot"],
        {
            "data": member(
                "object", "The run, with its `content` and its `revision`.", {"revision": 9}
            ),
            "truncated": member("boolean", "Whether the line was too long.", True, optional=True),
            "message_id": _MESSAGE_ID,
        },
    ),
}  # fmt: skip

_INBOX_EVENTS = {
    "InboxOpenedEvent": _object(
        "Where an inbox begins: always its first event.", ["inbox_opened"],
        {"data": member("object", "`after` and `reset`.", {"after": 41, "reset": False})},
    ),
    "InboxMessageEvent": _object(
        "A message of one of the username's sessions.", ["message"],
        {
            "session_id": member("string", "The session.", "my_session_001"),
            "data": member("object", "The stored message.", {"id": 42}),
            "truncated": member("boolean", "Whether the line was too long.", True, optional=True),
        },
    ),
}  # fmt: skip

#: Every schema of the document that is defined here, by its name.
SHAPES: dict[str, Schema] = {
    **_PARTS,
    "MessagePart": _one_of("A part of a message.", _PARTS),
    "SentPart": _one_of("A part of a message that is pushed.", _SENT_PARTS),
    **_CHAT_EVENTS,
    "ChatEvent": _one_of("An event of a turn: the JSON of a `data:` line.", _CHAT_EVENTS),
    **_INBOX_EVENTS,
    "InboxEvent": _one_of("An event of an inbox: the JSON of a `data:` line.", _INBOX_EVENTS),
}

CHAT_EVENT, INBOX_EVENT = refer("ChatEvent"), refer("InboxEvent")
MESSAGE_PART, SENT_PART = refer("MessagePart"), refer("SentPart")
