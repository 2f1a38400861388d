"""Clients notice nothing when two gevent workers are replaced during turns."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..servers import Server, add_config, create_key, iter_events
from ..steps_app import CONFIG, expected_text
from ..waiting import wait_for

pytestmark = pytest.mark.e2e


def start_server(data_dir: Path, graceful_s: int) -> Server:
    """Start a server whose model waits in its second step for the file ``gate``."""
    add_config(data_dir, CONFIG)
    return Server(
        data_dir, app="tests.steps_app:create_steps_app()",
        ASTRBOT_GRACEFUL_TIMEOUT_S=str(graceful_s),
        ASTRBOT_TEST_CALLS=str(data_dir / "calls"), ASTRBOT_TEST_GATE=str(data_dir / "gate"),
    )  # fmt: skip


def list_staying(data_dir: Path) -> set[str]:
    """Return the ids of the workers that are not stopping."""
    with closing(sqlite3.connect(data_dir / "astrbot.db")) as db:
        return {one for (one,) in db.execute("SELECT worker_id FROM worker WHERE stopping = 0")}


def test_no_client_notices_a_rolling_restart(tmp_path: Path) -> None:
    with start_server(tmp_path, graceful_s=60) as server:
        _restart_under_load(server, tmp_path)


def _restart_under_load(server: Server, tmp_path: Path) -> None:
    key, count = create_key(tmp_path, "chat"), 20
    begun = threading.Barrier(count + 1)

    def chat(number: int) -> list[dict[str, Any]]:
        body = {"username": "a", "session_id": f"r{number}", "message": "STEPS=6 DELAY=200"}
        opened = server.open_chat(key, body)
        assert opened.status == 200, opened.data
        events, waiting = [], True
        for event in iter_events(opened):
            events.append(event)
            if waiting and event["type"] == "plain":
                waiting = False
                begun.wait(60)
        return events

    with ThreadPoolExecutor(count) as pool:
        chats = [pool.submit(chat, number) for number in range(count)]
        begun.wait(60)
        workers, ids = set(server.list_workers()), list_staying(tmp_path)
        os.kill(server.process.pid, signal.SIGHUP)
        wait_for(lambda: list_staying(tmp_path) - ids and not list_staying(tmp_path) & ids)
        (tmp_path / "gate").touch()
        turns = [one.result() for one in chats]
        wait_for(lambda: not workers & set(server.list_workers()))
    for events in turns:
        kinds = [one["type"] for one in events]
        assert kinds[-4:] == ["agent_stats", "complete", "message_saved", "end"]
        assert "rewind" not in kinds
        shown = "".join(
            one["data"] for one in events if one["type"] == "plain" and one["chain_type"] is None
        )
        assert shown == events[-3]["data"] == expected_text(6)
    calls = Counter((tmp_path / "calls").read_text().split())
    assert (len(calls), set(calls.values())) == (count * 5, {1})
    log = server.read_log()
    assert log.count("is released by worker") == log.count(" resumes from step ") > 0


def test_a_turn_interrupted_by_a_stop_continues_at_the_next_start(tmp_path: Path) -> None:
    key = create_key(tmp_path, "chat")
    with start_server(tmp_path, graceful_s=6) as server:
        opened = server.open_chat(key, {"username": "a", "message": "STEPS=2"})
        events = iter_events(opened)
        seen = [next(events) for _ in range(5)]
        stopped: list[int] = []
        stopper = threading.Thread(target=lambda: stopped.append(server.stop()))
        stopper.start()
        seen += events
        stopper.join(60)
        assert stopped == [0]
    assert "error" not in [one["type"] for one in seen]
    run_id = seen[2]["data"]["run_id"]
    (tmp_path / "gate").touch()
    with start_server(tmp_path, graceful_s=2) as server:
        # It continues without a request.
        wait_for(lambda: f"run {run_id} resumes from" in server.read_log())
        opened = server.request(
            "GET", f"/api/v1/chat/runs/{run_id}/stream?after={len(seen)}", key,
            preload_content=False,
        )  # fmt: skip
        rest = list(iter_events(opened))
        assert rest[0]["type"] == "rewind"
        assert rest[-3]["data"] == expected_text(2)


def test_a_reload_with_an_invalid_config_keeps_the_workers_until_it_is_repaired(
    tmp_path: Path,
) -> None:
    key, config = create_key(tmp_path, "chat"), tmp_path / "configs" / "default.toml"
    (tmp_path / "gate").touch()
    with start_server(tmp_path, graceful_s=6) as server:
        assert server.chat(key, message="STEPS=1")[-1]["type"] == "end"
        # A worker that still starts would fail with the invalid file.
        wait_for(lambda: len(list_staying(tmp_path)) == 2)
        before = set(server.list_workers())
        config.write_text("[provider", encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "not reloaded; the current workers continue" in server.read_log())
        assert "valid files: astrbot-api: configs/default.toml: " in server.read_log()
        assert set(server.list_workers()) == before
        assert server.chat(key, message="STEPS=1")[-1]["type"] == "end"
        config.write_text(CONFIG, encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(after := set(server.list_workers())) == 2 and not before & after)
        assert server.chat(key, message="STEPS=1")[-1]["type"] == "end"
