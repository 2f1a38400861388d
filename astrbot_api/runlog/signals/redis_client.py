"""Redis, where ``ASTRBOT_REDIS_URL`` names one."""

from __future__ import annotations

from typing import Any

from ...errors import SettingsError

#: Connections of one worker, most of them; callers wait for one.
_MAX_CONNECTIONS = 20

#: A Redis that does not answer for this long is taken for dead, in seconds.
_TIMEOUT_S = 3.0


def open_redis(url: str, *, timeout_s: float = _TIMEOUT_S) -> Any:
    """Return a client; it connects when it is first used, and again whenever it must.

    :raises SettingsError: when the client is not installed or cannot read the URL.
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
            # A connection may be stale: once more at once, and then the error is raised.
            retry=Retry(NoBackoff(), 1),
        )
    except ValueError as error:
        # Its own words may quote the URL, and with it the password.
        raise SettingsError(
            "ASTRBOT_REDIS_URL must be redis://[:PASSWORD@]HOST[:PORT]/NUMBER, "
            "rediss://… for TLS, or unix:///PATH"
        ) from error
    return redis.Redis(connection_pool=pool)
