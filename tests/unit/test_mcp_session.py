"""The sidecar's parts in this process: one session, and the hub of all sessions."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import queue
import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed: make test")

from astrbot_api.mcp.sidecar import http as mcp_http
from astrbot_api.mcp.sidecar import hub
from astrbot_api.mcp.sidecar import session as mcp_session
from astrbot_api.mcp.sidecar import stdio as mcp_stdio
from astrbot_api.mcp.sidecar.calling import CallFailed
from astrbot_api.mcp.sidecar.http import UrlServer
from astrbot_api.mcp.sidecar.hub import Hub
from astrbot_api.mcp.sidecar.process import LogLimit
from astrbot_api.mcp.sidecar.session import ServerSession
from astrbot_api.mcp.sidecar.stdio import StdioServer

from ..mcp_servers.running import run_http_server
from ..servers import serve
from ..waiting import LIMIT_S, wait_for
from .raw_endpoint import Connection, RawEndpoint


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_session, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(mcp_session, "_MAX_PAUSE_S", 0.002)


def python(program: str, **env: str) -> dict[str, Any]:
    return {"name": "odd", "command": [sys.executable, "-c", program], "env": env, "cwd": ""}


async def until_down(definition: Mapping[str, Any], times: int = 1) -> None:
    """Run a session until it has been down this often, then stop it."""
    downs: asyncio.Queue[None] = asyncio.Queue()

    def note() -> None:
        if session.status == "down":
            downs.put_nowait(None)

    session = ServerSession(definition, note)
    try:
        for _ in range(times):
            await asyncio.wait_for(downs.get(), LIMIT_S)
    finally:
        await session.stop()


def test_a_server_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mcp_session, "_START_TIMEOUT_S", 0.05)
    asyncio.run(until_down(python("import sys; sys.stdin.read()"), times=2))
    assert "MCP server odd did not respond in time" in caplog.text


def test_a_server_that_ends_at_once_is_tried_again_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asyncio.run(until_down(python("raise SystemExit(3)"), times=3))
    said = [one for one in caplog.messages if "ended with exit code 3" in one]
    assert said == ["MCP server odd ended with exit code 3; restarting in 0.001 s"]


def test_the_log_names_the_configs_of_a_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    program = python("import sys; print('hello', file=sys.stderr); sys.exit(3)")
    for configs in (["sales"], ["a", "b", "c", "d"]):
        asyncio.run(until_down({**program, "configs": configs}))
    assert "MCP server odd (sales) ended with exit code 3; " in caplog.text
    assert "MCP server odd (a, b, c, …) | hello" in caplog.text


#: A server that offers nothing, with the given result of ``initialize``.
_BARE = """
import json, os
while True:
    asked = json.loads(input())
    results = {"initialize": json.loads(os.environ["RESULT"]), "tools/list": {"tools": []}}
    result = results.get(asked["method"])
    said = {"error": {"code": -32601, "message": "no"}} if result is None else {"result": result}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **said}), flush=True)
