"""Limits of keys hold with two workers and fifty requests at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.db import keys
from astrbot_api.db.sqlite_store import SqliteStore
from astrbot_api.keys.rules import read_rules
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, write_config

pytestmark = pytest.mark.e2e

AT_ONCE = 50


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url, agent="titles = false")
    with Server(module_dir) as started:
        assert started.request("GET", "/api/v1/configs").status == 401
        yield started


@pytest.fixture
def make_key(server: Server) -> Callable[..., str]:
    def make(**rules: Any) -> str:
        store = SqliteStore(server.data_dir / "astrbot.db")
        text = read_rules(rules).dump()
        _, secret = store.write(
            lambda db: keys.create_key(db, "k", keys.PUBLIC_SCOPES, created_by="test", rules=text)
        )
        store.close()
        return secret

    return make


def at_once(send: Callable[[int], int], count: int = AT_ONCE) -> list[int]:
    """Send this number of requests at once and return their statuses."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(send, range(count)))


def test_workers_share_the_limit_of_requests_per_minute(
    server: Server, make_key: Callable[..., str]
) -> None:
    key = make_key(requests_per_minute=100)
    statuses = at_once(lambda _: server.request("GET", "/api/v1/configs", key).status, 200)
    assert statuses.count(200) == 100
    assert statuses.count(429) == 100


def test_workers_share_the_limit_of_streams(server: Server, make_key: Callable[..., str]) -> None:
    key = make_key(streams=10)

    def send(number: int) -> int:
        # Long enough that all are still running when the last one is sent.
        body = {"message": "N=20 DELAY=100", "username": "alice", "session_id": f"streams{number}"}
        return server.request("POST", "/api/v1/chat", key, json=body).status

    statuses = at_once(send)
    assert statuses.count(200) == 10
    assert statuses.count(429) == AT_ONCE - 10


def test_workers_share_the_limit_of_turns_per_day(
    server: Server, make_key: Callable[..., str]
) -> None:
    key = make_key(turns_per_day=20)

    def send(number: int) -> int:
        body = {"message": "hi", "username": "alice", "session_id": f"turns{number}"}
        return server.request("POST", "/api/v1/chat", key, json=body).status

    statuses = at_once(send)
    assert statuses.count(200) == 20
    assert statuses.count(429) == AT_ONCE - 20


def test_workers_share_the_limit_of_tokens_per_day(
    server: Server, make_key: Callable[..., str]
) -> None:
    spent = _tokens_of_a_turn(server, make_key())
    key = make_key(tokens_per_day=5 * spent)

    def send(number: int) -> int:
        body = {"message": "hi", "username": "alice"}
        return server.request("POST", "/api/v1/chat", key, json=body).status

    # Near its limit, a key has one turn at a time, and the others must retry.
    done = 0
    for _ in range(20):
        done += at_once(send).count(200)
        if done >= 5:
            break
    assert at_once(send).count(200) == 0
    used = server.request("GET", "/api/v1/keys/self", key).json()["data"]["used"]
    assert used["turns"] == done == 5
    assert used["tokens_today"] <= 5 * spent * 1.01


def test_workers_share_the_limit_of_upload_bytes(
    server: Server, make_key: Callable[..., str]
) -> None:
    key = make_key(upload_bytes=10_000)

    def send(number: int) -> int:
        name, data = f"{number}.txt", (b"%06d" % number) * 100 + b"x" * 400
        path = "/api/v1/file"
        return server.request("POST", path, key, fields={"file": (name, data)}).status

    statuses = at_once(send)
    assert statuses.count(200) == 10
    assert statuses.count(413) == AT_ONCE - 10


def test_session_keys_share_the_turns_of_their_key(
    server: Server, make_key: Callable[..., str]
) -> None:
    maker = make_key(turns_per_day=10)

    def send(number: int) -> int:
        user = f"user{number}"
        made = server.request("POST", "/api/v1/keys/session", maker, json={"username": user})
        body = {"message": "hi", "username": user}
        secret = made.json()["data"]["api_key"]
        return server.request("POST", "/api/v1/chat", secret, json=body).status

    statuses = at_once(send)
    assert statuses.count(200) == 10
    assert statuses.count(429) == AT_ONCE - 10


def _tokens_of_a_turn(server: Server, key: str) -> int:
    events = server.chat(key, message="hi", session_id="measured")
    usage = next(one for one in events if one["type"] == "agent_stats")["data"]["token_usage"]
    return sum(usage.values())
