"""The runs: their order within a session, and what became of them."""

from __future__ import annotations

import time
from typing import Any

import peewee

from ..clock import now_us, to_iso, to_iso_or_none
from .locks import lock_session

_INSERT = """
INSERT INTO run
    (run_id, session, key_id, worker_id, status, user_message, created_at, started_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""

_COUNT_ACTIVE = """
SELECT COUNT(*) FROM run WHERE session = ? AND status IN ('queued', 'running')
"""

_EARLIER = """
SELECT 1 FROM run WHERE session = ? AND id < ? AND status IN ('queued', 'running') LIMIT 1
"""

_ACTIVE = """
SELECT run_id, status, created_at, started_at FROM run
WHERE session = ? AND status IN ('queued', 'running') ORDER BY id
"""

_START = "UPDATE run SET status = 'running', started_at = ? WHERE id = ? AND status = 'queued'"

_FINISH = """
UPDATE run SET status = ?, error_code = ?, bot_message = ?, finished_at = ?
WHERE id = ? AND status IN ('queued', 'running')
"""

_GIVE_UP = """
UPDATE run SET status = 'interrupted', error_code = 'run_interrupted', finished_at = ?
WHERE status IN ('queued', 'running')
  AND worker_id NOT IN (SELECT worker_id FROM worker WHERE lease_until > ?)
"""

_LEASE = """
INSERT INTO worker (worker_id, lease_until) VALUES (?, ?)
ON CONFLICT (worker_id) DO UPDATE SET lease_until = excluded.lease_until
"""


def add_run(
    db: peewee.Database,
    run_id: str,
    session: int,
    *,
    key_id: str | None,
    worker_id: str,
    user_message: int | None,
) -> tuple[int, int]:
    """Put a run at the end of its session's queue.

    :returns: Its number, and how many were in the queue before it.
    """
    lock_session(db, session)
    ahead = db.execute_sql(_COUNT_ACTIVE, (session,)).fetchone()[0]
    now = now_us()
    status, started_at = ("queued", None) if ahead else ("running", now)
    values = (run_id, session, key_id, worker_id, status, user_message, now, started_at)
    (number,) = db.execute_sql(_INSERT, values).fetchone()
    return number, ahead


def has_earlier_run(db: peewee.Database, session: int, number: int) -> bool:
    """Tell whether a run of this session comes before this one."""
    return db.execute_sql(_EARLIER, (session, number)).fetchone() is not None


def has_active_run(db: peewee.Database, session: int) -> bool:
    """Tell whether a run of this session is running or waits."""
    return db.execute_sql(_EARLIER, (session, 2**63 - 1)).fetchone() is not None


def list_active_runs(db: peewee.Database, session: int) -> list[dict[str, Any]]:
    """Return the runs of a session that run or wait, in their order."""
    rows = db.execute_sql(_ACTIVE, (session,)).fetchall()
    return [
        {
            "run_id": run_id,
            "status": status,
            "created_at": to_iso(created_at),
            "started_at": to_iso_or_none(started_at),
        }
        for run_id, status, created_at, started_at in rows
    ]


def start_run(db: peewee.Database, number: int) -> bool:
    """Mark a queued run as running. False: another worker has given it up."""
    return bool(db.execute_sql(_START, (now_us(), number)).rowcount)


def finish_run(
    db: peewee.Database,
    number: int,
    status: str,
    *,
    error_code: str | None = None,
    bot_message: int | None = None,
) -> None:
    """Close a run.

    :param status: ``completed``, ``failed``, ``stopped`` or ``interrupted``.
    """
    db.execute_sql(_FINISH, (status, error_code, bot_message, now_us(), number))


def renew_lease(db: peewee.Database, worker_id: str, lease_s: float) -> int:
    """Say that a worker is alive, and give up the runs of those that are not.

    :returns: How many runs were given up.
    """
    now = time.time()
    db.execute_sql(_LEASE, (worker_id, now + lease_s))
    given_up = db.execute_sql(_GIVE_UP, (now_us(), now)).rowcount
    if given_up:
        db.execute_sql("DELETE FROM worker WHERE lease_until < ?", (now - 3600,))
    return int(given_up)


def drop_lease(db: peewee.Database, worker_id: str) -> None:
    """Say that a worker has ended; what it left behind is given up at once."""
    db.execute_sql("DELETE FROM worker WHERE worker_id = ?", (worker_id,))
    db.execute_sql(_GIVE_UP, (now_us(), time.time()))
