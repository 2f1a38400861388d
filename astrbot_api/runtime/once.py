"""Deduplication of concurrent work: one caller does it, the others wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

from .aside import MAX_WAIT_S, AsideError
from .calls import Cancellable

T = TypeVar("T")


class Once:
    """Lets one caller create a value while other callers of the same key wait.

    It stores no values: after the wait, callers look the value up again. If the first caller
    failed, the next one tries.

    :param max_wait_s: Maximum wait for another caller, in seconds.
    """

    def __init__(self, max_wait_s: float = MAX_WAIT_S) -> None:
        self._max_wait_s = max_wait_s
        self._lock = threading.Lock()
        #: Waiting callers, by the key of the value that is being created.
        self._waiting: dict[Hashable, list[threading.Event]] = {}

    def make(
        self,
        key: Hashable,
        find: Callable[[], T | None],
        make: Callable[[], T],
        cancel: Cancellable | None = None,
    ) -> T:
        """Return the value of ``find``, or of ``make`` if ``find`` returns None.

        :param make: Creates the value and stores it.
        :raises AsideError: ``busy`` when another caller did not finish in time.
        :raises RunCancelled: when the wait was cancelled.
        """
        until = time.monotonic() + self._max_wait_s
        while (known := find()) is None:
            made = threading.Event()
            with self._lock:
                others = self._waiting.get(key)
                if others is None:
                    self._waiting[key] = []
                else:
                    others.append(made)
            if others is None:
                try:
                    return make()
                finally:
                    with self._lock:
                        waiting = self._waiting.pop(key)
                    for one in waiting:
                        one.set()
            self._wait(made, until, cancel)
        return known

    def count_waiting(self, key: Hashable) -> int:
        """Return the number of callers that wait for this key."""
        with self._lock:
            return len(self._waiting.get(key, ()))

    def _wait(self, made: threading.Event, until: float, cancel: Cancellable | None) -> None:
        left_s = until - time.monotonic()
        if cancel is None:
            made.wait(max(0.0, left_s))
        else:
            with cancel.on_cancel(made.set):
                made.wait(max(0.0, left_s))
            cancel.raise_if_cancelled()
        if not made.is_set():
            raise AsideError("busy", "another one makes it")
