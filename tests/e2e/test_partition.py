"""A host loses PostgreSQL without any error: its packets are dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from ..black_hole import BlackHole
from ..postgres import Postgres
from ..servers import Server, add_config, create_key, iter_events, parse_events, shown_text
from ..steps_app import CONFIG, expected_text
from ..waiting import wait_for

pytestmark = pytest.mark.e2e

_APP = "tests.e2e.hasty_app:create_hasty_app()"

_ENVIRON = {"ASTRBOT_WORKER_LEASE_S": "2", "ASTRBOT_DATABASE_TIMEOUT_S": "1"}


def lead_through(way: BlackHole, url: str) -> str:
    """Return the address of a database behind a black hole."""
    return f"postgresql://test@127.0.0.1:{way.port}/{url.partition('?')[0].rpartition('/')[2]}"


def chat_until_cut(
    cut: Server, way: BlackHole, gate: Path, key: str, steps: int
) -> tuple[list[dict[str, Any]], str, int]:
    """Cut a host off in the second step of a turn.

    :returns: The events of its stream, the run's id, and the event after which it is resumed.
    """
    body = {"username": "a", "session_id": "s", "message": f"STEPS={steps}"}
    stream, seen = iter_events(cut.open_chat(key, body)), list[dict[str, Any]]()
    while not seen or "thinking of step 2" not in str(seen[-1].get("data")):
        seen.append(next(stream))
    way.cut()
    gate.touch()
    seen += stream
    assert "error" not in [one["type"] for one in seen]
    run_id = next(one["data"]["run_id"] for one in seen if one["type"] == "run_started")
    # Text that the other host does not know is taken back.
    return seen, run_id, seen[-1]["data"]["to"] if seen[-1]["type"] == "rewind" else len(seen)


@pytest.mark.parametrize("steps", [2, 4], ids=["in its last step", "before more calls"])
def test_a_host_without_its_database_calls_no_tool_and_another_host_continues(
    tmp_path: Path, postgres: Postgres, steps: int
) -> None:
    url, calls, gate = postgres.create_database(), tmp_path / "calls", tmp_path / "gate"
    folders = [tmp_path / "cut", tmp_path / "whole"]
    for folder in folders:
        folder.mkdir()
        add_config(folder, CONFIG)
    key = create_key(tmp_path, "chat", database_url=url)
    environ = {**_ENVIRON, "ASTRBOT_TEST_CALLS": str(calls)}
    with (
        BlackHole(f"{postgres.folder}/.s.PGSQL.5432") as way,
        Server(
            folders[0], workers=1, app=_APP, **environ,
            ASTRBOT_DATABASE_URL=lead_through(way, url), ASTRBOT_TEST_GATE=str(gate),
        ) as cut,
        Server(folders[1], workers=1, app=_APP, **environ, ASTRBOT_DATABASE_URL=url) as whole,
    ):  # fmt: skip
        assert whole.request("GET", "/readyz").status == 200
        seen, run_id, after = chat_until_cut(cut, way, gate, key, steps)
        path = f"/api/v1/chat/runs/{run_id}/stream?after={after}"
        events = parse_events(whole.request("GET", path, key).data)
        assert events[-1]["type"] == "end"
        assert shown_text(seen + events) == expected_text(steps)
        way.heal()
        wait_for(lambda: cut.request("GET", "/readyz").status == 200)
        path = "/api/v1/chat/sessions/s/messages?username=a"
        shown = orjson.loads(cut.request("GET", path, key).data)["data"]["messages"]
        assert len(shown) == 2
    assert calls.read_text().split() == [f"{run_id}:charge{step}" for step in range(1, steps)]


def test_an_outage_does_not_count_as_the_death_of_a_worker(
    tmp_path: Path, postgres: Postgres
) -> None:
    url, calls, gate = postgres.create_database(), tmp_path / "calls", tmp_path / "gate"
    add_config(tmp_path, CONFIG)
    key = create_key(tmp_path, "chat", database_url=url)
    with (
        BlackHole(f"{postgres.folder}/.s.PGSQL.5432") as way,
        Server(
            tmp_path, workers=1, app=_APP, **_ENVIRON, ASTRBOT_MAX_PICKUPS="0",
            ASTRBOT_TEST_CALLS=str(calls), ASTRBOT_DATABASE_URL=lead_through(way, url),
            ASTRBOT_TEST_GATE=str(gate),
        ) as server,
    ):  # fmt: skip
        seen, run_id, after = chat_until_cut(server, way, gate, key, 3)
        way.heal()
        wait_for(lambda: server.request("GET", "/readyz").status == 200)
        path = f"/api/v1/chat/runs/{run_id}/stream?after={after}"
        events = parse_events(server.request("GET", path, key).data)
        assert [one["type"] for one in events[-3:]] == ["complete", "message_saved", "end"]
        assert shown_text(seen + events) == expected_text(3)
    assert len(calls.read_text().split()) == 2
