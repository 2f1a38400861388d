"""The real server with two workers on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..postgres import Postgres
from ..servers import KEEP_CONNECTIONS, Server, create_key, iter_events, parse_events, write_config
from ..waiting import wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    return postgres.create_database(migrated=False)


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI, url: str) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url, agent="titles = false")
    environ = {**KEEP_CONNECTIONS, "ASTRBOT_DATABASE_URL": url, "ASTRBOT_WORKER_LEASE_S": "60"}
    with Server(module_dir, **environ) as running:
        yield running


@pytest.fixture(scope="module")
def key(server: Server, module_dir: Path, url: str) -> str:
    # After the server's own upgrade: of two upgrades at once, one waits.
    return create_key(module_dir, "chat", "im", database_url=url)


def _rows(url: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url) as connection:
        return connection.execute(sql, values).fetchall()  # type: ignore[arg-type]


def test_no_sqlite_file_is_created(server: Server, key: str) -> None:
    assert server.request("GET", "/api/v1/im/bots", key).status == 200
    assert not (server.data_dir / "astrbot.db").exists()


def test_turns_of_one_session_keep_their_order_while_two_workers_contend(
    server: Server, key: str, url: str
) -> None:
    turns = 16
    connections = server.connect_to_each_worker(key, turns)
    together = threading.Barrier(turns, timeout=30)

    def chat(number: int) -> str:
        together.wait()
        body = {"username": "a", "session_id": "order", "message": f"ECHO {number}."}
        connections[number].request(
            "POST", "/api/v1/chat", orjson.dumps(body),
            {"X-API-Key": key, "Content-Type": "application/json"},
        )  # fmt: skip
        events = parse_events(connections[number].getresponse().read())
        connections[number].close()
        assert events[-1]["type"] == "end", events[-2:]
        return str(events[-3]["data"])

    with ThreadPoolExecutor(turns) as pool:
        answers = list(pool.map(chat, range(turns)))
    assert answers == [f"echo: ECHO {number}." for number in range(turns)]
    ran = _rows(url, "SELECT worker_id, started_at, finished_at FROM run ORDER BY id")
    assert len({worker for worker, _, _ in ran}) == 2
    for (_, _, ended), (_, started, _) in pairwise(ran):
        assert ended <= started, "two turns of a session ran at once"
    rows = _rows(url, "SELECT sender_id, content FROM message ORDER BY id")
    said = [(sender, orjson.loads(text)["message"][0]["text"]) for sender, text in rows]
    users = [text for sender, text in said if sender == "a"]
    assert sorted(users) == sorted(f"ECHO {number}." for number in range(turns))
    assert [text for sender, text in said if sender == "bot"] == [f"echo: {one}" for one in users]


def test_a_turn_survives_a_restart_of_the_database(
    server: Server, key: str, url: str, postgres: Postgres
) -> None:
    body = {"username": "a", "session_id": "restart", "message": "DELAY=100 N=12 x"}
    stream = iter_events(server.open_chat(key, body))
    while next(stream)["type"] != "plain":
        pass
    postgres.kill()
    refused = server.request("GET", "/api/v1/im/bots", key)
    assert refused.status == 503
    assert orjson.loads(refused.data)["code"] == "storage_error"
    postgres.start()
    events = list(stream)
    assert events[-1]["type"] == "end"

    def stored() -> bool:
        rows = _rows(url, "SELECT content FROM message WHERE sender_id = 'bot' ORDER BY id")
        return "tok11" in rows[-1][0]

    assert wait_for(stored)
    assert wait_for(lambda: server.request("GET", "/api/v1/im/bots", key).status == 200)
    again = server.chat(key, username="a", session_id="restart", message="ECHO on")
    assert again[-3]["data"] == "echo: ECHO on"


def test_a_worker_that_dies_during_an_outage_does_not_stop_the_server(
    server: Server, key: str, postgres: Postgres
) -> None:
    assert server.request("GET", "/api/v1/im/bots", key).status == 200
    postgres.kill()
    os.kill(server.list_workers()[0], signal.SIGKILL)
    wait_for(lambda: "cannot start yet" in server.read_log())
    postgres.start()
    server.http.clear()  # the connections of the dead worker
    wait_for(lambda: server.request("GET", "/api/v1/im/bots", key).status == 200)
    assert server.process.poll() is None
