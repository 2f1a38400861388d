"""Requests per minute, counted for all workers together.

A sliding window over two counted minutes: the previous minute is weighted by
its share of the last 60 seconds. The database (the default) needs one short
write per limited request. ``memory://`` is for a single worker, ``redis://``
for several hosts.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any

from ..config.settings import Settings
from ..db.rate_counts import count_request
from ..db.store import Store
from ..runtime.redis_client import open_redis

log = logging.getLogger(__name__)

_WINDOW_S = 60

#: Timeout of each reply of Redis, in seconds.
_REDIS_LIMIT_S = 2.0

#: Seconds between two requests that ask a failing Redis.
_ASK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class RateState:
    """The state of a rate limit.

    :param remaining: How many more requests are allowed now.
    :param wait_s: Seconds until the next request is allowed, or 0.
    """

    allowed: bool
    limit: int
    remaining: int
    wait_s: int

    def to_headers(self) -> dict[str, str]:
        """Return the response headers.

        Source: draft-ietf-httpapi-ratelimit-headers-07, in the form with one
        header per value, which clients read.
        """
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.wait_s or _WINDOW_S),
        }


def open_rate_limiter(settings: Settings, store: Store) -> RateLimiter:
    """Return the limiter of the settings: Redis if configured, else the database."""
    url = settings.limits_url or settings.redis_url
    setting = "ASTRBOT_LIMITS_URL" if settings.limits_url else "ASTRBOT_REDIS_URL"
    return (
        _LibraryLimiter(store, url, setting, settings.redis_prefix) if url else RateLimiter(store)
    )


class RateLimiter:
    """Counts the requests of each subject, in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, subject: str, limit: int) -> RateState:
        """Count a request if the limit allows it, and return the state."""
        allowed, used, wait_s = self._store.write(
            lambda db: count_request(db, subject, limit, time.time())
        )
        return RateState(allowed, limit, max(0, math.floor(limit - used)), math.ceil(wait_s))


class _LibraryLimiter(RateLimiter):
    """A limiter of the library ``limits``. While Redis fails, the database counts.

    :param url: ``memory://``, or a URL of :func:`~..runtime.redis_client.open_redis`.
    :param setting: The variable with the URL, for errors.
    :param prefix: The prefix of every key in Redis.
    """

    def __init__(self, store: Store, url: str, setting: str, prefix: str) -> None:
        from limits import storage, strategies

        super().__init__(store)
        options: dict[str, Any] = {}
        if not url.startswith("memory://"):
            client = open_redis(url, setting=setting, timeout_s=_REDIS_LIMIT_S)
            options = {
                "key_prefix": f"{prefix}:limits", "wrap_exceptions": True,
                "connection_pool": client.connection_pool,
            }  # fmt: skip
            url = "redis://"  # only chooses the class: the pool knows the address
        self._limiter = strategies.SlidingWindowCounterRateLimiter(
            storage.storage_from_string(url, **options)
        )
        #: When to ask Redis again after a failure, or 0.
        self._ask_from = 0.0

    def take(self, subject: str, limit: int) -> RateState:
        from limits.errors import StorageError

        if time.monotonic() >= self._ask_from:
            if self._ask_from:
                # Only this request waits for a server that may not answer.
                self._ask_from = time.monotonic() + _ASK_EVERY_S
            try:
                state = self._take(subject, limit)
            except StorageError as error:
                log.error("Redis: %s; requests per minute are counted in the database", error)
                self._ask_from = time.monotonic() + _ASK_EVERY_S
            else:
                self._ask_from = 0.0
                return state
        return super().take(subject, limit)

    def _take(self, subject: str, limit: int) -> RateState:
        from limits import RateLimitItemPerMinute

        item = RateLimitItemPerMinute(limit)
        allowed = self._limiter.hit(item, subject)
        stats = self._limiter.get_window_stats(item, subject)
        wait_s = 0 if allowed else max(1, math.ceil(stats.reset_time - time.time()))
        return RateState(allowed, limit, stats.remaining, wait_s)
