"""The sessions of all users, for the server's owner."""

from __future__ import annotations

from typing import Any

import peewee

from ..runtime.clock import to_iso

_COLUMNS = """
SELECT s.id, s.session_id, s.platform_id, s.creator, s.display_name, s.config_id,
    s.created_at, s.updated_at
FROM chat_session AS s
"""

# By number: an index that is there, and the newest are its end.
_NEWEST = f"{_COLUMNS} WHERE s.id < ? ORDER BY s.id DESC LIMIT ?"

#: How many of the newest sessions a search looks at: it holds its worker while it lasts.
_MAX_SCANNED = 20_000

_SEARCH = f"""
{_COLUMNS} WHERE s.id < ? AND s.id IN (
    SELECT id FROM chat_session ORDER BY id DESC LIMIT ?)
  AND (LOWER(COALESCE(s.display_name, '')) LIKE ? ESCAPE '!' OR LOWER(s.creator) LIKE ? ESCAPE '!'
       OR LOWER(s.session_id) LIKE ? ESCAPE '!')
ORDER BY s.id DESC LIMIT ?
"""


def list_all_sessions(
    db: peewee.Database, *, words: str = "", before: int | None = None, limit: int = 30
) -> tuple[list[dict[str, Any]], int | None]:
    """Return sessions, newest first.

    :param words: What stands in the title, the username or the id.
    :param before: What the page before returned.
    :returns: The page, and what the next one begins with; None: this is the last.
    """
    start = 2**62 if before is None else before
    if words:
        pattern = words.lower()
        for sign in "!%_":
            pattern = pattern.replace(sign, f"!{sign}")
        like = f"%{pattern}%"
        values: tuple[Any, ...] = (start, _MAX_SCANNED, like, like, like, limit + 1)
        rows = db.execute_sql(_SEARCH, values).fetchall()
    else:
        rows = db.execute_sql(_NEWEST, (start, limit + 1)).fetchall()
    page = [describe_session(row) for row in rows[:limit]]
    return page, rows[limit - 1][0] if len(rows) > limit else None


def describe_session(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return a row of a session as the pages show it."""
    _, session_id, platform_id, creator, display_name, config_id, created_at, updated_at = row
    return {
        "session_id": session_id,
        "platform_id": platform_id,
        "creator": creator,
        "display_name": display_name,
        "config_id": config_id,
        "created_at": to_iso(created_at),
        "updated_at": to_iso(updated_at),
    }
