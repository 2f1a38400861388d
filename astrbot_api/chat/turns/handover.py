"""Hand the turns of a stopping worker over to other workers, or to the next start."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from ...db import run_workers
from ...db.store import Store
from ...errors import StorageError
from ...runlog.signals.signals import FREE_RUNS, Signals
from ...runtime.metrics import Metrics
from ...worker.lease import WorkerLease
from .outcome import RunLost
from .turn import OpenTurn

log = logging.getLogger(__name__)

#: Seconds within which workers that stop together announce it. None takes over from another.
_SETTLE_S = 1.0

#: Seconds for which the result of the search for a successor is valid.
_FRESH_S = 0.5

#: Seconds to wait for the journal to store a turn's last events.
_JOURNAL_S = 1.0


class Handover:
    """Releases turns once this worker is about to stop.

    Between steps and before its beginning, a turn loses nothing and is released as soon as another
    worker is alive. When the time to stop is over, every turn is released.
    """

    def __init__(
        self, store: Store, signals: Signals, lease: WorkerLease, metrics: Metrics
    ) -> None:
        self._store = store
        self._signals = signals
        self._lease = lease
        self._metrics = metrics
        self._asked_from = float("inf")
        self._successor: tuple[float, bool] = (float("-inf"), False)

    def begin(self) -> None:
        """Begin to release turns, while another worker is alive."""
        try:
            self._lease.note_stopping()
        except StorageError as error:
            log.warning("other workers may not know that this worker stops: %s", error)
        self._asked_from = time.monotonic() + _SETTLE_S

    def has_successor(self) -> bool:
        """Return whether another worker takes over released turns."""
        now = time.monotonic()
        if now < self._asked_from:
            return False
        asked_at, successor = self._successor
        if now - asked_at > _FRESH_S:
            try:
                successor = self._lease.has_successor()
            except StorageError:
                successor = False
            self._successor = (now, successor)
        return successor

    def release_between_steps(self, turn: OpenTurn, *, before_calls: bool = False) -> bool:
        """Release a turn between two steps, or before its beginning, if there is a successor.

        :param before_calls: Whether its last step is stored and none of its calls has begun.
        :returns: Whether it was released. This worker must not continue it then.
        :raises RunLost: if another worker already has it.
        """
        if turn.pinned.is_set() or not self.has_successor():
            return False
        if not turn.log.wait_until_written(_JOURNAL_S):
            return False
        number, worker_id = turn.number, turn.worker_id
        try:
            given = self._store.write(
                lambda db: run_workers.hand_over(db, number, worker_id, before_calls=before_calls)
            )
        except StorageError as error:
            log.warning("run %s is not released yet: %s", turn.run_id, error)
            if self._is_own(turn):
                return False
            given = False  # it may have been released: the outcome is unknown
        if not given:
            raise RunLost
        self._note_released([turn])
        return True

    def release(self, turns: Iterable[OpenTurn]) -> None:
        """Release turns at any point, and interrupt those that nobody can resume.

        Without a successor the next start resumes them.
        """
        movable = []
        for turn in turns:
            if turn.pinned.is_set():
                turn.cancel.cancel("interrupted")
            else:
                movable.append(turn)
        if not movable:
            return
        try:
            given = set(
                self._store.write(
                    lambda db: [
                        one.number
                        for one in movable
                        if run_workers.hand_over(db, one.number, one.worker_id)
                    ]
                )
            )
        except StorageError as error:
            # Other workers take them over when this worker's lease ends.
            log.warning("%d turns could not be released: %s", len(movable), error)
            return
        self._note_released([one for one in movable if one.number in given])

    def _is_own(self, turn: OpenTurn) -> bool:
        number, worker_id = turn.number, turn.worker_id
        try:
            return self._store.write(lambda db: run_workers.is_owner(db, number, worker_id))
        except StorageError:
            return False

    def _note_released(self, turns: Iterable[OpenTurn]) -> None:
        for turn in turns:
            log.info("run %s is released by worker %s, which stops", turn.run_id, turn.worker_id)
            self._metrics.handovers.inc()
            turn.log.mark_lost()
        self._signals.publish(FREE_RUNS, "")
