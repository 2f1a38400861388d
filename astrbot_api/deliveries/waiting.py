"""Requests that wait for the end of their deliveries."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ..db import deliveries
from ..db.deliveries import DeliveryRow
from ..db.store import Store
from ..runtime.clock import now_us

#: Seconds between two polls: another worker may send the delivery.
_POLL_S = 0.5


class DeliveryWaiters:
    """The waiting requests of one worker, by delivery."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._events: dict[str, set[threading.Event]] = defaultdict(set)

    def notify(self, delivery_id: str) -> None:
        """Wake the requests that wait for a delivery."""
        with self._lock:
            for woken in self._events.get(delivery_id, ()):
                woken.set()

    def wait(self, ids: Sequence[str], timeout_s: float) -> dict[str, DeliveryRow]:
        """Wait until the deliveries are finished, or cannot finish before the timeout.

        :returns: The current rows.
        """
        deadline = time.monotonic() + timeout_s
        with self._subscribed(ids) as woken:
            while True:
                woken.clear()
                with self._store.read() as db:
                    rows = deliveries.find_deliveries(db, ids)
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not _can_finish(rows.values(), left_s):
                    return rows
                woken.wait(min(_POLL_S, left_s))

    @contextmanager
    def _subscribed(self, ids: Sequence[str]) -> Iterator[threading.Event]:
        """Yield an event that is set when one of the deliveries may be finished."""
        woken = threading.Event()
        with self._lock:
            for one in ids:
                self._events[one].add(woken)
        try:
            yield woken
        finally:
            with self._lock:
                for one in ids:
                    self._events[one].discard(woken)
                    if not self._events[one]:
                        del self._events[one]


def _can_finish(rows: Iterable[DeliveryRow], left_s: float) -> bool:
    """Return whether any of these may still finish within ``left_s`` seconds."""
    latest = now_us() + int(left_s * 1e6)
    return any(not row.finished and row.due_at <= latest for row in rows)