"""


def bare(version: str, **more: Any) -> dict[str, Any]:
    result = {"protocolVersion": version, "capabilities": {"tools": {}}, **more}
    return python(_BARE, RESULT=json.dumps(result))


def test_a_server_with_an_unknown_version_is_named_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asyncio.run(until_down(bare("2024-10-07", serverInfo={"name": "a", "version": "1"})))
    assert "MCP server odd cannot be used: " in caplog.text
    assert "version from the server: 2024-10-07; restarting" in caplog.text


@pytest.mark.parametrize("more", [{}, {"serverInfo": {"name": "a"}}, {"serverInfo": None}])
def test_a_server_need_not_say_who_it_is(more: dict[str, Any]) -> None:
    async def until_running() -> None:
        running = asyncio.Event()
        session = ServerSession(
            bare("2025-06-18", **more), lambda: session.status == "running" and running.set()
        )
        try:
            await asyncio.wait_for(running.wait(), LIMIT_S)
        finally:
            await session.stop()

    asyncio.run(until_running())


def test_a_server_that_ignores_the_end_of_its_input_is_ended_by_force(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mcp_stdio, "_STOP_TIMEOUT_S", 0.05)
    file = tmp_path / "pid"
    deaf = (
        "import os, pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(os.environ['PID_FILE']).write_text(f'{os.getpid()} ')\n"
        "while True: signal.pause()"
    )

    async def start_and_stop() -> int:
        async with StdioServer(python(deaf, PID_FILE=str(file)), str).connect(print):
            await asyncio.to_thread(wait_for, lambda: file.exists() and file.read_text())
            return int(file.read_text())

    pid = asyncio.run(start_and_stop())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_url_where_nobody_listens_is_named_without_its_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = "http://127.0.0.1:1/mcp?key=swordfish"
    asyncio.run(until_down({"name": "odd", "url": url, "headers": {"T": "swordfish"}}))
    assert "MCP server odd cannot be used: ConnectError" in caplog.text
    assert "swordfish" not in caplog.text


def test_keys_in_a_url_and_in_headers_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    def move(environ: Any, start_response: Any) -> list[bytes]:
        key = environ["HTTP_AUTHORIZATION"].partition(" ")[2]
        start_response("301 Moved Permanently", [("Location", f"{environ['PATH_INFO']}/{key}")])
        return []

    headers = {"Authorization": "Bearer hunter2"}
    with serve(move) as url:
        where = f"{url}/s/swordfish-swordfish/mcp"
        asyncio.run(until_down({"name": "odd", "url": where, "headers": headers}))
    assert "/s/***/mcp/*** not followed" in caplog.text


def test_a_redirect_within_the_origin_is_followed() -> None:
    """Starlette redirects to the path with a slash."""
    server = Forgetful("404 Not Found", forgets=False)

    def move(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/mcp/":
            return server(environ, start_response)
        start_response("307 Temporary Redirect", [("Location", "/mcp/")])
        return []

    with serve(move) as url:
        [answer] = use_url(f"{url}/mcp", {"tool": "t", "arguments": {}})
    assert answer == (False, [{"type": "text", "text": "x"}])


def test_a_host_that_acknowledges_nothing_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)]
    monkeypatch.setattr(mcp_http, "SOCKET_OPTIONS", options)
    monkeypatch.setattr(mcp_http, "_CONNECT_TIMEOUT_S", LIMIT_S)
    monkeypatch.setattr(mcp_session, "_START_TIMEOUT_S", 20.0)
    over = threading.Event()

    def die(connection: Connection) -> None:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert over.wait(LIMIT_S)

    with RawEndpoint(die) as endpoint:
        headers = {"X-Long": "x" * 5_000_000}
        asyncio.run(until_down({"name": "odd", "url": endpoint.base_url, "headers": headers}))
        over.set()
    assert "did not respond in time" not in caplog.text
    assert "MCP server odd cannot be used" in caplog.text


def test_a_compressed_response_is_not_unpacked(caplog: pytest.LogCaptureFixture) -> None:
    """It may unpack to a thousand times the limit of its size."""
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", headers)
        return [gzip.compress(b" " * 1_000_000)]

    with serve(answer) as url:
        asyncio.run(until_down({"name": "odd", "url": url, "headers": {}}))
    assert "a compressed response, which was not accepted" in caplog.text


def test_the_other_transport_is_tried_at_once(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(environ: Any, start_response: Any) -> list[bytes]:
        start_response("405 Method Not Allowed", [])
        return []

    with serve(refuse) as url:
        asyncio.run(until_down({"name": "odd", "url": url, "headers": {}}, times=3))
    said = [one for one in caplog.messages if "trying HTTP+SSE" in one]
    assert [one.endswith("restarting in 0.001 s") for one in said] == [True, True]


def use_url(url: str, *calls: Mapping[str, Any]) -> list[Any]:
    """Start a session with a server and return the results of calls, or the errors."""

    async def scenario() -> list[Any]:
        running = asyncio.Event()

        def note() -> None:
            if session.status == "running":
                running.set()

        session = ServerSession({"name": "odd", "url": url, "headers": {}}, note)
        async with asyncio.timeout(LIMIT_S):
            await running.wait()
            jobs = [session.execute(one, ignore) for one in calls]
            results = [(await asyncio.gather(job, return_exceptions=True))[0] for job in jobs]
            await session.stop()
        return results

    return asyncio.run(scenario())


async def ignore(progress: Any) -> None:
    """Take the progress of a call."""


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_result_that_is_too_large_fails_only_its_call(
    flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_http, "MAX_LINE_BYTES", 100_000)
    with run_http_server(*flags) as (_, url):
        failed, answer = use_url(
            url,
            {"tool": "long", "arguments": {"chars": 200_000}},
            {"tool": "echo", "arguments": {"text": "x"}},
        )
    assert "100000 byte" in str(failed)
    assert answer == (False, [{"type": "text", "text": "x"}])


class Forgetful:
    """A server that forgets its sessions after each call, as if it had been restarted.

    :param status: Status of the response to an unknown session.
    :param body: Its body.
    :param text: Description of the tool, and its result.
    :param streams: Whether responses are event streams.
    :param kind: Type of the other responses.
    :param forgets: Whether it forgets its sessions after each call.
    :param batches: Whether a response is in a batch with a notification.
    :param number: Id of all responses, or None for that of the request.
    """

    def __init__(
        self,
        status: str,
        body: dict[str, Any] | None = None,
        *,
        text: str = "x",
        streams: bool = False,
        forgets: bool = True,
        kind: str = "application/json",
        batches: bool = False,
        number: int | None = None,
    ) -> None:
        self.number = number
        self.forgets, self.kind, self.batches = forgets, kind, batches
        self.status, self.body, self.text, self.streams = status, body, text, streams
        self.sessions: list[str] = []
        self.began = 0

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        asked = json.loads(
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}"
        )
        method, kind = asked.get("method"), ("Content-Type", self.kind)
        if method == "initialize":
            self.began += 1
            self.sessions = [f"s{self.began}"]
        elif method == "server/discover" or environ.get("HTTP_MCP_SESSION_ID") not in self.sessions:
            start_response(self.status, [kind])
            return [json.dumps(self.body).encode()] if self.body else [b""]
        elif "id" not in asked:
            start_response("202 Accepted", [])
            return []
        result = {
            "initialize": {
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "x", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "t", "description": self.text}]},
            "tools/call": {"content": [{"type": "text", "text": self.text}]},
        }[method]  # fmt: skip
        if self.streams:
            kind = ("Content-Type", "text/event-stream")
        start_response("200 OK", [kind, *[("Mcp-Session-Id", one) for one in self.sessions]])
        if method == "tools/call" and self.forgets:
            self.sessions = []
        number = asked["id"] if self.number is None else self.number
        answer = json.dumps({"jsonrpc": "2.0", "id": number, "result": result})
        if self.batches:
            answer = f'[{{"jsonrpc": "2.0", "method": "notifications/else"}}, {answer}]'
        return [(f"data: {answer}\n\n" if self.streams else answer).encode()]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("404 Not Found", "Session not found"),
        ("404 Not Found", ""),
        ("400 Bad Request", "Bad Request: No valid session ID provided"),
        ("400 Bad Request", ""),
    ],
)
def test_a_call_of_a_server_that_forgot_the_session_is_repeated(status: str, message: str) -> None:
    error = {"code": -32000, "message": message}
    server = Forgetful(status, {"jsonrpc": "2.0", "id": None, "error": error} if message else None)
    call = {"tool": "t", "arguments": {}}
    with serve(server) as url:
        results = use_url(f"{url}/mcp", call, call, call)
    assert results == [(False, [{"type": "text", "text": "x"}])] * 3
    assert server.began == 3


def test_a_server_that_does_not_answer_the_end_of_a_session_gets_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcp_http, "_END_TIMEOUT_S", 0.05)
    server, ended = Forgetful("404 Not Found"), threading.Event()

    def hang(environ: Any, start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "DELETE":
            ended.wait(LIMIT_S)
        return server(environ, start_response)

    call = {"tool": "t", "arguments": {}}
    with serve(hang) as url:
        results = use_url(f"{url}/mcp", call, call)
        ended.set()
    assert results == [(False, [{"type": "text", "text": "x"}])] * 2


def test_all_calls_of_a_forgotten_session_are_repeated() -> None:
    server = Forgetful("404 Not Found", forgets=False)

    async def scenario(url: str) -> list[Any]:
        running = asyncio.Event()
        definition = {"name": "odd", "url": url, "headers": {}}
        session = ServerSession(definition, running.set)
        async with asyncio.timeout(LIMIT_S):
            await running.wait()
            server.sessions.clear()
            call = {"tool": "t", "arguments": {}}
            calls = [session.execute(call, ignore) for _ in range(4)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            await session.stop()
        return results

    with serve(server) as url:
        results = asyncio.run(scenario(f"{url}/mcp"))
    assert results == [(False, [{"type": "text", "text": "x"}])] * 4
    assert server.began == 2


@pytest.mark.parametrize(
    ("status", "message"), [("200 OK", "the session of the user ended"), ("504 Timeout", "")]
)
def test_a_call_that_may_have_been_executed_is_not_repeated(status: str, message: str) -> None:
    """A request with wrong arguments, which many servers answer with 400, ends no session."""
    server, calls = Forgetful("405 Method Not Allowed", forgets=False), []
    failures = [("400 Bad Request", "wrong arguments"), (status, message)]

    def refuse_calls(environ: Any, start_response: Any) -> list[bytes]:
        sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(sent)
        if b"tools/call" not in sent:
            return server(environ, start_response)
        status, message = failures[min(len(calls), 1)]
        calls.append(json.loads(sent)["id"])
        start_response(status, [("Content-Type", "application/json")])
        error = {"code": -32602, "message": message}
        answer = {"jsonrpc": "2.0", "id": calls[-1], "error": error}
        return [json.dumps(answer).encode() if message else b""]

    call = {"tool": "t", "arguments": {}}
    with serve(refuse_calls) as url:
        use_url(f"{url}/mcp", call, call)
    assert len(calls) == 2


def test_a_call_that_is_rejected_again_in_a_new_session_has_the_reason_of_the_server() -> None:
    """It may mean another session, for example that of a browser."""
    server = Forgetful("404 Not Found", forgets=False)
    error = {"code": -32602, "message": "the argument session is missing"}

    def refuse_calls(environ: Any, start_response: Any) -> list[bytes]:
        sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(sent)
        if b"tools/call" not in sent:
            return server(environ, start_response)
        start_response("400 Bad Request", [("Content-Type", "application/json")])
        return [json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()]

    with serve(refuse_calls) as url:
        [failed] = use_url(f"{url}/mcp", {"tool": "t", "arguments": {}})
    assert "refused: the argument session is missing" in str(failed)


@pytest.mark.parametrize("streams", [False, True])
def test_a_text_cut_in_half_an_emoji_is_read(streams: bool) -> None:
    """Such texts come from JavaScript, which counts an emoji as two characters."""
    server = Forgetful("404 Not Found", text="a\ud83d", streams=streams)
    with serve(server) as url:
        [answer] = use_url(f"{url}/mcp", {"tool": "t", "arguments": {}})
    assert answer == (False, [{"type": "text", "text": "a?"}])


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "application/octet-stream"])
def test_json_of_another_type_is_read(kind: str) -> None:
    with serve(Forgetful("404 Not Found", kind=kind)) as url:
        [answer] = use_url(f"{url}/mcp", {"tool": "t", "arguments": {}})
    assert answer == (False, [{"type": "text", "text": "x"}])


@pytest.mark.parametrize("streams", [False, True])
def test_the_response_in_a_batch_is_read(streams: bool) -> None:
    with serve(Forgetful("404 Not Found", batches=True, streams=streams)) as url:
        [answer] = use_url(f"{url}/mcp", {"tool": "t", "arguments": {}})
    assert answer == (False, [{"type": "text", "text": "x"}])


def test_a_json_body_is_the_response_whatever_its_id() -> None:
    with serve(Forgetful("404 Not Found", number=7000)) as url:
        [answer] = use_url(f"{url}/mcp", {"tool": "t", "arguments": {}})
    assert answer == (False, [{"type": "text", "text": "x"}])


def test_an_invalid_response_is_named_in_one_line() -> None:
    server = UrlServer({"url": "http://127.0.0.1:1/mcp", "headers": {}})
    assert server.explain("Failed to parse JSON response: 2 errors\nhere\nthere").endswith("errors")


def test_a_failed_request_is_named_by_its_status(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(environ: Any, start_response: Any) -> list[bytes]:
        start_response("401 Unauthorized", [])
        return []

    with serve(refuse) as url:
        asyncio.run(until_down({"name": "odd", "url": url, "headers": {}}))
    assert "Server returned an error response: HTTP 401; restarting" in caplog.text


def test_a_result_over_the_older_transport_may_be_large() -> None:
    with run_http_server("--sse") as (_, url):
        [answer] = use_url(url, {"tool": "long", "arguments": {"chars": 2_000_000}})
    assert answer[1][1]["text"] == "[cut: the text has 2000000 characters]"


def test_the_end_of_the_older_transport_is_noticed_without_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcp_session, "_LISTEN_PAUSE_S", 3600.0)  # as if it had no subscriptions

    async def scenario(process: Any, url: str) -> None:
        reached: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        definition = {"name": "odd", "url": url, "headers": {}}
        session = ServerSession(definition, lambda: reached[session.status].set())
        async with asyncio.timeout(LIMIT_S):
            await reached["running"].wait()
            process.kill()
            reached["down"].clear()
            await reached["down"].wait()
            await session.stop()

    with run_http_server("--sse") as (process, url):
        asyncio.run(scenario(process, url))


@pytest.mark.parametrize("status", ["401 Unauthorized", "502 Bad Gateway"])
def test_a_rejected_message_of_the_older_transport_fails_the_call_and_opens_a_new_session(
    status: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(url: str) -> Any:
        reached: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        definition = {"name": "odd", "url": url, "headers": {}, "transport": "sse"}
        session = ServerSession(definition, lambda: reached[session.status].set())
        async with asyncio.timeout(LIMIT_S):
            await reached["running"].wait()
            reached["running"].clear()
            with pytest.raises(CallFailed) as failed:
                await session.execute({"tool": "ping", "arguments": {}}, ignore)
            await reached["running"].wait()
            answer = await session.execute({"tool": "ping", "arguments": {}}, ignore)
            await session.stop()
        return str(failed.value), answer

    with serve(OlderServer(status)) as url:
        said, answer = asyncio.run(scenario(url))
    fault = f"MCP server odd rejected a message: HTTP {status[:3]};"
    assert said == f"the {fault} it is being restarted"
    assert fault in caplog.text
    assert answer == (False, [{"type": "text", "text": "pong"}])


@pytest.mark.parametrize("method", ["initialize", "tools/list"])
def test_a_message_rejected_at_the_start_of_the_older_transport_ends_the_start(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for limit in ("_START_TIMEOUT_S", "_LIST_TIMEOUT_S"):
        monkeypatch.setattr(mcp_session, limit, 3600.0)

    async def scenario(definition: Mapping[str, Any]) -> None:
        running = asyncio.Event()
        session = ServerSession(
            definition, lambda: running.set() if session.status == "running" else None
        )
        async with asyncio.timeout(LIMIT_S):
            await running.wait()
            await session.stop()

    with serve(OlderServer("401 Unauthorized", method)) as url:
        asyncio.run(scenario({"name": "odd", "url": url, "headers": {}, "transport": "sse"}))
    assert "MCP server odd rejected a message: HTTP 401; restarting" in caplog.text


def test_a_session_can_be_stopped_while_it_is_being_closed() -> None:
    with serve(OlderServer("401 Unauthorized", "tools/list")) as url:
        definition = {"name": "odd", "url": url, "headers": {}, "transport": "sse"}
        asyncio.run(until_down(definition))


class OlderServer:
    """A server with HTTP+SSE that rejects one message.

    :param status: Status of the rejection.
    :param rejected: Method of the message; only its first one is rejected.
    """

    def __init__(self, status: str, rejected: str = "tools/call") -> None:
        self._status = status
        self._rejected = rejected
        self._called = False
        self._streams: list[queue.Queue[Any]] = []

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "GET":
            self._streams.append(queue.Queue())
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            return self._stream(self._streams[-1])
        sent = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        accepted = sent["method"] != self._rejected or self._called
        self._called = self._called or not accepted
        start_response("202 Accepted" if accepted else self._status, [])
        if accepted and "id" in sent:
            answer = self._answer(sent["method"], sent.get("params"))
            self._streams[-1].put({"jsonrpc": "2.0", "id": sent["id"], **answer})
        return []

    def _stream(self, messages: queue.Queue[Any]) -> Iterator[bytes]:
        yield b"event: endpoint\ndata: /messages\n\n"
        while messages is self._streams[-1]:
            with contextlib.suppress(queue.Empty):
                message = json.dumps(messages.get(timeout=0.1))
                yield f"event: message\ndata: {message}\n\n".encode()
            yield b": alive\n\n"  # fails once the client is gone

    def _answer(self, method: str, params: Any) -> dict[str, Any]:
        results = {
            "initialize": lambda: {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "older", "version": "1"},
            },
            "tools/list": lambda: {"tools": [{"name": "ping", "inputSchema": {"type": "object"}}]},
            "tools/call": lambda: {"content": [{"type": "text", "text": "pong"}]},
        }
        if method not in results:
            return {"error": {"code": -32601, "message": "Method not found"}}
        return {"result": results[method]()}


async def talk(program: str, take: Callable[[Any, Any], Awaitable[None]]) -> str:
    """Run a program as a server until it closes its output, and return the reason of its end."""
    faults: list[str] = []
    server = StdioServer(python(program), lambda text: text)
    async with server.connect(faults.append) as (read, write):
        await take(read, write)
    return "".join(faults) or server.ending


async def read_none(read: Any, write: Any) -> None:
    async for message in read:
        raise AssertionError(message)


def test_a_line_without_end_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_stdio, "MAX_LINE_BYTES", 1000)
    ending = asyncio.run(talk("print('x' * 100_000, flush=True); input()", read_none))
    assert ending == "was stopped: it wrote a line of more than 1000 bytes"


def test_what_is_no_message_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ending = asyncio.run(talk("print('Welcome!\\n\\n{}')", read_none))
    assert ending == "ended with exit code 0"
    assert "wrote a line that is not an MCP message" in caplog.text


def test_all_messages_of_a_batch_are_read_and_its_byte_order_mark_is_not() -> None:
    read: list[Any] = []

    async def read_all(messages: Any, write: Any) -> None:
        read.extend([one.message async for one in messages])

    batch = json.dumps([{"method": "else"}, {"id": 1.0, "result": {}}]).replace("else", "a\tb")
    program = f"import sys\nsys.stdout.buffer.write({batch!r}.encode('utf-8-sig'))"
    asyncio.run(talk(program, read_all))
    assert (read[0].method, repr(read[1].id)) == ("a\tb", "1")


def test_a_talkative_server_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    program = "import sys\nsys.stderr.write(('y' * 5000 + '\\n') * 1000)"

    async def wait_for_log(read: Any, write: Any) -> None:
        async for _ in read:
            pass
        await asyncio.to_thread(wait_for, lambda: "lines are dropped" in caplog.text)

    with caplog.filtering(LogLimit()):
        asyncio.run(talk(program, wait_for_log))
    assert len(caplog.messages) == 100
    assert max(map(len, caplog.messages)) < 1100


class FakeSession:
    """A fake server that only has a state."""

    def __init__(self, definition: Mapping[str, Any], on_change: Callable[[], None]) -> None:
        self.label = definition["name"]
        self.status = "running"
        self.offers: dict[str, Any] = {"tools": [], "resources": [], "prompts": []}
        self.stopped = asyncio.Event()
        self.on_change = on_change

    async def stop(self) -> None:
        self.stopped.set()

    async def execute(self, request: Mapping[str, Any], report: Any) -> Any:
        return False, [{"type": "text", "text": "x" * request["arguments"]["chars"]}]


class Hubs:
    """A hub, its sessions, and workers connected through pipes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, linger_s: float = 3600) -> None:
        self.made: dict[str, FakeSession] = {}
        monkeypatch.setattr(hub, "_LINGER_S", linger_s)
        monkeypatch.setattr(hub, "ServerSession", self._make)
        self.hub = Hub()
        self._tasks: list[asyncio.Task[None]] = []

    def _make(self, definition: Mapping[str, Any], on_change: Callable[[], None]) -> FakeSession:
        session = self.made[definition["name"]] = FakeSession(definition, on_change)
        return session

    async def connect(self, *names: str) -> asyncio.StreamReader:
        import socket

        here, there = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=there)
        self._tasks.append(asyncio.create_task(self.hub.serve(reader, writer)))
        mine, self.writer = await asyncio.open_unix_connection(sock=here, limit=2**25)
        assert json.loads(await mine.readline())["type"] == "hello"
        self.send({"type": "want", "servers": {name: {"name": name} for name in names}})
        for _ in names:
            assert json.loads(await mine.readline())["type"] == "state"
        return mine

    def send(self, message: dict[str, Any]) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def close(self) -> None:
        await self.hub.close()
        self.writer.close()
        await asyncio.gather(*self._tasks)


