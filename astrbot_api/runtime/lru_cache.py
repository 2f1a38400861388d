"""Least-recently-used cache with a limit on the size of its values."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Thread-safe cache. The value that was not used for the longest time is dropped first.

    :param max_size: Maximum of the sizes of all values together, in any unit.
    """

    def __init__(self, max_size: int) -> None:
        #: Size of all values together.
        self.size = 0
        self._max_size = max_size
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def get(self, key: K) -> V | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: K, value: V, size: int = 1) -> V:
        """Add or replace a value, drop the oldest ones beyond the limit, and return the value."""
        with self._lock:
            self._drop(key)
            self._kept[key] = value, size
            self.size += size
            while self.size > self._max_size:
                self._drop(next(iter(self._kept)))
        return value

    def pop(self, key: K) -> V | None:
        """Remove a value and return it, or None if it is not in the cache."""
        with self._lock:
            return self._drop(key)

    def _drop(self, key: K) -> V | None:
        value, size = self._kept.pop(key, (None, 0))
        self.size -= size
        return value
