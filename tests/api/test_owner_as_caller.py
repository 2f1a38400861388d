"""The owner's login as a key, on ``/api/v1`` and on paths of AstrBot's dashboard."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from astrbot_api.owner.login import change_password

from ..servers import parse_events
from .conftest import Api

PASSWORD = "correct horse battery"


class Owner:
    """The logged-in owner, with a token in a header and no cookie."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.client = api.app.test_client(use_cookies=False)
        body = {"username": "astrbot", "password": PASSWORD}
        answer = self.client.post("/api/v1/auth/login", json=body)
        assert answer.status_code == 200, answer.get_data()
        self.data = answer.get_json()["data"]
        self.headers = {"Authorization": f"Bearer {self.data['token']}"}

    def ask(self, method: str, path: str, **options: Any) -> TestResponse:
        return self.client.open(path, method=method, headers=self.headers, **options)

    def data_of(self, method: str, path: str, **options: Any) -> Any:
        answer = self.ask(method, path, **options)
        assert answer.status_code == 200, answer.get_data()
        return answer.get_json()["data"]


@pytest.fixture
def owner(make_api: Any) -> Owner:
    return Owner(make_api(ASTRBOT_ADMIN_PASSWORD=PASSWORD))


def test_the_owner_can_use_any_username(owner: Owner) -> None:
    assert owner.data["username"] == "astrbot"
    stream = owner.ask("POST", "/api/v1/chat", json={"message": "hi", "session_id": "mine"})
    assert parse_events(stream.get_data())[-1]["type"] == "end"
    other = {"message": "hi", "session_id": "hers", "username": "alice"}
    owner.ask("POST", "/api/v1/chat", json=other).get_data()
    bare = owner.data_of("GET", "/api/v1/chat/sessions")
    assert [(one["session_id"], one["creator"]) for one in bare] == [("mine", "astrbot")]
    paged = owner.data_of("GET", "/api/v1/chat/sessions?page=1&page_size=5&username=alice")
    assert (paged["total"], paged["sessions"][0]["session_id"]) == (1, "hers")
    assert owner.data_of("GET", "/api/v1/chat/sessions/mine")["creator"] == "astrbot"
    for path in ("/configs", "/im/bots", "/providers", "/personas", "/plugins", "/conversations"):
        assert owner.ask("GET", f"/api/v1{path}").status_code == 200, path
    own_key = owner.ask("GET", "/api/v1/keys/self")  # a login has none
    assert (own_key.status_code, own_key.get_json()["code"]) == (403, "key_restricted")
    assert owner.ask("POST", "/api/v1/auth/logout").get_json()["message"] == "已退出登录"
    assert owner.ask("GET", "/api/v1/configs").get_json()["code"] == "invalid_api_key"


@pytest.mark.parametrize("how", ["logout", "password"])
def test_an_inbox_of_the_owner_ends_with_the_login(owner: Owner, how: str) -> None:
    state = owner.api.state
    inbox = owner.ask("GET", "/api/v1/chat/inbox?username=alice")
    chunks = inbox.iter_encoded()
    assert next(chunks)
    state.chat.inbox.seats.end_invalid(state.keys.usage.list_valid)
    assert state.chat.inbox.seats.open_count == 1
    if how == "logout":
        owner.ask("POST", "/api/v1/auth/logout")
    else:
        change_password(state.db, "astrbot", f"new {PASSWORD}", actor="test")
    state.chat.inbox.seats.end_invalid(state.keys.usage.list_valid)
    assert not list(chunks)
    inbox.close()


def test_neither_a_cookie_nor_an_address_gives_access(owner: Owner) -> None:
    browser = owner.api.app.test_client()
    body = {"username": "astrbot", "password": PASSWORD}
    assert browser.post("/api/v1/auth/login", json=body).status_code == 200
    token = owner.data["token"]
    for path in ("/api/v1/configs", "/api/chat/sessions", "/api/v1/api-keys"):
        assert browser.get(path).status_code == 401
        assert browser.get(f"{path}?api_key={token}").status_code == 401
        assert browser.get(path, headers={"X-API-Key": token}).status_code == 401
    sessions = owner.api.client.get("/api/chat/delete_session?session_id=x")
    assert sessions.get_json()["code"] == "missing_api_key"


