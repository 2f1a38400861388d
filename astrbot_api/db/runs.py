"""The runs: their order within a session, and what became of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import peewee

from ..runtime.clock import now_us, to_iso, to_iso_or_none
from .locks import lock_session

_ACTIVE = "status IN ('queued', 'running')"

_COLUMNS = """
run.id, run.run_id, run.session, run.key_id, run.worker_id, run.status, run.error_code,
run.user_message, run.bot_message, run.llm_checkpoint_id,
run.created_at, run.started_at, run.finished_at,
COALESCE(chat_session.session_id, ''), COALESCE(chat_session.creator, ''),
COALESCE(chat_session.platform_id, '')
"""

_INSERT = """
INSERT INTO run
    (run_id, session, key_id, worker_id, status, user_message, llm_checkpoint_id,
     created_at, started_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING id
"""

_COUNT_ACTIVE = f"SELECT COUNT(*) FROM run WHERE session = ? AND {_ACTIVE}"

_COUNT_OF_KEY = f"SELECT COUNT(*) FROM run WHERE key_id = ? AND {_ACTIVE}"

_EARLIER = f"SELECT 1 FROM run WHERE session = ? AND id < ? AND {_ACTIVE} LIMIT 1"

_LIST_ACTIVE = """
SELECT run_id, status, created_at, started_at FROM run
WHERE session = ? AND status IN ('queued', 'running') ORDER BY id
"""

# Also of one that is running: the answer to an earlier attempt may have been lost.
_START = f"UPDATE run SET status = 'running', started_at = ? WHERE id = ? AND {_ACTIVE}"

_FINISH = f"""
UPDATE run SET status = ?, error_code = ?, bot_message = ?, finished_at = ?
WHERE id = ? AND {_ACTIVE}
"""

_FIND = f"""
SELECT {_COLUMNS} FROM run JOIN chat_session ON chat_session.id = run.session
WHERE run.run_id = ?
"""

_ACTIVE_IDS = f"SELECT run_id, key_id FROM run WHERE session = ? AND {_ACTIVE} ORDER BY id"

# In the order of the index of what is active: by id alone, all runs ever would be read.
_ORPHANS = f"""
SELECT {_COLUMNS} FROM run LEFT JOIN chat_session ON chat_session.id = run.session
WHERE run.{_ACTIVE}
  AND run.worker_id NOT IN (SELECT worker_id FROM worker WHERE lease_until > ?)
ORDER BY run.session, run.id LIMIT ?
"""

# COALESCE: by the index of what is active, not by that of all the worker ever ran.
_ACTIVE_OF = f"""
SELECT {_COLUMNS} FROM run LEFT JOIN chat_session ON chat_session.id = run.session
WHERE run.{_ACTIVE} AND COALESCE(run.worker_id, '') = ?
ORDER BY run.session, run.id LIMIT ?
"""

_RECENT = f"""
SELECT {_COLUMNS} FROM run LEFT JOIN chat_session ON chat_session.id = run.session
WHERE run.worker_id = ? AND run.finished_at > ? ORDER BY run.id DESC LIMIT ?
"""

_REQUEST_STOP = f"""
UPDATE run SET stop_requested_at = ? WHERE run_id = ? AND {_ACTIVE}
"""

_STOPS = f"""
SELECT run_id FROM run WHERE worker_id = ? AND stop_requested_at IS NOT NULL AND {_ACTIVE}
"""

_LEASE = """
INSERT INTO worker (worker_id, lease_until) VALUES (?, ?)
ON CONFLICT (worker_id) DO UPDATE SET lease_until = excluded.lease_until
"""


_SHORTEN = "UPDATE worker SET lease_until = ? WHERE lease_until > ?"

#: By how much a lease may end after one that begins now, in seconds: what other settings
#: and other hosts' clocks make of it.
_FAR_AHEAD_S = 120.0


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run with its session; ``id`` is its number. Times in microseconds.

    ``status`` is ``queued``, ``running``, ``completed``, ``failed``,
    ``stopped`` or ``interrupted``.
    """

    id: int
    run_id: str
    session: int
    key_id: str | None
    worker_id: str
    status: str
    error_code: str | None
    user_message: int | None
    bot_message: int | None
    llm_checkpoint_id: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    session_id: str
    creator: str
    platform_id: str

    @property
    def active(self) -> bool:
        """Whether it runs or waits."""
        return self.finished_at is None


def add_run(
    db: peewee.Database,
    run_id: str,
    session: int,
    *,
    key_id: str | None,
    worker_id: str,
    user_message: int | None,
    checkpoint: str,
) -> tuple[int, int]:
    """Put a run at the end of its session's queue.

    :param checkpoint: The ``llm_checkpoint_id`` of its messages.
    :returns: Its number, and how many were in the queue before it.
    """
    lock_session(db, session)
    ahead = db.execute_sql(_COUNT_ACTIVE, (session,)).fetchone()[0]
    now = now_us()
    status, started_at = ("queued", None) if ahead else ("running", now)
    values = (
        run_id, session, key_id, worker_id, status, user_message, checkpoint, now, started_at,
    )  # fmt: skip
    return db.execute_sql(_INSERT, values).fetchone()[0], ahead


def count_active_of_key(db: peewee.Database, key_id: str) -> int:
    """Return how many runs of a key run or wait."""
    count: int = db.execute_sql(_COUNT_OF_KEY, (key_id,)).fetchone()[0]
    return count


def has_earlier_run(db: peewee.Database, session: int, number: int) -> bool:
    """Return whether a run of this session comes before this one."""
    return db.execute_sql(_EARLIER, (session, number)).fetchone() is not None


def has_active_run(db: peewee.Database, session: int) -> bool:
    """Return whether a run of this session is running or waits."""
    return db.execute_sql(_EARLIER, (session, 2**63 - 1)).fetchone() is not None


def list_active_runs(db: peewee.Database, session: int) -> list[dict[str, Any]]:
    """Return the runs of a session that run or wait, in their order."""
    rows = db.execute_sql(_LIST_ACTIVE, (session,)).fetchall()
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
    """Mark a queued run as running. False: another worker has ended it."""
    return bool(db.execute_sql(_START, (now_us(), number)).rowcount)


def finish_run(
    db: peewee.Database,
    number: int,
    status: str,
    *,
    error_code: str | None = None,
    bot_message: int | None = None,
) -> bool:
    """Close a run. False: it was closed before.

    :param status: ``completed``, ``failed``, ``stopped`` or ``interrupted``.
    """
    cursor = db.execute_sql(_FINISH, (status, error_code, bot_message, now_us(), number))
    return bool(cursor.rowcount)


def find_run(db: peewee.Database, run_id: str) -> RunRow | None:
    """Return the run of this id, whoever owns it."""
    row = db.execute_sql(_FIND, (run_id,)).fetchone()
    return None if row is None else RunRow(*row)


def list_active_ids(db: peewee.Database, session: int, key_id: str | None = None) -> list[str]:
    """Return the ids of a session's runs that run or wait.

    :param key_id: Only those of this key; None: all.
    """
    rows = db.execute_sql(_ACTIVE_IDS, (session,)).fetchall()
    return [run_id for run_id, owner in rows if key_id is None or owner == key_id]


def request_stop(db: peewee.Database, run_id: str) -> bool:
    """Note that a run is to be stopped, for its worker to see. False: it has ended."""
    return bool(db.execute_sql(_REQUEST_STOP, (now_us(), run_id)).rowcount)


def list_stop_requests(db: peewee.Database, worker_id: str) -> list[str]:
    """Return the ids of a worker's runs that are to be stopped."""
    return [run_id for (run_id,) in db.execute_sql(_STOPS, (worker_id,)).fetchall()]


def list_orphans(db: peewee.Database, limit: int) -> list[RunRow]:
    """Return runs that have not ended and whose worker has fallen silent."""
    return [RunRow(*row) for row in db.execute_sql(_ORPHANS, (time.time(), limit)).fetchall()]


def list_active_of(db: peewee.Database, worker_id: str, limit: int) -> list[RunRow]:
    """Return runs of a worker that have not ended, the oldest first."""
    return [RunRow(*row) for row in db.execute_sql(_ACTIVE_OF, (worker_id, limit)).fetchall()]


def list_finished_of(
    db: peewee.Database, worker_id: str, after_us: int, limit: int
) -> list[RunRow]:
    """Return runs that a worker finished after a time, the newest first."""
    rows = db.execute_sql(_RECENT, (worker_id, after_us, limit)).fetchall()
    return [RunRow(*row) for row in rows]


def renew_lease(db: peewee.Database, worker_id: str, lease_s: float) -> None:
    """Say that a worker is alive for so many seconds more.

    Leases that reach too far ahead are cut short: the clock was set back. A
    worker that lives renews its own long before it ends; one that is dead
    would otherwise seem alive until the clock has caught up.
    """
    until = time.time() + lease_s
    db.execute_sql(_LEASE, (worker_id, until))
    db.execute_sql(_SHORTEN, (until, until + _FAR_AHEAD_S))


def list_dead_workers(db: peewee.Database) -> list[str]:
    """Return workers whose lease ran out without being given back."""
    rows = db.execute_sql("SELECT worker_id FROM worker WHERE lease_until < ?", (time.time(),))
    return [worker_id for (worker_id,) in rows.fetchall()]


def drop_lease(db: peewee.Database, worker_id: str) -> None:
    """Say that a worker has ended; what it left behind can be taken over at once."""
    db.execute_sql("DELETE FROM worker WHERE worker_id = ?", (worker_id,))
