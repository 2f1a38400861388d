"""The open WebSockets of this worker, within limits, and their end when it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from ...chat.watching.seats import Holder, Seat, Seats
from ...config.settings import Settings
from ...errors import ApiError
from .connection import NORMAL, RESTART, WebSocket

#: Most turns that one connection may have at once.
MAX_TURNS = 20


class OpenSocket:
    """One connection with its turns."""

    def __init__(self, websocket: WebSocket, seat: Seat) -> None:
        self.websocket = websocket
        self.seat = seat
        self._lock = threading.Lock()
        self._turns = 0
        self.used_at = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether no turn is shown."""
        return self._turns == 0

    def begin_turn(self) -> None:
        """Count one more turn.

        :raises ApiError: ``too_many_turns``.
        """
        with self._lock:
            if self._turns >= MAX_TURNS:
                raise ApiError(
                    "too_many_turns", f"{MAX_TURNS} turns of this connection are running"
                )
            self._turns += 1

    def finish_turn(self) -> None:
        """Count one less."""
        with self._lock:
            self._turns -= 1
        self.used_at = time.monotonic()


class WebSockets:
    """Those of one application.

    :param is_draining: Whether this worker is about to stop.
    """

    def __init__(self, settings: Settings, is_draining: Callable[[], bool]) -> None:
        self._seats = Seats(settings, "WebSockets")
        self._is_draining = is_draining
        self._idle_s = settings.websocket_idle_s
        self._open: set[OpenSocket] = set()

    @property
    def open_count(self) -> int:
        """How many are open."""
        return len(self._open)

    def open(self, websocket: WebSocket, holder: Holder, refuse: Callable[[], None]) -> OpenSocket:
        """Count a connection; the limits are those of streams.

        :param refuse: Says that the key is no longer valid, and ends the connection.
        :raises ApiError: ``too_many_streams``, ``server_busy`` or ``shutting_down``.
        """
        if self._is_draining():
            raise ApiError("shutting_down", "The server is going down; try again.")

        def end() -> None:
            # Aside: a client that reads nothing would hold those of the other keys.
            threading.Thread(target=refuse, name="ws-refuse", daemon=True).start()

        opened = OpenSocket(websocket, self._seats.take(holder, end))
        self._open.add(opened)
        return opened

    def forget(self, opened: OpenSocket) -> None:
        """Take a connection off the list."""
        self._open.discard(opened)
        opened.seat.release()

    def end_invalid(self, find_valid: Callable[[Collection[str]], Collection[str]]) -> None:
        """Close the connections whose keys were revoked, or have ended. A chore."""
        self._seats.end_invalid(find_valid)

    def close_idle(self) -> None:
        """Close connections without a turn: after long, or as the worker is to stop. A chore."""
        if not self._open:
            return
        draining, oldest = self._is_draining(), time.monotonic() - self._idle_s
        for opened in list(self._open):
            if opened.idle and draining:
                opened.websocket.close(RESTART, "the server restarts; connect again")
            elif opened.idle and opened.used_at < oldest:
                opened.websocket.close(NORMAL, "nothing was sent for long; connect again")
