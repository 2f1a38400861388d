"""The list of sessions: what it is asked with, and what it holds."""

from __future__ import annotations

import marshmallow as ma

from ..fields import Limit, MaybeUsername, PageNumber, Text, Username
from .message_schemas import MessageSchema

#: Most sessions that one request deletes.
MAX_BATCH = 500


class SessionQuerySchema(ma.Schema):
    """The query of a list of sessions."""

    class Meta:
        unknown = ma.EXCLUDE

    username = Username()
    page = PageNumber(
        load_default=1,
        metadata={"description": "From 1; what is below counts as 1.", "example": 1},
    )
    page_size = PageNumber(
        load_default=20,
        metadata={"description": "Sessions a page, brought into 1 to 100.", "example": 20},
    )
    platform_id = Text(
        load_default="",
        metadata={"description": "Only this platform's.", "example": "webchat"},
    )
    order_by = ma.fields.String(
        load_default="created_at",
        validate=ma.validate.OneOf(
            ["created_at", "updated_at"],
            error="order_by must be created_at or updated_at",
        ),
        metadata={
            "description": "`created_at`: newest first. `updated_at`: last used first.",
            "example": "created_at",
        },
    )


class SessionSchema(ma.Schema):
    """One conversation."""

    session_id = ma.fields.String(metadata={"description": "Its name.", "example": "my_session"})
    platform_id = ma.fields.String(
        metadata={"description": "Where it takes place.", "example": "webchat"}
    )
    creator = ma.fields.String(metadata={"description": "Its username.", "example": "alice"})
    display_name = ma.fields.String(
        allow_none=True,
        metadata={
            "description": "Its title, made after the first turn.",
            "example": "Greetings",
        },
    )
    is_group = ma.fields.Integer(
        metadata={"description": "`1` for a group, else `0`.", "example": 0}
    )
    created_at = ma.fields.String(
        metadata={
            "description": "When it was made; ISO 8601, UTC.",
            "format": "date-time",
            "example": "2026-11-23T16:41:51.860786+00:00",
        }
    )
    updated_at = ma.fields.String(
        metadata={
            "description": "When it was last used; ISO 8601, UTC.",
            "format": "date-time",
            "example": "2026-11-23T16:41:52.192895+00:00",
        }
    )


class SessionPageSchema(ma.Schema):
    """One page of sessions."""

    sessions = ma.fields.List(
        ma.fields.Nested(SessionSchema), metadata={"description": "The page's sessions."}
    )
    page = ma.fields.Integer(metadata={"description": "Which page this is.", "example": 1})
    page_size = ma.fields.Integer(
        metadata={"description": "Most sessions of a page.", "example": 20}
    )
    total = ma.fields.Integer(
        metadata={"description": "Sessions on all pages together.", "example": 1}
    )


class OwnerQuerySchema(ma.Schema):
    """The query of a route that is for the session's owner."""

    class Meta:
        unknown = ma.EXCLUDE

    username = MaybeUsername()


class SessionDetailQuerySchema(OwnerQuerySchema):
    """The query of one session."""

    history_limit = Limit(
        200,
        load_default=50,
        metadata={
            "description": "Most messages of `history`, brought into 1 to 200.",
            "example": 50,
        },
    )


class RunSchema(ma.Schema):
    """A turn that runs or waits."""

    run_id = ma.fields.String(
        metadata={"description": "Its id.", "example": "7254cd9a-814f-498e-a202-2c1777b1bd2d"}
    )
    status = ma.fields.String(
        metadata={
            "description": "`running`, or `queued` behind another turn of the session.",
            "example": "running",
        }
    )
    created_at = ma.fields.String(
        metadata={
            "description": "When it was asked for; ISO 8601, UTC.",
            "format": "date-time",
            "example": "2026-11-23T16:41:51.860786+00:00",
        }
    )
    started_at = ma.fields.String(
        allow_none=True,
        metadata={
            "description": "When it began; `null` while it waits.",
            "format": "date-time",
            "example": "2026-11-23T16:41:51.860786+00:00",
        },
    )


