"""Deduplication of concurrent work: one caller does it, the others wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

from .aside import MAX_WAIT_S, AsideError
from .calls import Cancellable, wait_for

T = TypeVar("T")


class Once:
    """Lets one caller create a value while other callers of the same key wait.

    It stores no values: after the wait, callers look the value up again. If the first caller
    failed, the next one tries.
    """

    def __init__(self) -> None:
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
        until = time.monotonic() + MAX_WAIT_S
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
            wait_for(made, max(0.0, until - time.monotonic()), cancel)
            if not made.is_set():
                raise AsideError("busy", "another one makes it")
        return known
