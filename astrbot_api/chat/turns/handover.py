"""Gives the turns of a worker that stops to other workers, or to the next start."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from ...db import runs
from ...db.store import Store
from ...errors import StorageError
from ...runlog.signals.signals import FREE_RUNS, Signals
from ...runtime.metrics import Metrics
from ...worker.lease import WorkerLease
from .outcome import RunLost
from .turn import OpenTurn

log = logging.getLogger(__name__)

#: Workers that stop together say so within this time, in seconds: none is another's heir.
_SETTLE_S = 1.0

#: How long an answer to the question for an heir holds, in seconds.
_FRESH_S = 0.5

#: How long the last events of a turn may take to the journal, in seconds.
_JOURNAL_S = 1.0


class Handover:
    """Gives turns up, once this worker is about to stop.

    At a point where nothing is lost, after a step or before its beginning, a turn is given up as
    soon as another worker lives; at the end of the time to stop each turn is, wherever it stands.
    """

    def __init__(
        self, store: Store, signals: Signals, lease: WorkerLease, metrics: Metrics
    ) -> None:
        self._store = store
        self._signals = signals
        self._lease = lease
        self._metrics = metrics
        self._asked_from = float("inf")
        self._heir: tuple[float, bool] = (float("-inf"), False)

    def begin(self) -> None:
        """Give turns up from now on, where another worker lives."""
        try:
            self._lease.note_stopping()
        except StorageError as error:
            log.warning("the other workers may not know that this one stops: %s", error)
        self._asked_from = time.monotonic() + _SETTLE_S

    def has_heir(self) -> bool:
        """Return whether another worker takes what this one gives up."""
        now = time.monotonic()
        if now < self._asked_from:
            return False
        asked_at, heir = self._heir
        if now - asked_at > _FRESH_S:
            try:
                heir = self._lease.has_heir()
            except StorageError:
                heir = False
            self._heir = (now, heir)
        return heir

    def try_at_rest(self, turn: OpenTurn, *, before_calls: bool = False) -> bool:
        """Give a turn up that has just made a step, or has not begun, if there is an heir.

        :param before_calls: Its last step is stored, and no call of that was begun.
        :returns: Whether it is given up: nothing more of it happens here.
        :raises RunLost: when another worker has it already.
        """
        if turn.pinned.is_set() or not self.has_heir():
            return False
        if not turn.log.wait_until_written(_JOURNAL_S):
            return False
        number, worker_id = turn.number, turn.worker_id
        try:
            given = self._store.write(
                lambda db: runs.hand_over(db, number, worker_id, before_calls=before_calls)
            )
        except StorageError as error:
            log.warning("run %s stays for now: %s", turn.run_id, error)
            if self._is_own(turn):
                return False
            given = False  # or it was, and nobody knows
        if not given:
            raise RunLost
        self._let_go([turn])
        return True

    def give_up(self, turns: Iterable[OpenTurn]) -> None:
        """Give turns up wherever they stand; those that nobody could go on with are interrupted.

        Without an heir it is the next start that goes on with them.
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
                        if runs.hand_over(db, one.number, one.worker_id)
                    ]
                )
            )
        except StorageError as error:
            # With this worker's lease they are free, too.
            log.warning("%d turns could not be given up: %s", len(movable), error)
            return
        self._let_go([one for one in movable if one.number in given])

    def _is_own(self, turn: OpenTurn) -> bool:
        number, worker_id = turn.number, turn.worker_id
        try:
            return self._store.write(lambda db: runs.is_owner(db, number, worker_id))
        except StorageError:
            return False

    def _let_go(self, turns: Iterable[OpenTurn]) -> None:
        for turn in turns:
            log.info("run %s is given up by worker %s, which stops", turn.run_id, turn.worker_id)
            self._metrics.note_handover()
            turn.log.lose()
        self._signals.publish(FREE_RUNS, "")
