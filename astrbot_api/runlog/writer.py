"""Takes the events of all runs of a worker to the journal, many at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from ..errors import AstrBotError
from ..runtime.threads import count_forks
from .journal import Journal, Piece
from .log import RunLog
from .signals.signals import RUN_EVENTS, Signals

log = logging.getLogger(__name__)

#: Shortest time between two transactions, in seconds: at most fifty a second,
#: however many streams there are. The first event after a pause does not wait.
_PACE_S = 0.02

#: Time until what the journal refused is tried again, in seconds.
_RETRY_S = 1.0

#: Runs whose events wait for a journal that takes none, most of them.
_MAX_UNWRITTEN = 10_000

#: Longest payload of one signal, in characters; a datagram must stay small.
_MAX_PAYLOAD = 4000


class JournalWriter:
    """One thread a worker (a greenlet under gevent) that writes what logs mark.

    A journal that fails does not stop the runs: their events are shown all
    the same, kept in memory, and written when it takes them again.
    """

    def __init__(self, journal: Journal, signals: Signals) -> None:
        self._journal = journal
        self._signals = signals
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._marked: dict[RunLog, None] = {}
        self._refused: dict[RunLog, None] = {}
        self._forks = -1
        self._closed = False
        self._thread: threading.Thread | None = None

    def mark(self, log: RunLog) -> None:
        """Have a log written soon."""
        with self._lock:
            self._marked[log] = None
            if self._forks != count_forks():
                self._begin()
        self._wake.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left and end the thread."""
        if self._forks != count_forks() or self._thread is None:
            return
        self._closed = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _begin(self) -> None:
        self._forks = count_forks()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait(_RETRY_S if self._refused else None)
            began = time.monotonic()
            self._wake.clear()
            with self._lock:
                logs = list(self._refused | self._marked)
                self._marked, self._refused = {}, {}
            try:
                self._write(logs)
            except Exception:
                # This thread must outlive whatever it meets: every stream waits for it.
                log.exception("events could not be written")
            if self._closed and not self._marked:
                return
            time.sleep(max(0.0, _PACE_S - (time.monotonic() - began)))

    def _write(self, logs: Sequence[RunLog]) -> None:
        pieces = [(log_, log_.take_unwritten()) for log_ in logs]
        pieces = [(log_, piece) for log_, piece in pieces if piece.frames or piece.ended]
        if not pieces:
            return
        written = True
        try:
            self._journal.append([piece for _, piece in pieces])
        except AstrBotError as error:
            log.error("the events of %d runs are not in the journal yet: %s", len(pieces), error)
            written = False
        for log_, piece in pieces:
            log_.release(piece, written=written)
        if written:
            self._tell([piece for _, piece in pieces])
        else:
            self._keep([log_ for log_, _ in pieces])

    def _keep(self, logs: Sequence[RunLog]) -> None:
        for log_ in logs:
            if len(self._refused) < _MAX_UNWRITTEN:
                self._refused[log_] = None

    def _tell(self, pieces: Sequence[Piece]) -> None:
        """Wake up the readers on other workers."""
        payload = ""
        for piece in pieces:
            payload += f"{piece.run} "
            if len(payload) > _MAX_PAYLOAD:
                self._signals.publish(RUN_EVENTS, payload)
                payload = ""
        if payload:
            self._signals.publish(RUN_EVENTS, payload)
