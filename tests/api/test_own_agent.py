"""An application's own agent and users instead of models and keys."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flask_smorest
import pytest
import waitress
from flask import Flask, Request, current_app
from flask.testing import FlaskClient

from astrbot_api import (
    AstrBotAPI,
    HostUser,
    ProviderError,
    ReasoningDelta,
    ToolContext,
    Usage,
    with_app_context,
)
from astrbot_api.testing import make_app
from examples.embed import shop as shop_module

from ..servers import parse_events

Make = Callable[..., FlaskClient]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Create a host application with the user of the header ``User``, and return its client."""
    apps: list[Flask] = []

    def start(agent: Any, **options: Any) -> FlaskClient:
        app = Flask("host")
        options = {"authenticate": by_header, "data_dir": tmp_path / str(len(apps)), **options}
        AstrBotAPI(app, agent=agent, **options)
        apps.append(app)
        return app.test_client()

    yield start
    for app in apps:
        app.extensions["astrbot_api"].close()


def by_header(request: Request) -> HostUser | None:
    name = request.headers.get("User")
    return HostUser(name) if name else None


def chat(client: FlaskClient, user: str = "ann", **body: Any) -> list[dict[str, Any]]:
    answer = client.post(
        "/api/v1/chat", headers={"User": user}, json={"username": user, "message": "hi", **body}
    )
    assert answer.status_code == 200, answer.text
    return parse_events(answer.get_data())


def event(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(one for one in events if one["type"] == kind)


def test_an_agents_output_is_the_answer_and_is_stored(make: Make) -> None:
    seen = []

    def agent(messages: Sequence[dict[str, Any]], context: ToolContext) -> Iterator[Any]:
        seen.append([(one["role"], one["content"]) for one in messages[1:]])
        yield ReasoningDelta("hm")
        yield "Hello, "
        yield context.username
        yield Usage(3, 0, 2)

    client = make(agent)
    events = chat(client, session_id="s")
    assert event(events, "complete")["data"] == "Hello, ann"
    assert event(events, "complete")["reasoning"] == "hm"
    assert event(events, "agent_stats")["data"]["token_usage"]["output"] == 2
    chat(client, session_id="s", message="again")
    assert seen[1] == [("user", "hi"), ("assistant", "Hello, ann"), ("user", "again")]


def test_an_agent_may_be_a_class_or_return_its_text(make: Make) -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def __call__(self, messages: Any, context: Any) -> str:
            self.count += 1
            return f"turn {self.count}"

    client, other = make(Counter), make(Counter)
    assert event(chat(client), "complete")["data"] == "turn 1"
    assert event(chat(client), "complete")["data"] == "turn 2"
    assert event(chat(other), "complete")["data"] == "turn 1"


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(
    "answer", [{"role": "assistant", "content": "Hello"}, None, 5], ids=lambda one: str(type(one))
)
def test_an_agent_that_returns_no_text_fails_with_the_reason(
    make: Make, caplog: pytest.LogCaptureFixture, answer: Any, wrap: bool
) -> None:
    def agent(messages: Any, context: Any) -> Any:
        return answer

    events = chat(make(with_app_context(Flask("host"), agent) if wrap else agent))
    assert event(events, "error")["code"] == "internal_error"
    assert event(events, "complete")["data"] == event(events, "error")["data"]
    name = type(answer).__name__
    assert "an agent is a plain function that returns a text or yields pieces" in caplog.text
    assert f"this one returned a {name}" in caplog.text


def test_a_provider_that_yields_plain_text_fails_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Plain:
        def stream(self, messages: Any, tools: Any, options: Any) -> Iterator[str]:
            yield "Hello"

    with make_app(providers={"scripted": Plain()}) as app:
        assert event(app.chat(), "error")["code"] == "internal_error"
    assert "a provider yields TextDelta or another delta, not str" in caplog.text


def test_tokens_are_estimated_if_an_agent_reports_none(tmp_path: Path) -> None:
    def agent(messages: Sequence[dict[str, Any]], context: ToolContext) -> str:
        return "words " * 100

    made = make_app(agent=agent, data_dir=tmp_path)
    client, headers = made.client, {"X-API-Key": made.key}
    client.post("/api/v1/chat", headers=headers, json={"username": "a", "message": "hi"}).get_data()
    used = client.get("/api/v1/keys/self", headers=headers).get_json()["data"]["used"]
    assert used["tokens"] > 100
    made.close()


def test_an_agent_that_cannot_be_called_is_refused_at_once(make: Make) -> None:
    with pytest.raises(TypeError, match="agent= must be a function; a str cannot be called"):
        make("shop.agent")


def test_a_function_that_is_not_a_tool_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"Tool objects, as tool\(\) makes them, not a function"):
        AstrBotAPI(tools=[lambda: "late"])  # type: ignore[list-item]


