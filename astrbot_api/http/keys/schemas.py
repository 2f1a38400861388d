"""Request and response schemas of session keys and of ``keys/self``."""

from __future__ import annotations

import marshmallow as ma

from ...keys.rules import MAX_NUMBER
from ..fields import BoundedList, WholeNumber, any_value, optional_text, required_text
from ..schemas import RequestSchema, flag, mapping, number, text, text_list, time

SESSION_SCOPES = ("chat", "file")

_KEY_ID = ("The key's id.", "3fb5931f-04eb-45b4-8515-48f20d7224d1")

_SCOPES = "scopes of a session key may be chat and file"


def _limit(description: str, example: int) -> ma.fields.Raw:
    """Return a limit of a session key. Its value is validated with the other rules."""
    return any_value(description, example, type="integer", minimum=1, maximum=MAX_NUMBER)


class SessionKeyRequestSchema(RequestSchema):
    username = required_text("The only username that the key may use.", "alice",
        max_chars="max_username_chars",
        validate=ma.validate.Length(1, error="username is empty"),
    )  # fmt: skip
    session_id = optional_text(
        "The only session that the key may use. By default, all sessions of the username.",
        "my_session_001", max_chars="max_session_id_chars",
    )  # fmt: skip
    config_id = optional_text("The only config that the key may use.", "default")
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
            "description": (
                "`chat`, `file` or both. Scopes that your key does not have are ignored."
            ),
            "example": ["chat"],
        },
    )
    expires_in_s = WholeNumber(
        load_default=900,
        error_messages={"invalid": "expires_in_s must be a whole number"},
        validate=ma.validate.Range(
            60, 86_400, error="expires_in_s must be between {min} and {max}"
        ),
        metadata={"description": "Lifetime in seconds, 60 to 86400.", "example": 900},
    )
    max_turns = _limit("Maximum number of turns.", 20)
    max_tokens = _limit("Maximum number of tokens. The turn that exceeds it is completed.", 50_000)
    requests_per_minute = _limit("Maximum number of requests per minute.", 60)


class SessionKeySchema(ma.Schema):
    key_id = text(*_KEY_ID)
    api_key = text("The key. It is shown only once.", "abk_8Jd0…")
    scopes = text_list("The key's scopes.", ["chat"])
    rules = mapping("The key's limits.", {"username": "alice", "max_turns": 20})
    expires_at = time("Time at which the key expires, ISO 8601, UTC.")


class UsedSchema(ma.Schema):
    turns_today = number("Turns that ended today (UTC).", 3)
    tokens_today = number("Tokens used today (UTC).", 812)
    turns = number("Total number of turns.", 3)
    tokens = number("Total number of tokens.", 812)
    streams = number("Turns that are running or queued.", 0)
    upload_bytes = number("Bytes of the key's attachments.", 70)
    stored_bytes = number("Bytes of the key's messages, sessions, notes and deliveries.", 2_048)
    sessions = number("Number of sessions that the key created.", 1)
    growth_bytes = number("Growth of the key's stored data within one minute, in bytes.", 2_048)


class SelfSchema(ma.Schema):
    key_id = text(*_KEY_ID)
    name = text("The name that the server's owner chose.", "shop")
    key_prefix = text("The first characters of the key.", "abk_8Jd0u2Xq")
    scopes = text_list("The key's scopes.", ["chat"])
    expires_at = time("Time at which the key expires, or `null` if it never expires.", none=True)
    is_session_key = flag("Whether another key created this key.", False)
    rules = mapping(
        "The key's limits. Missing members are unlimited.",
        {"username": "alice", "turns_per_day": 100},
    )
    used = ma.fields.Nested(UsedSchema, metadata={"description": "The key's usage."})
    left = mapping("The remaining quota of each limit, by the limit's name.", {"turns_per_day": 97})
