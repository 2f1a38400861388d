"""Behaviour that must not depend on which of two gevent workers responds."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, create_key, create_key_row, iter_events, run_cli, write_config
from ..waiting import wait_for
from .crowd import chat_at_once

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url, agent="titles = false")
    with Server(module_dir) as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server, module_dir: Path) -> str:
    return create_key(module_dir, "chat", "im")


def _messages(data_dir: Path, session_id: str) -> list[str]:
    with sqlite3.connect(data_dir / "astrbot.db") as db:
        rows = db.execute(
            "SELECT m.sender_id, m.content FROM message m JOIN chat_session s"
            " ON s.id = m.session WHERE s.session_id = ? ORDER BY m.id",
            (session_id,),
        ).fetchall()
    db.close()
    return [f"{sender}: {content}" for sender, content in rows]


def test_every_worker_rejects_a_revoked_key_at_once(server: Server, module_dir: Path) -> None:
    row = create_key_row(module_dir, "im")
    request = (
        f"GET /api/v1/im/bots HTTP/1.1\r\nHost: x\r\nX-API-Key: {row['api_key']}\r\n\r\n"
    ).encode()

    def statuses() -> set[bytes]:
        # Open at the same time, so that both workers have some of them.
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
        for connection in connections:
            connection.sendall(request)
        found = {_read_answer(connection)[9:12] for connection in connections}
        for connection in connections:
            connection.close()
        return found

    assert statuses() == {b"200"}
    run_cli("keys", "revoke", row["key_id"], data_dir=module_dir)
    assert statuses() == {b"401"}


def test_all_workers_have_the_start_time_of_their_server(server: Server, module_dir: Path) -> None:
    headers = {"X-API-Key": create_key_row(module_dir, "plugin")["api_key"]}
    connections = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(12)]
    for connection in connections:
        connection.request("GET", "/api/v1/plugins", headers=headers)
    times = set()
    for connection in connections:
        times.add(json.load(connection.getresponse())["data"][0]["installed_at"])
        connection.close()
    assert len(times) == 1


def _read_answer(connection: socket.socket) -> bytes:
    connection.settimeout(30)
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(b"}"):
        chunk = connection.recv(65536)
        assert chunk, data
        data += chunk
    return data


def test_the_streams_of_a_burst_are_shared_between_the_workers(server: Server, key: str) -> None:
    for connection in server.connect_to_each_worker(key):  # both have started
        connection.close()
    opened: list[Any] = []
    arrived = threading.Barrier(41)

    def chat(number: int) -> None:
        body = {"username": "a", "session_id": f"burst-{number}", "message": "DELAY=50 N=40 x"}
        opened.append(server.open_chat(key, body))
        arrived.wait(60)

    for number in range(40):
        threading.Thread(target=chat, args=(number,), daemon=True).start()
    arrived.wait(60)
    workers = server.find_workers(opened)
    for one in opened:
        one.close()
    counts = sorted(map(workers.count, set(workers)))
    assert len(counts) == 2
    assert counts[0] >= 15, counts


@pytest.mark.parametrize("path", ["im/bots", "no/such/path"])
def test_the_head_of_a_response_arrives_with_its_body(server: Server, key: str, path: str) -> None:
    request = f"GET /api/v1/{path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for _ in range(10):
            connection.sendall(request)
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 ")
            assert body.endswith(b"}"), "the body came in a second piece"


def test_a_response_without_a_body_has_a_head(server: Server, key: str) -> None:
    head = f"HEAD /api/v1/im/bots HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for _ in range(2):
            connection.sendall(head)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\n")


def test_the_last_use_of_a_key_is_recorded(server: Server, module_dir: Path) -> None:
    row = create_key_row(module_dir, "im", name="used")
    server.request("GET", "/api/v1/im/bots", row["api_key"])

    def look() -> Any:
        with sqlite3.connect(module_dir / "astrbot.db") as db:
            (used,) = db.execute(
                "SELECT last_used_at FROM api_key WHERE key_id = ?", (row["key_id"],)
            ).fetchone()
        db.close()
        return used

    assert wait_for(look)


def test_turns_of_one_session_run_in_the_order_of_their_requests(server: Server, key: str) -> None:
    first = server.open_chat(
        key, {"username": "a", "session_id": "order", "message": "DELAY=50 N=8 first"}
    )
    events = iter_events(first)
    assert next(events)["type"] == "session_id"
    # New connections, so that both workers have some of them.
    with ThreadPoolExecutor(6) as pool:
        others = []
        for number in range(6):
            opened = server.open_chat(
                key, {"username": "a", "session_id": "order", "message": f"ECHO {number}"}
            )
            stream = iter_events(opened)
            assert next(stream)["type"] == "session_id"
            others.append(pool.submit(list, stream))
        assert list(events)[-1]["type"] == "end"
        assert [one.result()[-3]["data"] for one in others] == [
            f"echo: ECHO {number}" for number in range(6)
        ]
    bots = [one for one in _messages(server.data_dir, "order") if one.startswith("bot")]
    assert "tok7" in bots[0]
    assert [f"echo: ECHO {number}" in bots[number + 1] for number in range(6)] == [True] * 6


def test_a_waiting_turn_gets_heartbeats_and_sees_the_first_turns_answer(
    server: Server, key: str, fake_model: FakeOpenAI
) -> None:
    first = server.open_chat(
        key, {"username": "a", "session_id": "wait", "message": "DELAY=300 N=8 first"}
    )
    assert next(iter_events(first))["type"] == "session_id"
    answer = server.request(
        "POST",
        "/api/v1/chat",
        key,
        json={"username": "a", "session_id": "wait", "message": "ECHO second"},
    )
    assert b": heartbeat" in answer.data
    first.close()
    asked = next(one for one in reversed(fake_model.requests()) if "ECHO second" in str(one))
    assert [one["role"] for one in asked["messages"]] == ["system", "user", "assistant", "user"]


def test_a_disconnected_client_does_not_stop_the_turn(server: Server, key: str) -> None:
    opened = server.open_chat(
        key, {"username": "a", "session_id": "left", "message": "DELAY=50 N=20 please"}
    )
    stream = iter_events(opened)
    while next(stream)["type"] != "plain":
        pass
    opened.close()
    whole = " ".join(f"tok{number}" for number in range(20))
    wait_for(lambda: any(whole in one for one in _messages(server.data_dir, "left")))
    events = server.chat(key, username="a", session_id="left", message="ECHO next")
    assert events[-3]["data"] == "echo: ECHO next"
    assert len(_messages(server.data_dir, "left")) == 4


def test_a_client_that_disconnects_at_complete_finds_the_stored_answer(
    server: Server, key: str
) -> None:
    for number in range(20):
        name = f"hangup-{number}"
        opened = server.open_chat(
            key, {"username": "a", "session_id": name, "message": "ECHO kept"}
        )
        for event in iter_events(opened):
            if event["type"] == "complete":
                break
        opened.close()
        assert len(_messages(server.data_dir, name)) == 2


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /api/v1/keys/self?username=李&api_key={key} HTTP/1.1",  # not encoded
        "GET /api/v1/{key} HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: x\r\nX-API-Key {key}",  # no colon
    ],
)
def test_keys_in_wrong_requests_are_not_logged(server: Server, key: str, request_line: str) -> None:
    before = len(server.read_log())
    with server.connect() as connection:
        head = f"{request_line.format(key=key)}\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        while connection.recv(65536):
            pass
    wait_for(lambda: f"{key[:12]}..." in server.read_log()[before:])
    assert key not in server.read_log()


def test_the_providers_secrets_reach_no_client_and_no_log(server: Server, key: str) -> None:
    events = server.chat(key, username="a", message="FAIL=401 please")
    assert [one["code"] for one in events if one["type"] == "error"] == ["provider_error"]
    assert "sk-secret" not in str(events)
    assert "127.0.0.1" not in str(events)
    assert "sk-secret" not in server.read_log()


@pytest.mark.load
def test_five_hundred_simultaneous_chats_get_their_own_texts(server: Server, key: str) -> None:
    results = chat_at_once(server.port, key, 500, "ECHO FIRST=4000")
    wrong = [one for one in results if not one.right]
    assert not wrong, wrong[:3]


def test_a_session_does_not_wait_for_a_dead_worker(tmp_path: Path, fake_model: FakeOpenAI) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, ASTRBOT_WORKER_LEASE_S="1") as server:
        key = create_key(tmp_path, "chat")
        opened = server.open_chat(
            # The other worker continues it, and the next turn waits for its end.
            key,
            {"username": "a", "session_id": "s", "message": "DELAY=500 N=8 x"},
        )
        assert next(iter_events(opened))["type"] == "session_id"
        victim = server.find_worker(opened)
        os.kill(victim, signal.SIGKILL)
        opened.close()
        events = server.chat(key, username="a", session_id="s", message="ECHO alive")
        assert events[-3]["data"] == "echo: ECHO alive", events


def test_a_stopping_server_finishes_turns_or_leaves_them_to_the_next_start(
    tmp_path: Path, fake_model: FakeOpenAI
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, ASTRBOT_GRACEFUL_TIMEOUT_S="4") as server:
        key = create_key(tmp_path, "chat")
        short = server.open_chat(
            key, {"username": "a", "session_id": "short", "message": "DELAY=100 N=12 x"}
        )
        long = server.open_chat(
            key, {"username": "a", "session_id": "long", "message": "DELAY=100 N=900 x"}
        )
        streams = [iter_events(one) for one in (short, long)]
        for stream in streams:
            _read_until(stream, "plain")
        stopped: list[int] = []
        stopper = threading.Thread(target=lambda: stopped.append(server.stop()))
        stopper.start()
        ended, cut = (list(stream) for stream in streams)
        stopper.join(60)
    assert ended[-3]["type"] == "complete"
    # Its stream ends, and its client resumes after the next start: see test_rolling_restart.py.
    assert cut[-1]["type"] == "plain"
    assert stopped == [0]


def _read_until(stream: Iterator[dict[str, Any]], kind: str) -> None:
    """Read a stream up to an event of a type. Show the received events if it is missing."""
    seen = []
    for event in stream:
        if event["type"] == kind:
            return
        seen.append(event)
    raise AssertionError(seen)


@pytest.mark.parametrize("mode", ["blocking", "streaming"])
def test_a_client_that_only_ends_its_sending_gets_the_answer(
    server: Server, key: str, mode: str
) -> None:
    body = json.dumps({"username": "half", "message": "hi", "response_mode": mode}).encode()
    head = (
        "POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nX-API-Key: {key}\r\nContent-Length: {len(body)}"
    )
    with server.connect() as client, client.makefile("rb") as answer:
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        client.shutdown(socket.SHUT_WR)
        status, _, rest = answer.read().partition(b"\r\n")
    assert status == b"HTTP/1.1 200 OK", rest
    assert b"Hello" in rest


@pytest.mark.parametrize("path", ["openapi.json", "files/{}/content"], ids=["json", "file"])
def test_a_client_that_does_not_read_its_response_is_disconnected(
    tmp_path: Path, path: str
) -> None:
    key = create_key(tmp_path, "file")
    with (
        Server(tmp_path, workers=1, app="tests.e2e.impatient_app:build()") as server,
        socket.socket() as client,
        closing(HTTPConnection("127.0.0.1", server.port)) as reading,
    ):
        fields = {"file": ("a.txt", b"a" * 1_000_000)}
        kept = server.request("POST", "/api/v1/file", key, fields=fields).json()["data"]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        path = "/api/v1/" + path.format(kept["attachment_id"])
        reading.request("GET", path, headers={"X-API-Key": key})
        reading.getresponse().read()
        ask = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n"
        client.sendall(ask.encode() * 50)  # more than fits into the kernel's buffers
        own = f"sport = :{server.port} and dport = :{client.getsockname()[1]}"
        command = ["ss", "-tnH", "state", "established", own]
        wait_for(lambda: run(command, capture_output=True, check=True).stdout == b"")
        reading.request("GET", "/healthz")
        assert reading.getresponse().status == 200
        assert "Traceback" not in server.log_path.read_text()
