"""The journal: persists the events of all runs, readable by every worker.

Events are written here before a client sees them, so that they survive their worker.
Opening and closing events are sent at once. The request or the reply is already stored by
then. A worker that recovers the run writes the same events.
While the journal rejects writes, streams send all events unwritten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from ..events import Event
from ..runtime.threads import let_others_run

#: Maximum number of events in one read, and the bytes after which it ends. A stream holds them
#: for as long as its client does not read them.
READ_LIMIT, READ_BYTES = 500, 256 * 1024

#: Microseconds for which an epoch rejects a run that starts with event 1. A worker that lost
#: its lease must not restart a run that another worker has taken over. An older epoch belongs
#: to an earlier database whose run numbers are reused.
EPOCH_KEPT_US = 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive events of one run.

    :param run: The run's number.
    :param first: The number of the first of ``events``; events count from 1.
    :param events: The events, each one line of JSON.
    :param epoch: The number of worker changes of the run when this worker got it.
    """

    run: int
    first: int
    events: Sequence[bytes]
    ended: bool = False
    epoch: int = 0

    @property
    def last(self) -> int:
        """The number of the last event, or ``first - 1`` if there are no events."""
        return self.first + len(self.events) - 1


@dataclass(frozen=True, slots=True)
class Slice:
    """The result of one read.

    :param events: The events after the requested number.
    :param closed: Whether the run has ended and these are its last events.
    """

    events: list[bytes]
    closed: bool


def is_full(events: Sequence[bytes]) -> bool:
    """Return whether a read ended at a limit, so that more events may follow."""
    return len(events) >= READ_LIMIT or sum(map(len, events)) >= READ_BYTES


def cut(events: list[bytes]) -> list[bytes]:
    """Return the first events, until they have :data:`READ_BYTES`."""
    if sum(map(len, events)) < READ_BYTES:
        return events
    sizes = accumulate(map(len, events))
    return events[: 1 + next(at for at, size in enumerate(sizes) if size >= READ_BYTES)]


class JournalGap(Exception):
    """The journal has lost events before a piece, so nothing was stored.

    :ivar last: The number of the last event that it has, of each such run.
    """

    def __init__(self, last: Mapping[int, int]) -> None:
        super().__init__(f"the journal has lost events of {len(last)} runs")
        self.last = last


class Journal(Protocol):
    """Persists events. A waiting method does not block other greenlets."""

    def append(self, pieces: Sequence[Piece]) -> Collection[int]:
        """Store events of any number of runs, all or none of them.

        An existing event is not replaced, and no event is added to a run that has
        ended. The worker that recovers a run thus wins against a worker whose lease
        expired. A piece that starts with event 1 replaces the events that an earlier
        database left under the same run number.

        :returns: The runs whose events were rejected: they have ended, or another worker has
            taken them over.
        :raises JournalGap: when the journal has lost earlier events of a run.
        :raises StorageError: when the events cannot be stored.
        """

    def read_after(self, run: int, number: int, limit: int = READ_LIMIT) -> Slice:
        """Return events of a run after ``number``: at most ``limit``, and :data:`READ_BYTES`.

        :raises StorageError: when the events cannot be read.
        """

    def take_over(self, run: int, epoch: int, after: int, events: Sequence[Event]) -> bool:
        """Add the first events of a worker that takes over a run.

        Pieces of earlier epochs are rejected afterwards.

        :param after: The number of the run's last event.
        :returns: False if the run has more events or has ended; then nothing is added.
        :raises StorageError: when the events cannot be stored.
        """

    def end_run(self, run: int, events: Sequence[Event]) -> bool:
        """Append the closing events of a run whose own worker cannot do it.

        Later events are rejected, so that a worker whose lease expired cannot add any.

        :returns: False if the run had already ended; then nothing is added.
        :raises StorageError: when the events cannot be stored.
        """

    def prune(self, ended_before_us: int) -> int:
        """Delete runs that ended before a time, and return their number.

        One call deletes a bounded number of runs; call it again for the rest.
        """

    def close(self) -> None:
        """Release the journal's resources."""


def iter_slices(journal: Journal, run: int) -> Iterator[Slice]:
    """Yield all events of a run so far. Other greenlets run meanwhile, since runs may be long.

    :raises StorageError: when the events cannot be read.
    """
    number = 0
    while True:
        found = journal.read_after(run, number)
        yield found
        number += len(found.events)
        if found.closed or not found.events:
            return
        let_others_run()
