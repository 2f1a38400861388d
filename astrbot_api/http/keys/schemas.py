"""Request and response schemas of session keys and of ``keys/self``."""

from __future__ import annotations

import marshmallow as ma

from ...keys.rules import MAX_NUMBER
from ..fields import BoundedList, Whole, any_value, optional_text, required_text
from ..schemas import RequestSchema, flag, mapping, number, text, texts, time

#: What a browser or a phone needs.
SESSION_SCOPES = ("chat", "file")

_KEY_ID = ("Its id.", "3fb5931f-04eb-45b4-8515-48f20d7224d1")

_SCOPES = "scopes of a session key may be chat and file"


def _limit(description: str, example: int) -> ma.fields.Raw:
    """Return a limit of a session key; its value is read with the other rules."""
    return any_value(description, example, type="integer", minimum=1, maximum=MAX_NUMBER)


class SessionKeyRequestSchema(RequestSchema):
    """The body of a request for a session key."""

    username = required_text(
        "username", "The only username that it may speak as.", "alice",
        max_chars="max_username_chars",
    )  # fmt: skip
    session_id = optional_text(
        "The only session that it may name; absent: any of the username.",
        "my_session_001", max_chars="max_session_id_chars",
    )  # fmt: skip
    config_id = optional_text("The only config that it may use.", "default")
    scopes = BoundedList(
        ma.fields.String(
            validate=ma.validate.OneOf(SESSION_SCOPES, error=_SCOPES),
            error_messages={"invalid": _SCOPES, "null": _SCOPES},
        ),
        load_default=None,
        allow_none=True,
        max_items=10,
        error_messages={"invalid": "scopes must be a list"},
        metadata={
            "description": "`chat` and `file`, or one of them; what your key has not is left out.",
            "example": ["chat"],
        },
    )
    expires_in_s = Whole(
        load_default=900,
        error_messages={"invalid": "expires_in_s must be a whole number"},
        metadata={
            "description": "Seconds until it ends; 60 to 86400.",
            "example": 900,
            "minimum": 60,
            "maximum": 86_400,
        },
    )
    max_turns = _limit("Most turns in all.", 20)
    max_tokens = _limit("Most tokens in all; the turn that crosses it is finished.", 50_000)
    requests_per_minute = _limit("Most requests a minute.", 60)


class SessionKeySchema(ma.Schema):
    """A session key, as it was made."""

    key_id = text(*_KEY_ID)
    api_key = text("The key; shown this once.", "abk_8Jd0…")
    scopes = texts("What it opens.", ["chat"])
    rules = mapping("Its guard rails.", {"username": "alice", "max_turns": 20})
    expires_at = time("When it ends; ISO 8601, UTC.")


class UsedSchema(ma.Schema):
    """What a key has used, and what it has left where that is limited."""

    turns_today = number("Turns that have ended today, UTC.", 3)
    tokens_today = number("Tokens of today.", 812)
    turns = number("Turns in all.", 3)
    tokens = number("Tokens in all.", 812)
    streams = number("Turns that run or wait now.", 0)
    upload_bytes = number("Bytes of its attachments.", 70)
    stored_bytes = number("Bytes of its messages, sessions, notes and deliveries.", 2_048)
    sessions = number("Sessions that it has made.", 1)
    growth_bytes = number("Bytes by which what it has stored grew within a minute.", 2_048)


class SelfSchema(ma.Schema):
    """What a key may read of itself."""

    key_id = text(*_KEY_ID)
    name = text("What its owner calls it.", "shop")
    key_prefix = text("Its first characters.", "abk_8Jd0u2Xq")
    scopes = texts("What it opens.", ["chat"])
    expires_at = time("When it ends; `null`: never.", none=True)
    is_session_key = flag("Whether it was made with another key.", False)
    rules = mapping(
        "Its guard rails; an absent one is no limit.", {"username": "alice", "turns_per_day": 100}
    )
    used = ma.fields.Nested(UsedSchema, metadata={"description": "What it has used."})
    left = mapping(
        "What is left of each limit that it has, by the limit's name.", {"turns_per_day": 97}
    )
