"""Limits on open streams, inboxes and WebSockets of this worker."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ...config.settings import Settings
from ...errors import ApiError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Owner of a connection.

    :param payer: The key that counts the connection: a session key's maker.
    :param key_id: The secret that must stay valid, as
        :func:`~astrbot_api.db.key_secrets.name_secret` names it, or the owner's login. Empty for a
        user of the embedding application.
    """

    payer: str = ""
    key_id: str = ""


class Seat:
    """One open connection.

    :param abort: Closes the connection, or None if the transport cannot.
    """

    def __init__(self, seats: Seats, holder: Holder, abort: Callable[[], None] | None) -> None:
        self._seats = seats
        self._abort = abort
        self.holder = holder
        #: Whether nothing more may be sent, for example because its key is no longer valid.
        self.revoked = False
        #: Start time of the current send, or None between sends.
        self.sending_since: float | None = None

    def break_off(self, why: str) -> None:
        """Close the connection. Its client can reconnect and resume.

        :param why: Reason for the log, which completes "a connection of key …".
        """
        abort, self._abort = self._abort, None
        if abort is not None:
            log.info("a connection of key %s %s and is closed", self.holder.payer, why)
            abort()

    def release(self) -> None:
        """Release the seat. A second call does nothing."""
        self._seats.release(self)


class Seats:
    """Counts open connections of one kind, by key and in total.

    A seat is taken before the connection's work begins, so that a burst cannot exceed the limit.

    :param noun: Plural name of the connections, for error messages.
    :param on_change: Called with 1 or -1 when the count changes.
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
        """Number of taken seats."""
        return len(self._taken)

    def take(self, holder: Holder, abort: Callable[[], None] | None = None) -> Seat:
        """Take a seat.

        :raises ApiError: ``too_many_streams`` or ``server_busy``.
        """
        seat = Seat(self, holder, abort)
        with self._lock:
            self._check_room(holder.payer)
            self._taken.add(seat)
            self._of_key[holder.payer] += 1
        self._on_change(1)
        return seat

    def release(self, seat: Seat) -> None:
        with self._lock:
            if seat not in self._taken:
                return
            self._taken.discard(seat)
            self._of_key[seat.holder.payer] -= 1
            if not self._of_key[seat.holder.payer]:
                del self._of_key[seat.holder.payer]
        self._on_change(-1)

    def close_stuck(self) -> None:
        """Close connections whose clients no longer read. Runs periodically."""
        limit_s, now = self._settings.max_stream_lag_s, time.monotonic()
        for seat in list(self._taken):
            since = seat.sending_since  # its thread may change it now
            if since is not None and now - since > limit_s:
                seat.break_off("was not read")

    def end_invalid(self, find_valid: Callable[[Collection[str]], Collection[str]]) -> None:
        """Close connections whose keys were revoked or expired. Runs periodically.

        :param find_valid: Returns the valid keys among the given ones, in one read.
        """
        held = {seat.holder.key_id for seat in list(self._taken) if seat.holder.key_id}
        ended = held - set(find_valid(held)) if held else set()
        for seat in list(self._taken) if ended else ():
            if seat.holder.key_id in ended:
                seat.revoked = True
                seat.break_off("has no valid key any more")

    def _check_room(self, payer: str) -> None:
        limit = self._settings.max_streams_per_key
        if limit and self._of_key[payer] >= limit:
            raise ApiError(
                "too_many_streams",
                f"{limit} {self._noun} of this API key are open on this worker; close one first",
                retry_after_s=5,
            )
        if len(self._taken) >= self._settings.max_streams_per_worker:
            raise ApiError(
                "server_busy",
                f"{len(self._taken)} {self._noun} are open on this worker; try again later",
                retry_after_s=5,
            )
