"""Read a run from any event number: from memory on its worker, else from the journal."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Protocol

from ..errors import StorageError
from .journal import Journal
from .log import RunLog
from .signals.signals import RUN_EVENTS, Signals


class RunReader(Protocol):
    """A read position in the events of a run, owned by one stream."""

    @property
    def number(self) -> int:
        """The number of the last event that was read."""

    @property
    def closed(self) -> bool:
        """Whether the last event of the run has been read."""

    def read(self) -> list[bytes]:
        """Return the next events, or an empty list if no event is new.

        The last one has the number :attr:`number`. The number of events is bounded. After the last
        event, :attr:`closed` is true.

        :raises StorageError: when the journal cannot be read.
        """

    def attach(self, waiter: threading.Event) -> None:
        """Register an event that is set when there may be new events."""

    def detach(self, waiter: threading.Event) -> None:
        """Remove a waiter."""


class JournalReader:
    """Reads a run of another worker, or a run that has ended."""

    def __init__(self, run: int, journal: Journal, followers: Followers, number: int = 0) -> None:
        self._run = run
        self._journal = journal
        self._followers = followers
        self.number = number
        self.closed = False

    def read(self) -> list[bytes]:
        found = self._journal.read_after(self._run, self.number)
        self.number += len(found.events)
        self.closed = found.closed
        return found.events

    def attach(self, waiter: threading.Event) -> None:
        self._followers.add(self._run, waiter)

    def detach(self, waiter: threading.Event) -> None:
        self._followers.discard(self._run, waiter)


class LogReader(JournalReader):
    """Reads a run of this worker.

    A reader that is far behind reads the journal until it has caught up. When another
    worker takes over the run, the reader follows it in the journal.

    :param number: The last event that is already known, or 0.
    """

    def __init__(
        self, log: RunLog, journal: Journal, followers: Followers, number: int = 0
    ) -> None:
        super().__init__(log.run, journal, followers, number)
        self._log = log
        self._waiters: set[threading.Event] = set()
        self._follows = False

    def read(self) -> list[bytes]:
        if self._log.lost:
            if not self._follows:
                self._follows = True
                for waiter in self._waiters:
                    super().attach(waiter)
                self.number, undone = self._log.rewind_reader(self.number)
                if undone:
                    return undone
            return super().read()
        closed, last = self._log.closed, self._log.last_number
        events = self._log.read_after(self.number)
        if events is None:
            events = self._journal.read_after(self._run, self.number).events
            if not events:
                raise StorageError("The server has lost events of this run. Resume it at its end.")
        self.number += len(events)
        self.closed = closed and self.number >= last
        return events

    def attach(self, waiter: threading.Event) -> None:
        self._waiters.add(waiter)
        self._log.add_waiter(waiter)

    def detach(self, waiter: threading.Event) -> None:
        self._waiters.discard(waiter)
        self._log.discard_waiter(waiter)
        if self._follows:
            super().detach(waiter)


class Followers:
    """The streams of this worker that follow runs in the journal.

    The run may be this worker's own: it took the run over meanwhile, or has just ended it.
    """

    def __init__(self, signals: Signals) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[int, set[threading.Event]] = defaultdict(set)
        self._signals = signals
        signals.subscribe(RUN_EVENTS, self._wake)

    def add(self, run: int, waiter: threading.Event) -> None:
        """Register an event that is set when a run has new events in the journal."""
        self._signals.start()
        with self._lock:
            self._waiters[run].add(waiter)

    def discard(self, run: int, waiter: threading.Event) -> None:
        with self._lock:
            self._waiters[run].discard(waiter)
            if not self._waiters[run]:
                del self._waiters[run]

    def notify(self, payload: str) -> None:
        """Wake the streams of all workers that follow these runs.

        :param payload: Numbers of runs that have new events, separated by blanks.
        """
        self._signals.publish(RUN_EVENTS, payload)
        self._wake(payload)

    def _wake(self, payload: str) -> None:
        if not self._waiters:
            return
        with self._lock:
            for word in payload.split():
                for waiter in self._waiters.get(int(word), ()):
                    waiter.set()