def test_an_agent_in_an_application_context_keeps_its_kind(make: Make) -> None:
    class Agent:
        resumable = True

        def __call__(self, messages: Any, context: Any) -> str:
            return current_app.name

    wrapped = with_app_context(Flask("shop"), Agent)
    assert wrapped.resumable  # type: ignore[attr-defined]
    assert event(chat(make(wrapped)), "complete")["data"] == "shop"


def test_an_agents_exception_becomes_the_matching_error(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def agent(messages: Sequence[dict[str, Any]], context: ToolContext) -> Iterator[Any]:
        yield "so far"
        if "closed" in messages[-1]["content"]:
            raise ProviderError("The stock is closed.")
        if "silent" in messages[-1]["content"]:
            raise ProviderError("")
        if "odd" in messages[-1]["content"]:
            yield 42
        if "exit" in messages[-1]["content"]:
            raise SystemExit("the inside of the shop")
        raise RuntimeError("the inside of the shop")

    client = make(agent)
    failed = event(chat(client, message="closed?"), "error")
    assert (failed["code"], failed["data"]) == ("provider_error", "The stock is closed.")
    silent = event(chat(client, message="silent"), "error")
    assert silent["data"] == "The model's endpoint failed or returned nothing."
    for message in ("break", "odd", "exit"):
        events = chat(client, message=message)
        assert event(events, "error")["code"] == "internal_error"
        assert "inside" not in str(events)
    assert "the inside of the shop" in caplog.text
    assert "an agent yields text or events, not int" in caplog.text


def test_a_stop_ends_an_agent_and_closes_its_resources(make: Make) -> None:
    closed = threading.Event()

    class Words:  # like the stream of a client library: no generator, so only close() ends it
        def __init__(self, context: ToolContext) -> None:
            self._context = context

        def __iter__(self) -> Iterator[str]:
            for _ in range(1000):
                yield "word "
                self._context.cancel.wait(0.05)

        def close(self) -> None:
            closed.set()

    client = make(lambda messages, context: Words(context))
    answer = client.post(
        "/api/v1/chat", headers={"User": "ann"}, buffered=False,
        json={"username": "ann", "session_id": "s", "message": "hi"},
    )  # fmt: skip
    stream = answer.iter_encoded()
    next(one for one in stream if b'"plain"' in one)
    stopped = client.application.test_client().post(
        "/api/v1/chat/sessions/s/stop", headers={"User": "ann"}, json={"username": "ann"}
    )
    assert stopped.status_code == 200
    assert b'"end"' in b"".join(stream)
    assert closed.wait(30)


def test_a_user_of_the_host_cannot_use_another_username(make: Make) -> None:
    client = make(lambda messages, context: "ok")
    chat(client, "bob", session_id="of-bob")
    as_ann = {"User": "ann"}
    for answer in (
        client.post("/api/v1/chat", headers=as_ann, json={"username": "bob", "message": "x"}),
        client.get("/api/v1/chat/sessions?username=bob", headers=as_ann),
        client.get("/api/v1/chat/sessions/of-bob?username=bob", headers=as_ann),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (403, "key_restricted")
    taken = client.post(
        "/api/v1/chat", headers=as_ann,
        json={"username": "ann", "session_id": "of-bob", "message": "x"},
    )  # fmt: skip
    assert taken.status_code == 409
    other_scope = client.get("/api/v1/im/bots", headers=as_ann)
    assert (other_scope.status_code, other_scope.get_json()["code"]) == (403, "insufficient_scope")


def test_requests_without_a_user_or_from_another_site_are_anonymous(make: Make) -> None:
    client = make(lambda messages, context: "ok")
    body = {"username": "ann", "message": "x"}
    nobody = client.post("/api/v1/chat", json=body)
    forged = client.post(
        "/api/v1/chat", headers={"User": "ann", "Origin": "https://evil.example"}, json=body
    )
    for answer in (nobody, forged):
        assert (answer.status_code, answer.get_json()["code"]) == (401, "missing_api_key")
    own = {"User": "ann", "Origin": "http://localhost"}
    assert client.post("/api/v1/chat", headers=own, json=body).status_code == 200


def test_a_link_of_another_site_deletes_no_session(make: Make) -> None:
    client = make(lambda messages, context: "ok")
    chat(client, "ann", session_id="of-ann")
    as_ann = {"User": "ann"}
    answer = client.get("/api/chat/delete_session?session_id=of-ann", headers=as_ann)
    assert (answer.status_code, answer.get_json()["code"]) == (401, "missing_api_key")
    assert client.get("/api/v1/chat/sessions/of-ann", headers=as_ann).status_code == 200


def test_a_link_of_another_site_creates_no_session(make: Make) -> None:
    client, as_ann = make(lambda messages, context: "ok"), {"User": "ann"}
    for path in ("/api/chat/new_session", "/api/v1/chat/sessions/new"):
        answer = client.get(path, headers=as_ann)
        assert (answer.status_code, answer.get_json()["code"]) == (401, "missing_api_key"), path
    listed = client.get("/api/v1/chat/sessions?username=ann", headers=as_ann).get_json()["data"]
    assert listed["total"] == 0
    own = client.post("/api/v1/chat/sessions/new", headers=as_ann, json={})
    assert own.status_code == 200


def test_a_token_of_the_host_in_the_authorization_header_is_its_own(make: Make) -> None:
    def find_user(request: Request) -> HostUser | None:
        return HostUser("ann") if "ann.jwt" in request.headers["Authorization"] else None

    page = "https://app.example"
    client = make(
        lambda messages, context: context.username, authenticate=find_user, cors_origins=[page]
    )

    def ask(secret: str, **headers: str) -> tuple[int, str]:
        answer = client.post(
            "/api/v1/chat", json={"message": "hi", "response_mode": "blocking"},
            headers={"Authorization": secret, **headers},
        )  # fmt: skip
        return answer.status_code, answer.json.get("code", "ok")

    assert ask("Bearer ann.jwt") == (200, "ok")
    for secret in ("Bearer bob.jwt", "Bearer abk_ann.jwt", "ApiKey ann.jwt"):
        assert ask(secret) == (401, "invalid_api_key"), secret
    assert ask("Bearer ann.jwt", **{"X-API-Key": "other"}) == (401, "invalid_api_key")
    assert ask("Bearer ann.jwt", Origin="https://evil.example") == (401, "invalid_api_key")
    assert ask("Bearer ann.jwt", Origin=page) == (200, "ok")
    assert ask("Basic ann.jwt", Origin=page) == (401, "missing_api_key")
    # An application may use this header, which is also that of Azure's clients.
    assert ask("Basic ann.jwt", **{"api-key": "its.token"}) == (200, "ok")
    assert ask("Basic ann.jwt", **{"api-key": "abk_wrong"}) == (401, "invalid_api_key")


def test_a_token_in_the_url_of_a_websocket_admits_no_user_of_the_host(make: Make) -> None:
    """Any page can choose it, and the browser also sends the host's cookie."""
    client = make(lambda messages, context: "ok", cors_origins=["*"])
    for path in ("/api/v1/unified-chat/ws", "/api/v1/unified-chat/ws?token=chosen"):
        forged = client.get(path, headers={"User": "ann", "Origin": "https://evil.example"})
        assert forged.status_code == 401, path
    own = client.get("/api/v1/unified-chat/ws", headers={"User": "ann"})
    assert own.get_json()["code"] == "upgrade_required"


def test_a_user_of_the_host_can_use_every_route(make: Make) -> None:
    client = make(lambda messages, context: "ok")
    headers = {"User": "ann"}
    for path in ("chat/sessions", "chat/sessions?username=ann", "configs"):
        assert client.get(f"/api/v1/{path}", headers=headers).status_code < 500, path
    made = client.post("/api/v1/keys/session", headers=headers, json={"username": "ann"})
    for answer in (made, client.get("/api/v1/keys/self", headers=headers)):
        assert (answer.status_code, answer.get_json()["code"]) == (403, "key_restricted")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Flask]:
    made = shop_module.create_shop(tmp_path / "shop")
    shop_module.add_user(made, "alice", "secret", [("teapot", "on its way")])
    yield made
    made.extensions["astrbot_api"].close()


def test_the_shop_answers_its_own_users(shop: Flask) -> None:
    client = shop.test_client()
    body = {"username": "alice", "message": "Where is my order?"}
    assert client.post("/bot/api/v1/chat", json=body).status_code == 401
    assert client.post("/login", data={"name": "alice", "password": "no"}).status_code == 403
    client.post("/login", data={"name": "alice", "password": "secret"})
    assert "Hello, alice" in client.get("/").text
    answer = client.post("/bot/api/v1/chat", json={**body, "response_mode": "blocking"})
    data = answer.get_json()["data"]
    assert data["message"] == "alice, you have 1 orders.\n- teapot: on its way"
    assert data["parts"][0]["tool_calls"][0]["name"] == "find_orders"
    assert "does not have this" in client.get("/bot/nothing").text
    assert client.get("/bot/api/v1/nothing").get_json()["code"] == "path_not_found"
    client.post("/logout")
    assert client.post("/bot/api/v1/chat", json=body).status_code == 401


def test_a_flask_smorest_api_of_the_host_is_unchanged(tmp_path: Path) -> None:
    app = Flask("host")
    app.config.update(
        API_TITLE="The host's", API_VERSION="1", OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/own", OPENAPI_JSON_PATH="openapi.json",
    )  # fmt: skip
    api = flask_smorest.Api(app)
    own = flask_smorest.Blueprint("pets", __name__, url_prefix="/pets")

    @own.route("/")
    @own.response(200)
    def list_pets() -> list[str]:
        flask_smorest.abort(418, message="short and stout")

    api.register_blueprint(own)
    AstrBotAPI(app, url_prefix="/bot", data_dir=tmp_path)
    client = app.test_client()
    document = client.get("/own/openapi.json").get_json()
    assert document["info"]["title"] == "The host's"
    assert list(document["paths"]) == ["/pets/"]
    theirs = client.get("/bot/api/v1/openapi.json").get_json()
    assert not [path for path in theirs["paths"] if "pets" in path]
    assert client.get("/pets/").get_json()["message"] == "short and stout"
    assert client.get("/bot/api/v1/configs").get_json()["code"] == "missing_api_key"
    app.extensions["astrbot_api"].close()


def test_the_shop_streams_under_waitress(shop: Flask, caplog: pytest.LogCaptureFixture) -> None:
    import http.client
    import json

    caplog.set_level(logging.ERROR)
    server = waitress.create_server(shop, host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.effective_port, timeout=60)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/login", "name=alice&password=secret", form)
        logged_in = connection.getresponse()
        logged_in.read()
        cookie = str(logged_in.getheader("Set-Cookie")).partition(";")[0]
        for message in ("my order?", "and now?"):
            connection.request(
                "POST", "/bot/api/v1/chat", json.dumps({"username": "alice", "message": message}),
                {"Cookie": cookie, "Content-Type": "application/json"},
            )  # fmt: skip
            answer = connection.getresponse()
            assert answer.status == 200
            assert parse_events(answer.read())[-1]["type"] == "end"
        connection.close()
    finally:
        shop.extensions["astrbot_api"].close()
        server.close()
        thread.join(30)
    assert not thread.is_alive()
    assert caplog.text == ""


def test_a_mounted_application_ends_the_streams_of_clients_that_left(make: Make) -> None:
    """Its only thread would otherwise wait for the inbox, which never ends."""
    import http.client

    import uvicorn

    mount = pytest.importorskip("examples.embed.mount", reason="needs a2wsgi")
    app = make(lambda messages, context: "Hello", heartbeat_s=0.1).application
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(mount.MountedFlask(app, workers=1), log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        for path in ("/api/v1/chat/inbox?username=alice", "/api/v1/chat/sessions?username=alice"):
            connection = http.client.HTTPConnection(*listener.getsockname(), timeout=60)
            connection.request("GET", path, headers={"User": "alice"})
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.readline()
            answer.close()
            connection.close()
    finally:
        server.should_exit = True
        app.extensions["astrbot_api"].close()
        thread.join(30)
        listener.close()
    assert not thread.is_alive()
