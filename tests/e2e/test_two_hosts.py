"""Two servers share all state through PostgreSQL, S3 and optionally Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from astrbot_api.chat.pushes import Board
from astrbot_api.config.settings import Settings
from astrbot_api.db import keys
from astrbot_api.db.messages import add_message
from astrbot_api.db.sessions import WEBCHAT, find_session
from astrbot_api.db.store import open_store
from astrbot_api.runlog.opening import open_signals
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..postgres import Postgres
from ..redis_server import RedisServer
from ..servers import Server, create_key_row, iter_events, shown_text, write_config
from ..waiting import wait_for

pytestmark = pytest.mark.e2e


@dataclass
class World:
    """Two servers. ``redis`` is set if Redis carries their events."""

    one: Server
    other: Server
    url: str
    key: str
    redis: RedisServer | None


@pytest.fixture(scope="module", params=["postgres", "redis"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    fake_model: FakeOpenAI,
    postgres: Postgres,
    s3_environ: dict[str, str],
) -> Iterator[World]:
    url = postgres.create_database(migrated=False)
    environ = {
        **s3_environ,
        "ASTRBOT_STORAGE_URL": f"s3://attachments/{uuid.uuid4().hex}",
        "ASTRBOT_DATABASE_URL": url,
        "ASTRBOT_WORKER_LEASE_S": "3",
    }
    redis: RedisServer | None = None
    if request.param == "redis":
        redis = request.getfixturevalue("redis_server")
        environ |= {"ASTRBOT_REDIS_URL": redis.url, "ASTRBOT_REDIS_PREFIX": "two-hosts"}
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
    for folder in folders:
        write_config(folder, fake_model.base_url, agent="titles = false")
    # Both start at the same time, and one of them migrates.
    with (
        Server(folders[0], workers=1, **environ) as one,
        Server(folders[1], workers=1, **environ) as other,
    ):
        row = create_key_row(folders[0], "chat", "file", "im", database_url=url)
        yield World(one, other, url, row["api_key"], redis)


def _begin(server: Server, key: str, session: str, message: str) -> tuple[str, Iterator[Any]]:
    """Start a turn, and return its run's id and its open stream."""
    body = {"username": "a", "session_id": session, "message": message}
    stream = iter_events(server.open_chat(key, body))
    for event in stream:
        if event["type"] == "run_started":
            return event["data"]["run_id"], stream
    raise AssertionError("the stream has no run_started")


def test_a_key_works_on_both_hosts_until_it_is_revoked(world: World, tmp_path: Path) -> None:
    row = create_key_row(tmp_path, "im", database_url=world.url)
    for server in (world.one, world.other):
        assert server.request("GET", "/api/v1/im/bots", row["api_key"]).status == 200
    store = open_store(Settings(data_dir=tmp_path, database_url=world.url))
    store.write(lambda db: keys.revoke_key(db, row["key_id"]))
    store.close()
    for server in (world.one, world.other):
        assert server.request("GET", "/api/v1/im/bots", row["api_key"]).status == 401


def test_the_other_host_streams_a_run_while_it_runs(world: World) -> None:
    run_id, stream = _begin(world.one, world.key, "resumed", "DELAY=40 N=25 x")
    opened = world.other.request(
        "GET", f"/api/v1/chat/runs/{run_id}/stream", world.key, preload_content=False
    )
    assert opened.status == 200
    there = list(iter_events(opened))
    here = list(stream)
    assert [one["type"] for one in there[:3]] == [
        "session_id", "user_message_saved", "run_started",
    ]  # fmt: skip
    assert there[3:] == here
    assert here[-1]["type"] == "end"


def test_the_other_host_stops_a_run(world: World) -> None:
    run_id, stream = _begin(world.one, world.key, "stopped", "DELAY=100 N=600 x")
    answer = world.other.request("POST", f"/api/v1/chat/runs/{run_id}/stop", world.key)
    assert answer.status == 200, answer.data
    assert list(stream)[-1]["type"] == "end"
    told = world.other.request("GET", f"/api/v1/chat/runs/{run_id}", world.key)
    assert orjson.loads(told.data)["data"]["status"] == "stopped"


