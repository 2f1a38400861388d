"""Writes the events of all runs of a worker to the journal, in batches under load."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from ..errors import AstrBotError, StoreClosed
from ..runtime.per_process import PerProcess
from ..runtime.threads import wait_until_idle
from .journal import Journal, JournalGap, Piece
from .log import RunLog
from .reading import Followers

log = logging.getLogger(__name__)

#: Minimum seconds between two transactions under load: at most fifty per second, whatever
#: the number of streams.
_PACE_S = 0.02

#: Number of transactions without a pause; each ``_PACE_S`` allows one more. The first tokens
#: of an answer do not wait, and the tokens of a long fast answer are grouped.
_BURST = 10.0

#: Under load, a transaction waits longer if sending the last events took longer than
#: ``_PACE_S``: by this factor times the excess. It applies to runs in the middle of their answer:
#: clients of ended runs would only wait to send their next message.
_SENDING_TIMES = 2.0

#: Up to this many open runs the worker is quiet, and the end of an answer is written at once.
_QUIET_RUNS = 2

#: Seconds that a quiet worker waits for more events when streams have sent the marked ones
#: already. Opening events are then written with the first tokens, closing events with the
#: next run's.
_LINGER_S = 0.01

#: Seconds that a quiet worker waits for the end of an answer that has begun. An answer that ends
#: within them, such as a command's, needs one transaction instead of two.
_SHORT_S = 0.001

#: Maximum seconds for which a transaction under load waits for the event loop to be idle, at
#: least and if sending takes long.
_GATHER_S = 0.02
_MAX_LONG_S = 0.2

#: Seconds until rejected events are written again.
_RETRY_S = 1.0

#: Maximum number of runs that are kept for a journal that rejects writes.
_MAX_UNWRITTEN = 10_000

#: Maximum length of the payload of one signal, in characters; a datagram must stay small.
_MAX_PAYLOAD = 4000


class JournalWriter:
    """Writes marked logs in one thread per worker (a greenlet under gevent).

    A failing journal does not stop the runs. Streams send the events at once, and the
    writer keeps them in memory until the journal accepts them. It tries once a second.
    """

    def __init__(self, journal: Journal, followers: Followers) -> None:
        self._journal = journal
        self._followers = followers
        self._lock = threading.Lock()
        self._wake = threading.Event()
        #: Whether the journal rejects writes.
        self.failing = False
        self._next_attempt = 0.0
        self._marked: dict[RunLog, None] = {}
        self._refused: dict[RunLog, None] = {}
        #: Runs whose end is not yet in the journal.
        self._open: set[RunLog] = set()
        self._awaited = threading.Event()
        self._urgent = threading.Event()
        self._left, self._counted_at = _BURST, time.monotonic()
        #: Share of the last transaction's runs that are in the middle of their answer.
        self._going_share = 1.0
        self._closed = False
        self._thread = PerProcess(self._begin)

    def mark(self, log: RunLog, *, awaited: bool = True, ended: bool = False) -> None:
        """Schedule a log for writing. A quiet worker writes at once if streams wait for it.

        :param ended: Whether the log has ended; then a quiet worker does not wait for its pace.
        """
        self._open.add(log)  # first: the thread removes it once its end is written
        with self._lock:
            self._marked[log] = None
        self._thread.get()
        if awaited:
            self._awaited.set()
            if ended:
                self._urgent.set()
        self._wake.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write the remaining events and stop the thread."""
        thread = self._thread.take()
        if thread is not None:
            self._closed = True
            self._awaited.set()
            self._wake.set()
            thread.join(timeout_s)

    def _begin(self) -> threading.Thread:
        self._closed = False
        thread = threading.Thread(target=self._run, name="journal", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while True:
            self._wake.wait(_RETRY_S if self._refused else None)
            self._wait_for_pace()
            for event in (self._wake, self._awaited, self._urgent):
                event.clear()
            try:
                # Not a variable of this loop: it would keep ended logs until the next ones.
                self._write(self._take_marked())
            except Exception:
                # Every stream depends on this thread: it must survive any error.
                log.exception("events could not be written")
            if self._closed and not self._marked:
                return

    def _take_marked(self) -> list[RunLog]:
        with self._lock:
            logs = list(self._refused | self._marked)
            self._marked, self._refused = {}, {}
        return logs

    def _wait_for_pace(self) -> None:
        """Wait until another transaction is worthwhile and allowed, or until one is urgent."""
        quiet = len(self._open) <= _QUIET_RUNS
        if quiet:
            self._awaited.wait(_LINGER_S)
            if self._awaited.is_set():
                self._urgent.wait(_SHORT_S)
        self._refill()
        if not quiet:
            self._left = min(self._left, 1.0)
            # The streams send the released events. The longer that takes, the more events the
            # next transaction should have, because each costs every stream a write. A worker that
            # becomes idle has time for another transaction at once.
            began = time.monotonic()
            time.sleep(0)
            sending_s = time.monotonic() - began
            time.sleep((1.0 - self._left) * _PACE_S)
            long_s = _SENDING_TIMES * (sending_s - _PACE_S) * self._going_share
            wait_until_idle(min(max(long_s, _GATHER_S), _MAX_LONG_S))
        elif self._left < 1.0 and not self._closed:
            self._urgent.wait((1.0 - self._left) * _PACE_S)
        self._refill()
        self._left = max(0.0, self._left - 1.0)

    def _refill(self) -> None:
        now = time.monotonic()
        self._left = min(_BURST, self._left + (now - self._counted_at) / _PACE_S)
        self._counted_at = now

    def _write(self, logs: Sequence[RunLog]) -> None:
        self._open.difference_update(log_ for log_ in logs if log_.lost)
        if self.failing and not self._closed:
            # A write to a server that does not answer can take seconds. Streams do not wait for it.
            for log_ in logs:
                log_.show_all()
            if time.monotonic() < self._next_attempt:
                self._keep(logs)
                return
        pieces = [(log_, log_.take_unwritten()) for log_ in logs]
        pieces = [(log_, piece) for log_, piece in pieces if piece.events or piece.ended]
        if not pieces:
            return
        going = sum(piece.first > 1 and not piece.ended for _, piece in pieces)
        self._going_share = going / len(pieces)
        written, refused = True, frozenset[int]()
        try:
            kept = [piece for log_, piece in pieces if not log_.incomplete]
            refused = frozenset(self._journal.append(kept)) if kept else refused
        except StoreClosed:
            return
        except JournalGap as gap:
            self._fill_gaps(pieces, gap)
            return
        except AstrBotError as error:
            self._note_failure(error, len(pieces))
            written = False
        else:
            self._note_success()
        for log_, piece in pieces:
            if piece.run in refused:
                log_.mark_lost()
                continue
            log_.release(piece, written=written)
            if piece.ended:
                self._open.discard(log_)
        if written:
            self._notify([piece for _, piece in pieces])
        else:
            self._keep([log_ for log_, _ in pieces])

    def _fill_gaps(self, pieces: Sequence[tuple[RunLog, Piece]], gap: JournalGap) -> None:
        """Schedule all pieces, and for runs with a gap the lost events before them."""
        found = [(log_, gap.last[piece.run]) for log_, piece in pieces if piece.run in gap.last]
        for log_, last in found:
            log_.fill_gap(last)
        log.warning(
            "the journal has lost events of %d runs; %d of them are written again from memory",
            len(found), sum(not log_.incomplete for log_, _ in found),
        )  # fmt: skip
        with self._lock:
            self._marked.update(dict.fromkeys(log_ for log_, _ in pieces))
        self._wake.set()

    def _note_failure(self, error: AstrBotError, runs: int) -> None:
        """Log a failure once per outage."""
        if not self.failing:
            log.error(
                "the events of %d runs cannot be written; streams on this worker continue: %s",
                runs, error,
            )  # fmt: skip
        self.failing, self._next_attempt = True, time.monotonic() + _RETRY_S

    def _note_success(self) -> None:
        if self.failing:
            log.warning("the events of runs are written again")
        self.failing = False

    def _keep(self, logs: Sequence[RunLog]) -> None:
        for log_ in logs:
            if len(self._refused) < _MAX_UNWRITTEN:
                self._refused[log_] = None

    def _notify(self, pieces: Sequence[Piece]) -> None:
        payload = ""
        for piece in pieces:
            payload += f"{piece.run} "
            if len(payload) > _MAX_PAYLOAD:
                self._followers.notify(payload)
                payload = ""
        if payload:
            self._followers.notify(payload)
