"""``POST /keys/session`` and ``GET /keys/self``."""

from __future__ import annotations

from functools import partial
from typing import Any

import peewee
from flask import Response

from ...db import key_usage, keys, session_keys
from ...db.stored import find_committed
from ...errors import ApiError
from ...keys.caller import Caller
from ...keys.limits import check_session_keys
from ...keys.rules import KeyRules, narrow_rules, read_rules
from ...runtime.clock import now_us
from ..auth import get_caller, require_key
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..schemas import envelope_of
from ..state import get_state
from ..usernames import check_username
from .schemas import SESSION_SCOPES, SelfSchema, SessionKeyRequestSchema, SessionKeySchema

blp = ApiBlueprint(
    "keys", __name__, tag="Keys", description="Session keys, and the limits of your key."
)

#: Columns of the caller's key that the response contains.
_OWN_FIELDS = ("key_id", "name", "key_prefix", "scopes", "expires_at")


@blp.post("/keys/session", operation_id="createSessionKey")
@blp.needs_scope("chat")
@blp.arguments(
    SessionKeyRequestSchema(),
    example={"username": "alice", "expires_in_s": 900, "max_turns": 20},
)
@blp.answers(envelope_of("SessionKeyAnswer", SessionKeySchema()))
@blp.raises("missing_field", "username_reserved", "config_not_found", "too_many_keys")
def create_session_key(body: dict[str, Any]) -> Response:
    """Create a short-lived key for a browser or a phone.

    With a session key, a program that you do not control can call this API directly. The key
    is bound to one username and optionally to one session, one config and a budget. The limits
    of your key also apply to the session key, and its usage counts for your key. It expires
    with your key at the latest. Your key needs the scope `chat`. A session key cannot create
    other keys.
    """
    require_key()
    caller = get_caller()
    if caller.root_id != caller.key_id:
        raise ApiError("key_restricted", "a session key cannot make session keys")
    check_username(body["username"])
    rules = _read_session_rules(body)
    scopes = body["scopes"] or list(SESSION_SCOPES)
    expires_at = now_us() + body["expires_in_s"] * 1_000_000
    row, secret = get_state().db.write(
        lambda db: _create_session_key(db, caller, scopes, rules, expires_at)
    )
    shown = {name: row[name] for name in ("key_id", "scopes", "rules", "expires_at")}
    return ok({**shown, "api_key": secret})


@blp.get("/keys/self", operation_id="getOwnKey")
@blp.answers(envelope_of("OwnKeyAnswer", SelfSchema()))
def get_own_key() -> Response:
    """Return the scopes, limits and remaining quota of your key.

    Any valid key may call this. For a session key, the response has its own figures. The
    limits of its parent key also apply and may be reached earlier.
    """
    require_key()
    caller = get_caller()
    rules = caller.rules
    with get_state().db.read() as db:
        row = keys.find_key(db, caller.key_id)
        used = _read_used(db, caller.key_id, caller.root_id)
        open_turns = key_usage.count_uncounted_turns(db, caller.key_id)
    if row is None:  # deleted a moment ago
        raise ApiError("invalid_api_key", "Invalid API key")
    left = _find_left(rules, used, open_turns)
    if caller.rate is not None and rules.requests_per_minute is not None:
        left["requests_per_minute"] = caller.rate.remaining
    return ok(
        {
            **{name: row[name] for name in _OWN_FIELDS},
            "is_session_key": caller.root_id != caller.key_id,
            "rules": rules.to_json(),
            "used": used,
            "left": left,
        }
    )


def _read_session_rules(body: dict[str, Any]) -> KeyRules:
    """Return the guard rails that a request sets for its session key."""
    asked: dict[str, Any] = {
        name: body[name] for name in ("username", "max_turns", "max_tokens", "requests_per_minute")
    }
    asked["session_id"] = body["session_id"] or None
    if config_id := body["config_id"]:
        get_state().agents.configs.choose_config(config_id, "")
        asked["configs"] = [config_id]
    return read_rules(asked)


def _create_session_key(
    db: peewee.Database, caller: Caller, scopes: list[str], rules: KeyRules, expires_at: int
) -> tuple[dict[str, Any], str]:
    check_session_keys(db, caller.key_id)
    made = session_keys.create_session_key(
        db, caller.key_id, f"session of {rules.username}", expires_at=expires_at, scopes=scopes,
        narrow=partial(narrow_rules, more=rules), secret_prefix=caller.key_prefix,
    )  # fmt: skip
    if made is None:
        raise ApiError("invalid_api_key", "Invalid API key")
    return made


def _read_used(db: peewee.Database, key_id: str, root_id: str) -> dict[str, int]:
    turns_today, tokens_today = key_usage.sum_turns(db, key_id, key_usage.today())
    turns, tokens = key_usage.sum_turns(db, key_id)
    account = find_committed(db, root_id)
    stored = account.stored
    return {
        "turns_today": turns_today,
        "tokens_today": tokens_today,
        "turns": turns,
        "tokens": tokens,
        "streams": key_usage.count_active_turns(db, key_id),
        "upload_bytes": stored.files_bytes,
        "stored_bytes": stored.total_bytes,
        "sessions": stored.sessions,
        "growth_bytes": account.growth.size_bytes,
    }


def _find_left(rules: KeyRules, used: dict[str, int], open_turns: int) -> dict[str, int]:
    """Return the remaining quota of each limit that is set.

    :param open_turns: Turns that ``used`` lacks.
    """
    counts = {
        **used,  # the other limits have the names of their counts
        "turns_per_day": used["turns_today"] + open_turns,
        "tokens_per_day": used["tokens_today"],
        "max_turns": used["turns"] + open_turns,
        "max_tokens": used["tokens"],
    }
    limits = rules.to_json()
    return {name: max(0, limits[name] - count) for name, count in counts.items() if name in limits}
