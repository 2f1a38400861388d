"""Runs that wait for approval survive their workers and cost almost nothing."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..clock import Clock
from ..postgres import Postgres
from ..redis_server import RedisServer
from ..servers import KEEP_CONNECTIONS, Server, create_key, parse_events, write_config
from ..waiting import wait_for
from .paying_app import LEDGER

pytestmark = pytest.mark.e2e

_APP = "tests.e2e.paying_app:create_paying_app()"

_LATER_S = 3700

#: Number of runs that wait at the same time.
_MANY = 500


@dataclass
class World:
    """Two workers: of one server with SQLite, or of two hosts with PostgreSQL and Redis."""

    servers: list[Server]
    key: str
    clock: Clock
    ledger: Path

    @property
    def first(self) -> Server:
        """The server that starts the turn."""
        return self.servers[0]

    @property
    def last(self) -> Server:
        """The server that gets the decision."""
        return self.servers[-1]

    def list_workers(self) -> set[int]:
        return {process for server in self.servers for process in server.list_workers()}

    def kill_workers(self) -> None:
        """Kill both workers and wait until gunicorn has started two others."""
        dead = self.list_workers()
        assert len(dead) == 2
        for process in dead:
            os.kill(process, signal.SIGKILL)
        wait_for(lambda: len(self.list_workers() - dead) == 2)

    def list_payments(self) -> list[int]:
        if not self.ledger.exists():
            return []
        return [int(line) for line in self.ledger.read_text().split()]


@pytest.fixture(params=["sqlite", "two hosts"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, fake_model: FakeOpenAI
) -> Iterator[World]:
    clock, ledger = Clock(tmp_path / "clock"), tmp_path / "ledger"
    environ = {**clock.environ, **KEEP_CONNECTIONS, LEDGER: str(ledger)}
    environ["ASTRBOT_WORKER_LEASE_S"] = "2"
    url, hosts = "", 1
    if request.param == "two hosts":
        postgres: Postgres = request.getfixturevalue("postgres")
        redis: RedisServer = request.getfixturevalue("redis_server")
        url, hosts = postgres.create_database(migrated=False), 2
        environ |= {"ASTRBOT_DATABASE_URL": url, "ASTRBOT_REDIS_URL": redis.url,
                    "ASTRBOT_REDIS_PREFIX": "approvals"}  # fmt: skip
    with ExitStack() as stack:
        servers = []
        for host in range(hosts):
            folder = tmp_path / f"host{host}"
            folder.mkdir()
            write_config(folder, fake_model.base_url, agent="titles = false")
            server = Server(folder, workers=2 // hosts, app=_APP, **environ)
            servers.append(stack.enter_context(server))
        key = create_key(tmp_path / "host0", "chat", database_url=url)
        yield World(servers, key, clock, ledger)


def begin(server: Server, key: str, amount: int, **body: Any) -> tuple[str, str, int]:
    """Start a turn that waits. Return its run, its approval and the number of its last event."""
    message = f'TOOL=pay TOOLARGS={{"amount":{amount}}}'
    events = server.chat(key, message=message, **body)
    assert events[-1]["type"] == "approval_required", events
    assert events[-1]["data"]["arguments"] == {"amount": amount}
    return events[-1]["message_id"], events[-1]["data"]["id"], len(events)


def describe(server: Server, key: str, run_id: str) -> dict[str, Any]:
    answer = server.request("GET", f"/api/v1/chat/runs/{run_id}", key)
    assert answer.status == 200, answer.data
    data = orjson.loads(answer.data)["data"]
    assert isinstance(data, dict)
    return data


def approve(server: Server, key: str, run_id: str, approval: str) -> None:
    path = f"/api/v1/chat/runs/{run_id}/approvals/{approval}"
    answer = server.request("POST", path, key, json={"decision": "approve"})
    assert answer.status == 200, answer.data


def resume(server: Server, key: str, run_id: str, after: int) -> list[dict[str, Any]]:
    answer = server.request("GET", f"/api/v1/chat/runs/{run_id}/stream?after={after}", key)
    assert answer.status == 200, answer.data
    return parse_events(answer.data)


def test_an_approved_call_is_made_once_after_an_hour_and_two_dead_workers(world: World) -> None:
    run_id, approval, seen = begin(world.first, world.key, 5)
    wait_for(lambda: describe(world.first, world.key, run_id)["status"] == "waiting")
    world.kill_workers()
    world.clock.set_s(_LATER_S)
    waits = describe(world.last, world.key, run_id)
    assert (waits["status"], waits["approvals"][0]["status"]) == ("waiting", "pending")
    assert not world.list_payments()
    approve(world.last, world.key, run_id, approval)
    rest = resume(world.first, world.key, run_id, seen)
    assert [one["type"] for one in rest[-4:]] == ["agent_stats", "complete", "message_saved", "end"]
    assert rest[-3]["data"] == "tool said: paid 5"
    assert describe(world.first, world.key, run_id)["status"] == "completed"
    assert world.list_payments() == [5]


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
def test_another_worker_accepts_the_approval_of_a_response(world: World) -> None:
    asking, answering = world.first.connect_to_each_worker(world.key)

    def post(connection: http.client.HTTPConnection, **body: Any) -> dict[str, Any]:
        tool = {"type": "mcp", "server_label": "astrbot", "require_approval": "always"}
        body |= {"model": "default", "tools": [tool]}
        connection.request(
            "POST", "/api/v1/openai/responses", orjson.dumps(body),
            {"X-API-Key": world.key, "Content-Type": "application/json"},
        )  # fmt: skip
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return cast("dict[str, Any]", orjson.loads(data))

    first = post(asking, input='TOOL=pay TOOLARGS={"amount":5}')
    question = first["output"][-1]
    assert (question["type"], question["name"]) == ("mcp_approval_request", "pay")
    yes = {"type": "mcp_approval_response", "approve": True, "approval_request_id": question["id"]}
    second = post(answering, input=[yes], previous_response_id=first["id"])
    assert second["output"][-1]["content"][0]["text"] == "tool said: paid 5"
    # A repetition at the first worker returns the same response and pays nothing.
    again = post(asking, input=[yes], previous_response_id=first["id"])
    asking.close()
    answering.close()
    assert again["id"] == second["id"]
    assert world.list_payments() == [5]


@pytest.mark.load
@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
def test_five_hundred_runs_wait_without_threads_and_continue_together(world: World) -> None:
    server, key = world.first, world.key
    with ThreadPoolExecutor(25) as pool:

        def each(work: Callable[[int], Any]) -> list[Any]:
            return list(pool.map(work, range(_MANY)))

        asked = each(lambda number: begin(server, key, number, username=f"u{number}"))
        figures = wait_for(lambda: read_idle(server))
        assert "astrbot_streams_open 0.0" in figures
        each(lambda number: approve(server, key, *asked[number][:2]))
        ends = each(lambda number: resume(server, key, asked[number][0], asked[number][2]))
    assert [one[-3].get("data") for one in ends] == [
        f"tool said: paid {number}" for number in range(_MANY)
    ]
    assert sorted(world.list_payments()) == list(range(_MANY))


def read_idle(server: Server) -> str:
    """Return the server's metrics once it has no active turn, otherwise an empty text."""
    figures: str = server.request("GET", "/metrics").data.decode()
    active = [line for line in figures.split("\n") if line.startswith("astrbot_runs_active{")]
    return figures if active and all(line.endswith(" 0.0") for line in active) else ""
