"""One turn is one trace across real workers, and a dead collector delays no request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..collector import Collector, read_attributes
from ..servers import Server, create_key, write_config
from ..waiting import wait_for

pytestmark = pytest.mark.e2e

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = f"00-{TRACE}-b7ad6b7169203331-01"

#: Text of the user, the answer and the key that no attribute may contain.
_SECRET = "my-own-words"


def _environ(collector: Collector) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "ASTRBOT_LOG_FORMAT": "json",
    }


def _find_line(log: str) -> dict[str, Any] | None:
    """Return the log line of the request of the client's trace, once it is written."""
    lines = (orjson.loads(one) for one in log.splitlines() if one.startswith("{"))
    return next((one for one in lines if one.get("trace_id") == TRACE and "path" in one), None)


def test_a_turn_with_a_tool_is_part_of_the_clients_trace(
    tmp_path: Path, fake_model: FakeOpenAI
) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    key = create_key(tmp_path, "chat")
    with Collector() as collector, Server(tmp_path, **_environ(collector)) as server:
        body = {"username": "alice", "session_id": _SECRET, "message": "TOOL=current_time"}
        answer = server.request(
            "POST", "/api/v1/chat", key, json=body, headers={"traceparent": CLIENT}
        )
        assert answer.status == 200
        names = {
            "POST /api/v1/chat", "invoke_agent default", "chat mock", "execute_tool current_time",
        }  # fmt: skip
        spans = collector.wait_for_trace(TRACE, names)
        line = wait_for(lambda: _find_line(server.read_log()))
    # Sorted: POST, chat, execute_tool, invoke_agent.
    asked, model, tool, turn = (spans[name] for name in sorted(names))
    assert asked.parent_span_id.hex() == CLIENT.split("-")[2]
    assert turn.parent_span_id == asked.span_id
    assert model.parent_span_id == tool.parent_span_id == turn.span_id
    calls = [one for one in collector.spans if one.name == "chat mock"]
    assert len(calls) == 2
    assert read_attributes(calls[0])["gen_ai.usage.output_tokens"] > 0
    assert [event.name for event in calls[1].events] == ["gen_ai.first_token"]
    assert read_attributes(turn)["astrbot.run.status"] == "completed"
    assert read_attributes(asked)["http.response.status_code"] == 200
    assert read_attributes(tool)["gen_ai.tool.name"] == "current_time"
    assert collector.services == {"astrbot-api"}
    told = " ".join(map(str, collector.spans))
    for word in (_SECRET, key, "alice", "TOOL=", "tool said"):
        assert word not in told
    assert (line["path"], line["status"]) == ("/api/v1/chat", 200)


def test_remaining_spans_are_exported_when_the_server_stops(tmp_path: Path) -> None:
    with Collector() as collector:
        environ = {**_environ(collector), "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with Server(tmp_path, workers=1, **environ) as server:
            server.request("GET", "/api/v1/im/bots", headers={"traceparent": CLIENT})
            assert collector.spans == []
        assert [one.name for one in collector.spans] == ["GET /api/v1/im/bots"]


@pytest.mark.parametrize("status", [503, 0])
def test_a_failing_or_hanging_collector_delays_no_request(tmp_path: Path, status: int) -> None:
    with Collector(status) as collector:
        environ = {**_environ(collector), "OTEL_BSP_MAX_QUEUE_SIZE": "200"}
        with Server(tmp_path, workers=1, **environ) as server:
            for _ in range(500):
                assert server.request("GET", "/api/v1/openapi.json").status == 200
            assert collector.requests > 0
            code = server.stop()
        assert code == 0
