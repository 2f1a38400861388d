"""A run's events in the memory of its own worker: one writer, any number of readers.

The thread that runs the turn appends events. The journal writer writes them and then
releases them to the streams of this worker. Opening and closing events do not wait for the
journal: the request or the reply is stored by then, and a recovery of the run writes
the same events. Each event is encoded once for all readers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from ..events import CLOSING, OPENING, Event, encode_event
from .journal import Piece, cut

#: Bytes of written events that a run keeps in memory.
#: A reader that needs older events reads the journal.
_WINDOW_BYTES = 512 * 1024


#: Arguments: the last event in the journal, and the events after it that were shown.
MakeRewind = Callable[[int, list[bytes]], tuple[int, list[bytes]]]


class LogWriter(Protocol):
    """Writes a log's events to the journal. :class:`.writer.JournalWriter` is the real one.

    :ivar failing: Whether the journal rejects writes. Logs then show events at once.
    """

    failing: bool

    def mark(self, log: RunLog, *, awaited: bool = True, ended: bool = False) -> None:
        """Mark a log that has new events. The writer calls :meth:`RunLog.release` later.

        :param awaited: Whether streams wait for the events; otherwise they have sent them.
        :param ended: Whether the log has just ended.
        """


class RunLog:
    """The numbered events of one run, 1, 2, 3 …, until :meth:`close`.

    :param run: The run's number.
    :param writer: Writes appended events to the journal.
    :param after: Number of events that previous workers have written to the journal.
    :param epoch: Number of times that the run has changed its worker.
    """

    def __init__(self, run: int, writer: LogWriter, *, after: int = 0, epoch: int = 0) -> None:
        self.run = run
        self._writer = writer
        self._epoch = epoch
        # The number of dropped events, and the events in memory. One tuple, so that readers
        # always see a consistent pair without a lock.
        self._kept: tuple[int, list[bytes]] = (after, [])
        self._bytes = 0
        self._drop_above = _WINDOW_BYTES
        self._appended = after
        self._written = after  # in the journal; set by the writer alone
        self._released = after  # visible to readers
        self._closing_from = 0  # number of the first event that closes the run; 0: none
        self._ending = False
        self._closed = False
        self._marked = self._awaited = False
        #: Whether the journal lacks events that are not in memory either. It gets no more of them.
        self.incomplete = False
        #: Whether another worker has taken over the run. Later events are only in the journal.
        self.lost = False
        #: Called once, when :attr:`lost` becomes true.
        self.on_lost: Callable[[], None] = lambda: None
        #: Returns the number of the last event to keep, and events that take back the others.
        self.make_rewind: MakeRewind = lambda number, lines: (number + len(lines), [])
        self._waiters: set[threading.Event] = set()

    @property
    def last_number(self) -> int:
        """The number of the last event that is visible to readers."""
        return self._released

    @property
    def closed(self) -> bool:
        """Whether the last event of this log is visible to readers."""
        return self._closed or self.lost

    def append(self, event: Event) -> None:
        """Add an event. Only the thread that runs the turn may call this."""
        line = encode_event(event)
        self._bytes += len(line)
        if self._bytes > self._drop_above:
            self._drop_written()
        self._kept[1].append(line)
        self._appended += 1
        if event["type"] in CLOSING:
            self._closing_from = self._closing_from or self._appended
            self._release_closing()
        elif self._writer.failing or event["type"] in OPENING:
            self._released = self._appended
            self._wake()
        awaited = self._released < self._appended
        if not self._marked or (awaited and not self._awaited):
            self._marked, self._awaited = True, awaited
            self._writer.mark(self, awaited=awaited)

    def count_events(self) -> int:
        """Return the number of the last appended event, visible or not."""
        return self._appended

    def close(self) -> None:
        """Mark the log as complete: no event follows. Does nothing if the run was taken over."""
        if self.lost:
            return
        self._ending = True
        self._release_closing()
        self._marked = True
        self._writer.mark(self, awaited=self._released < self._appended, ended=True)

    def read_after(self, number: int) -> list[bytes] | None:
        """Return visible events after ``number``, up to :data:`READ_BYTES`, without waiting.

        :returns: The events, or None if they are no longer in memory.
        """
        dropped, lines = self._kept
        if number < dropped:
            return None
        return cut(lines[number - dropped : self._released - dropped])

    def rewind_reader(self, number: int) -> tuple[int, list[bytes]]:
        """Return the number from which a reader of a lost log continues, and its first events.

        While the journal failed, it may have shown events that the other worker does not know.
        """
        dropped, lines = self._kept
        if number <= self._written:
            return number, []
        return self.make_rewind(self._written, lines[self._written - dropped : number - dropped])

    def add_waiter(self, waiter: threading.Event) -> None:
        """Register an event that is set whenever there are new events to read."""
        self._waiters.add(waiter)

    def discard_waiter(self, waiter: threading.Event) -> None:
        self._waiters.discard(waiter)

    def take_unwritten(self) -> Piece:
        """Return the events that are not in the journal yet. For the writer."""
        self._marked = self._awaited = False
        ending = self._ending  # before the events: none is added after it is set
        dropped, lines = self._kept
        # With real threads, `append` may drop events that `fill_gap` is about to ask for.
        written = max(dropped, self._written)
        return Piece(self.run, written + 1, lines[written - dropped :], ending, self._epoch)

    def fill_gap(self, last: int) -> None:
        """Write the events after ``last`` again, because the journal has lost them. For the writer.

        If they are no longer in memory, the journal gets no more events of this run. A reader on
        another worker gets the stored reply at the end.
        """
        self.incomplete = last < self._kept[0]
        if not self.incomplete:
            self._written = last

    def release(self, piece: Piece, *, written: bool = True) -> None:
        """Make a piece visible to the readers. For the writer.

        :param written: False if the journal could not store the piece. It then stays in
            memory and is written together with later events.
        """
        self._released = max(self._released, piece.last)
        if written:
            self._written = piece.last
        if piece.ended:
            self._closed = True
            if self._bytes > _WINDOW_BYTES:  # nothing is appended any more
                self._drop_written()
        self._release_closing()
        self._wake()

    def mark_lost(self) -> None:
        """Stop showing events, because another worker has the run. Any thread may call this."""
        if not self.lost:
            self.lost = True
            self._wake()
            self.on_lost()
            self._writer.mark(self)  # makes the writer drop it from its open runs

    def show_all(self) -> None:
        """Show all events, because the journal cannot be written. For the writer."""
        ending = self._ending  # before the events: none is added after it is set
        self._released = self._appended
        self._closed = self._closed or ending
        self._wake()

    def wait_until_written(self, timeout_s: float) -> bool:
        """Wait until the journal has all events. Return False on timeout or if the run is lost."""
        number, waiter = self._appended, threading.Event()
        deadline = time.monotonic() + timeout_s
        self.add_waiter(waiter)
        try:
            while self._written < number and not self.lost:
                if not waiter.wait(max(0.0, deadline - time.monotonic())):
                    return False
                waiter.clear()
        finally:
            self.discard_waiter(waiter)
        return not self.lost

    def _release_closing(self) -> None:
        """Show the closing events as soon as all events before them are written.

        If the journal fails, they only wait until the events before them are shown.
        """
        before = self._released if self._writer.failing else self._written
        if self._closing_from and before >= self._closing_from - 1:
            ending = self._ending  # before the events: none is added after it is set
            self._released = max(self._released, self._appended)
            self._closed = self._closed or ending
            self._wake()

    def _wake(self) -> None:
        for waiter in tuple(self._waiters):
            waiter.set()

    def _drop_written(self) -> None:
        """Drop written events until half a window is left; keep all unwritten events."""
        dropped, lines = self._kept
        at, left = 0, self._bytes
        while left > _WINDOW_BYTES // 2 and dropped + at < self._written:
            left -= len(lines[at])
            at += 1
        if at:
            self._kept, self._bytes = (dropped + at, lines[at:]), left
        # If the journal is behind, try again after another half window of events.
        self._drop_above = max(_WINDOW_BYTES, self._bytes + _WINDOW_BYTES // 2)
