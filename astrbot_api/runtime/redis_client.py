"""The Redis client for ``ASTRBOT_REDIS_URL`` and ``ASTRBOT_LIMITS_URL``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import SettingsError

#: Maximum number of connections of one worker; callers wait for a free one.
_MAX_CONNECTIONS = 20

#: Timeout of connecting and of each reply, in seconds.
_TIMEOUT_S = 3.0


def open_redis(
    url: str,
    *,
    setting: str = "ASTRBOT_REDIS_URL",
    timeout_s: float = _TIMEOUT_S,
    on_disconnect: Callable[[], object] = lambda: None,
) -> Any:
    """Return a client that connects on first use and reconnects when needed.

    :param setting: The variable with the URL, for errors.
    :param on_disconnect: Called when a connection is closed. The client may open another one.
    :raises SettingsError: when the client is not installed, or cannot use the URL.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise SettingsError(
            f"{setting} is set, but its client is not installed: pip install 'astrbot-api[redis]'"
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
        # It does not connect, but checks the URL's options. Otherwise each command would fail.
        pool.connection_class(**pool.connection_kwargs)
    except ValueError as error:
        # The library's message may contain the URL with its password.
        raise SettingsError(
            f"{setting} must be redis://[:PASSWORD@]HOST[:PORT]/NUMBER, "
            "rediss://… for TLS, or unix:///PATH"
        ) from error
    except (TypeError, AttributeError, redis.RedisError) as error:
        raise SettingsError(f"{setting} has an option that its client rejects: {error}") from error
    pool.connection_kwargs["decode_responses"] = False  # the URL's options win above
    pool.connection_class = _follow_primary(pool.connection_class, on_disconnect)
    return redis.Redis(connection_pool=pool)


def _follow_primary(base: Any, on_disconnect: Callable[[], object]) -> Any:
    """Return a class of connections that reconnect when their server has become a replica.

    After a failover, the same name or proxy leads to the new primary. The old one keeps its
    connections open as a replica, and would reject writes for as long as it runs.
    """
    import redis

    class Connection(base):  # type: ignore[misc]
        def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return super().read_response(*args, **options)
            except (redis.ReadOnlyError, redis.exceptions.MasterDownError) as error:
                self.disconnect()
                # The client retries a lost connection once, on a new one.
                raise redis.ConnectionError(str(error)) from error

        def disconnect(self, *args: Any, **options: Any) -> None:
            super().disconnect(*args, **options)
            on_disconnect()

    return Connection
