"""Places for what stays open: streams, inboxes and WebSockets of this worker."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from ...config.settings import Settings
from ...errors import ApiError

log = logging.getLogger(__name__)


class Seat:
    """The place of one open connection.

    :param abort: Breaks the connection off; None where nothing can.
    """

    def __init__(self, seats: Seats, key_id: str, abort: Callable[[], None] | None) -> None:
        self._seats = seats
        self._abort = abort
        self.key_id = key_id
        #: When the piece that is being sent was handed over; None: none is.
        self.sending_since: float | None = None

    def break_off(self) -> None:
        """Cut the connection: its client can come back and resume."""
        abort, self._abort = self._abort, None
        if abort is not None:
            log.info("a connection of key %s was not read and is closed", self.key_id)
            abort()

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        self._seats.release(self)


class Seats:
    """Counts open connections of one kind, by key and in all.

    A place is taken before the connection's work begins, so a burst cannot pass the limit.

    :param noun: What the connections are called in errors, in the plural.
    :param on_change: Called with 1 and -1 as the count changes.
    """

    def __init__(
        self,
        settings: Settings,
        noun: str,
        on_change: Callable[[int], None] = lambda change: None,
    ) -> None:
        self._settings = settings
        self._noun = noun
        self._on_change = on_change
        self._lock = threading.Lock()
        self._taken: set[Seat] = set()
        self._of_key: Counter[str] = Counter()

    @property
    def open_count(self) -> int:
        """How many places are taken."""
        return len(self._taken)

    def take(self, key_id: str, abort: Callable[[], None] | None = None) -> Seat:
        """Take a place.

        :raises ApiError: ``too_many_streams`` or ``server_busy``.
        """
        seat = Seat(self, key_id, abort)
        with self._lock:
            self._check_room(key_id)
            self._taken.add(seat)
            self._of_key[key_id] += 1
        self._on_change(1)
        return seat

    def release(self, seat: Seat) -> None:
        """Give a place back."""
        with self._lock:
            if seat not in self._taken:
                return
            self._taken.discard(seat)
            self._of_key[seat.key_id] -= 1
            if not self._of_key[seat.key_id]:
                del self._of_key[seat.key_id]
        self._on_change(-1)

    def close_stuck(self) -> None:
        """Break off the connections whose clients take nothing any more. A chore."""
        limit_s, now = self._settings.max_stream_lag_s, time.monotonic()
        for seat in list(self._taken):
            if seat.sending_since is not None and now - seat.sending_since > limit_s:
                seat.break_off()

    def _check_room(self, key_id: str) -> None:
        limit = self._settings.max_streams_per_key
        if limit and self._of_key[key_id] >= limit:
            raise ApiError(
                "too_many_streams",
                f"{limit} {self._noun} of this API key are open on this worker; close one first",
                headers={"Retry-After": "5"},
            )
        if len(self._taken) >= self._settings.max_streams_per_worker:
            raise ApiError(
                "server_busy",
                f"{len(self._taken)} {self._noun} are open on this worker; try again later",
                headers={"Retry-After": "5"},
            )
