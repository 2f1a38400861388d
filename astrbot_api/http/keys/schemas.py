"""Keys: what a session key is asked with, and what a key is told of itself."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ...keys.rules import MAX_NUMBER
from ..fields import NOT_BLANK, Text

#: What a browser or a phone needs.
SESSION_SCOPES = ("chat", "file")

_SECRET = "abk_8Jd0…"
_TIME = "2026-11-23T16:41:51.860786+00:00"
_SCOPES = "scopes of a session key may be chat and file"


class _WholeNumber(ma.fields.Integer):
    """An integer as JSON has it: 900.0 is one."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return super()._validated(value)


class SessionKeyRequestSchema(ma.Schema):
    """What a session key is asked with. Unknown fields are ignored."""

    class Meta:
        unknown = ma.EXCLUDE

    username = Text(
        required=True,
        max_chars="max_username_chars",
        error_messages={"required": "Missing key: username", "null": "Missing key: username"},
        metadata={
            "description": "The only username that it may speak as.",
            "example": "alice",
            "pattern": NOT_BLANK,
        },
    )
    session_id = Text(
        load_default="",
        allow_none=True,
        max_chars="max_session_id_chars",
        metadata={
            "description": "The only session that it may name; absent: any of the username.",
            "example": "my_session_001",
        },
    )
    config_id = Text(
        load_default="",
        allow_none=True,
        metadata={
            "description": "The only config that it may use.",
            "example": "default",
        },
    )
    scopes = ma.fields.List(
        ma.fields.String(
            validate=ma.validate.OneOf(SESSION_SCOPES, error=_SCOPES),
            error_messages={"invalid": _SCOPES, "null": _SCOPES},
        ),
        load_default=None,
        allow_none=True,
        error_messages={"invalid": "scopes must be a list"},
        metadata={
            "description": "`chat` and `file`, or one of them; what your key has not is left out.",
            "example": ["chat"],
        },
    )
    expires_in_s = _WholeNumber(
        load_default=900,
        strict=True,
        error_messages={"invalid": "expires_in_s must be a whole number"},
        metadata={
            "description": "Seconds until it ends; 60 to 86400.",
            "example": 900,
            "minimum": 60,
            "maximum": 86_400,
        },
    )
    max_turns = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "Most turns in all.",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_NUMBER,
            "example": 20,
        },
    )
    max_tokens = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "Most tokens in all; the turn that crosses it is finished.",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_NUMBER,
            "example": 50_000,
        },
    )
    requests_per_minute = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "Most requests a minute.",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_NUMBER,
            "example": 60,
        },
    )


class SessionKeySchema(ma.Schema):
    """A session key, as it was made."""

    key_id = ma.fields.String(
        metadata={
            "description": "Its id.",
            "example": "3fb5931f-04eb-45b4-8515-48f20d7224d1",
        }
    )
    api_key = ma.fields.String(
        metadata={"description": "The key; shown this once.", "example": _SECRET}
    )
    scopes = ma.fields.List(
        ma.fields.String(), metadata={"description": "What it opens.", "example": ["chat"]}
    )
    rules = ma.fields.Dict(
        metadata={
            "description": "Its guard rails.",
            "example": {"username": "alice", "max_turns": 20},
        }
    )
    expires_at = ma.fields.String(
        metadata={
            "description": "When it ends; ISO 8601, UTC.",
            "format": "date-time",
            "example": _TIME,
        }
    )


class UsedSchema(ma.Schema):
    """What a key has used, and what it has left where that is limited."""

    turns_today = ma.fields.Integer(
        metadata={"description": "Turns that have ended today, UTC.", "example": 3}
    )
    tokens_today = ma.fields.Integer(metadata={"description": "Tokens of today.", "example": 812})
    turns = ma.fields.Integer(metadata={"description": "Turns in all.", "example": 3})
    tokens = ma.fields.Integer(metadata={"description": "Tokens in all.", "example": 812})
    streams = ma.fields.Integer(
        metadata={"description": "Turns that run or wait now.", "example": 0}
    )
    upload_bytes = ma.fields.Integer(
        metadata={"description": "Bytes of its attachments.", "example": 70}
    )


class SelfSchema(ma.Schema):
    """What a key is told of itself."""

    key_id = ma.fields.String(
        metadata={
            "description": "Its id.",
            "example": "3fb5931f-04eb-45b4-8515-48f20d7224d1",
        }
    )
    name = ma.fields.String(metadata={"description": "What its owner calls it.", "example": "shop"})
    key_prefix = ma.fields.String(
        metadata={"description": "Its first characters.", "example": "abk_8Jd0u2Xq"}
    )
    scopes = ma.fields.List(
        ma.fields.String(), metadata={"description": "What it opens.", "example": ["chat"]}
    )
    expires_at = ma.fields.String(
        allow_none=True,
        metadata={
            "description": "When it ends; `null`: never.",
            "format": "date-time",
            "example": _TIME,
        },
    )
    is_session_key = ma.fields.Boolean(
        metadata={"description": "Whether it was made with another key.", "example": False}
    )
    rules = ma.fields.Dict(
        metadata={
            "description": "Its guard rails; an absent one is no limit.",
            "example": {"username": "alice", "turns_per_day": 100},
        }
    )
    used = ma.fields.Nested(UsedSchema, metadata={"description": "What it has used."})
    left = ma.fields.Dict(
        metadata={
            "description": "What is left of each limit that it has, by the limit's name.",
            "example": {"turns_per_day": 97},
        }
    )
