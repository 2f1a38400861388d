"""A run's events in memory: one writer, any number of readers.

The worker that runs a turn appends; the streams that show it read from any
number and wait for more. An event is encoded once, however many read it.
"""

from __future__ import annotations

import threading

from ..events import Event, encode_frame


class RunLog:
    """The numbered events of one run, 1, 2, 3 …, until :meth:`close`."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._frames: list[str] = []
        self._closed = False
        self._waiters: set[threading.Event] = set()
        self._lock = threading.Lock()

    @property
    def closed(self) -> bool:
        """Whether the last event is in."""
        return self._closed

    def append(self, event: Event) -> int:
        """Add an event and wake the readers. Returns its number.

        Only the thread that runs the turn appends, so numbers need no lock.
        """
        number = len(self._frames) + 1
        self._frames.append(encode_frame(event, number))
        self._wake()
        return number

    def close(self) -> None:
        """Say that no event will follow."""
        self._closed = True
        self._wake()

    def read_after(self, number: int) -> list[str]:
        """Return the frames of the events that come after ``number``, without waiting."""
        return self._frames[number:]

    def wait_after(self, number: int, timeout_s: float) -> bool:
        """Wait until there is an event after ``number``, or the log is closed.

        :returns: False when the time ran out before.
        """
        if len(self._frames) > number or self._closed:
            return True
        waiter = threading.Event()
        with self._lock:
            self._waiters.add(waiter)
        try:
            # An append between the first look and the entry in the set woke
            # nobody: look again.
            if len(self._frames) > number or self._closed:
                return True
            return waiter.wait(timeout_s)
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def _wake(self) -> None:
        if not self._waiters:
            return
        with self._lock:
            for waiter in self._waiters:
                waiter.set()
