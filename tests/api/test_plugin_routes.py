"""HTTP routes of plugins."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Response, abort, g, request, stream_with_context

from astrbot_api import ApiError, hookimpl, public_route
from astrbot_api.db.keys import create_key
from astrbot_api.testing import ScriptedModel, make_app

BASE = "/api/v1/plugins/extensions"


class Shop:
    """A plugin with routes."""

    name = "shop"

    @hookimpl
    def register_blueprint(self) -> Blueprint:
        blueprint = Blueprint("shop", __name__)

        @blueprint.get("/")
        def show() -> dict[str, Any]:
            return {"root": request.script_root}

        @blueprint.get("/health")
        @public_route
        def health() -> dict[str, Any]:
            return {"caller": g.caller}

        @blueprint.post("/orders/<int:number>")
        def order(number: int) -> dict[str, Any]:
            username = request.args.get("username") or g.caller.username or ""
            g.caller.check_username(username)
            return {"number": number, "username": username, "body": request.get_json()}

        @blueprint.get("/stream")
        def stream() -> Response:
            return Response(iter(["data: 1\n\n", "data: 2\n\n"]), mimetype="text/event-stream")

        @blueprint.get("/lazy")
        @public_route
        def stream_later() -> Response:
            words = (request.args[name] for name in ("first", "second"))
            return Response(stream_with_context(words), mimetype="text/plain")

        @blueprint.get("/broken")
        @public_route
        def broken() -> str:
            raise ValueError("the database has the password hunter2")

        @blueprint.get("/exits")
        @public_route
        def end() -> str:
            raise SystemExit("hunter2")

        @blueprint.get("/refuses")
        @public_route
        def refuse() -> str:
            raise ApiError("invalid_request", "colour must be red or blue")

        @blueprint.get("/status/<int:status>")
        @public_route
        def stop(status: int) -> None:
            abort(status, "sold out")

        return blueprint


class Wrong:
    """Returns no blueprint."""

    name = "wrong"

    @hookimpl
    def register_blueprint(self) -> Any:
        return [health := "no blueprint", health]


class Twice:
    """Its blueprint is invalid: two views have the same name."""

    name = "twice"

    @hookimpl
    def register_blueprint(self) -> Blueprint:
        blueprint = Blueprint("twice", __name__)
        blueprint.add_url_rule("/a", "same", lambda: "a")
        blueprint.add_url_rule("/b", "same", lambda: "b")
        return blueprint


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with make_app(ScriptedModel("hello"), plugins=[Shop, Wrong, Twice]) as app:
        yield app


@pytest.fixture(scope="module")
def key(app: Any) -> str:
    return str(app.create_key("plugin"))


def ask(app: Any, path: str, key: str = "", method: str = "GET", **options: Any) -> Any:
    headers = {"X-API-Key": key} if key else {}
    return app.client.open(BASE + path, method=method, headers=headers, **options)


def test_a_key_with_the_scope_can_call_a_plugins_views(app: Any, key: str) -> None:
    assert ask(app, "/shop", key).json == {"root": f"{BASE}/shop"}
    answer = ask(app, "/shop/orders/7?username=ada", key, "POST", json={"colour": "red"})
    assert answer.json == {"number": 7, "username": "ada", "body": {"colour": "red"}}
    assert "X-Request-ID" in answer.headers
    stream = ask(app, "/shop/stream", key)
    assert stream.text == "data: 1\n\ndata: 2\n\n"
    assert stream.headers["X-Accel-Buffering"] == "no"


@pytest.mark.parametrize(
    "path",
    ["/shop", "/shop/orders/7", "/shop/nothing", "/shop/health/", "/nobody/health"],
)
def test_views_require_a_key_unless_they_are_public(app: Any, path: str) -> None:
    assert (ask(app, path).status_code, ask(app, path).json["code"]) == (401, "missing_api_key")
    refused = ask(app, path, str(app.create_key("chat")))
    assert (refused.status_code, refused.json["code"]) == (403, "insufficient_scope")


def test_a_public_view_needs_none(app: Any) -> None:
    assert ask(app, "/shop/health").json == {"caller": None}
    assert ask(app, "/shop/%68ealth").json == {"caller": None}
    assert ask(app, "/shop/health", method="POST").status_code == 401
    assert ask(app, "/shop//health").status_code == 401
    options = ask(app, "/shop/health", method="OPTIONS")
    assert set(options.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_a_stream_keeps_the_request_of_its_view(app: Any) -> None:
    for _ in range(2):
        assert ask(app, "/shop/lazy?first=a&second=b").text == "ab"
    response = ask(app, "/shop/lazy?first=a&second=b", buffered=False)
    assert next(response.iter_encoded()) == b"a"
    response.close()
    assert ask(app, "/shop/health").json == {"caller": None}


def test_errors_of_plugins_have_the_apis_shape(app: Any, key: str) -> None:
    found = {
        path: (answer.status_code, answer.json["code"])
        for path, answer in {
            path: ask(app, path, key) for path in ("/shop/nothing", "/shop/orders/7", "/nobody")
        }.items()
    }
    assert found == {
        "/shop/nothing": (404, "path_not_found"),
        "/shop/orders/7": (405, "method_not_allowed"),
        "/nobody": (404, "path_not_found"),
    }
    refused = ask(app, "/shop/refuses").json
    assert refused["message"] == "colour must be red or blue"
    bad = ask(app, "/shop/orders/7", key, "POST", data=b"{", content_type="application/json")
    assert (bad.status_code, bad.json["status"]) == (400, "error")


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "key_restricted"), (409, "invalid_request"), (429, "rate_limited")],
)
def test_an_aborted_view_keeps_its_status(app: Any, status: int, code: str) -> None:
    answer = ask(app, f"/shop/status/{status}")
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.json["message"] == "sold out"


@pytest.mark.parametrize("path", ["/broken", "/exits"])
def test_an_exception_is_logged_with_the_plugins_name_and_not_shown(
    app: Any, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = ask(app, f"/shop{path}")
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "shop" in answer.json["message"]
    assert "hunter2" not in answer.text
    assert f"plugin shop failed at GET {path}" in caplog.text
    assert "hunter2" in caplog.text


def test_the_body_limit_applies_before_the_plugin_is_called(key: str) -> None:
    with make_app(ScriptedModel("hello"), plugins=[Shop], max_json_bytes=70_000) as app:
        own = str(app.create_key("plugin"))
        answer = ask(app, "/shop/orders/1", own, "POST", data=b"x" * 70_001)
        assert (answer.status_code, answer.json["code"]) == (413, "body_too_large")


def test_a_bound_key_uses_its_username(app: Any) -> None:
    _, own = app.state.db.write(
        lambda db: create_key(
            db, "ada", ("plugin",), created_by="test", rules='{"username": "ada"}'
        )
    )
    assert ask(app, "/shop/orders/1", own, "POST", json={}).json["username"] == "ada"
    other = ask(app, "/shop/orders/1?username=bob", own, "POST", json={})
    assert (other.status_code, other.json["code"]) == (403, "key_restricted")


def test_an_invalid_blueprint_does_not_affect_other_plugins(app: Any, key: str) -> None:
    records = {one.name: one for one in app.state.agents.plugins.list_records()}
    assert records["wrong"].reason == (
        "register_blueprint must return a flask.Blueprint, not a list"
    )
    assert ask(app, "/wrong", key).status_code == 404
    assert ask(app, "/twice/a", key).status_code == 404
    assert ask(app, "/shop/health").status_code == 200
