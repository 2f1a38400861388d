"""A former primary of Redis is left at once, although its connections stay open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from astrbot_api import events
from astrbot_api.config.settings import Settings
from astrbot_api.keys import rates
from astrbot_api.runlog.journal import Piece
from astrbot_api.runlog.opening import open_journal, open_signals
from astrbot_api.runlog.signals import redis_signals

from ..redis_server import RedisServer, start_redis
from ..waiting import wait_for


class Pair:
    """Two servers and the address of the primary: a link to one of their sockets."""

    def __init__(self, folder: Path) -> None:
        self.servers = [start_redis(), start_redis()]
        self._link = folder / "primary.sock"
        self._point_to(self.servers[0])
        self.settings = Settings(data_dir=folder, redis_url=f"unix://{self._link}")

    def fail_over(self) -> None:
        """Make the first server a replica, and move the address to the second one."""
        self._point_to(self.servers[1])
        with redis.Redis.from_url(self.servers[0].url) as client:
            client.replicaof("127.0.0.1", "1")

    def _point_to(self, server: RedisServer) -> None:
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(server.folder / "redis.sock")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    for server in made.servers:
        server.close()


def test_events_are_written_to_the_new_primary(pair: Pair) -> None:
    journal = open_journal(pair.settings)
    event = events.end("r")
    assert not journal.append([Piece(1, 1, [b"{}"], ended=False)])
    pair.fail_over()
    assert not journal.append([Piece(2, 1, [b"{}"], ended=False)])
    assert journal.end_run(2, [event])
    assert journal.read_after(2, 0).closed
    journal.close()


@pytest.mark.parametrize("connecting", [False, True])
def test_signals_pass_over_the_new_primary(
    connecting: bool, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the address moves while a listener connects."""
    monkeypatch.setattr(redis_signals, "_CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(redis_signals, "_WAIT_S", 0.01)
    subscribe, fail_over = redis.client.PubSub.subscribe, iter([pair.fail_over])

    def subscribe_and_fail_over(*args: Any) -> None:
        subscribe(*args)
        next(fail_over, lambda: None)()

    speaker, listener = open_signals(pair.settings), open_signals(pair.settings)
    heard: list[str] = []
    listener.subscribe("events", heard.append)
    if connecting:
        monkeypatch.setattr(redis.client.PubSub, "subscribe", subscribe_and_fail_over)
    listener.start()

    def is_heard(payload: str) -> bool:
        speaker.publish("events", payload)
        return payload in heard

    if not connecting:
        wait_for(lambda: is_heard("before"))
        pair.fail_over()
    with redis.Redis.from_url(pair.servers[1].url) as client:
        wait_for(lambda: is_heard("after") and client.pubsub_numsub("astrbot:signals")[0][1] == 2)
    for one in (speaker, listener):
        one.close()


def test_requests_are_counted_by_the_new_primary(pair: Pair) -> None:
    limiter = rates.open_rate_limiter(pair.settings, store=None)  # type: ignore[arg-type]
    assert limiter.take("a", 2).remaining == 1
    pair.fail_over()
    assert limiter.take("a", 2).remaining == 1
