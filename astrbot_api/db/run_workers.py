"""Which worker has a run, and how another worker takes it over."""

from __future__ import annotations

import time
from typing import Any

import peewee

from .leases import LIVING_WORKERS
from .models import is_postgres
from .models.runs import RUN_ACTIVE, Run
from .models.sessions import ChatSession
from .prepared import Prepared, equals, param
from .runs import BEFORE_CALLS, NOBODY, RUN_FIELDS, RunRow


def _select_rows() -> Any:
    # A session that is being deleted has no row any more, only runs.
    of_run = ChatSession.id == Run.session
    return Run.select(*RUN_FIELDS).join(ChatSession, peewee.JOIN.LEFT_OUTER, on=of_run)


# Only one worker succeeds: for the others, the worker or the epoch no longer matches.
_TAKE = Prepared(
    Run.update(
        worker_id=param("new_worker_id"),
        epoch=Run.epoch + 1,
        pickups=Run.pickups + param("counted"),
    ).where(equals(Run.id, Run.worker_id, Run.epoch) & RUN_ACTIVE)
)

_HAND_OVER = Prepared(
    Run.update(worker_id=param("to")).where(equals(Run.id, Run.worker_id) & RUN_ACTIVE)
)

_HOLD = Prepared(Run.select(Run.id).where(equals(Run.id)).for_update())

_OWNED: Any = Run.select(Run.id).where(equals(Run.id, Run.worker_id) & RUN_ACTIVE)

_OWNER = Prepared(_OWNED)

_OWNER_UNTIL_COMMIT = Prepared(_OWNED.for_update("FOR SHARE"))

# Ordered to use the index of active runs; ordering by id alone would read all runs.
ORPHANS = Prepared(
    _select_rows()
    .where(RUN_ACTIVE)
    .where(Run.worker_id.not_in(LIVING_WORKERS))
    .order_by(Run.session, Run.id)
    .limit(param("limit"))
)

# COALESCE forces the index of active runs instead of the one of all runs of the worker.
ACTIVE_OF = Prepared(
    _select_rows()
    .where(RUN_ACTIVE & (peewee.fn.COALESCE(Run.worker_id, "") == param("worker_id")))
    .order_by(Run.session, Run.id)
    .limit(param("limit"))
)

_RECENT = Prepared(
    _select_rows()
    .where(equals(Run.worker_id) & (Run.finished_at > param("after")))
    .order_by(Run.id.desc())
    .limit(param("limit"))
)


def take_run(db: peewee.Database, run: RunRow, worker_id: str, *, counted: bool) -> bool:
    """Assign a run to another worker. False if it has changed meanwhile or has ended.

    :param run: The run's row as read before.
    :param counted: Whether this counts toward the maximum number of pickups.
    """
    cursor = _TAKE.execute(
        db, id=run.id, worker_id=run.worker_id, epoch=run.epoch, new_worker_id=worker_id,
        counted=int(counted),
    )  # fmt: skip
    return bool(cursor.rowcount)


def is_owner(db: peewee.Database, number: int, worker_id: str) -> bool:
    """Return whether a worker has the run, and on PostgreSQL lock it until the commit."""
    statement = _OWNER_UNTIL_COMMIT if is_postgres(db) else _OWNER
    return statement.execute(db, id=number, worker_id=worker_id).fetchone() is not None


def hold_run(db: peewee.Database, number: int) -> None:
    """Lock a run until the end of the transaction. Does nothing on SQLite."""
    if is_postgres(db):
        _HOLD.execute(db, id=number)


def hand_over(
    db: peewee.Database, number: int, worker_id: str, *, before_calls: bool = False
) -> bool:
    """Let any worker take over a run. False if another worker has it, or it has ended.

    :param before_calls: Whether no call of its last step has started.
    """
    to = BEFORE_CALLS if before_calls else NOBODY
    return bool(_HAND_OVER.execute(db, id=number, worker_id=worker_id, to=to).rowcount)


def list_orphans(db: peewee.Database, limit: int) -> list[RunRow]:
    """Return active runs whose worker is dead."""
    return [RunRow(*row) for row in ORPHANS.execute(db, now=time.time(), limit=limit)]


def list_active_of(db: peewee.Database, worker_id: str, limit: int) -> list[RunRow]:
    """Return active runs of a worker, oldest first."""
    return [RunRow(*row) for row in ACTIVE_OF.execute(db, worker_id=worker_id, limit=limit)]


def list_finished_of(
    db: peewee.Database, worker_id: str, after_us: int, limit: int
) -> list[RunRow]:
    """Return runs that a worker finished after a time, newest first."""
    rows = _RECENT.execute(db, worker_id=worker_id, after=after_us, limit=limit)
    return [RunRow(*row) for row in rows]
