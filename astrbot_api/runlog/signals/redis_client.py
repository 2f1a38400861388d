"""The Redis client for ``ASTRBOT_REDIS_URL``."""

from __future__ import annotations

from typing import Any

from ...errors import SettingsError

#: Maximum number of connections of one worker; callers wait for a free one.
_MAX_CONNECTIONS = 20

#: Timeout of connecting and of each reply, in seconds.
_TIMEOUT_S = 3.0


def open_redis(url: str, *, timeout_s: float = _TIMEOUT_S) -> Any:
    """Return a client that connects on first use and reconnects when needed.

    :raises SettingsError: when the client is not installed or cannot parse the URL.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise SettingsError(
            "ASTRBOT_REDIS_URL is set, but its client is not installed: "
            "pip install 'astrbot-api[redis]'"
        ) from error
    try:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # A pooled connection may be stale: retry once at once, then raise the error. After a
            # timeout, a second attempt would only double the wait.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
    except ValueError as error:
        # The library's message may contain the URL with its password.
        raise SettingsError(
            "ASTRBOT_REDIS_URL must be redis://[:PASSWORD@]HOST[:PORT]/NUMBER, "
            "rediss://… for TLS, or unix:///PATH"
        ) from error
    return redis.Redis(connection_pool=pool)
