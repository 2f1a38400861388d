"""One reader of one run: its events, and messages pushed into its session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...events import encode_event
from ...runlog.journal import READ_LIMIT, is_full
from ...runlog.reading import RunReader
from ...runtime.threads import wait_turn
from ..pushes import Pushes, list_push_events
from .seats import Seat

#: Prefix of the event after which a run releases its streams.
APPROVAL_REQUIRED = b'{"type":"approval_required"'

#: An event as JSON with its number in the run, or None for a pushed message.
Numbered = tuple[int | None, bytes]


class Watch:
    """Shows a new, joined or resumed run. Its thread calls :meth:`take`.

    :param session_id: The session's id on the wire.
    :param session: The session's number.
    :param waiter: Set by ``reader`` and ``pushes`` when there is something to read.
    :param is_leaving: Returns whether this worker stops and another should serve the client.
    :param waits: Returns whether a call of the run is undecided.
    :param lead: Events to show first.
    :ivar joined: Whether the run was started by the same request earlier.
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
        self.joined = False
        self._reader = reader
        self._pushes = pushes
        self._waiter = waiter
        self._is_leaving = is_leaving
        self._waits = waits
        self._lead = lead or []
        self._paused = False
        self._is_behind = False
        waiter.set()  # there may already be events

    @property
    def ended(self) -> bool:
        """Whether the run's last event was taken, or the run waits for a person."""
        return self._reader.closed or self._paused

    @property
    def finished(self) -> bool:
        """Whether the run's last event was taken. False if the run waits for a person."""
        return self._reader.closed

    @property
    def leaving(self) -> bool:
        """Whether this worker stops and another should serve the client."""
        return self._is_leaving()

    def take(self, timeout_s: float) -> list[Numbered]:
        """Return new events, or an empty list if none came in time.

        :raises StorageError: if the events cannot be read.
        """
        if self._lead:
            lead, self._lead = self._lead, []
            return lead
        if self._is_behind:
            wait_turn()  # a stream that only catches up would never wait
        deadline = time.monotonic() + timeout_s
        while True:
            woken = self._waiter.wait(deadline - time.monotonic())
            self._waiter.clear()
            # The first event names the session, so nothing may precede it. Nothing may follow the
            # last.
            begun = self._reader.number > 0
            pushed = self._read_pushed() if begun else []
            # Also after a timeout: an event set at that moment is cleared here unseen, and the
            # signal of another worker may have been lost.
            events = self._read_run(begun)
            if events and self._reader.closed:
                # The run ended within this read. Messages pushed meanwhile must precede the last
                # event.
                events[-1:] = [*self._read_pushed(), events[-1]]
            events = pushed + events
            if events or self._reader.closed or not woken:
                return events

    def close(self) -> None:
        """Release the watch's resources. The run continues."""
        self._reader.detach(self._waiter)
        self._pushes.close()
        self.seat.release()

    def _read_run(self, begun: bool) -> list[Numbered]:
        lines = self._reader.read()
        if lines:
            # If a decision came a moment ago, more events follow.
            self._paused = lines[-1].startswith(APPROVAL_REQUIRED) and self._waits()
        if is_full(lines) or (lines and not begun):
            self._waiter.set()  # one read may not return all events
        # Not after few long events: many streams of long answers would need their memory together.
        self._is_behind = len(lines) >= READ_LIMIT
        return list(enumerate(lines, self._reader.number - len(lines) + 1))

    def _read_pushed(self) -> list[Numbered]:
        return [
            (None, encode_event(event))
            for message in self._pushes.read()
            for event in list_push_events(message)
        ]