def test_wrong_passwords_are_refused_and_throttled(owner: Owner) -> None:
    body = {"username": "astrbot", "password": "no"}
    answers = [owner.client.post("/api/v1/auth/login", json=body) for _ in range(11)]
    assert answers[0].get_json()["message"] == "用户名或密码错误"
    assert [one.status_code for one in answers] == [401] * 10 + [429]


def test_the_owner_creates_and_revokes_keys_below_the_newer_path(owner: Owner) -> None:
    body = {"name": "n", "scopes": ["chat", "data"]}
    made = owner.data_of("POST", "/api/v1/api-keys", json=body)
    headers = {"X-API-Key": made["api_key"]}
    assert made["scopes"] == ["chat", "data"]
    assert owner.data_of("GET", "/api/v1/api-keys")[0]["key_id"] == made["key_id"]
    assert owner.client.get("/api/v1/conversations", headers=headers).status_code == 200
    # A key cannot create keys.
    refused = owner.client.get("/api/v1/api-keys", headers={"Authorization": f"Bearer {made}"})
    assert refused.status_code == 401
    path = f"/api/v1/api-keys/{made['key_id']}"
    assert owner.data_of("POST", f"{path}/revoke") == {}
    assert owner.client.get("/api/v1/conversations", headers=headers).status_code == 401
    assert owner.data_of("DELETE", path) == {}
    assert owner.ask("DELETE", path).get_json()["code"] == "key_not_found"


def test_the_paths_of_the_dashboard_are_the_same_routes(owner: Owner) -> None:
    session_id = owner.data_of("GET", "/api/chat/new_session")["session_id"]
    body = {"message": "hi", "session_id": session_id}
    stream = owner.ask("POST", "/api/chat/send", json=body)
    assert stream.content_type == "text/event-stream; charset=utf-8"
    assert parse_events(stream.get_data())[-1]["type"] == "end"
    assert owner.data_of("GET", "/api/chat/sessions")[0]["session_id"] == session_id
    got = owner.data_of("GET", f"/api/chat/get_session?session_id={session_id}")
    assert (got["session"]["session_id"], got["total"]) == (session_id, 2)
    named = {"session_id": session_id, "display_name": "Greetings"}
    owner.data_of("POST", "/api/chat/update_session_display_name", json=named)
    assert owner.data_of("GET", "/api/chat/sessions")[0]["display_name"] == "Greetings"
    stopped = owner.data_of("POST", "/api/chat/stop", json={"session_id": session_id})
    assert stopped == {"stopped_count": 0}
    for method, path in (("GET", "/api/chat/get_session"), ("POST", "/api/chat/stop")):
        assert owner.ask(method, path).get_json()["message"] == "Missing key: session_id"
    large = {"session_id": session_id, "more": "x" * 300_000}
    assert owner.ask("POST", "/api/chat/stop", json=large).get_json()["code"] == "body_too_large"
    owner.data_of("GET", f"/api/chat/delete_session?session_id={session_id}")
    gone = owner.ask("GET", f"/api/chat/get_session?session_id={session_id}")
    assert gone.get_json()["code"] == "session_not_found"
    more = owner.data_of("GET", "/api/chat/new_session")["session_id"]
    body = {"session_ids": [more]}
    deleted = owner.data_of("POST", "/api/chat/batch_delete_sessions", json=body)
    assert deleted["deleted_count"] == 1
    # Errors on these paths are the API's own, too.
    assert owner.client.get("/api/chat/sessions").get_json()["code"] == "missing_api_key"
    assert "start_time" in owner.client.get("/api/stat/start-time").get_json()["data"]


def test_the_paths_of_the_dashboard_send_and_return_files(owner: Owner) -> None:
    kept = owner.data_of("POST", "/api/chat/post_file", data={"file": (BytesIO(b"words"), "a.txt")})
    for path in (
        f"/api/chat/get_attachment?attachment_id={kept['attachment_id']}",
        f"/api/chat/get_file?filename={kept['stored_filename']}",
    ):
        assert owner.ask("GET", path).get_data() == b"words"


def test_without_owner_access_its_login_gives_no_access(make_api: Any) -> None:
    api = make_api(ASTRBOT_ADMIN_PASSWORD=PASSWORD, ASTRBOT_OWNER_ACCESS="off")
    body = {"username": "astrbot", "password": PASSWORD}
    assert api.client.post("/api/v1/auth/login", json=body).status_code == 401
    assert api.get("/api/chat/sessions").status_code == 404
