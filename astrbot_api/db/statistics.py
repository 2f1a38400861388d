"""Statistics of the whole server, for its owner."""

from __future__ import annotations

from typing import Any

import peewee

from ..runtime.clock import now_us, to_iso
from . import key_usage
from .models import is_postgres
from .models.runs import RUN_ACTIVE, Run
from .models.sessions import ChatSession
from .stored import sum_stored

#: Number of the latest turns that are used for the median and for failures.
_RECENT = 200


def describe_server(db: peewee.Database, days: int) -> dict[str, Any]:
    """Return the server's current state, and its usage in the last days."""
    active = dict(
        Run.select(Run.status, peewee.fn.COUNT(Run.id))
        .where(RUN_ACTIVE)
        .group_by(Run.status)
        .tuples()
        .execute(db)
    )
    durations = _list_durations(db)
    stored = sum_stored(db)
    return {
        "runs_now": active.get("running", 0),
        "runs_waiting": active.get("queued", 0),
        "today": to_iso(now_us())[:10],
        "days": key_usage.list_days(db, days),
        "turn_ms": durations[len(durations) // 2] if durations else None,
        "turns_measured": len(durations),
        "failures": _list_failures(db),
        "database_bytes": _database_bytes(db),
        "attachment_bytes": stored.files_bytes,
        "attachments": stored.files,
        "stored_bytes": stored.total_bytes,
        "messages": stored.messages,
        "sessions": stored.sessions,
    }


def _recent(*fields: Any) -> Any:
    # By row number: the primary key is an index, and the newest rows are at its end.
    return Run.select(*fields).order_by(Run.id.desc()).limit(_RECENT).alias("recent")


def _list_durations(db: peewee.Database) -> list[int]:
    """Return the durations of recent turns, in milliseconds, shortest first."""
    run = _recent(Run.status, Run.started_at, Run.finished_at)
    took = run.c.finished_at - run.c.started_at
    completed = (run.c.status == "completed") & took.is_null(False)
    rows = peewee.Select([run], [took]).where(completed).tuples().execute(db)
    return sorted(max(0, row[0]) // 1000 for row in rows)  # the clock may have been set back


def _list_failures(db: peewee.Database) -> list[dict[str, Any]]:
    run = _recent(Run.status, Run.error_code, Run.finished_at, Run.session)
    rows = (
        ChatSession.select(
            run.c.status,
            run.c.error_code,
            run.c.finished_at.alias("at"),
            ChatSession.session_id,
            ChatSession.display_name,
        )
        .join(run, on=(run.c.session == ChatSession.id))
        .where(run.c.status.in_(("failed", "interrupted")) & run.c.finished_at.is_null(False))
        .order_by(run.c.finished_at.desc())
        .limit(8)
        .dicts()
        .execute(db)
    )
    return [{**row, "at": to_iso(row["at"])} for row in rows]


def _database_bytes(db: peewee.Database) -> int:
    # Functions of a single database, which peewee cannot express.
    if is_postgres(db):
        return int(db.execute_sql("SELECT pg_database_size(current_database())").fetchone()[0])
    pages = db.execute_sql("PRAGMA page_count").fetchone()[0]
    size: int = db.execute_sql("PRAGMA page_size").fetchone()[0]
    return int(pages) * size
