"""``/metrics`` has the sum of two gevent workers, also after one has died."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, create_key, iter_events, write_config
from ..waiting import wait_for

pytestmark = pytest.mark.e2e


def _figures(server: Server) -> dict[tuple[str, ...], float]:
    answer = server.request("GET", "/metrics", headers={"Connection": "close"})
    assert answer.status == 200, answer.data
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.data.decode())
        for sample in family.samples
    }


def _workers(server: Server) -> list[int]:
    master = server.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text()
    return [int(pid) for pid in children.split()]


def test_metrics_cover_all_workers_and_dead_workers_have_no_streams(
    tmp_path: Path, fake_model: FakeOpenAI
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    environ = {"ASTRBOT_LOG_FORMAT": "json", "ASTRBOT_WORKER_LEASE_S": "1"}
    with Server(tmp_path, **environ) as server:
        key = create_key(tmp_path, "chat", "im")
        for _ in range(40):
            server.request("GET", "/api/v1/im/bots", key, headers={"Connection": "close"})
        bots = ("astrbot_requests_total", "GET", "/api/v1/im/bots", "200")
        # The result does not depend on the worker.
        assert {_figures(server)[bots] for _ in range(8)} == {40}
        body = {"username": "a", "session_id": "s", "message": "DELAY=1000 N=60 x"}
        stream = iter_events(server.open_chat(key, body))
        assert next(stream)["type"] == "session_id"
        assert _figures(server)["astrbot_streams_open",] == 1
        assert _figures(server)["astrbot_runs_active", "running"] == 1
        before = _workers(server)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(_workers(server)) == 2 and not set(before) & set(_workers(server)))
        found = wait_for(
            lambda: (got := _figures(server)).get(("astrbot_streams_open",), 0) == 0 and got
        )
        assert found[bots] == 40
        assert orjson.loads(server.request("GET", "/readyz").data)["status"] == "ready"
        # A killed worker loses the requests of its last moment; a stopping one does not.
        assert server.request("GET", "/api/v1/im/bots", key).status == 200
        # Another worker continues the turn, and the end of the server would wait a minute for it.
        stop = "/api/v1/chat/sessions/s/stop"
        wait_for(lambda: server.request("POST", stop, key, json={"username": "a"}).status == 200)
    lines = [line for line in server.read_log().splitlines() if line.startswith('{"time"')]
    told = [orjson.loads(line) for line in lines]
    assert any(one["message"] == "request" and one.get("key_prefix") == key[:12] for one in told)


def test_every_line_of_the_log_is_json(tmp_path: Path) -> None:
    write_config(tmp_path, "http://127.0.0.1:9/v1")
    plugin = tmp_path / "plugins" / "broken" / "__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("raise RuntimeError", encoding="utf-8")
    with Server(tmp_path, ASTRBOT_LOG_FORMAT="json", ASTRBOT_CORS_ORIGIN="*") as server:
        key = create_key(tmp_path, "im")
        server.request("GET", "/api/v1/im/bots", key)
    lines = [orjson.loads(line) for line in server.read_log().splitlines()]
    assert all(one["time"] and one["level"] and one["message"] for one in lines)
    messages = "\n".join(one["message"] for one in lines)
    for word in ("Shutting down: Master", "request", "plugin broken", "ASTRBOT_CORS_ORIGINS"):
        assert word in messages
