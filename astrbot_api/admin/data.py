"""``/admin/data/…``: data for the pages' scripts. Not part of the API, and may change."""

from __future__ import annotations

from typing import Any

import peewee
from flask import Response, request

from ..db import audit, key_usage, keys, session_keys, stored
from ..db import statistics as figures
from ..db.owners import find_session_end
from ..http.configs.routes import describe_config
from ..http.envelope import ok
from ..http.json_body import read_json_object
from ..http.state import get_state
from ..runtime.clock import now_us
from .access import AdminBlueprint, get_login, read_cursor
from .keys import read_key_id, write_key

blp = AdminBlueprint("data", "/admin/data")

_DAYS = 30
_AUDIT_PAGE = 50

#: Maximum number of omitted tools that are listed per config.
_LEFT_OUT_NAMES = 200

#: Lifetime of the console's session key, in seconds.
_CONSOLE_KEY_S = 8 * 3600

_CONSOLE_SCOPES = ("chat", "file")


@blp.get("/overview")
def get_overview() -> Response:
    """Return the server's current activity, and its usage in the last days."""
    with get_state().db.read() as db:
        return ok(figures.describe_server(db, _DAYS))


@blp.get("/keys")
def get_keys() -> Response:
    """Return all keys, with their usage in the last days."""
    with get_state().db.read() as db:
        found = keys.list_keys(db)
        use = key_usage.sum_by_key(db, _DAYS)
        kept = stored.list_by_key(db)
        made = session_keys.count_by_maker(db)
    return ok(
        [
            {
                **key,
                "use": use.get(key["key_id"]),
                "session_keys": made.get(key["key_id"], (0, 0))[0],
                "console_keys": made.get(key["key_id"], (0, 0))[1],
                "stored": _describe_stored(kept.get(key["key_id"], stored.Stored())),
            }
            for key in found
        ]
    )


def _describe_stored(one: stored.Stored) -> dict[str, int]:
    return {
        "messages": one.messages,
        "sessions": one.sessions,
        "bytes": one.total_bytes,
        "file_bytes": one.files_bytes,
    }


@blp.get("/keys/<key_id>/use")
def get_use(key_id: str) -> Response:
    """Return a key's usage per day."""
    with get_state().db.read() as db:
        return ok({"days": key_usage.list_days(db, _DAYS, key_id)})


@blp.get("/configs")
def get_configs() -> Response:
    """Return the configs for the rules of a key and for the console."""
    return ok([describe_config(one) for one in get_state().agents.configs.list_configs()])


@blp.get("/left-out")
def get_left_out() -> Response:
    """Return the configs with more tools than ``max_tools``, and the omitted tools."""
    state = get_state()
    found = [
        (one, state.chat.abilities.list_left_out(one))
        for one in state.agents.configs.list_configs()
    ]
    return ok(
        [
            {
                "config_id": config.id,
                "max_tools": config.tools.max_tools,
                "count": len(names),
                "names": names[:_LEFT_OUT_NAMES],
            }
            for config, names in found
            if names
        ]
    )


@blp.post("/console-key")
def make_console_key() -> Response:
    """Create a session key for a key, because the key's own secret is not stored.

    It expires with the owner's login, and has only the scopes that the console needs.
    """
    key_id, login = read_key_id(read_json_object(request)), get_login()

    def job(db: peewee.Database) -> tuple[dict[str, Any], str] | None:
        ends_at = min(
            now_us() + _CONSOLE_KEY_S * 1_000_000, find_session_end(db, login.session_key)
        )
        return session_keys.create_session_key(
            db, key_id, f"console of {login.name}", expires_at=ends_at, scopes=_CONSOLE_SCOPES,
            owner_session=login.session_key,
        )  # fmt: skip

    row, secret = write_key("console_key_made", job, f"of {key_id}")
    return ok({"api_key": secret, "expires_at": row["expires_at"], "scopes": row["scopes"]})


@blp.get("/audit")
def get_audit() -> Response:
    """Return a page of the audit log, newest first."""
    with get_state().db.read() as db:
        entries = audit.list_entries(db, before=read_cursor(), limit=_AUDIT_PAGE)
    following = entries[-1]["id"] if len(entries) == _AUDIT_PAGE else None
    return ok({"entries": entries, "next": following})
