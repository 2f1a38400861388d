"""The order of a session's turns, across workers."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from functools import partial

from ...db import runs
from ...db.store import Store
from ...errors import StorageError, StoreClosed
from .handover import Handover
from .outcome import RunLost
from .turn import OpenTurn

log = logging.getLogger(__name__)

#: Seconds between two polls of a turn that waits for another worker's turn.
_POLL_S = 0.1


class SessionOrder:
    """Lets a turn wait until all earlier turns of its session have ended.

    A finished turn wakes the waiting turns of the same worker. A turn that waits for another worker
    polls the database.
    """

    def __init__(self, store: Store, handover: Handover) -> None:
        self._store = store
        self._handover = handover
        self._lock = threading.Lock()
        self._waiting: dict[int, set[threading.Event]] = defaultdict(set)

    def wait(self, turn: OpenTurn) -> bool:
        """Wait until it is the turn's time, and mark its run as running.

        :returns: False if the turn was handed over because this worker stops.
        :raises RunCancelled: if the turn is cancelled while it waits.
        :raises RunLost: if another worker has ended the run.
        """
        session, woken = turn.session.id, threading.Event()
        with self._lock:
            self._waiting[session].add(woken)
        try:
            with turn.cancel.on_cancel(woken.set):
                while not self._try_begin(turn, woken):
                    if self._handover.release_between_steps(turn):
                        return False
                    woken.wait(_POLL_S)
                return True
        except StoreClosed:
            turn.log.lose()  # the run stays open, and the next start resumes it
            return False
        finally:
            with self._lock:
                self._waiting[session].discard(woken)
                if not self._waiting[session]:
                    del self._waiting[session]

    def wake(self, session: int) -> None:
        """Let the waiting turns of a session check again."""
        with self._lock:
            for woken in self._waiting.get(session, ()):
                woken.set()

    def _try_begin(self, turn: OpenTurn, woken: threading.Event) -> bool:
        """Return False while the turn has to wait, also for the database."""
        woken.clear()
        turn.cancel.raise_if_cancelled()
        try:
            with self._store.read() as db:
                if runs.has_earlier_run(db, turn.session.id, turn.number):
                    return False
            number, worker_id = turn.number, turn.worker_id
            start = partial(runs.start_run, number=number, worker_id=worker_id)
            if not self._store.write(start, quick=True):
                raise RunLost
        except StoreClosed:
            raise
        except StorageError as error:
            log.warning("run %s waits for the database: %s", turn.run_id, error)
            return False
        return True
