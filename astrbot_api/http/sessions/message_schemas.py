"""Request and response schemas of a session's messages."""

from __future__ import annotations

import marshmallow as ma

from ..chat.schemas import MESSAGE, ChatRequestSchema
from ..fields import (
    AnyObject,
    Cursor,
    Limit,
    MaybeUsername,
    asked,
    choice,
    missing,
    optional_flag,
)
from ..schemas import RequestSchema, list_of, mapping, number, text, time

#: Most messages of one page.
MAX_MESSAGES = 200


class MessageSchema(ma.Schema):
    """One stored message."""

    id = number("Its number; later ones are higher.", 42)
    sender_id = text("Who said it: a username, or `bot`.", "alice")
    sender_name = text("How the sender is called.", "alice")
    content = mapping(
        "`type` is `user` or `bot`; `message` is the list of its segments: what was "
        "sent, or `think`, `tool_call`, `plain` and files in the order they came. "
        "The bot's may have `reasoning`, `agent_stats`, and `error` where its turn failed.",
        {"type": "user", "message": [{"type": "plain", "text": "Hello"}]},
    )
    llm_checkpoint_id = text(
        "The same for the messages of one turn; `null`: it was pushed.",
        "0a6b9f0e-8a6d-4b8e-93f5-2a1f0f3d8f65",
        none=True,
    )
    created_at = time("When it was stored; ISO 8601, UTC.")
    updated_at = time("The same.")
    platform_id = text("Where it was said.", "webchat")
    user_id = text("The session's id, as AstrBot has it; not in every list.", "my_session_001")


class MessageQuerySchema(RequestSchema):
    """The query of a page of messages."""

    username = MaybeUsername()
    cursor = Cursor()
    limit = asked(
        Limit, "Most messages of the page, brought into 1 to 200.", 50,
        maximum=MAX_MESSAGES, load_default=50,
    )  # fmt: skip
    order = choice(
        "order", ("asc", "desc"), "`desc`: newest first. `asc`: oldest first.", default="desc"
    )


class MessagePageSchema(ma.Schema):
    """One page of messages."""

    messages = list_of(MessageSchema, "The page's messages.")
    next_cursor = number(
        "For `cursor` of the next page; `null`: this is the last.", None, none=True
    )


class MessagePatchSchema(RequestSchema):
    """The words that a message has from now on."""

    carries_message = True

    username = MaybeUsername()
    content = AnyObject(
        required=True,
        error_messages=missing("content"),
        metadata={
            "description": (
                "`message` in it is a string or a list of segments, as in chat. The rest is "
                "ignored."
            ),
            "required": ["message"],
            "properties": {"message": MESSAGE},
            "additionalProperties": True,
            "example": {"type": "user", "message": [{"type": "plain", "text": "Hello again"}]},
        },
    )


class RegenerateSchema(ChatRequestSchema):
    """How a message is answered once more; all of it may be absent."""

    carries_message = False

    class Meta(RequestSchema.Meta):
        fields = ("username", "selected_provider", "selected_model", "enable_streaming", "flags")

    username = MaybeUsername()  # type: ignore[assignment]
    enable_streaming = optional_flag(
        "As in chat: `false` gives the text in one `plain` event.", default=True, example=True
    )
