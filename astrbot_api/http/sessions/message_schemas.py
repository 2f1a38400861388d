"""Request and response schemas of a session's messages."""

from __future__ import annotations

import marshmallow as ma

from ..chat.schemas import MESSAGE, ChatRequestSchema
from ..fields import (
    AnyObject,
    Cursor,
    Limit,
    optional_flag,
    optional_username,
    query_choice,
    request_field,
)
from ..schemas import RequestSchema, flag, list_of, mapping, number, text, time

#: Maximum number of messages on one page.
MAX_MESSAGES = 200


class MessageSchema(ma.Schema):
    id = number("The message's number. Later messages have higher numbers.", 42)
    sender_id = text("The sender: a username, or `bot`.", "alice")
    sender_name = text("The sender's name.", "alice")
    content = mapping(
        "`type` is `user` or `bot`. `message` is the list of segments: as sent by the user, or "
        "`think`, `tool_call`, `plain` and files in their original order. A bot's message can "
        "also have `reasoning` and `agent_stats`, and `error` if its turn failed.",
        {"type": "user", "message": [{"type": "plain", "text": "Hello"}]},
    )
    llm_checkpoint_id = text(
        "Shared by the messages of one turn. `null` if the message was pushed.",
        "0a6b9f0e-8a6d-4b8e-93f5-2a1f0f3d8f65",
        none=True,
    )
    created_at = time("Time at which the message was stored, ISO 8601, UTC.")
    updated_at = time("Always the same as `created_at`.")
    platform_id = text("The platform of the message.", "webchat")
    user_id = text(
        "The session's id, for compatibility with AstrBot. Not in every list.", "my_session_001"
    )


class EditedMessageSchema(MessageSchema):
    message = ma.fields.Nested(
        MessageSchema,
        metadata={"description": "The same message object, for compatibility with AstrBot."},
    )
    needs_regenerate = flag("Always true: editing does not run a turn.", True)
    truncated_after_message = flag(
        "Always false: the old answer stays until a new one replaces it.", False
    )


class MessageQuerySchema(RequestSchema):
    username = optional_username()
    cursor = Cursor()
    limit = request_field(
        Limit, "Maximum number of messages on the page, clamped to 1 to 200.", 50,
        maximum=MAX_MESSAGES, load_default=50,
    )  # fmt: skip
    order = query_choice(
        "order", ("asc", "desc"), "`desc` for newest first, `asc` for oldest first.", default="desc"
    )


class MessagePageSchema(ma.Schema):
    messages = list_of(MessageSchema, "The messages of the page.")
    next_cursor = number(
        "The `cursor` of the next page, or `null` on the last page.", None, none=True
    )


class MessagePatchSchema(RequestSchema):
    carries_message = True

    username = optional_username()
    content = AnyObject(
        required=True,
        metadata={
            "description": (
                "An object whose `message` is a string or a list of segments, like in chat. Other "
                "members are ignored."
            ),
            "required": ["message"],
            "properties": {"message": MESSAGE},
            "additionalProperties": True,
            "example": {"type": "user", "message": [{"type": "plain", "text": "Hello again"}]},
        },
    )


class RegenerateSchema(ChatRequestSchema):
    """Options of a regenerated reply. All are optional."""

    carries_message = False

    class Meta(RequestSchema.Meta):
        fields = ("username", "selected_provider", "selected_model", "enable_streaming", "flags")

    username = optional_username()  # type: ignore[assignment]
    enable_streaming = optional_flag(
        "Like in chat: with `false` the whole text is sent in one `plain` event.",
        default=True,
        example=True,
    )
