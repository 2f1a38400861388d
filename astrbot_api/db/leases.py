"""The leases of workers: which workers are alive, stopping or dead.

Workers on several hosts use the clock of PostgreSQL, because their own clocks may differ. With
SQLite, all workers are on one host and use its clock.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import peewee

from .models import is_postgres
from .models.runs import Worker
from .prepared import Prepared, param

#: PostgreSQL's time in seconds since 1970.
_POSTGRES_NOW = "EXTRACT(EPOCH FROM statement_timestamp())::float8"


class _Now(peewee.ColumnBase):
    """The current time in a prepared statement; the parameter ``now`` with SQLite."""

    def __sql__(self, ctx: Any) -> Any:
        return ctx.sql(param("now")) if ctx.state.param == "?" else ctx.literal(_POSTGRES_NOW)


#: Whether a worker's lease is valid at the time ``now``.
IS_ALIVE = Worker.lease_until > _Now()

#: Workers with a valid lease at the time ``now``.
LIVING_WORKERS = Worker.select(Worker.worker_id).where(IS_ALIVE)

_HEIR = Prepared(
    Worker.select(Worker.worker_id)
    .where(IS_ALIVE)
    .where((Worker.stopping == 0) & (Worker.worker_id != param("worker_id")))
    .limit(1)
)

#: Maximum seconds by which another lease may outlast a lease that starts now. Hosts may
#: have different settings.
_FAR_AHEAD_S = 120.0


def renew_lease(db: peewee.Database, worker_id: str, lease_s: float) -> None:
    """Renew a worker's lease for ``lease_s`` seconds.

    Also shorten leases that end too far in the future, which means that the clock was set
    back. A live worker renews its lease long before that. A dead one would otherwise seem
    alive until the clock has caught up.
    """
    until = _now(db) + lease_s
    (
        Worker.insert(worker_id=worker_id, lease_until=until)
        .on_conflict(conflict_target=[Worker.worker_id], preserve=[Worker.lease_until])
        .execute(db)
    )
    (Worker.update(lease_until=until).where(Worker.lease_until > until + _FAR_AHEAD_S).execute(db))


def note_stopping(db: peewee.Database, worker_id: str) -> None:
    """Mark a worker as stopping: it takes over no runs."""
    Worker.update(stopping=1).where(Worker.worker_id == worker_id).execute(db)


def has_successor(db: peewee.Database, worker_id: str) -> bool:
    """Return whether another worker can take over runs: it is alive and not stopping."""
    return _HEIR.execute(db, now=time.time(), worker_id=worker_id).fetchone() is not None


def find_silence_s(db: peewee.Database, worker_id: str, lease_s: float) -> float | None:
    """Return the seconds since a worker's last renewal, or None if its lease was ended early."""
    passed = (_now(db) - Worker.lease_until).alias("passed_s")
    found = Worker.select(passed).where((Worker.worker_id == worker_id) & (Worker.lease_until > 0))
    row = next(iter(found.tuples().execute(db)), None)
    return None if row is None else max(0.0, float(row[0]) + lease_s)


def list_dead_workers(db: peewee.Database) -> list[str]:
    """Return workers whose lease expired without being released."""
    dead = Worker.select(Worker.worker_id).where(Worker.lease_until < _now(db))
    return [worker_id for (worker_id,) in dead.tuples().execute(db)]


def select_living(db: peewee.Database) -> Any:
    """Return the query for the ids of workers with a valid lease."""
    return Worker.select(Worker.worker_id).where(Worker.lease_until > _now(db))


def find_skew_s(db: peewee.Database) -> float:
    """Return the seconds by which this host's clock is ahead of PostgreSQL's; 0 with SQLite."""
    if not is_postgres(db):
        return 0.0
    (now_s,) = db.execute_sql(f"SELECT {_POSTGRES_NOW}").fetchone()
    return time.time() - float(now_s)


def end_leases(db: peewee.Database, worker_ids: Collection[str]) -> None:
    """End the leases of dead workers."""
    Worker.update(lease_until=0).where(Worker.worker_id.in_(list(worker_ids))).execute(db)


def drop_lease(db: peewee.Database, worker_id: str) -> None:
    """Release a worker's lease, so that others can take over its runs at once."""
    Worker.delete().where(Worker.worker_id == worker_id).execute(db)


def forget_dead(db: peewee.Database, worker_id: str) -> None:
    """Delete the expired lease of a worker, unless the worker has renewed it meanwhile."""
    expired = Worker.lease_until < _now(db)
    Worker.delete().where((Worker.worker_id == worker_id) & expired).execute(db)


def _now(db: peewee.Database) -> Any:
    """Return the current time for an expression."""
    return peewee.SQL(_POSTGRES_NOW) if is_postgres(db) else peewee.Value(time.time())
