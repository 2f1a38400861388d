"""Requests to stop runs. The worker of a run looks for them and stops it."""

from __future__ import annotations

from typing import Any

import peewee

from ..runtime.clock import now_us
from .models.keys import ApiKey
from .models.runs import RUN_ACTIVE, RUN_WAITING, Run
from .prepared import Prepared, equals

_STOPS = Prepared(
    Run.select(Run.run_id).where(
        equals(Run.worker_id) & Run.stop_requested_at.is_null(False) & RUN_ACTIVE
    )
)


def request_stop(db: peewee.Database, run_id: str) -> bool:
    """Record a stop request for a run's worker. False if the run has ended."""
    return _request(db, Run.run_id == run_id)


def stop_of_key(db: peewee.Database, key_id: str) -> None:
    """Record a stop request for all unended runs of a key and its session keys."""
    made = ApiKey.select(ApiKey.key_id).where(ApiKey.parent_id == key_id)
    _request(db, (Run.key_id == key_id) | Run.key_id.in_(made))


def _request(db: peewee.Database, which: Any) -> bool:
    """Record a stop request for such runs. False if all of them have ended."""
    now = now_us()
    active = Run.update(stop_requested_at=now).where(RUN_ACTIVE & which)
    # The next worker that polls ends a run that waits for a person.
    waiting = Run.update(status="running", worker_id="", stop_requested_at=now)
    waiting = waiting.where(RUN_WAITING & which)
    return bool(active.execute(db) + waiting.execute(db))


def is_stopping(db: peewee.Database, number: int) -> bool:
    """Return whether a run has a stop request."""
    requested = Run.stop_requested_at.is_null(False)
    return bool(Run.select().where((Run.id == number) & requested).exists(db))


def list_stop_requests(db: peewee.Database, worker_id: str) -> list[str]:
    """Return the ids of a worker's runs with a stop request."""
    return [run_id for (run_id,) in _STOPS.execute(db, worker_id=worker_id)]
