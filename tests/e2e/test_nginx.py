"""The site of ``deploy/nginx`` in front of two workers passes everything on."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import urllib3

from astrbot_api.db.keys import PUBLIC_SCOPES
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..nginx import ACCEL_PREFIX, FrontedServer, Nginx
from ..servers import create_key, iter_events, parse_events, write_config
from ..waiting import wait_for
from ..websocket import WebSocketClient, handshake

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024

#: Above the server's own limit and below nginx's, then above both.
LIMITS = {"ASTRBOT_MAX_FILE_BYTES": str(MIB), "site": {"ASTRBOT_SITE_MAX_UPLOAD": "2m"}}


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[FrontedServer]:
    write_config(module_dir, fake_model.base_url, agent="titles = false")
    with FrontedServer(module_dir, **LIMITS) as started:
        yield started


@pytest.fixture(scope="module")
def key(server: FrontedServer, module_dir: Path) -> str:
    return create_key(module_dir, *PUBLIC_SCOPES)


def upload(server: FrontedServer, key: str, data: bytes) -> urllib3.BaseHTTPResponse:
    return server.request("POST", "/api/v1/file", key, fields={"file": ("a.bin", data)})


def test_the_first_event_arrives_before_the_last_is_produced(
    server: FrontedServer, key: str, fake_model: FakeOpenAI
) -> None:
    # Small enough for any buffer. The turn is stopped after its first words.
    body = {"username": "a", "session_id": "early", "message": "DELAY=3000 N=4 x"}
    done_before = fake_model.stats()["done"]
    opened = server.open_chat(key, body)
    events = iter_events(opened)
    assert next(one for one in events if one["type"] == "plain")
    stats = fake_model.stats()
    assert (stats["open"], stats["done"]) == (1, done_before)
    stop = "/api/v1/chat/sessions/early/stop"
    assert server.request("POST", stop, key, json={"username": "a"}).status == 200
    assert list(events)[-1]["type"] == "end"
    assert "content-encoding" not in opened.headers


def test_a_broken_stream_resumes(server: FrontedServer, key: str) -> None:
    body = {"username": "a", "message": "DELAY=20 N=30 x"}
    opened = server.open_chat(key, body)
    events = iter_events(opened)
    run_id = next(one for one in events if one["type"] == "run_started")["data"]["run_id"]
    opened.close()
    path = f"/api/v1/chat/runs/{run_id}/stream"
    rest = server.request("GET", path, key, headers={"Last-Event-ID": "3"})
    whole = server.request("GET", path, key)
    assert parse_events(rest.data) == parse_events(whole.data)[3:]
    assert parse_events(rest.data)[-1]["type"] == "end"


def test_a_reload_keeps_open_streams(server: FrontedServer, key: str) -> None:
    body = {"username": "a", "message": "DELAY=50 N=40 x"}
    before = server.list_workers()
    events = iter_events(server.open_chat(key, body))
    assert next(one for one in events if one["type"] == "plain")
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: set(server.list_workers()) - set(before))
    assert server.request("GET", "/api/v1/im/bots", key).status == 200
    *_, complete, _, end = events
    assert (complete["data"].split()[-1], end["type"]) == ("tok39", "end")
    # For the next tests: a worker that stops accepts connections for up to a second.
    wait_for(lambda: not set(server.list_workers()) & set(before))


def test_websockets_work(server: FrontedServer, key: str) -> None:
    with WebSocketClient(server.connect(), handshake(key)) as client:
        assert client.status == 101
        client.send({"t": "ping"})
        assert client.receive() == {"type": "pong"}
        client.send({"username": "a", "message": "ECHO over nginx."})
        assert [one["type"] for one in client.iter_turn()][-1] == "end"


def test_nginx_sends_the_bytes_of_an_attachment(server: FrontedServer, key: str) -> None:
    data = bytes(range(256)) * 2000
    attachment_id = upload(server, key, data).json()["data"]["attachment_id"]
    path = f"/api/v1/files/{attachment_id}/content"
    inner = urllib3.request(
        "GET", f"http://127.0.0.1:{server.inner_port}{path}", headers={"X-API-Key": key}
    )
    assert inner.data == b""
    assert inner.headers["x-accel-redirect"].startswith(f"{ACCEL_PREFIX}/")
    answer = server.request("GET", path, key)
    assert (answer.status, answer.data) == (200, data)
    assert "x-accel-redirect" not in answer.headers
    for name in ("etag", "x-content-type-options", "content-security-policy", "cache-control",
                 "content-disposition", "content-type", "last-modified"):  # fmt: skip
        assert answer.headers.getlist(name) == inner.headers.getlist(name), name
    part = server.request(
        "GET", path, key, headers={"Range": "bytes=10-19", "If-Range": answer.headers["etag"]}
    )
    assert (part.status, part.data) == (206, data[10:20])
    kept = server.request("GET", path, key, headers={"If-None-Match": answer.headers["etag"]})
    assert (kept.status, kept.data) == (304, b"")
    beyond = server.request("GET", path, key, headers={"Range": f"bytes={len(data)}-"})
    assert (beyond.status, beyond.json()["code"]) == (416, "range_not_satisfiable")


def test_the_attachments_location_is_internal(server: FrontedServer, key: str) -> None:
    attachment_id = upload(server, key, b"hidden").json()["data"]["attachment_id"]
    path = f"/api/v1/files/{attachment_id}/content"
    inner = urllib3.request(
        "GET", f"http://127.0.0.1:{server.inner_port}{path}", headers={"X-API-Key": key}
    )
    answer = server.request("GET", inner.headers["x-accel-redirect"], key)
    assert (answer.status, answer.json()["code"]) == (404, "path_not_found")
    assert b"hidden" not in answer.data


def test_nginx_in_the_same_group_can_read_the_attachments(
    server: FrontedServer, key: str, module_dir: Path
) -> None:
    upload(server, key, b"for the group")
    modes = {one.stat().st_mode & 0o777 for one in (module_dir / "files").rglob("*-*")}
    assert modes == {0o640}


@pytest.mark.parametrize("size_bytes", [MIB + MIB // 2, 3 * MIB], ids=["server", "nginx"])
def test_an_upload_above_the_limit_gets_a_json_error(
    server: FrontedServer, key: str, size_bytes: int
) -> None:
    answer = upload(server, key, bytes(size_bytes))
    body = answer.json()
    assert (answer.status, body["code"], body["status"]) == (413, "body_too_large", "error")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"


def _send_head(connection: socket.socket, head: str) -> tuple[int, dict[str, Any]]:
    """Send the head of a request, and return the status and the JSON of the response."""
    with connection:
        connection.sendall(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = orjson.loads(answer.read())
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return answer.status, body


@pytest.mark.parametrize("proxied", [True, False])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /api/v1/im bots HTTP/1.1", 400),
        ("GET /api/v1/im/bots HTTP/1.1\r\nContent-Length: x", 400),
        (f"GET /?{'a' * 6000} HTTP/1.1", 414),
        (f"GET /?{'a' * 20_000} HTTP/1.1", 414),
        (f"GET / HTTP/1.1\r\nX-Long: {'a' * 9000}", 431),
        (f"GET / HTTP/1.1\r\nX-Long: {'a' * 20_000}", 431),
    ],
)
def test_a_request_that_is_no_valid_http_gets_a_json_error(
    server: FrontedServer, head: str, status: int, proxied: bool
) -> None:
    inner = ("127.0.0.1", server.inner_port)
    connection = server.connect() if proxied else socket.create_connection(inner, timeout=60)
    answered, body = _send_head(connection, head)
    assert (answered, body["status"], body["code"]) == (status, "error", "invalid_request")
    assert body["message"]


@pytest.mark.parametrize("proxied", [True, False])
def test_an_unknown_transfer_encoding_is_not_tried_again(
    server: FrontedServer, proxied: bool
) -> None:
    inner = ("127.0.0.1", server.inner_port)
    connection = server.connect() if proxied else socket.create_connection(inner, timeout=60)
    status, body = _send_head(connection, "POST / HTTP/1.1\r\nTransfer-Encoding: odd")
    assert (status, body["code"]) == (501, "invalid_request")
    assert body["message"].endswith("Transfer-Encoding can only be chunked.")


def test_nginx_answers_a_path_with_a_nul_in_json(server: FrontedServer) -> None:
    status, body = _send_head(server.connect(), "GET /api/v1/im/bots%00 HTTP/1.1")
    assert (status, body["message"][:32]) == (400, "The request is not valid HTTP/1.")


def test_nginx_rejects_trace_and_plain_http_in_json(server: FrontedServer) -> None:
    status, body = _send_head(server.connect(), "TRACE /api/v1/im/bots HTTP/1.1")
    assert (status, body["code"]) == (405, "method_not_allowed")
    plain = socket.create_connection(("127.0.0.1", server.nginx.port), timeout=60)
    status, body = _send_head(plain, "GET /api/v1/im/bots HTTP/1.1")
    assert (status, body["message"][-18:]) == (400, " over TLS (https).")


def test_forged_forwarding_headers_are_ignored(server: FrontedServer, key: str) -> None:
    forged = {
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "ftp",
        "X-Forwarded-For": "192.0.2.1",
    }
    answer = server.request("GET", "/api/v1/openapi.json", headers=forged)
    assert (answer.status, "paths" in answer.json()) == (200, True)
    assert b"evil" not in answer.data
    redirect = server.request("GET", "/", headers=forged, redirect=False)
    assert redirect.status == 302
    assert "evil" not in redirect.headers["location"]
    assert "ftp:" not in redirect.headers["location"]


def test_keys_in_queries_are_not_logged(server: FrontedServer, key: str) -> None:
    answer = server.request(
        "GET", f"/api/v1/im/bots?api_key={key}", headers={"X-Request-ID": "seen-in-the-log"}
    )
    assert answer.status == 200
    # nginx writes its log line after the response.
    wait_for(lambda: "seen-in-the-log" in server.nginx.read_log())
    log = server.nginx.read_log()
    assert "GET /api/v1/im/bots HTTP/1.1" in log
    assert key not in log


def test_http_2_is_offered_and_plain_http_is_redirected_to_tls(server: FrontedServer) -> None:
    context = ssl.create_default_context(cafile=str(server.nginx.certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with server.nginx.connect(context) as connection:
        assert connection.selected_alpn_protocol() == "h2"
    plain = urllib3.request(
        "GET", f"http://127.0.0.1:{server.nginx.plain_port}/api/v1/docs", redirect=False
    )
    assert plain.status == 308
    assert plain.headers["location"].startswith("https://")


def test_a_stopped_server_is_a_503_in_json(tmp_path: Path) -> None:
    site = Nginx(tmp_path, f"server unix:{tmp_path}/none.sock;", tmp_path)
    try:
        pool = urllib3.PoolManager(ca_certs=str(site.certificate), retries=False)
        answer = pool.request("GET", f"https://127.0.0.1:{site.port}/api/v1/im/bots")
        pool.clear()
        assert (answer.status, answer.json()["code"]) == (503, "server_busy")
        assert answer.headers["retry-after"] == "2"
    finally:
        site.stop()
