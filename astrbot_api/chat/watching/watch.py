"""One reader of one run: its events as they come, and what is pushed into its session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...events import encode_event
from ...runlog.journal import READ_LIMIT
from ...runlog.reading import RunReader
from .pushes import Pushes, list_push_events
from .seats import Seat

#: How the event begins after which a run holds no stream.
APPROVAL_REQUIRED = b'{"type":"approval_required"'

#: An event as JSON, with its number in the run; None: it was pushed and is not of the run.
Numbered = tuple[int | None, bytes]


class Watch:
    """Shows a run that is new, joined or resumed. Its thread calls :meth:`take`.

    :param session_id: The session's id on the wire.
    :param session: The session's number.
    :param waiter: Set by ``reader`` and ``pushes`` when there is something to read.
    :param is_leaving: Whether another worker serves the client better, as this one stops.
    :param waits: Whether something of the run is still to be decided by a person.
    :param lead: Events to show before all others.
    """

    def __init__(
        self,
        run_id: str,
        session_id: str,
        session: int,
        *,
        reader: RunReader,
        pushes: Pushes,
        waiter: threading.Event,
        seat: Seat,
        is_leaving: Callable[[], bool],
        waits: Callable[[], bool],
        lead: list[Numbered] | None = None,
    ) -> None:
        self.run_id = run_id
        self.session_id = session_id
        self.session = session
        self.seat = seat
        self._reader = reader
        self._pushes = pushes
        self._waiter = waiter
        self._is_leaving = is_leaving
        self._waits = waits
        self._lead = lead or []
        self._paused = False
        waiter.set()  # there may be something already

    @property
    def ended(self) -> bool:
        """Whether the run's last event was taken, or it waits for a person."""
        return self._reader.closed or self._paused

    @property
    def finished(self) -> bool:
        """Whether the run's last event was taken; one that waits for a person goes on later."""
        return self._reader.closed

    @property
    def leaving(self) -> bool:
        """Whether the client is better served by another worker, as this one stops."""
        return self._is_leaving()

    def take(self, timeout_s: float) -> list[Numbered]:
        """Return what is new; an empty list when nothing came in time.

        :raises StorageError: when it cannot be read.
        """
        if self._lead:
            lead, self._lead = self._lead, []
            return lead
        deadline = time.monotonic() + timeout_s
        while True:
            woken = self._waiter.wait(deadline - time.monotonic())
            self._waiter.clear()
            # The first event names the session: nothing comes before it. And
            # nothing comes after the last.
            begun = self._reader.number > 0
            pushed = self._read_pushed() if begun else []
            # After a timeout too: an event set at that moment is cleared here
            # unseen, and the signal of another worker may have been lost.
            events = self._read_run(begun)
            if events and self._reader.closed:
                # The run ended within this reading: what was pushed meanwhile
                # has its last chance, before the last event.
                events[-1:] = [*self._read_pushed(), events[-1]]
            events = pushed + events
            if events or self._reader.closed or not woken:
                return events

    def close(self) -> None:
        """Give back what the watch holds; the run goes on."""
        self._reader.detach(self._waiter)
        self._pushes.close()
        self.seat.release()

    def _read_run(self, begun: bool) -> list[Numbered]:
        first = self._reader.number + 1
        lines = self._reader.read()
        if lines:
            # Not where it was decided a moment ago: then more is to come.
            self._paused = lines[-1].startswith(APPROVAL_REQUIRED) and self._waits()
        if len(lines) >= READ_LIMIT or (lines and not begun):
            self._waiter.set()  # there may be more than one reading takes
        return list(enumerate(lines, first))

    def _read_pushed(self) -> list[Numbered]:
        return [
            (None, encode_event(event))
            for message in self._pushes.read()
            for event in list_push_events(message)
        ]
