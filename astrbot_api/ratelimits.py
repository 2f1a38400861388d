"""Requests per minute, counted for all workers together.

A sliding window of two counted minutes: what the last one counted weighs as
much as of it still lies within the last 60 seconds. In the database (the
default) one short write a limited request; ``memory://`` is for one worker,
``redis://`` for several hosts.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import peewee

from .db.ratecounts import count_request
from .db.store import Store

_WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class RateState:
    """Where a limit stands.

    :param remaining: How many more requests it takes now.
    :param wait_s: When the next one is taken, in seconds; 0: now.
    """

    allowed: bool
    limit: int
    remaining: int
    wait_s: int

    def to_headers(self) -> dict[str, str]:
        """Return the headers that tell a client.

        Source: draft-ietf-httpapi-ratelimit-headers-07, in its form with one
        header a value, which is what clients read.
        """
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.wait_s or _WINDOW_S),
        }


class RateLimiter(Protocol):
    """Counts requests of subjects."""

    def take(self, subject: str, limit: int) -> RateState:
        """Count a request, unless that is one too many."""
        ...


def open_rate_limiter(url: str, store: Store) -> RateLimiter:
    """Return the limiter that a setting names.

    :param url: Empty: the database; else what the library ``limits`` takes,
        such as ``memory://`` or ``redis://HOST:PORT``.
    """
    return _LibraryLimiter(url) if url else _DatabaseLimiter(store)


class _DatabaseLimiter:
    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, subject: str, limit: int) -> RateState:
        def job(db: peewee.Database) -> tuple[bool, float, float]:
            return count_request(db, subject, limit, time.time())

        allowed, used, wait_s = self._store.write(job)
        return RateState(allowed, limit, max(0, math.floor(limit - used)), math.ceil(wait_s))


class _LibraryLimiter:
    def __init__(self, url: str) -> None:
        from limits import storage, strategies

        options: dict[str, Any] = {}
        self._limiter = strategies.SlidingWindowCounterRateLimiter(
            storage.storage_from_string(url, **options)
        )

    def take(self, subject: str, limit: int) -> RateState:
        from limits import RateLimitItemPerMinute

        item = RateLimitItemPerMinute(limit)
        allowed = self._limiter.hit(item, subject)
        stats = self._limiter.get_window_stats(item, subject)
        wait_s = 0 if allowed else max(1, math.ceil(stats.reset_time - time.time()))
        return RateState(allowed, limit, stats.remaining, wait_s)
