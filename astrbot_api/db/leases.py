"""The leases of the workers: who is alive, who is about to stop, who is dead."""

from __future__ import annotations

import time

import peewee

from .models import Worker
from .prepared import Prepared, param

#: Workers whose lease lasts at the time ``now``.
LIVING_WORKERS = Worker.select(Worker.worker_id).where(Worker.lease_until > param("now"))

_HEIR = Prepared(
    Worker.select(Worker.worker_id)
    .where(Worker.lease_until > param("now"))
    .where((Worker.stopping == 0) & (Worker.worker_id != param("worker_id")))
    .limit(1)
)

#: By how much a lease may end after one that begins now, in seconds: what other settings
#: and other hosts' clocks make of it.
_FAR_AHEAD_S = 120.0


def renew_lease(db: peewee.Database, worker_id: str, lease_s: float) -> None:
    """Say that a worker is alive for so many seconds more.

    Leases that reach too far ahead are cut short: the clock was set back. A
    worker that lives renews its own long before it ends; one that is dead
    would otherwise seem alive until the clock has caught up.
    """
    until = time.time() + lease_s
    (
        Worker.insert(worker_id=worker_id, lease_until=until)
        .on_conflict(conflict_target=[Worker.worker_id], preserve=[Worker.lease_until])
        .execute(db)
    )
    (Worker.update(lease_until=until).where(Worker.lease_until > until + _FAR_AHEAD_S).execute(db))


def note_stopping(db: peewee.Database, worker_id: str) -> None:
    """Say that a worker is about to stop: it takes over no runs."""
    Worker.update(stopping=1).where(Worker.worker_id == worker_id).execute(db)


def has_heir(db: peewee.Database, worker_id: str) -> bool:
    """Return whether another worker lives, and stays, that takes a run over."""
    return _HEIR.execute(db, now=time.time(), worker_id=worker_id).fetchone() is not None


def find_silence_s(db: peewee.Database, worker_id: str, lease_s: float) -> float | None:
    """Return for how long a worker was silent, in seconds; None: it has given its lease back."""
    found = Worker.select(Worker.lease_until).where(Worker.worker_id == worker_id)
    until = next(iter(found.tuples().execute(db)), None)
    return None if until is None else max(0.0, time.time() - float(until[0]) + lease_s)


def list_dead_workers(db: peewee.Database) -> list[str]:
    """Return workers whose lease ran out without being given back."""
    dead = Worker.select(Worker.worker_id).where(Worker.lease_until < time.time())
    return [worker_id for (worker_id,) in dead.tuples().execute(db)]


def drop_lease(db: peewee.Database, worker_id: str) -> None:
    """Say that a worker has ended; what it left behind can be taken over at once."""
    Worker.delete().where(Worker.worker_id == worker_id).execute(db)
