"""Signals over Redis: publish and subscribe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from .redis_client import open_redis
from .remote_signals import RemoteSignals

#: Maximum seconds of one wait, so that the thread notices a shutdown.
_WAIT_S = 0.5


def make_redis_signals(url: str, prefix: str) -> RemoteSignals:
    """Return signals between all processes with the same Redis and prefix."""
    open_redis(url).close()  # reports a wrong URL at once
    return RemoteSignals(lambda: _RedisTransport(url, f"{prefix}:signals"), "Redis")


class _RedisTransport:
    """One client, for one thread."""

    def __init__(self, url: str, channel: str) -> None:
        self._client: Any = open_redis(url)
        self._channel = channel

    def send(self, texts: Sequence[str]) -> None:
        """Publish to all listeners."""
        pipeline = self._client.pipeline(transaction=False)
        for text in texts:
            pipeline.publish(self._channel, text)
        pipeline.execute()

    def listen(self, hear: Callable[[str], None], closed: threading.Event) -> None:
        """Listen until ``closed`` is set."""
        with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(self._channel)
            while not closed.is_set():
                heard = channel.get_message(timeout=_WAIT_S)
                if heard is not None:
                    hear(heard["data"].decode(errors="replace"))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._client.connection_pool.disconnect()