def test_a_server_runs_as_long_as_any_worker_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        hubs = Hubs(monkeypatch, linger_s=0.01)
        await hubs.connect("a", "b")
        first = hubs.writer
        await hubs.connect("b", "c")
        first.close()
        async with asyncio.timeout(LIMIT_S):
            await hubs.made["a"].stopped.wait()
        assert not hubs.made["b"].stopped.is_set()
        assert not hubs.made["c"].stopped.is_set()
        assert "a" not in hubs.hub.sessions
        await hubs.close()
        assert hubs.made["b"].stopped.is_set()

    asyncio.run(scenario())


def test_a_server_that_is_wanted_again_in_time_is_not_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        hubs = Hubs(monkeypatch)
        await hubs.connect("a")
        before = hubs.made["a"]
        hubs.writer.close()
        await hubs.connect("a")
        assert hubs.made["a"] is before
        assert not before.stopped.is_set()
        await hubs.close()

    asyncio.run(scenario())


def test_of_several_changes_the_last_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        hubs = Hubs(monkeypatch)
        mine = await hubs.connect("a")
        session = hubs.made["a"]
        for status in ("down", "running", "down"):
            session.status = status
            session.on_change()
        assert json.loads(await mine.readline())["status"] == "down"
        hubs.send({"type": "call", "id": 1, "server": "a", "tool": "t", "arguments": {"chars": 1}})
        assert json.loads(await mine.readline())["type"] == "result"
        await hubs.close()

    asyncio.run(scenario())


