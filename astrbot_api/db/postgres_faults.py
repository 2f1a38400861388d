"""Why PostgreSQL accepts no writes, for the operator."""

from __future__ import annotations

from typing import Any

import peewee

READ_ONLY_TEXT = (
    "PostgreSQL is read-only: a standby server, or default_transaction_read_only is set. With "
    "several servers, add target_session_attrs=read-write to ASTRBOT_DATABASE_URL"
)

# Raw SQL on PostgreSQL's views. A session that itself waits for a lock is not a cause.
_BLOCKERS = """
    SELECT DISTINCT b.pid, b.application_name, b.state,
           EXTRACT(EPOCH FROM now() - b.xact_start)::int
    FROM pg_stat_activity w
    CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS p(pid)
    JOIN pg_stat_activity b ON b.pid = p.pid
    WHERE w.wait_event_type = 'Lock' AND w.datname = current_database()
      AND b.wait_event_type IS DISTINCT FROM 'Lock'
    ORDER BY b.pid LIMIT 3"""


def is_read_only(db: peewee.Database) -> bool:
    """Return whether a new transaction could write nothing."""
    execute: Any = db.execute_sql
    return bool(execute("SHOW transaction_read_only").fetchone()[0] == "on")


def describe_blockers(db: peewee.Database) -> str:
    """Return the sessions whose locks others wait for, or an empty text."""
    execute: Any = db.execute_sql
    return ", ".join(_describe_blocker(*row) for row in execute(_BLOCKERS).fetchall())


def _describe_blocker(pid: int, program: str, state: str | None, age_s: int | None) -> str:
    """Describe one PostgreSQL session for the operator; other roles' states are hidden."""
    told = [program, f"{state or 'active'} for {age_s} s" if age_s is not None else ""]
    return f"pid {pid} ({', '.join(filter(None, told)) or 'unknown'})"
