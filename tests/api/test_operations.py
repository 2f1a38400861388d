"""``/healthz``, ``/readyz``, ``/metrics``, and the JSON log."""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from astrbot_api import AstrBotAPI, build_operations
from astrbot_api.errors import StorageError
from astrbot_api.http import checks
from astrbot_api.http.checks import ReadinessChecks
from astrbot_api.runtime.logs import JsonFormatter, LineFormatter, set_log_fields

from .conftest import Api


def _figures(api: Api) -> dict[tuple[str, ...], float]:
    answer = api.client.get("/metrics")
    assert answer.status_code == 200, answer.data
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.get_data(as_text=True))
        for sample in family.samples
    }


def test_the_health_check_needs_no_key(api: Api) -> None:
    answer = api.client.get("/healthz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_a_ready_server_lists_each_check_with_its_time(api: Api) -> None:
    answer = api.client.get("/readyz")
    assert answer.status_code == 200
    body = answer.get_json()
    assert body["status"] == "ready"
    assert set(body["checks"]) == {"database", "journal", "storage", "provider"}
    assert all(check["ok"] and check["ms"] >= 0 for check in body["checks"].values())


def test_a_failed_check_is_named_with_503_and_no_secret(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    api = make_api(
        'name = "default"\n[provider]\ntype = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
        'api_key_env = "NO_SUCH_KEY"\n'
    )

    def fail(*_: Any) -> None:
        raise ValueError("/secret/path")

    monkeypatch.setattr(type(api.state.files.storage), "check", fail)
    answer = api.client.get("/readyz")
    assert answer.status_code == 503
    body = answer.get_json()
    assert body["status"] == "unavailable"
    assert "NO_SUCH_KEY" in body["checks"]["provider"]["message"]
    assert "log has the details" in body["checks"]["storage"]["message"]
    assert "secret" not in answer.get_data(as_text=True)
    assert body["checks"]["database"]["ok"]


@pytest.mark.parametrize("broken", ["files/tmp", "files"])
def test_a_folder_that_takes_no_files_is_reported_until_it_is_repaired(
    api: Api, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(checks, "_FRESH_S", 0.0)
    folder = api.state.settings.data_dir / broken
    folder.parent.mkdir(exist_ok=True)
    folder.write_bytes(b"")  # unusable for root, too
    answer = api.client.get("/readyz")
    assert answer.status_code == 503
    message = answer.get_json()["checks"]["storage"]["message"]
    assert message.startswith(f"files cannot be stored in {api.state.settings.files_dir}")
    assert "the server's user may write" in message
    folder.unlink()
    (api.state.settings.files_dir / "tmp").mkdir(parents=True)
    assert api.client.get("/readyz").status_code == 200
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_a_link_to_an_unmounted_disk_is_reported(api: Api) -> None:
    folder = api.state.settings.files_dir
    folder.symlink_to("/no/such/disk")
    found = api.client.get("/readyz").get_json()["checks"]["storage"]
    assert found["message"].startswith(f"files cannot be stored in {folder}")


@pytest.mark.parametrize("restored", [False, True])
def test_a_database_file_that_was_replaced_takes_no_data_until_a_restart(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    monkeypatch.setattr(checks, "_FRESH_S", 0.0)
    api = make_api(database_url="")
    path = api.state.settings.database_path
    body = {"message": "Hello", "username": "alice", "response_mode": "blocking"}
    assert api.post("/api/v1/chat", json=body).status_code == 200
    saved = path.rename(path.with_name("saved.db"))
    if restored:
        path.write_bytes(saved.read_bytes())
    assert api.post("/api/v1/chat", json=body).get_json()["code"] == "storage_error"
    found = api.client.get("/readyz").get_json()["checks"]["database"]
    assert found["message"].endswith("restart the server")
    saved.rename(path)
    assert api.post("/api/v1/chat", json=body).status_code == 200
    assert api.client.get("/readyz").status_code == 200


def test_a_database_without_its_tables_is_reported_with_the_missing_one(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_FRESH_S", 0.0)
    for old, new, status in (("api_key", "gone", 503), ("gone", "api_key", 200)):
        sql = f"ALTER TABLE {old} RENAME TO {new}"
        api.state.db.write(lambda db, sql=sql: db.execute_sql(sql))  # type: ignore[misc]
        answer = api.client.get("/readyz")
        assert answer.status_code == status
        message = answer.get_json()["checks"]["database"].get("message", "")
        assert ("no such table: api_key" in message) == (status == 503)


def test_a_hanging_check_is_reported_and_not_started_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "BOUND_S", 0.05)
    monkeypatch.setattr(checks, "_FRESH_S", 0.0)
    go_on, begun = threading.Event(), []

    def hang() -> None:
        begun.append(1)
        go_on.wait(30)

    def refuse() -> None:
        raise StorageError("The database is away.")

    readiness = ReadinessChecks({"slow": hang, "bad": refuse})
    for _ in range(3):
        found = readiness.run()
        assert found["slow"]["message"].startswith("no answer within")
        assert found["bad"]["message"] == "The database is away."
    assert begun == [1]
    go_on.set()


def test_a_stopping_server_is_not_ready(api: Api) -> None:
    api.state.chat.runs.drain()
    answer = api.client.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (503, {"status": "stopping"})


def test_requests_turns_tokens_and_uploads_are_counted(api: Api) -> None:
    api.chat("Hello")
    api.chat("Hello", session_id="again")
    api.post("/api/v1/file", data={"file": (io.BytesIO(b"abc"), "a.txt")})
    api.client.get("/api/v1/im/bots")
    api.get("/api/v1/no/such/path/secret")
    found = _figures(api)
    assert found["astrbot_requests_total", "POST", "/api/v1/chat", "200"] == 2
    assert found["astrbot_requests_total", "GET", "/api/v1/im/bots", "401"] == 1
    assert found["astrbot_request_seconds_count", "/api/v1/chat"] == 2
    assert found["astrbot_runs_total", "completed"] == 2
    assert found["astrbot_tokens_total", "output"] > 0
    assert found["astrbot_first_token_seconds_count",] == 2
    assert found["astrbot_upload_bytes_total",] == 3
    assert found["astrbot_streams_open",] == api.state.chat.streams.open_count
    assert found["astrbot_runs_active", "running"] == 0
    assert not any("secret" in label for key in found for label in key)


def test_metrics_are_local_unless_a_token_is_set(
    make_api: Callable[..., Api],
) -> None:
    api, guarded, off = make_api(), make_api(ASTRBOT_METRICS_TOKEN="hush"), make_api(
        ASTRBOT_METRICS="0"
    )  # fmt: skip

    def ask(of: Api, path: str = "/metrics", **options: Any) -> TestResponse:
        return of.client.get(path, **options)

    away = {"REMOTE_ADDR": "192.0.2.7"}
    assert ask(api).status_code == 200
    refused = ask(api, environ_overrides=away)
    assert (refused.status_code, "ASTRBOT_METRICS_TOKEN" in refused.text) == (403, True)
    assert ask(api, headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 403
    assert "checks" not in ask(api, "/readyz", environ_overrides=away).get_json()
    assert ask(guarded).status_code == 401
    assert ask(guarded).headers["WWW-Authenticate"].startswith("Bearer")
    assert ask(guarded, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert (
        ask(
            guarded, environ_overrides=away, headers={"Authorization": "Bearer hush"}
        ).status_code == 200
    )  # fmt: skip
    assert ask(off).status_code == 404


def test_metrics_are_readable_over_the_servers_unix_socket(api: Api) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        over = {"REMOTE_ADDR": "", "gunicorn.socket": ours}
        assert api.client.get("/metrics", environ_overrides=over).status_code == 200
        forwarded = {**over, "HTTP_X_FORWARDED_FOR": "192.0.2.7"}
        assert api.client.get("/metrics", environ_overrides=forwarded).status_code == 403


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_proxy_of_another_user_gets_no_metrics_over_the_unix_socket(api: Api) -> None:
    """Without further lines, nginx sends Host: localhost and no X-Forwarded-For."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as proxy:
        listener.bind("")  # a name without a file, which any user may open
        listener.listen()
        os.seteuid(65534)
        try:
            proxy.connect(listener.getsockname())
        finally:
            os.seteuid(0)
        ours, _ = listener.accept()
        with ours:
            over = {"REMOTE_ADDR": "", "gunicorn.socket": ours}
            assert api.client.get("/metrics", environ_overrides=over).status_code == 403
            assert "checks" not in api.client.get("/readyz", environ_overrides=over).get_json()


def test_an_embedding_application_chooses_the_paths(tmp_path: Any) -> None:
    app = Flask("host")
    state = AstrBotAPI(data_dir=tmp_path, url_prefix="/bot").init_app(app)
    app.register_blueprint(build_operations(), url_prefix="/bot")
    client = app.test_client()
    assert client.get("/healthz").status_code == 404
    assert client.get("/bot/healthz").status_code == 200
    assert b"astrbot_runs_active" in client.get("/bot/metrics").data
    state.close()


def test_a_request_is_one_json_object_in_the_log(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_LOG_FORMAT="json")
    lines: list[str] = []
    api.http.log_request = lines.append
    api.get('/api/v1/im/bots?key=abk_secret"', headers={"X-Request-ID": "r1"})
    api.get("/api/v1/im/bots", headers={"X-Request-ID": "r2"})
    refused, done = (orjson.loads(line) for line in lines)
    assert (refused["status"], refused["request_id"]) == (401, "r1")
    assert "key_prefix" not in refused
    assert (done["status"], done["key_prefix"], done["request_id"]) == (200, api.key[:12], "r2")
    assert done["time"].endswith("+00:00")
    assert "secret" not in "".join(lines)


def test_a_log_line_has_its_session_and_run() -> None:
    set_log_fields(session="s1", run="r1")
    try:
        raise ValueError("x\ny\ud800")
    except ValueError:
        record = logging.LogRecord("astrbot_api.x", logging.ERROR, "f", 1, "no %s", ("luck",), None)
        record.exc_info = sys.exc_info()
    line = JsonFormatter().format(record)
    assert "\n" not in line
    told = orjson.loads(line)
    assert (told["level"], told["message"]) == ("ERROR", "no luck")
    assert (told["session"], told["run"]) == ("s1", "r1")
    assert "ValueError" in told["exception"]
    set_log_fields()


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8000", 200), ("[::1]", 200), ("localhost:1", 200), ("rebound.example:80", 403)],
)
def test_dns_rebinding_does_not_expose_metrics(api: Api, host: str, status: int) -> None:
    assert api.client.get("/metrics", headers={"Host": host}).status_code == status
    checks = api.client.get("/readyz", headers={"Host": host}).get_json()
    assert ("checks" in checks) == (status == 200)


def test_a_text_of_a_user_cannot_forge_a_log_line() -> None:
    name = "bob\nERROR forged\r\x1b[2J\u2028\u202e é"
    record = logging.LogRecord("x", logging.INFO, "", 0, "no answer for %s", (name,), None)
    line = LineFormatter("%(levelname)s %(message)s").format(record)
    assert line == "INFO no answer for bob\\nERROR forged\\r\\x1b[2J\\u2028\\u202e é"
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert LineFormatter().format(record).endswith("\nValueError: \\x1b[2J")


def test_a_long_log_line_is_truncated() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", ("a" * 8_000_000,), None)
    for formatter in (LineFormatter(), JsonFormatter()):
        assert len(formatter.format(record)) < 17_000