def test_a_result_beyond_the_line_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        hubs = Hubs(monkeypatch)
        mine = await hubs.connect("a")
        arguments = {"chars": 17 * 1024 * 1024}
        hubs.send({"type": "call", "id": 7, "server": "a", "tool": "t", "arguments": arguments})
        answer = json.loads(await mine.readline())
        assert answer["id"] == 7
        assert answer["failure"] == "the result is too large"
        await hubs.close()

    asyncio.run(scenario())


def test_a_call_of_a_server_that_is_gone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        hubs = Hubs(monkeypatch)
        mine = await hubs.connect("a")
        hubs.send({"type": "call", "id": 1, "server": "z", "tool": "t", "arguments": {}})
        answer = json.loads(await mine.readline())
        assert answer["failure"] == "this MCP server is no longer configured"
        await hubs.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fixed", "status", "other"), [("", 405, True), ("", 401, False), ("http", 405, False)]
)
def test_a_url_that_refuses_streamable_http_is_asked_over_sse(
    fixed: str, status: int, other: bool
) -> None:
    server = UrlServer({"url": "http://127.0.0.1:1/mcp", "headers": {}, "transport": fixed})
    server._statuses.add(status)
    assert server.switch_transport() is other
    # If both transports are down, the first one is tried again.
    assert not server.switch_transport() or not other
