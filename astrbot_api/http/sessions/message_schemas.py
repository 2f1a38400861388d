"""The messages of a session: what they are asked for with, and what they hold."""

from __future__ import annotations

import marshmallow as ma

from ..chat.schemas import MESSAGE
from ..fields import Cursor, Flag, Limit, MaybeUsername, Text

#: Most messages of one page.
MAX_MESSAGES = 200


class MessageSchema(ma.Schema):
    """One stored message."""

    id = ma.fields.Integer(
        metadata={"description": "Its number; later ones are higher.", "example": 42}
    )
    sender_id = ma.fields.String(
        metadata={"description": "Who said it: a username, or `bot`.", "example": "alice"}
    )
    sender_name = ma.fields.String(
        metadata={"description": "How the sender is called.", "example": "alice"}
    )
    content = ma.fields.Dict(
        metadata={
            "description": (
                "`type` is `user` or `bot`; `message` is the list of its segments: what was "
                "sent, or `think`, `tool_call`, `plain` and files in the order they came. "
                "The bot's may have `reasoning`, `agent_stats`, and `error` where its turn failed."
            ),
            "example": {"type": "user", "message": [{"type": "plain", "text": "Hello"}]},
        }
    )
    llm_checkpoint_id = ma.fields.String(
        allow_none=True,
        metadata={
            "description": "The same for the messages of one turn; `null`: it was pushed.",
            "example": "0a6b9f0e-8a6d-4b8e-93f5-2a1f0f3d8f65",
        },
    )
    created_at = ma.fields.String(
        metadata={
            "description": "When it was stored; ISO 8601, UTC.",
            "format": "date-time",
            "example": "2026-11-23T16:41:51.860786+00:00",
        }
    )


class MessageQuerySchema(ma.Schema):
    """The query of a page of messages."""

    class Meta:
        unknown = ma.EXCLUDE

    username = MaybeUsername()
    cursor = Cursor()
    limit = Limit(
        MAX_MESSAGES,
        load_default=50,
        metadata={
            "description": "Most messages of the page, brought into 1 to 200.",
            "example": 50,
        },
    )
    order = ma.fields.String(
        load_default="desc",
        validate=ma.validate.OneOf(["asc", "desc"], error="order must be asc or desc"),
        metadata={"description": "`desc`: newest first. `asc`: oldest first.", "example": "desc"},
    )


class MessagePageSchema(ma.Schema):
    """One page of messages."""

    messages = ma.fields.List(
        ma.fields.Nested(MessageSchema), metadata={"description": "The page's messages."}
    )
    next_cursor = ma.fields.Integer(
        allow_none=True,
        metadata={
            "description": "For `cursor` of the next page; `null`: this is the last.",
            "example": None,
        },
    )


class MessagePatchSchema(ma.Schema):
    """The words that a message has from now on."""

    class Meta:
        unknown = ma.EXCLUDE

    username = MaybeUsername()
    content = ma.fields.Dict(
        keys=ma.fields.String(),
        required=True,
        error_messages={
            "required": "Missing key: content",
            "null": "Missing key: content",
            "invalid": "content must be an object",
        },
        metadata={
            "description": (
                "`message` in it is a string or a list of segments, as in chat. The rest is "
                "ignored."
            ),
            "required": ["message"],
            "properties": {"message": MESSAGE},
            "example": {"type": "user", "message": [{"type": "plain", "text": "Hello again"}]},
        },
    )


class RegenerateSchema(ma.Schema):
    """How a message is answered once more; all of it may be absent."""

    class Meta:
        unknown = ma.EXCLUDE

    username = MaybeUsername()
    selected_provider = Text(
        load_default="",
        allow_none=True,
        metadata={
            "description": "A provider of the config, for this turn only.",
            "example": "openai",
        },
    )
    selected_model = Text(
        load_default="",
        allow_none=True,
        metadata={
            "description": "A model of the provider, for this turn only.",
            "example": "gpt-5-mini",
        },
    )
    enable_streaming = Flag(
        metadata={
            "description": "As in chat: `false` gives the text in one `plain` event.",
            "default": True,
            "example": True,
        }
    )
    flags = ma.fields.Dict(
        keys=ma.fields.String(),
        load_default=None,
        allow_none=True,
        error_messages={"invalid": "flags must be an object"},
        metadata={
            "description": "`enable_streaming` in it wins over the field. Others are ignored.",
            "example": {"enable_streaming": True},
        },
    )
