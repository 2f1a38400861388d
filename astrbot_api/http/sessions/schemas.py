"""The list of sessions: what it is asked with, and what it holds."""

from __future__ import annotations

import marshmallow as ma

from ..fields import PageNumber, Text, Username


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
