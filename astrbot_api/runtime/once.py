"""What several callers want at the same time, made by one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

from .calls import Cancellable

T = TypeVar("T")


class NotMadeInTime(Exception):
    """Another caller was still making it when the wait was over."""


class Once:
    """Has one caller make a thing, while those who want the same wait for it.

    It keeps nothing itself: callers that waited look again where things are kept. Where the
    first one failed, the next one tries.

    :param max_wait_s: How long a caller waits for others, in seconds.
    """

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        self._lock = threading.Lock()
        #: Those who wait, by what one caller is making.
        self._waiting: dict[Hashable, list[threading.Event]] = {}

    def make(
        self,
        key: Hashable,
        find: Callable[[], T | None],
        make: Callable[[], T],
        cancel: Cancellable | None = None,
    ) -> T:
        """Return what ``find`` has, or else what ``make`` makes.

        :param find: Returns what was kept; None: nothing.
        :param make: Makes the thing and keeps it.
        :param cancel: Ends the wait.
        :raises NotMadeInTime: when the others took too long.
        :raises RunCancelled: when it was cancelled.
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
        """Return how many callers wait for one that makes this."""
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
            raise NotMadeInTime
