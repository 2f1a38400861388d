"""This process as a worker: its id and its lease.

A run belongs to the worker that executes it. A worker renews its lease every
few seconds. When the lease expires, another worker ends its runs, so that no
session waits for a dead worker.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field

import peewee

from ..db import leases
from ..db.store import Store
from ..errors import AstrBotError, StoreClosed
from ..runtime.per_process import PerProcess
from .chores import Chores

log = logging.getLogger(__name__)

#: Difference between this host's clock and the database's above which it is logged, in seconds.
SKEW_S = 5.0


@dataclass(slots=True)
class _Lease:
    """The lease of one process.

    :param renewed_at: Time at which the last renewal began: monotonic clock, wall clock.
    :param unsure_until: Monotonic time until which no other worker is declared dead.
    """

    worker_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    closed: threading.Event = field(default_factory=threading.Event)
    renewed_at: tuple[float, float] | None = None
    unsure_until: float = 0.0
    is_skewed: bool = False


class WorkerLease:
    """The lease of this process, from its first run to :meth:`close`.

    Taking the lease also starts the worker's chores.

    :param lease_s: Seconds until a lease that is not renewed expires.
    """

    def __init__(self, store: Store, lease_s: float, chores: Chores) -> None:
        self._store = store
        self._chores = chores
        self._lease_s = lease_s
        # A thread does not survive a fork, and a child must not use its parent's lease.
        self._own = PerProcess(self._begin)
        self._next_id = ""

    def prepare(self, worker_id: str, dead: Collection[str]) -> None:
        """Set this worker's id before it takes the lease, and end the leases of dead workers.

        :param dead: Ids of workers whose processes have ended. Their runs need not wait until the
            leases expire.
        """
        self._next_id = worker_id
        if dead:
            try:
                self._store.write(lambda db: leases.end_leases(db, dead))
            except AstrBotError as error:
                log.warning("the leases of dead workers expire by themselves: %s", error)

    def holds(self, worker_id: str) -> bool:
        """Return whether the id is this worker's. This worker is alive even without a lease."""
        return bool(worker_id) and worker_id == self.current_id

    @property
    def current_id(self) -> str:
        """This worker's id, or an empty string before it has taken a lease."""
        own = self._own.current
        return "" if own is None else own.worker_id

    def can_declare_dead(self) -> bool:
        """Return whether an expired lease of another worker proves that it is dead.

        Return False after this worker itself failed to renew in time. The cause
        (database, full disk, clock jump, suspended machine) affects all workers.
        The others then get one lease period to renew.
        """
        own = self._own.current
        if own is None:
            return True
        return not self._was_silent(own) and time.monotonic() >= own.unsure_until

    def get_worker_id(self) -> str:
        """Return this worker's id. The first call takes the lease.

        If the lease is about to expire, for example because the machine was suspended or its
        renewal took long, renew it first: other workers would take over what begins under it.

        :raises StorageError: when the database rejects the lease.
        """
        own = self._own.get()
        if _measure_silence_s(own) > self._lease_s / 2 and not own.closed.is_set():
            self._renew(own)
        return own.worker_id

    def note_stopping(self) -> None:
        """Record for the other workers that this worker is about to stop.

        :raises StorageError: when the database rejects the write.
        """
        if worker_id := self.current_id:
            self._store.write(lambda db: leases.note_stopping(db, worker_id))

    def has_successor(self) -> bool:
        """Return whether another worker is alive and not about to stop.

        :raises StorageError: when the database cannot be read.
        """
        with self._store.read() as db:
            return leases.has_successor(db, self.current_id)

    def close(self) -> None:
        """Release the lease."""
        own = self._own.current
        if own is None or own.closed.is_set():
            return
        own.closed.set()
        try:
            self._store.write(lambda db: leases.drop_lease(db, own.worker_id))
        except AstrBotError as error:
            log.warning("the worker's lease could not be released: %s", error)

    def _begin(self) -> _Lease:
        # Only once: a process that is forked later needs another id.
        worker_id, self._next_id = self._next_id, ""
        own = _Lease(worker_id) if worker_id else _Lease()
        self._renew(own)
        threading.Thread(target=self._keep, args=(own,), name="lease", daemon=True).start()
        self._chores.start()
        return own

    def _keep(self, own: _Lease) -> None:
        while not own.closed.wait(min(self._lease_s / 3, 5.0)):
            try:
                self._renew(own)
            except StoreClosed:
                return  # the application was closed meanwhile, even if this lease was just taken
            except AstrBotError as error:
                log.error("the worker's lease was not renewed: %s", error)
            except Exception:
                # Without this thread the lease expires and other workers take over the runs.
                log.exception("the worker's lease was not renewed")

    def _renew(self, own: _Lease) -> None:
        def job(db: peewee.Database) -> float:
            leases.renew_lease(db, own.worker_id, self._lease_s)
            return leases.find_skew_s(db)

        # Before the write: one that takes long commits a lease that is partly over.
        began = (time.monotonic(), time.time())
        self._note_skew(own, self._store.write(job))
        if own.renewed_at is not None and self._was_silent(own):
            log.warning("the worker's lease had expired; other workers get time to renew theirs")
            own.unsure_until = time.monotonic() + self._lease_s
        own.renewed_at = began

    def _note_skew(self, own: _Lease, skew_s: float) -> None:
        """Log once that the clock of this host is wrong."""
        if abs(skew_s) > SKEW_S and not own.is_skewed:
            log.warning(
                "this host's clock is %.0f s %s PostgreSQL's: keys, logins, links and limits "
                "expire at the wrong time; synchronise the clocks (NTP)",
                abs(skew_s), "ahead of" if skew_s > 0 else "behind",
            )  # fmt: skip
        own.is_skewed = abs(skew_s) > SKEW_S

    def _was_silent(self, own: _Lease) -> bool:
        return _measure_silence_s(own) > self._lease_s


def _measure_silence_s(own: _Lease) -> float:
    """Return the seconds since a lease was last renewed."""
    monotonic, wall = own.renewed_at or (0.0, 0.0)
    return max(time.monotonic() - monotonic, time.time() - wall)
