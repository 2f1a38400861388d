"""Pauses before retries."""

from __future__ import annotations

import random
import time

import anyio

sleep = time.sleep


async def async_sleep(seconds: float) -> None:
    """Sleep under asyncio or trio."""
    await anyio.sleep(seconds)


class Backoff:
    """Exponential backoff, limited by the time since the first failure.

    The first retry is immediate.
    """

    _FIRST_S = 0.2
    _MOST_S = 10.0

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since = 0.0
        self.reset()

    def reset(self) -> None:
        """Record progress."""
        self.failures = 0

    def next_wait_s(self, at_least_s: float = 0.0) -> float | None:
        """Return the seconds to wait before the next retry, or None if the limit is reached."""
        # Not since the last progress: a tool can be silent for minutes, and a laptop can sleep.
        now = time.monotonic()
        if not self.failures:
            self._since = now
        self.failures += 1
        wait_s = 0.0
        if self.failures > 1:
            wait_s = min(self._MOST_S, self._FIRST_S * 2 ** min(self.failures - 2, 10))
            wait_s *= random.uniform(0.7, 1.3)
        wait_s = max(wait_s, at_least_s)
        return None if now - self._since + wait_s >= self._limit_s else wait_s
