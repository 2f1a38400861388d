"""Spans of an application with its own tracer provider."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from astrbot_api import Tool
from astrbot_api.agent.provider import Delta, TextDelta, ToolCallDelta, Usage
from astrbot_api.errors import ProviderError, ToolError
from astrbot_api.runtime.tracing import NO_TRACING, is_asked_for, open_tracing

from ..unit.openai_asking import HELLO, begin, provider_of
from ..unit.raw_endpoint import Connection, RawEndpoint
from ..waiting import wait_for
from .conftest import Api
from .test_webhooks import Receiver, make_webhook_app, receiver

__all__ = ["make_webhook_app", "receiver"]

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


class Spans:
    """Recorded spans."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def wait_for(self, name: str) -> Any:
        """Wait until a span of this name has ended, and return it."""
        return wait_for(lambda: self.find(name))

    def find(self, name: str) -> Any:
        """Return an ended span of this name, or None."""
        return next(iter(self.find_all(name)), None)

    def find_all(self, name: str) -> list[Any]:
        """Return all ended spans of this name."""
        return [one for one in self._exporter.get_finished_spans() if one.name == name]


@pytest.fixture
def spans() -> Spans:
    return Spans()


def _fail(arguments: Any, context: Any) -> str:
    raise ToolError("no dice")


def test_failed_spans_have_an_error_code_and_no_text(make_scripted: Any, spans: Spans) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            raise ProviderError("The model's words.")
        yield ToolCallDelta(0, "1", "dice", '{"secret": 1}')
        yield Usage(20, 5, 3)

    dice = Tool("dice", "Roll a die.", _fail)
    api, _ = make_scripted(answer, tools=[dice], tracer_provider=spans.provider)
    api.chat("Hello")
    tool, turn = spans.wait_for("execute_tool dice"), spans.wait_for("invoke_agent default")
    assert tool.attributes["error.type"] == "ToolError"
    assert turn.attributes["error.type"] == "provider_error"
    assert turn.attributes["astrbot.run.status"] == "failed"
    call = spans.find("chat")
    assert call.attributes["gen_ai.usage.input_tokens"] == 25
    assert call.attributes["gen_ai.usage.cache_read.input_tokens"] == 5
    told = "".join(one.to_json() for one in (tool, turn, call))
    for word in ("no dice", "secret", "words", "Hello", "alice"):
        assert word not in told


def test_a_rejected_request_is_a_span_without_its_key(make_scripted: Any, spans: Spans) -> None:
    api, _ = make_scripted(lambda messages: iter([TextDelta("x")]), tracer_provider=spans.provider)
    api.client.get("/api/v1/im/bots?key=abk_wrong")
    span = spans.find("GET /api/v1/im/bots")
    assert span.attributes["http.response.status_code"] == 401
    assert "abk_wrong" not in span.to_json()


def test_a_malformed_traceparent_starts_a_new_trace(make_scripted: Any, spans: Spans) -> None:
    api, _ = make_scripted(lambda messages: iter([TextDelta("x")]), tracer_provider=spans.provider)
    api.client.get("/api/v1/im/bots", headers={"traceparent": "00-nonsense"})
    assert spans.find("GET /api/v1/im/bots").parent is None


def test_a_request_and_its_turn_are_part_of_the_hosts_trace(
    make_scripted: Any, spans: Spans
) -> None:
    api, _ = make_scripted(lambda messages: iter([TextDelta("x")]), tracer_provider=spans.provider)
    body = {"message": "hi", "username": "al", "response_mode": "blocking"}
    with spans.provider.get_tracer("host").start_as_current_span("host") as host:
        api.post("/api/v1/chat", json=body, headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
    asked, turn = spans.find("POST /api/v1/chat"), spans.wait_for("invoke_agent default")
    assert asked.parent.span_id == host.get_span_context().span_id
    assert turn.parent.span_id == asked.context.span_id


def test_a_webhook_continues_the_trace_of_the_turn(
    make_webhook_app: Any, receiver: Receiver, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    told = Receiver.answer

    def look(self: Any, request: Any) -> Any:
        seen.append(request.headers.get("traceparent", ""))
        return told(self, request)

    monkeypatch.setattr(Receiver, "answer", look)
    api: Api = make_webhook_app(tracer_provider=spans.provider)
    api.chat("Hello", session_id="room")
    api.state.im.outbox.wake()
    receiver.wait_for_messages(3)
    turn, event = spans.wait_for("invoke_agent default"), spans.wait_for("send event")
    assert event.attributes["astrbot.delivery.outcome"] == "sent"
    trace_id = format(turn.context.trace_id, "032x")
    # The user's message was stored before its turn started.
    assert sum(trace_id in one for one in seen) == 2


def test_a_delivery_is_part_of_its_requests_trace(make_webhook_app: Any, spans: Spans) -> None:
    api: Api = make_webhook_app(tracer_provider=spans.provider)
    body = {"umo": "bot1:FriendMessage:bob", "message": "Hello"}
    api.post("/api/v1/im/message", json=body)
    sent, asked = spans.wait_for("send message"), spans.find("POST /api/v1/im/message")
    assert sent.parent.span_id == asked.context.span_id
    assert sent.attributes["astrbot.delivery.outcome"] == "failed"
    assert sent.attributes["error.type"] == "platform_error"
    assert "bob" not in sent.to_json()


def test_a_models_endpoint_receives_the_trace() -> None:
    heads: list[str] = []

    def handle(connection: Connection) -> None:
        heads.append(connection.read_request()[0])
        connection.send_stream(*HELLO)

    with RawEndpoint(handle) as endpoint:
        list(begin(provider_of(endpoint), headers={"traceparent": "00-1-2-01"}))
    assert "traceparent: 00-1-2-01" in heads[0]


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_environment_variables_enable_tracing(environ: dict[str, str], asked: bool) -> None:
    assert is_asked_for(environ) is asked


def test_without_the_extra_the_server_runs_without_tracing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    for name, value in ENDPOINT.items():
        monkeypatch.setenv(name, value)
    assert open_tracing() is NO_TRACING
    assert "pip install" in caplog.text


def test_opentelemetry_is_not_imported_if_tracing_is_off() -> None:
    code = (
        "import sys, tempfile, astrbot_api; "
        "astrbot_api.create_app({'ASTRBOT_DATA_DIR': tempfile.mkdtemp()}); "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environ).returncode == 0
