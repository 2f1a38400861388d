"""A run's events as its own worker has them: one writer, any number of readers.

The thread that runs the turn appends; a moment later the events are in the
journal, and only then do the streams of this worker see them. An event is
encoded once, however many read it.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from ..events import Event, encode_frame
from .journal import Piece

#: What a run keeps in memory of the events that are in the journal, in
#: characters. A reader that is further behind reads the journal.
_WINDOW_CHARS = 512 * 1024


class Sink(Protocol):
    """What takes a log's events to the journal."""

    def mark(self, log: RunLog) -> None:
        """Note that a log has something new, and call its :meth:`RunLog.release`."""


class RunLog:
    """The numbered events of one run, 1, 2, 3 …, until :meth:`close`.

    :param run: The run's number.
    :param sink: Takes what is appended to the journal.
    """

    def __init__(self, run: int, sink: Sink) -> None:
        self.run = run
        self._sink = sink
        self._frames: deque[str] = deque()
        self._chars = 0
        self._dropped = 0  # events that are no longer in memory
        self._appended = 0
        self._written = 0  # in the journal
        self._released = 0  # visible to readers
        self._ending = False
        self._closed = False
        self._marked = False
        self._lock = threading.Lock()
        self._waiters: set[threading.Event] = set()

    @property
    def last_number(self) -> int:
        """The number of the last event that readers may see."""
        return self._released

    @property
    def closed(self) -> bool:
        """Whether readers may see the last event."""
        return self._closed

    def append(self, event: Event) -> None:
        """Add an event. Only the thread that runs the turn may."""
        frame = encode_frame(event, self._appended + 1)
        with self._lock:
            self._frames.append(frame)
            self._chars += len(frame)
            self._appended += 1
        self._mark()

    def close(self) -> None:
        """Say that no event will follow."""
        self._ending = True
        self._mark()

    def read_after(self, number: int) -> list[str] | None:
        """Return the visible events after ``number``, without waiting.

        :returns: None when they are no longer in memory.
        """
        with self._lock:
            if number < self._dropped:
                return None
            count = self._released - number
            if count <= 0:
                return []
            start = number - self._dropped
            if start == 0 and count == len(self._frames):
                return list(self._frames)
            return [self._frames[at] for at in range(start, start + count)]

    def add_waiter(self, waiter: threading.Event) -> None:
        """Have an event set whenever there is something new to read."""
        with self._lock:
            self._waiters.add(waiter)

    def discard_waiter(self, waiter: threading.Event) -> None:
        """Forget a waiter."""
        with self._lock:
            self._waiters.discard(waiter)

    def take_unwritten(self) -> Piece:
        """Return what the journal does not have yet. For the sink."""
        self._marked = False
        ending = self._ending  # before the events: none is added after it is set
        with self._lock:
            start = self._written - self._dropped
            frames = [self._frames[at] for at in range(start, len(self._frames))]
        return Piece(self.run, self._written + 1, frames, ending)

    def release(self, piece: Piece, *, written: bool = True) -> None:
        """Show a piece to the readers. For the sink.

        :param written: False: the journal could not keep it; it stays in
            memory, to be written with what follows.
        """
        with self._lock:
            self._released = max(self._released, piece.last)
            if written:
                self._written = piece.last
                while self._chars > _WINDOW_CHARS and self._dropped < self._written:
                    self._chars -= len(self._frames.popleft())
                    self._dropped += 1
            if piece.ended:
                self._closed = True
            for waiter in self._waiters:
                waiter.set()

    def _mark(self) -> None:
        if not self._marked:
            self._marked = True
            self._sink.mark(self)
