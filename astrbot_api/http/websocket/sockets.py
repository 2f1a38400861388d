"""Open WebSockets of this worker: limits, revoked keys, and shutdown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from ...chat.watching.seats import Holder, Seat, Seats
from ...config.settings import Settings
from ...errors import ApiError
from .connection import NORMAL, RESTART, WebSocket

#: Maximum number of concurrent turns per connection.
_MAX_TURNS = 20


class OpenSocket:
    """One open connection, with the number of its turns."""

    def __init__(self, websocket: WebSocket, seat: Seat) -> None:
        self.websocket = websocket
        self.seat = seat
        self._lock = threading.Lock()
        self._turns = 0
        self.used_at = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether the connection has no active turn."""
        return self._turns == 0

    def begin_turn(self) -> None:
        """Count the start of a turn.

        :raises ApiError: ``too_many_turns``.
        """
        with self._lock:
            if self._turns >= _MAX_TURNS:
                raise ApiError(
                    "too_many_turns",
                    f"this connection already has {_MAX_TURNS} running turns; wait for one to end",
                )
            self._turns += 1

    def finish_turn(self) -> None:
        """Count the end of a turn."""
        with self._lock:
            self._turns -= 1
        self.used_at = time.monotonic()


class WebSockets:
    """The open WebSockets of one application.

    :param is_draining: Returns whether this worker is about to stop.
    """

    def __init__(self, settings: Settings, is_draining: Callable[[], bool]) -> None:
        self._seats = Seats(settings, "WebSockets")
        self._is_draining = is_draining
        self._idle_s = settings.websocket_idle_s
        self._open: set[OpenSocket] = set()

    @property
    def open_count(self) -> int:
        """Number of open connections."""
        return len(self._open)

    def open(self, websocket: WebSocket, holder: Holder, refuse: Callable[[], None]) -> OpenSocket:
        """Register a connection, with the limits of streams.

        :param refuse: Reports the invalid key to the client, and closes the connection.
        :raises ApiError: ``too_many_streams``, ``server_busy`` or ``shutting_down``.
        """
        if self._is_draining():
            raise ApiError("shutting_down", "The server is shutting down; try again.")

        def end() -> None:
            # In a thread, because a client that does not read would block the closing of others.
            threading.Thread(target=refuse, name="ws-refuse", daemon=True).start()

        opened = OpenSocket(websocket, self._seats.take(holder, end))
        self._open.add(opened)
        return opened

    def forget(self, opened: OpenSocket) -> None:
        """Unregister a connection."""
        self._open.discard(opened)
        opened.seat.release()

    def end_invalid(self, find_valid: Callable[[Collection[str]], Collection[str]]) -> None:
        """Close the connections whose keys were revoked or have expired. Runs as a chore."""
        self._seats.end_invalid(find_valid)

    def close_idle(self) -> None:
        """Close idle connections: after a timeout, or if the worker is about to stop. Runs as a
        chore.
        """
        if not self._open:
            return
        draining, oldest = self._is_draining(), time.monotonic() - self._idle_s
        for opened in list(self._open):
            if opened.idle and draining:
                opened.websocket.close(RESTART, "the server is restarting; connect again")
            elif opened.idle and opened.used_at < oldest:
                opened.websocket.close(
                    NORMAL, "the connection was idle for too long; connect again"
                )
