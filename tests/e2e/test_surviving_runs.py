"""With two gevent workers, any worker streams a run, and continues it if the other dies."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import (
    ENDED,
    FAILED,
    Server,
    create_key,
    iter_events,
    parse_events,
    shown_text,
    write_config,
)
from ..waiting import wait_for
from .resuming import Cut, chat_with_cuts

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url, agent="titles = false")
    with Server(module_dir, ASTRBOT_WORKER_LEASE_S="2") as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server, module_dir: Path) -> str:
    return create_key(module_dir, "chat")


def run_id_of(events: Iterator[dict[str, Any]]) -> str:
    """Read a stream up to its run's id."""
    for event in events:
        if event["type"] == "run_started":
            return str(event["data"]["run_id"])
    raise AssertionError("the stream has no run_started")


def resume(server: Server, key: str, run_id: str, after: int = 0) -> list[dict[str, Any]]:
    answer = server.request(
        "GET", f"/api/v1/chat/runs/{run_id}/stream?after={after}", key,
        headers={"Connection": "close"},
    )  # fmt: skip
    assert answer.status == 200, answer.data
    return parse_events(answer.data)


@pytest.mark.load
def test_a_stream_cut_at_random_points_equals_the_uninterrupted_one(
    server: Server, key: str
) -> None:
    count, cuts = 100, 10

    def chat(number: int) -> Cut:
        body = {"username": f"u{number}", "message": f"DELAY=20 N=60 run {number}"}
        chance = random.Random(number)
        data = json.dumps(body).encode()
        return chat_with_cuts(server.port, key, data, cuts=cuts, chance=chance)

    with ThreadPoolExecutor(count) as pool:
        cut = list(pool.map(chat, range(count)))
    assert sum(one.cuts for one in cut) > count * cuts // 10  # a slow client has fewer breaks
    for one in cut:
        whole = server.request("GET", f"/api/v1/chat/runs/{one.run_id}/stream", key)
        assert whole.data == b"".join(one.frames)


def test_a_stop_reaches_the_worker_of_the_run(server: Server, key: str) -> None:
    streams = []
    for number in range(4):  # on both workers
        body = {"username": "a", "session_id": f"stop-{number}", "message": "DELAY=50 N=400 x"}
        opened = server.open_chat(key, body)
        events = iter_events(opened)
        streams.append((run_id_of(events), events))
    stops = [
        server.request(
            "POST",
            f"/api/v1/chat/sessions/stop-{number}/stop",
            key,
            json={"username": "a"},
            headers={"Connection": "close"},
        )
        for number in range(4)
    ]
    assert [json.loads(one.data)["data"]["stopped_count"] for one in stops] == [1] * 4
    for _, events in streams:
        last = list(events)[-3:]
        assert [one["type"] for one in last] == ["complete", "message_saved", "end"]
        assert "tok399" not in last[0]["data"]


