"""The leases of workers: which workers are alive, stopping or dead."""

from __future__ import annotations

import time

import peewee

from .models import Worker
from .prepared import Prepared, param

#: Workers with a valid lease at the time ``now``.
LIVING_WORKERS = Worker.select(Worker.worker_id).where(Worker.lease_until > param("now"))

_HEIR = Prepared(
    Worker.select(Worker.worker_id)
    .where(Worker.lease_until > param("now"))
    .where((Worker.stopping == 0) & (Worker.worker_id != param("worker_id")))
    .limit(1)
)

#: Maximum seconds by which another lease may outlast a lease that starts now. Hosts may
#: have different settings and clocks.
_FAR_AHEAD_S = 120.0


def renew_lease(db: peewee.Database, worker_id: str, lease_s: float) -> None:
    """Renew a worker's lease for ``lease_s`` seconds.

    Also shorten leases that end too far in the future, which means that the clock was set
    back. A live worker renews its lease long before that. A dead one would otherwise seem
    alive until the clock has caught up.
    """
    until = time.time() + lease_s
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
    """Return the seconds since a worker's last renewal, or None if it released its lease."""
    found = Worker.select(Worker.lease_until).where(Worker.worker_id == worker_id)
    until = next(iter(found.tuples().execute(db)), None)
    return None if until is None else max(0.0, time.time() - float(until[0]) + lease_s)


def list_dead_workers(db: peewee.Database) -> list[str]:
    """Return workers whose lease expired without being released."""
    dead = Worker.select(Worker.worker_id).where(Worker.lease_until < time.time())
    return [worker_id for (worker_id,) in dead.tuples().execute(db)]


def drop_lease(db: peewee.Database, worker_id: str) -> None:
    """Release a worker's lease, so that others can take over its runs at once."""
    Worker.delete().where(Worker.worker_id == worker_id).execute(db)
