"""A run's events as its own worker has them: one writer, any number of readers.

The thread that runs the turn appends; a moment later the events are in the
journal, and only then do the streams of this worker see them. An event is
encoded once, however many read it.
"""

from __future__ import annotations

import threading
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
        # What is no longer in memory, and what is: one value, so that readers see
        # both as they belong together. No locks: an event costs as little as it can.
        self._kept: tuple[int, list[str]] = (0, [])
        self._chars = 0
        self._appended = 0
        self._written = 0  # in the journal; set by the sink alone
        self._released = 0  # visible to readers; set by the sink alone
        self._ending = False
        self._closed = False
        self._marked = False
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
        self._chars += len(frame)
        if self._chars > _WINDOW_CHARS:
            self._drop_written()
        self._kept[1].append(frame)
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
        released = self._released
        dropped, frames = self._kept
        if number < dropped:
            return None
        return frames[number - dropped : max(number, released) - dropped]

    def add_waiter(self, waiter: threading.Event) -> None:
        """Have an event set whenever there is something new to read."""
        self._waiters.add(waiter)

    def discard_waiter(self, waiter: threading.Event) -> None:
        """Forget a waiter."""
        self._waiters.discard(waiter)

    def take_unwritten(self) -> Piece:
        """Return what the journal does not have yet. For the sink."""
        self._marked = False
        ending = self._ending  # before the events: none is added after it is set
        dropped, frames = self._kept
        return Piece(self.run, self._written + 1, frames[self._written - dropped :], ending)

    def release(self, piece: Piece, *, written: bool = True) -> None:
        """Show a piece to the readers. For the sink.

        :param written: False: the journal could not keep it; it stays in
            memory, to be written with what follows.
        """
        self._released = max(self._released, piece.last)
        if written:
            self._written = piece.last
        if piece.ended:
            self._closed = True
        for waiter in tuple(self._waiters):
            waiter.set()

    def _drop_written(self) -> None:
        """Keep half a window of what the journal has, and all that it has not."""
        dropped, frames = self._kept
        at, chars = 0, self._chars
        while chars > _WINDOW_CHARS // 2 and dropped + at < self._written:
            chars -= len(frames[at])
            at += 1
        self._kept, self._chars = (dropped + at, frames[at:]), chars

    def _mark(self) -> None:
        if not self._marked:
            self._marked = True
            self._sink.mark(self)