def stored(data_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the stored messages of every session."""
    with sqlite3.connect(data_dir / "astrbot.db") as db:
        rows = db.execute(
            "SELECT s.session_id, m.content FROM message m"
            " JOIN chat_session s ON s.id = m.session ORDER BY m.id"
        ).fetchall()
    db.close()
    found: dict[str, list[dict[str, Any]]] = {}
    for session_id, content in rows:
        found.setdefault(session_id, []).append(json.loads(content))
    return found


def text_of(message: dict[str, Any]) -> str:
    return "".join(one["text"] for one in message["message"] if one["type"] == "plain")


@pytest.mark.parametrize("workers", [1, 2])
def test_turns_of_a_killed_worker_do_not_wait_for_the_end_of_its_lease(
    tmp_path: Path, fake_model: FakeOpenAI, workers: int
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    key = create_key(tmp_path, "chat")
    with Server(tmp_path, workers=workers, ASTRBOT_WORKER_LEASE_S="86400") as server:
        opened = server.open_chat(key, {"username": "a", "message": "DELAY=100 N=40 x"})
        run_id = run_id_of(iter_events(opened))
        os.kill(server.find_worker(opened), signal.SIGKILL)
        assert [one["type"] for one in resume(server, key, run_id)[-4:]] == ENDED


@pytest.mark.load
def test_the_other_worker_continues_the_turns_of_a_killed_worker(
    tmp_path: Path, fake_model: FakeOpenAI
) -> None:
    count = 30
    message = "DELAY=100 N=60 x"  # every turn must still run when the last one has begun
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, ASTRBOT_WORKER_LEASE_S="2") as server:
        key = create_key(tmp_path, "chat")
        for connection in server.connect_to_each_worker(key):  # both have started
            connection.close()
        seen: dict[int, list[dict[str, Any]]] = {number: [] for number in range(count)}
        ready = threading.Barrier(count + 1)
        connections: dict[int, Any] = {}

        def chat(number: int) -> None:
            body = {"username": "a", "session_id": f"k{number}", "message": message}
            opened = connections[number] = server.open_chat(key, body)
            events = iter_events(opened)
            waiting = True
            try:
                for event in events:
                    seen[number].append(event)
                    if waiting and event["type"] == "plain":
                        waiting = False
                        ready.wait(60)
            except Exception:
                pass  # the connection of the killed worker

        threads = [threading.Thread(target=chat, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        ready.wait(60)
        os.kill(server.find_worker(connections[0]), signal.SIGKILL)
        for thread in threads:
            thread.join(60)
        cut = [number for number in seen if seen[number][-1]["type"] != "end"]
        assert cut, "no run was on the worker that was killed"
        undisturbed = next(seen[number] for number in seen if number not in cut)
        for number in cut:
            # A client continues at the point where its connection broke.
            rest = resume(server, key, seen[number][2]["data"]["run_id"], len(seen[number]))
            whole = [*seen[number], *rest]
            assert [one["type"] for one in whole].count("rewind") == 1
            assert [one["type"] for one in whole[-4:]] == ENDED
            assert shown_text(whole) == shown_text(undisturbed) == whole[-3]["data"]
        messages = stored(tmp_path)
        for number in range(count):
            user, bot = messages[f"k{number}"]
            assert text_of(user) == message
            assert text_of(bot) == shown_text(undisturbed)
            assert "error" not in bot
        figures = server.request("GET", "/metrics").data.decode()
        assert f"astrbot_run_pickups_total {float(len(cut))}" in figures
        assert server.read_log().count("resumes from its beginning") == len(cut)


def test_a_turn_continues_after_the_whole_server_was_killed(
    tmp_path: Path, fake_model: FakeOpenAI
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, ASTRBOT_WORKER_LEASE_S="1") as server:
        key = create_key(tmp_path, "chat")
        opened = server.open_chat(key, {"username": "a", "message": "DELAY=20 N=100 x"})
        events = iter_events(opened)
        run_id = run_id_of(events)
        said = next(events)["data"]
        for process in (*server.list_workers(), server.process.pid):
            os.kill(process, signal.SIGKILL)
        opened.close()
    with Server(tmp_path, ASTRBOT_WORKER_LEASE_S="1") as server:
        whole = resume(server, key, run_id)
        assert whole[3]["data"] == said
        assert [one["type"] for one in whole[-4:]] == ENDED
        run = json.loads(server.request("GET", f"/api/v1/chat/runs/{run_id}", key).data)["data"]
        assert run["status"] == "completed"
        assert text_of(run["result"]) == shown_text(whole) == whole[-3]["data"]


def test_a_turn_that_kills_its_workers_ends(tmp_path: Path, fake_model: FakeOpenAI) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    lasting = {"ASTRBOT_WORKER_LEASE_S": "1", "ASTRBOT_MAX_PICKUPS": "0"}
    with Server(tmp_path, **lasting) as server:
        key = create_key(tmp_path, "chat")
        opened = server.open_chat(key, {"username": "a", "message": "DELAY=50 N=400 x"})
        events = iter_events(opened)
        run_id = run_id_of(events)
        said = next(events)["data"]
        os.kill(server.find_worker(opened), signal.SIGKILL)
        opened.close()
        whole = resume(server, key, run_id)
        assert whole[3]["data"] == said
        assert [one["type"] for one in whole[-4:]] == FAILED
        run = json.loads(server.request("GET", f"/api/v1/chat/runs/{run_id}", key).data)["data"]
        assert run["status"] == "interrupted"
        assert text_of(run["result"]).startswith(said)
        figures = server.request("GET", "/metrics").data.decode()
        assert 'astrbot_runs_total{status="interrupted"} 1.0' in figures


def test_a_client_that_reads_nothing_is_disconnected_and_can_resume(
    tmp_path: Path, fake_model: FakeOpenAI
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, workers=1, ASTRBOT_MAX_STREAM_LAG_S="1") as server:
        key = create_key(tmp_path, "chat")
        # Several megabytes, more than the buffers of both ends.
        opened = server.open_chat(key, {"username": "a", "message": "DELAY=0 N=60000 x"})
        events = iter_events(opened)
        run_id = run_id_of(events)
        wait_for(lambda: "was not read and is closed" in server.read_log())
        opened.close()
        whole = resume(server, key, run_id)
        assert whole[-1]["type"] == "end"
        assert "Traceback" not in server.read_log()


@pytest.mark.parametrize("kind", ["messages", "stream"])
def test_a_key_holds_only_some_long_answers_that_nobody_reads(
    tmp_path: Path, fake_model: FakeOpenAI, kind: str
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, workers=1) as server:
        key = create_key(tmp_path, "chat")
        if kind == "messages":
            for _ in range(3):
                server.chat(key, message="漢" * 600_000, session_id="long")
            path = "/api/v1/chat/sessions/long/messages?username=alice"
        else:
            body = {"model": "default", "input": "ECHO " + "漢" * 600_000}
            made = server.request("POST", "/api/v1/openai/responses", key, json=body).data
            path = f"/api/v1/openai/responses/{json.loads(made)['id']}?stream=true"
        size = len(server.request("GET", path, key).data)
        asked = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode()
        unread = []
        while "was not read and is closed" not in server.read_log():
            unread.append(server.connect())
            unread[-1].sendall(asked)
            assert unread[-1].recv(12) == b"HTTP/1.1 200"
            assert len(unread) < 128 * 2**20 / size * 2
        with suppress(ConnectionResetError):
            assert _read_until(unread[0], size) < size
        assert _read_until(unread[-1], size) >= size
        for one in unread:
            one.close()


def _read_until(connection: socket.socket, enough: int) -> int:
    """Return how many bytes come until there are enough, or the connection ends."""
    size = 0
    while size < enough and (data := connection.recv(2**16)):
        size += len(data)
    return size