def test_an_upload_can_be_downloaded_from_the_other_host(world: World) -> None:
    answer = world.one.request(
        "POST", "/api/v1/file", world.key, fields={"file": ("a.txt", b"one world")}
    )
    assert answer.status == 200, answer.data
    attachment_id = orjson.loads(answer.data)["data"]["attachment_id"]
    had = world.other.request("GET", f"/api/v1/file?attachment_id={attachment_id}", world.key)
    assert had.data == b"one world"


def test_turns_of_one_session_wait_for_each_other_across_hosts(world: World) -> None:
    _, first = _begin(world.one, world.key, "order", "DELAY=50 N=10 first")
    second = world.other.chat(world.key, username="a", session_id="order", message="ECHO second")
    assert second[-3]["data"] == "echo: ECHO second"
    assert list(first)[-1]["type"] == "end"
    shown = world.other.request(
        "GET", "/api/v1/chat/sessions/order/messages?username=a&order=asc", world.key
    )
    messages = orjson.loads(shown.data)["data"]["messages"]
    assert [one["content"]["message"][0]["text"][:4] for one in messages] == [
        "DELA", "ECHO", "tok0", "echo",
    ]  # fmt: skip


def test_a_push_reaches_the_streams_of_every_host(world: World, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, database_url=world.url, redis_prefix="two-hosts",
        redis_url=world.redis.url if world.redis else "",
    )  # fmt: skip
    store, signals = open_store(settings), open_signals(settings)
    run_id, stream = _begin(world.one, world.key, "pushed", "DELAY=100 N=600 x")
    opened = world.other.request(
        "GET", f"/api/v1/chat/runs/{run_id}/stream", world.key, preload_content=False
    )
    there = iter_events(opened)
    assert next(there)["type"] == "session_id"

    def push(db: Any) -> int:
        session = find_session(db, "pushed")
        assert session is not None
        content = {"type": "bot", "message": [{"type": "plain", "text": "news"}]}
        add_message(db, session.id, WEBCHAT, "bot", content, None, pushed=True)
        return session.id

    Board(store, signals).announce(store.write(push))
    for shown in (stream, there):
        assert next(one for one in shown if one.get("data") == "news")["type"] == "plain"
    world.one.request("POST", f"/api/v1/chat/runs/{run_id}/stop", world.key)
    for shown in (stream, there):
        assert list(shown)[-1]["type"] == "end"
    signals.close()
    store.close()


@pytest.mark.parametrize("world", ["redis"], indirect=True)
def test_a_run_survives_an_outage_of_redis(world: World) -> None:
    assert world.redis is not None
    run_id, stream = _begin(world.one, world.key, "outage", "DELAY=100 N=30 x")
    world.redis.kill()
    while "tok5" not in (event := next(stream)).get("data", ""):
        assert event["type"] == "plain", event
    wait_for(lambda: "Redis" in world.one.read_log())
    world.redis.start()
    assert list(stream)[-1]["type"] == "end"
    again = world.other.request("GET", f"/api/v1/chat/runs/{run_id}/stream", world.key)
    assert again.data.count(b"tok29") >= 1
    assert again.data.rstrip().split(b"\n")[-2].find(b'"end"') > 0


@pytest.mark.parametrize("world", ["redis"], indirect=True)
def test_a_stream_on_the_other_host_goes_on_after_redis_was_emptied(world: World) -> None:
    assert world.redis is not None
    run_id, stream = _begin(world.one, world.key, "emptied", "DELAY=100 N=30 x")
    while "tok9" not in next(stream).get("data", ""):
        pass
    client = redis.Redis.from_url(world.redis.url)
    client.flushall()
    client.close()
    opened = world.other.request(
        "GET", f"/api/v1/chat/runs/{run_id}/stream", world.key, preload_content=False
    )
    there, here = list(iter_events(opened)), list(stream)
    assert there[-len(here) :] == here
    assert [one["type"] for one in here[-1:]] == ["end"]
    assert shown_text(there) == there[-3]["data"]
