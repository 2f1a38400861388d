"""The server's own application, outside of the API."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import url_for
from werkzeug.routing import Rule

from astrbot_api import AstrBotAPI, create_app

from .conftest import Api


def test_the_root_redirects_to_the_login(api: Api) -> None:
    path = "/"
    while (answer := api.client.get(path)).status_code == 302:
        path = urljoin(path, answer.headers["Location"])
    assert (path, answer.status_code) == ("/admin/login", 200)


@pytest.mark.parametrize("path", ["/nowhere", "/favicon.ico"])
def test_an_unknown_path_is_json_with_an_id(api: Api, path: str) -> None:
    answer = api.client.get(path)
    assert (answer.status_code, answer.get_json()["code"]) == (404, "path_not_found")
    assert answer.headers["X-Request-ID"] == answer.get_json()["request_id"]


def test_a_route_compiles_its_url_when_one_is_built(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    compile_builder = Rule._compile_builder

    def noted(self: Rule, append_unknown: bool = True) -> Any:
        compiled.append(self.rule)
        return compile_builder(self, append_unknown)

    monkeypatch.setattr(Rule, "_compile_builder", noted)
    api = make_api()
    assert not compiled
    with api.app.test_request_context():
        urls = [
            url_for("astrbot_api.runs.get_run", run_id=name, further=1) for name in ("r 1", "r2")
        ]
    assert urls == ["/api/v1/chat/runs/r%201?further=1", "/api/v1/chat/runs/r2?further=1"]
    assert compiled == ["/api/v1/chat/runs/<run_id>"]


def test_shared_caches_store_only_public_files(api: Api) -> None:
    """Varnish stores each response without ``Cache-Control``, unless the request has a cookie."""
    stored = set()
    for rule in api.app.url_map.iter_rules():
        if "GET" not in (rule.methods or ()) or rule.endpoint.startswith(
            ("static", "admin.static")
        ):
            continue
        path = re.sub(r"<[^>]*>", "x", rule.rule)
        with api.get(path, query_string={"username": "alice"}, buffered=False) as answer:
            control = answer.headers.get("Cache-Control", "")
            if not re.search("no-store|private|no-cache", control):
                stored.add((path, answer.status_code))
    assert stored == {("/", 302), ("/api/v1/widget.js", 200)}


def test_a_base_url_with_a_trailing_slash_works(api: Api) -> None:
    answer = api.get("/", environ_overrides={"PATH_INFO": "//api/v1/im/bots"})
    assert answer.get_json()["status"] == "ok"


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("im/bots/", "; remove the slash at its end"),
        ("chat/completions", "; OpenAI's API is at /api/v1/openai"),
        ("models", "; OpenAI's API is at /api/v1/openai"),
        ("im/robots", ""),
        ("providers/x/models", ""),
        ("", ""),
    ],
)
def test_an_unknown_path_names_the_likely_one(api: Api, path: str, advice: str) -> None:
    answer = api.get(f"/api/v1/{path}")
    assert (answer.status_code, answer.get_json()["message"]) == (
        404, f"There is no path /api/v1/{path}{advice}",
    )  # fmt: skip


def test_an_http_1_1_request_without_a_host_is_rejected(api: Api) -> None:
    environ = {"SERVER_PROTOCOL": "HTTP/1.1", "PATH_INFO": "/", "REQUEST_METHOD": "GET"}
    started: list[str] = []
    api.app.wsgi_app(environ, lambda status, headers: started.append(status))  # type: ignore[arg-type, func-returns-value]
    assert started == ["400 Bad Request"]


def test_the_callers_request_id_is_kept_unless_it_could_forge_a_line(api: Api) -> None:
    kept = api.client.get("/api/v1/nope", headers={"X-Request-ID": "trace-1.2_3"})
    assert kept.headers["X-Request-ID"] == "trace-1.2_3"
    forged = api.client.get("/api/v1/nope", headers={"X-Request-ID": "a b=c"})
    assert forged.headers["X-Request-ID"] != "a b=c"


def test_the_access_line_cannot_be_forged_and_holds_no_query(
    make_api: Callable[..., Api],
) -> None:
    api = make_api()
    lines: list[str] = []
    api.http.log_request = lines.append
    api.client.get(f"/api/v1/im%20status=200%0Abots?key={api.key}")
    api.client.get("/api/v1/im%20status=200?key=abk_secret")
    assert all("abk_secret" not in line and api.key not in line for line in lines)
    assert "path=/api/v1/im%20status=200 status=401" in lines[-1]
    assert all("\n" not in line for line in lines)


def test_other_users_cannot_read_the_servers_files(tmp_path: Path) -> None:
    # As in deploy/systemd. nginx's user is in the server's group to read attachments.
    mask = os.umask(0o027)
    try:
        api = AstrBotAPI(find_plugins=False, admin_password="correct horse battery")
        app = create_app({"ASTRBOT_DATA_DIR": tmp_path}, api=api)
        wrong = {"username": "astrbot", "password": "wrong"}
        assert app.test_client().post("/api/auth/login", json=wrong).status_code == 401
        kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
        names = {path.name for path in kept}
        assert names >= {"astrbot.db", "astrbot.db-wal", "events.db", "default.toml"}
        assert [path.name for path in kept if path.stat().st_mode & 0o077] == []
    finally:
        os.umask(mask)
        app.extensions["astrbot_api"].close()


def test_the_page_of_the_prefix_leads_to_the_owners_pages(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_URL_PREFIX="/bot", ASTRBOT_PROXY_HOPS=1)
    for path in ("/", "/bot/"):
        answer = api.client.get(path, headers={"X-Forwarded-Prefix": "/outer"})
        assert urljoin(path, answer.headers["Location"]) == "/bot/admin/"
    missing = api.client.get("/other", headers={"X-Forwarded-Prefix": "/outer"})
    assert missing.json["message"] == "There is nothing here; the API is at /outer/bot/api/v1"
    openai = api.client.post("/v1/chat/completions", headers={"X-Forwarded-Prefix": "/outer"})
    assert "/outer/bot/api/v1, OpenAI's at /outer/bot/api/v1/openai;" in openai.json["message"]
    mcp = api.client.post("/register", headers={"X-Forwarded-Prefix": "/outer"})
    assert mcp.json["message"].endswith(
        "/outer/bot/api/v1/mcp has no OAuth, it needs a valid API key"
    )
    without = api.get("/api/v1/chat", headers={"X-Forwarded-Prefix": "/outer"})
    assert without.json["message"] == (
        "There is no path /api/v1/chat; the API is at /outer/bot/api/v1"
    )
    assert api.get("/bot/api/v1/x").json["message"] == "There is no path /bot/api/v1/x"


@pytest.mark.parametrize(
    ("prefix", "target"),
    [
        ("/bots", "/bots/admin/"),
        ("//evil.example", "/admin/"),
        ("/a,//b", "/admin/"),
    ],
)
def test_a_forwarded_prefix_that_names_a_site_is_ignored(
    make_api: Callable[..., Api], prefix: str, target: str
) -> None:
    api = make_api(ASTRBOT_PROXY_HOPS=1)
    answer = api.client.get("/admin", headers={"X-Forwarded-Prefix": prefix})
    assert answer.headers["Location"] == target


@pytest.mark.parametrize(
    ("path", "target"),
    [("/admin", "/bots/admin/"), ("/admin?a=1", "/bots/admin/?a=1"), ("/admin//keys", None)],
)
def test_no_redirect_names_the_host_of_the_caller(
    make_api: Callable[..., Api], path: str, target: str | None
) -> None:
    api = make_api(ASTRBOT_PROXY_HOPS=1)
    headers = {"Host": "evil.example", "X-Forwarded-Prefix": "/bots"}
    answer = api.client.get(path, headers=headers)
    assert answer.status_code == 308
    assert answer.headers["Location"] == (target or "/bots/admin/keys")
    assert "evil" not in answer.text


def test_an_unreadable_database_is_an_error_without_the_path(api: Api) -> None:
    path = api.state.settings.database_path
    with ExitStack() as lent:
        for _ in range(3):  # the request needs a new connection
            lent.enter_context(api.state.db.read())
        path.rename(path.with_name("moved"))
        path.mkdir()
        answer = api.get("/api/v1/chat/sessions?username=alice")
        path.rmdir()
        path.with_name("moved").rename(path)
    assert (answer.status_code, answer.json["code"]) == (503, "storage_error")
    assert str(path.parent) not in answer.text
