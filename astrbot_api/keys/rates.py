"""Requests per minute, counted for all workers together.

A sliding window of two counted minutes: what the last one counted weighs as
much as of it still lies within the last 60 seconds. In the database (the
default) one short write a limited request; ``memory://`` is for one worker,
``redis://`` for several hosts.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import peewee

from .. import errors
from ..config.settings import Settings
from ..db.ratecounts import count_request
from ..db.store import Store

log = logging.getLogger(__name__)

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
        """Return the headers for the client.

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


def open_rate_limiter(settings: Settings, store: Store) -> RateLimiter:
    """Return the limiter that the settings name: Redis where there is one, else the database."""
    url = settings.limits_url or settings.redis_url
    return _LibraryLimiter(url, settings.redis_prefix) if url else _DatabaseLimiter(store)


class _DatabaseLimiter:
    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, subject: str, limit: int) -> RateState:
        def job(db: peewee.Database) -> tuple[bool, float, float]:
            return count_request(db, subject, limit, time.time())

        allowed, used, wait_s = self._store.write(job)
        return RateState(allowed, limit, max(0, math.floor(limit - used)), math.ceil(wait_s))


class _LibraryLimiter:
    """The library ``limits``.

    :param url: ``memory://``, ``redis://HOST:PORT`` or what else it takes.
    :param prefix: What every key in Redis begins with.
    """

    def __init__(self, url: str, prefix: str) -> None:
        from limits import storage, strategies

        # Its name of a socket; the journal's client takes the plain one.
        url = url.replace("unix://", "redis+unix://", 1) if url.startswith("unix://") else url
        options: dict[str, Any] = {}
        if not url.startswith("memory://"):
            options = {"key_prefix": f"{prefix}:limits", "wrap_exceptions": True}
        self._limiter = strategies.SlidingWindowCounterRateLimiter(
            storage.storage_from_string(url, **options)
        )

    def take(self, subject: str, limit: int) -> RateState:
        from limits import RateLimitItemPerMinute
        from limits.errors import StorageError

        item = RateLimitItemPerMinute(limit)
        try:
            allowed = self._limiter.hit(item, subject)
            stats = self._limiter.get_window_stats(item, subject)
        except StorageError as error:
            log.error("requests a minute cannot be counted: %s", error)
            raise errors.StorageError(
                "The server could not count this request. Try again later."
            ) from error
        wait_s = 0 if allowed else max(1, math.ceil(stats.reset_time - time.time()))
        return RateState(allowed, limit, stats.remaining, wait_s)
