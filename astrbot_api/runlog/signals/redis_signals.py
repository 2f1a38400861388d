"""Signals over Redis: publish and subscribe."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from ...runtime.redis_client import open_redis
from .remote_signals import RemoteSignals

#: Maximum seconds of one wait, so that the thread notices a shutdown.
_WAIT_S = 0.5

#: Seconds between two checks whether the server is still the primary.
_CHECK_EVERY_S = 5.0


def make_redis_signals(url: str, prefix: str) -> RemoteSignals:
    """Return signals between all processes with the same Redis and prefix."""
    open_redis(url).close()  # reports a wrong URL at once
    return RemoteSignals(lambda: _RedisTransport(url, f"{prefix}:signals"), "Redis")


class _RedisTransport:
    """One client, for one thread."""

    def __init__(self, url: str, channel: str) -> None:
        self._client: Any = open_redis(url, on_disconnect=self._note_disconnect)
        self._channel = channel
        self._checked_at, self._disconnected = 0.0, False

    def send(self, texts: Sequence[str]) -> None:
        self._check_primary(self._client)
        pipeline = self._client.pipeline(transaction=False)
        for text in texts:
            pipeline.publish(self._channel, text)
        pipeline.execute()

    def listen(self, closed: threading.Event) -> Iterator[str | None]:
        """Listen until ``closed`` is set, or until the server becomes a replica.

        The writing connection is the older one. If it were the newer one, it might have the new
        primary and never notice that the listening one has the former.
        """
        with (
            self._client.client() as writer,
            self._client.pubsub(ignore_subscribe_messages=True) as channel,
        ):
            channel.subscribe(self._channel)
            self._disconnected = False
            while not closed.is_set() and not self._disconnected:
                self._check_primary(writer)
                heard = channel.get_message(timeout=_WAIT_S)
                yield heard and heard["data"].decode(errors="replace")

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()

    def _check_primary(self, client: Any) -> None:
        """Write a key from time to time, because only writes detect a former primary.

        It accepts PUBLISH, but only its own listeners get the signal.
        """
        from redis.exceptions import ResponseError

        if time.monotonic() < self._checked_at + _CHECK_EVERY_S:
            return
        self._checked_at = time.monotonic()
        # With a full memory, for example, signals still work.
        with suppress(ResponseError):
            client.set(f"{self._channel}:checked", 1, ex=60)

    def _note_disconnect(self) -> None:
        self._disconnected = True
