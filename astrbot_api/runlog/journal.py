"""The journal: the events of all runs, kept where every worker can read them.

Events are written here before a client sees them, so what a client has seen outlives its
worker. Those that open or close a run are shown at once: what is stored of its request, and
its reply, says what they are, and who goes on with the run, or ends it, writes the same.
While the journal takes nothing, streams show all events.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..events import Event

#: Events that one reading takes, most of them.
READ_LIMIT = 500

#: How long an epoch holds against a run that begins, in microseconds: a worker that was
#: silent from its first event on must not begin again what another goes on with. Later, it
#: is of an earlier database, whose numbers of runs are used again.
EPOCH_KEPT_US = 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Some events of one run, in a row.

    :param run: The run's number.
    :param first: The number of the first of ``events``; events count from 1.
    :param events: The events, each one line of JSON.
    :param ended: Whether nothing follows them.
    :param epoch: How often the run had changed its worker when this one got it.
    """

    run: int
    first: int
    events: Sequence[bytes]
    ended: bool = False
    epoch: int = 0

    @property
    def last(self) -> int:
        """The number of the last event, ``first - 1`` where there is none."""
        return self.first + len(self.events) - 1


@dataclass(frozen=True, slots=True)
class Slice:
    """What was read of one run.

    :param events: The events after the number that was asked for.
    :param closed: Whether these are the last there will be.
    """

    events: list[bytes]
    closed: bool


class Journal(Protocol):
    """Keeps events; every method waits without holding up other greenlets."""

    def append(self, pieces: Sequence[Piece]) -> Collection[int]:
        """Keep events of any number of runs, all or none of them.

        An event that is there already stays as it is, and nothing is added to
        a run that has ended: who recovers a run wins against a worker that
        was only thought dead. A piece that begins with event 1 replaces what an
        earlier database may have left under its number.

        :returns: The runs of which nothing was kept: they have ended, or another worker goes on
            with them.
        :raises StorageError: when they cannot be kept.
        """

    def read_after(self, run: int, number: int, limit: int = READ_LIMIT) -> Slice:
        """Return the events of a run after ``number``, ``limit`` of them at most.

        :raises StorageError: when they cannot be read.
        """

    def take_over(self, run: int, epoch: int, after: int, events: Sequence[Event]) -> bool:
        """Add the first events of a worker that goes on with a run.

        From then on pieces of earlier epochs are refused.

        :param after: The number of the run's last event.
        :returns: False: it has more events by now, or has ended; nothing was added.
        :raises StorageError: when they cannot be kept.
        """

    def end_run(self, run: int, events: Sequence[Event]) -> bool:
        """Close a run whose own worker cannot: add events after the last one.

        From then on nothing else is added to it, so a worker that was only
        thought dead cannot say more.

        :returns: False when it had ended already; nothing was added.
        :raises StorageError: when that cannot be kept.
        """

    def prune(self, ended_before_us: int) -> int:
        """Forget runs that ended before a time; return how many.

        A bounded number a call: call again later.
        """

    def close(self) -> None:
        """Give back what the journal holds."""
