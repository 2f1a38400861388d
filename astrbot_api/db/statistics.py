"""Figures of the whole server, for its owner."""

from __future__ import annotations

from typing import Any

import peewee

from ..runtime.clock import now_us, to_iso
from . import keyuse
from .dialect import is_postgres

#: How many of the last turns the median is taken of, and failures are looked for in.
_RECENT = 200

_ACTIVE = "SELECT status, COUNT(*) FROM run WHERE status IN ('queued', 'running') GROUP BY status"

# By the number of the row: its index is there, and the newest are its end.
_DURATIONS = """
SELECT finished_at - started_at FROM (
    SELECT started_at, finished_at, status FROM run ORDER BY id DESC LIMIT ?) AS recent
WHERE status = 'completed' AND started_at IS NOT NULL AND finished_at IS NOT NULL
"""

_FAILURES = """
SELECT r.status, r.error_code, r.finished_at, s.session_id, s.display_name
FROM (SELECT status, error_code, finished_at, session FROM run ORDER BY id DESC LIMIT ?) AS r
JOIN chat_session AS s ON s.id = r.session
WHERE r.status IN ('failed', 'interrupted') AND r.finished_at IS NOT NULL
ORDER BY r.finished_at DESC LIMIT 8
"""

_FILES = "SELECT COALESCE(SUM(size_bytes), 0), COALESCE(SUM(attachments), 0) FROM attachment_total"


def describe_server(db: peewee.Database, days: int) -> dict[str, Any]:
    """Return what the server does now, and its use in the last days."""
    active = dict(db.execute_sql(_ACTIVE).fetchall())
    durations = sorted(row[0] // 1000 for row in db.execute_sql(_DURATIONS, (_RECENT,)).fetchall())
    size, count = db.execute_sql(_FILES).fetchone()
    return {
        "runs_now": active.get("running", 0),
        "runs_waiting": active.get("queued", 0),
        "today": to_iso(now_us())[:10],
        "days": keyuse.list_days(db, days),
        "turn_ms": durations[len(durations) // 2] if durations else None,
        "turns_measured": len(durations),
        "failures": [
            {
                "status": status,
                "error_code": code,
                "at": to_iso(at),
                "session_id": session_id,
                "display_name": name,
            }
            for status, code, at, session_id, name in db.execute_sql(
                _FAILURES, (_RECENT,)
            ).fetchall()
        ],
        "database_bytes": _database_bytes(db),
        "attachment_bytes": int(size),
        "attachments": int(count),
    }


def _database_bytes(db: peewee.Database) -> int:
    if is_postgres(db):
        return int(db.execute_sql("SELECT pg_database_size(current_database())").fetchone()[0])
    pages = db.execute_sql("PRAGMA page_count").fetchone()[0]
    size: int = db.execute_sql("PRAGMA page_size").fetchone()[0]
    return int(pages) * size