class NamedSessionSchema(SessionSchema):
    """One conversation, with its config."""

    config_id = ma.fields.String(
        allow_none=True,
        metadata={
            "description": "The config that was chosen for it; `null`: the default.",
            "example": "default",
        },
    )


class SessionDetailSchema(NamedSessionSchema):
    """One conversation and the end of its history."""

    history = ma.fields.List(
        ma.fields.Nested(MessageSchema),
        metadata={"description": "Its newest messages, oldest first."},
    )
    next_cursor = ma.fields.Integer(
        allow_none=True,
        metadata={
            "description": (
                "For `cursor` of its messages, newest first: what came before `history`. "
                "`null`: nothing did."
            ),
            "example": None,
        },
    )
    active_runs = ma.fields.List(
        ma.fields.Nested(RunSchema),
        metadata={"description": "Its turns that run or wait, in their order."},
    )
    is_running = ma.fields.Boolean(
        metadata={"description": "Whether `active_runs` has any.", "example": False}
    )


class NewSessionQuerySchema(OwnerQuerySchema):
    """The query of a new session."""

    platform_id = ma.fields.String(
        load_default="webchat",
        validate=ma.validate.OneOf(
            ["webchat"],
            error="platform_id must be webchat; a bot's sessions begin with its messages",
        ),
        metadata={"description": "Only `webchat`.", "example": "webchat"},
    )


class DisplayName(Text):
    """A title; ``null`` and blank are none."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(
            allow_none=True,
            max_chars="max_display_name_chars",
            metadata={
                "description": "Its title. Blank: none, so that the next turn makes one.",
                "example": "Greetings",
                "maxLength": 255,
            },
            **kwargs,
        )


class NewSessionSchema(OwnerQuerySchema):
    """What a new session is made with; all of it may be absent."""

    display_name = DisplayName(load_default=None)
    config_id = Text(
        load_default="",
        allow_none=True,
        metadata={"description": "The config that answers in it.", "example": "default"},
    )


class SessionPatchSchema(OwnerQuerySchema):
    """What of a session is changed."""

    display_name = DisplayName(
        required=True, error_messages={"required": "Missing key: display_name"}
    )


class BatchDeleteSchema(OwnerQuerySchema):
    """Which sessions are deleted."""

    session_ids = ma.fields.List(
        ma.fields.String(),
        required=True,
        validate=ma.validate.Length(
            max=MAX_BATCH, error=f"session_ids has more than {MAX_BATCH} sessions"
        ),
        error_messages={
            "required": "Missing key: session_ids",
            "null": "Missing key: session_ids",
            "invalid": "session_ids must be a list of strings",
        },
        metadata={
            "description": f"Their ids, at most {MAX_BATCH}.",
            "example": ["my_session_001"],
            "maxItems": MAX_BATCH,
        },
    )


class DeletedSessionSchema(ma.Schema):
    """What was deleted."""

    session_id = ma.fields.String(metadata={"description": "Its name.", "example": "my_session"})


class FailedItemSchema(DeletedSessionSchema):
    """A session that was not deleted, and why."""

    code = ma.fields.String(
        metadata={"description": "As of an error.", "example": "session_not_found"}
    )
    reason = ma.fields.String(
        metadata={
            "description": "What is wrong with it.",
            "example": "session not found: my_session",
        }
    )


class BatchDeletedSchema(ma.Schema):
    """What became of the sessions that were to be deleted."""

    deleted_count = ma.fields.Integer(
        metadata={"description": "How many were deleted.", "example": 1}
    )
    failed_count = ma.fields.Integer(metadata={"description": "How many were not.", "example": 0})
    failed_items = ma.fields.List(
        ma.fields.Nested(FailedItemSchema),
        metadata={"description": "Those that were not, and why."},
    )
