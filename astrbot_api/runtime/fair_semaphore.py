"""A semaphore that serves its callers in their order."""

from __future__ import annotations

import threading
from collections import deque


class FairSemaphore:
    """Limits concurrent callers, and serves waiting ones first come, first served.

    With ``threading.Semaphore``, a caller that releases a place can take it again before a waiting
    caller runs. If all others do so, one caller waits until its timeout.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        #: One locked lock per waiting caller. Unlocking it gives that caller a place.
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float) -> bool:
        """Take a place, and return whether one was free within ``timeout`` seconds."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            place = threading.Lock()
            place.acquire()
            self._waiting.append(place)
        try:
            if place.acquire(timeout=timeout):
                return True
        except BaseException:  # the greenlet is killed
            if not self._stop_waiting(place):
                self.release()
            raise
        # Or it was given a place at the last moment.
        return not self._stop_waiting(place)

    @property
    def is_full(self) -> bool:
        """Whether no place is free."""
        return not self._free

    def release(self) -> None:
        """Give the place to the caller that has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _stop_waiting(self, place: threading.Lock) -> bool:
        """Leave the queue, and return False if the caller was given a place."""
        with self._lock:
            if place not in self._waiting:
                return False
            self._waiting.remove(place)
            return True
