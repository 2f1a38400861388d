"""This process as a worker: its id and its lease.

Runs belong to the worker that runs them. A worker says every few seconds
that it is alive; when it falls silent for the length of a lease, another
ends its runs, so that no session waits for the dead.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid

from ..db import runs
from ..db.store import Store
from ..errors import AstrBotError
from ..runtime.threads import count_forks
from .chores import Chores

log = logging.getLogger(__name__)


class WorkerLease:
    """The lease of this process; begins with its first run, ends with :meth:`close`.

    The worker's chores begin with it.

    :param lease_s: How long the word of a worker holds, in seconds.
    """

    def __init__(self, store: Store, lease_s: float, chores: Chores) -> None:
        self._store = store
        self._chores = chores
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._forks = -1
        self._worker_id = ""
        self._closed = threading.Event()
        # When the lease was last renewed, by both clocks: monotonic and wall.
        self._renewed_at: tuple[float, float] | None = None
        self._unsure_until = 0.0

    def holds(self, worker_id: str) -> bool:
        """Return whether a worker is this one, which is alive whatever its lease says."""
        return bool(worker_id) and worker_id == self._worker_id

    @property
    def current_id(self) -> str:
        """This worker's id; empty where it has not taken a lease yet."""
        return self._worker_id if self._forks == count_forks() else ""

    def can_judge(self) -> bool:
        """Return whether an expired lease of another worker means that it is dead.

        Not while this one's own was not renewed in time: a database that took
        nothing, a full disk, a clock that jumped or a machine that was asleep
        silenced the others as well. They get the length of a lease to speak.
        """
        if self._renewed_at is None:
            return True
        return not self._was_silent() and time.monotonic() >= self._unsure_until

    def get_worker_id(self) -> str:
        """Return this worker's id; the first call takes the lease.

        Lazy, and again after a fork, because a thread does not survive one.
        """
        if self._forks != count_forks():
            with self._lock:
                if self._forks != count_forks():
                    self._begin()
        return self._worker_id

    def close(self) -> None:
        """Give the lease back."""
        if self._forks != count_forks():
            return
        self._closed.set()
        worker_id = self._worker_id
        try:
            self._store.write(lambda db: runs.drop_lease(db, worker_id))
        except AstrBotError as error:
            log.warning("the worker's lease could not be given back: %s", error)

    def _begin(self) -> None:
        self._worker_id = str(uuid.uuid4())
        self._renewed_at = None  # a parent's lease says nothing of this process
        self._renew()
        self._closed = threading.Event()
        self._forks = count_forks()
        threading.Thread(target=self._keep, args=(self._closed,), name="lease", daemon=True).start()
        self._chores.start()

    def _keep(self, closed: threading.Event) -> None:
        while not closed.wait(min(self._lease_s / 3, 5.0)):
            try:
                self._renew()
            except AstrBotError as error:
                log.error("the worker's lease was not renewed: %s", error)
            except Exception:
                # Without this thread the lease expires and other workers take over the runs.
                log.exception("the worker's lease was not renewed")

    def _renew(self) -> None:
        worker_id, lease_s = self._worker_id, self._lease_s
        self._store.write(lambda db: runs.renew_lease(db, worker_id, lease_s))
        if self._renewed_at is not None and self._was_silent():
            log.warning("the worker's lease had run out; the others get time to renew theirs")
            self._unsure_until = time.monotonic() + lease_s
        self._renewed_at = (time.monotonic(), time.time())

    def _was_silent(self) -> bool:
        monotonic, wall = self._renewed_at or (0.0, 0.0)
        passed_s = max(time.monotonic() - monotonic, time.time() - wall)
        return passed_s > self._lease_s
