"""The extension in an application with many other features."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask, Request, Response, abort, jsonify, redirect, request

from astrbot_api import AppState, AstrBotAPI, HostUser, SettingsError
from astrbot_api.config.loading import load_settings
from astrbot_api.server.preparing import create_first_access


def _make_host(data_dir: Path, **settings: object) -> Flask:
    host = Flask("host")

    @host.get("/")
    def home() -> object:
        return jsonify(b=1, a=2)

    @host.get("/forbidden")
    def forbidden() -> None:
        abort(403)

    @host.get("/broken")
    def broken() -> None:
        raise RuntimeError("the host's own fault")

    @host.errorhandler(404)
    def not_found(error: Exception) -> tuple[str, int]:
        return "<h1>The host's 404 page</h1>", 404

    @host.errorhandler(403)
    def refused(error: Exception) -> tuple[str, int]:
        return "<h1>The host's 403 page</h1>", 403

    @host.errorhandler(Exception)
    def failed(error: Exception) -> tuple[str, int]:
        return "<h1>The host's 500 page</h1>", 500

    AstrBotAPI(host, data_dir=data_dir, **settings)
    return host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Flask]:
    made = _make_host(tmp_path, url_prefix="/bot")
    yield made
    _close(made)


def create_first_key(data_dir: Path) -> str:
    return create_first_access(load_settings({"data_dir": data_dir})).key or ""


def _close(app: Flask) -> None:
    state: AppState = app.extensions["astrbot_api"]
    state.close()


def test_the_hosts_pages_and_settings_stay_unchanged(host: Flask) -> None:
    client = host.test_client()
    assert client.get("/").get_data() == b'{"a":2,"b":1}\n'
    assert "403 page" in client.get("/forbidden").text
    assert "404 page" in client.get("/nowhere").text
    assert "404 page" in client.get("/api/v1/chat").text
    assert "500 page" in client.get("/broken").text
    assert host.config["MAX_CONTENT_LENGTH"] is None
    assert not [key for key in host.config if key.startswith(("API_", "OPENAPI_"))]


def test_every_error_below_the_prefix_has_the_apis_shape(host: Flask, tmp_path: Path) -> None:
    client = host.test_client()
    key = {"X-API-Key": create_first_key(tmp_path)}
    for path, status in (("chat", 405), ("nope", 404), ("configs/", 404), ("", 404)):
        answer = client.get(f"/bot/api/v1/{path}", headers=key)
        assert (answer.status_code, answer.is_json) == (status, True), path
    for path, status in (("chat", 405), ("nope", 404)):  # a method that no route has
        answer = client.open(f"/bot/api/v1/{path}", method="PROPFIND", headers=key)
        assert (answer.status_code, answer.is_json) == (status, True), path
        assert answer.headers.get("Allow") == ("POST, OPTIONS" if status == 405 else None)
    assert client.open("/bot/api/v1/chat", method="PROPFIND").status_code == 401
    assert client.get("/bot/api/v1/configs").get_json()["message"] == "Missing API key"
    assert client.get("/bot/api/v1/configs", headers=key).get_json()["status"] == "ok"


def test_extensions_find_a_set_of_methods_in_every_rule(host: Flask) -> None:
    """flasgger calls ``rule.methods.difference`` for the rules of the whole application."""
    for rule in host.url_map.iter_rules():
        assert isinstance(rule.methods, set), rule.rule


def test_an_unexpected_exception_is_json_with_an_id_and_no_traceback(
    host: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state: AppState = host.extensions["astrbot_api"]
    key = create_first_key(tmp_path)

    def fail() -> None:
        raise RuntimeError("a detail of the inside")

    monkeypatch.setattr(state.agents.configs, "list_configs", fail)
    answer = host.test_client().get("/bot/api/v1/configs", headers={"X-API-Key": key})
    body = answer.get_json()
    assert (answer.status_code, body["code"]) == (500, "internal_error")
    assert "inside" not in answer.text
    assert "a detail of the inside" in caplog.text
    assert body["request_id"] in caplog.text


@pytest.mark.parametrize(
    ("hook", "status"),
    [
        (lambda: ("Closed for maintenance.", 503), 503),
        (lambda: redirect("/login"), 302),
        (lambda: abort(400, "Closed."), 400),
        (lambda: abort(401, "Closed."), 401),
        (lambda: abort(429, "Closed.", retry_after=7), 429),
        (lambda: abort(451, "Closed."), 451),
        (lambda: abort(502, "Closed."), 502),
    ],
    ids=["response", "redirect", "400", "401", "429", "451", "502"],
)
def test_a_hook_of_the_host_may_answer_first(
    host: Flask, hook: Callable[[], Any], status: int
) -> None:
    host.before_request(hook)
    answer = host.test_client().post("/bot/api/v1/chat", json={"message": "hi"})
    assert (answer.status_code, len(answer.headers["X-Request-ID"])) == (status, 24)
    if answer.is_json:
        assert answer.get_json()["message"] == "Closed."
        assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)


def test_a_refusal_of_authenticate_keeps_its_status(tmp_path: Path) -> None:
    def refuse(request: Request) -> HostUser:
        abort(403, "Your account is suspended.")

    host = _make_host(tmp_path, authenticate=refuse)
    answer = host.test_client().get("/api/v1/chat/sessions")
    assert (answer.status_code, answer.get_json()["message"]) == (403, "Your account is suspended.")
    _close(host)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: "bob", "must return a HostUser or None, not str"),
        (lambda: HostUser(7), "must be a str, not int"),  # type: ignore[arg-type]
        (lambda: HostUser("bob", scopes="chat"), r'as in \("chat",\)'),
    ],
    ids=["str", "number", "scopes"],
)
def test_a_wrong_result_of_authenticate_is_named_in_the_log(
    tmp_path: Path, make: Callable[[], Any], error: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = _make_host(tmp_path, authenticate=lambda request: make())
    assert host.test_client().get("/api/v1/chat/sessions").status_code == 500
    assert re.search(error, caplog.text)
    _close(host)


@pytest.mark.parametrize("read", ["get_data", "form", "files", "json"])
def test_a_hook_of_the_host_may_read_a_body_first(tmp_path: Path, read: str) -> None:
    user = HostUser("bob", scopes=("chat", "file"))
    host = _make_host(tmp_path, url_prefix="/bot", authenticate=lambda request: user)

    @host.before_request
    def look() -> None:
        {
            "get_data": request.get_data,
            "form": lambda: request.form,
            "files": lambda: request.files,
            "json": lambda: request.get_json(silent=True),
        }[read]()

    client = host.test_client()
    name, content = "Grüße 你好.txt", b"x" * 300_000
    form = {"note": "ignored", "file": (BytesIO(content), name)}
    stored = client.post("/bot/api/v1/file", data=form).get_json()["data"]
    assert stored["filename"] == name
    found = client.get(f"/bot/api/v1/file?attachment_id={stored['attachment_id']}")
    assert found.get_data() == content

    begun = client.post(
        "/bot/api/v1/files/upload/init", json={"filename": "b.txt", "total_size": 3}
    ).get_json()["data"]
    chunk = {"upload_id": begun["upload_id"], "chunk_index": "0", "chunk": (BytesIO(b"abc"), "c")}
    sent = client.post("/bot/api/v1/files/upload/chunk", data=chunk)
    assert sent.get_json()["data"]["received"] == 1

    message = orjson.dumps({"message": "hi", "username": "bob", "ignored": "x" * 300_000})
    in_chunks = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    for overrides in ({}, in_chunks):
        answer = client.post(
            "/bot/api/v1/chat", input_stream=BytesIO(message), content_type="application/json",
            content_length=len(message), environ_overrides=overrides,
        )  # fmt: skip
        assert answer.status_code == 200, answer.get_json()
    _close(host)


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "left"])
def test_a_stream_that_a_hook_of_the_host_wraps_ends(tmp_path: Path, is_read: bool) -> None:
    user = HostUser("bob", scopes=("chat",))
    host = _make_host(tmp_path, authenticate=lambda request: user)

    @host.after_request
    def wrap(response: Response) -> Response:
        pieces = response.response
        response.response = (piece for piece in pieces)
        return response

    sent = host.test_client().post("/api/v1/chat", json={"message": "hi"})
    pieces = sent.iter_encoded()
    assert any(b'"end"' in piece for piece in pieces) if is_read else next(pieces)
    sent.close()
    state: AppState = host.extensions["astrbot_api"]
    assert state.chat.streams.open_count == 0
    _close(host)


def test_two_applications_of_one_process_share_nothing(tmp_path: Path) -> None:
    first, second = (_make_host(tmp_path / name) for name in ("one", "two"))
    key = {"X-API-Key": create_first_key(tmp_path / "one")}
    assert first.test_client().get("/api/v1/im/bots", headers=key).status_code == 200
    assert second.test_client().get("/api/v1/im/bots", headers=key).status_code == 401
    for app in (first, second):
        _close(app)


def test_a_second_init_app_is_rejected(host: Flask) -> None:
    with pytest.raises(SettingsError, match="already"):
        AstrBotAPI(host)


def test_a_misspelt_key_of_the_configuration_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("host")
    app.config["ASTRBOT_CORS_ORIGIN"] = "https://shop.example"
    AstrBotAPI(app, data_dir=tmp_path)
    _close(app)
    assert caplog.messages == [
        "ASTRBOT_CORS_ORIGIN is no setting and has no effect; rename it to ASTRBOT_CORS_ORIGINS"
    ]


def test_closing_an_application_during_a_background_job_logs_no_error(
    host: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    state = host.extensions["astrbot_api"]
    chores, begun, closed = state.worker.chores, threading.Event(), threading.Event()

    def read() -> None:
        begun.set()
        closed.wait(30)
        state.keys.usage.list_valid(["abk_x"])

    chores.add(read)
    others = set(threading.enumerate())
    chores.start()
    [thread] = set(threading.enumerate()) - others
    assert begun.wait(30)
    state.close()
    closed.set()
    thread.join(30)
    assert caplog.messages == []


def test_closing_an_application_while_its_outbox_looks_for_deliveries_logs_no_error(
    host: Flask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = host.extensions["astrbot_api"]
    outbox, begun, closed = state.im.outbox, threading.Event(), threading.Event()
    send_due = outbox._send_due

    def send_late() -> float:
        begun.set()
        closed.wait(30)
        return float(send_due())

    monkeypatch.setattr(outbox, "_send_due", send_late)
    others = set(threading.enumerate())
    outbox.start()
    [thread] = set(threading.enumerate()) - others
    assert begun.wait(30)
    state.close()
    closed.set()
    thread.join(30)
    assert caplog.messages == []


def test_an_application_that_matches_hosts_is_rejected(tmp_path: Path) -> None:
    host = Flask("host", host_matching=True, static_host="shop.example")
    with pytest.raises(SettingsError, match="without host_matching=True"):
        AstrBotAPI(host, data_dir=tmp_path)


def test_an_unusable_data_directory_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="ASTRBOT_DATA_DIR: cannot make the folder"):
        AstrBotAPI(Flask("x"), data_dir=tmp_path / "file" / "data")


def test_importing_starts_no_thread_and_patches_nothing() -> None:
    import subprocess
    import sys

    program = (
        "import threading, socket\n"
        "before = (threading.active_count(), socket.socket)\n"
        "import astrbot_api\n"
        "assert (threading.active_count(), socket.socket) == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
