"""The owner's login and key management over HTTP."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from astrbot_api import create_app
from astrbot_api.chores import remove_old_rows
from astrbot_api.cli.main import main
from astrbot_api.db import audit, keys
from astrbot_api.db.models.keys import KeyUse
from astrbot_api.errors import StorageError
from astrbot_api.http import request_body
from astrbot_api.runtime.addresses import name_customer

from ..waiting import wait_for
from .conftest import Api
from .uploading import SlowBody

PASSWORD = "a long enough password"


pytestmark = pytest.mark.usefixtures("cheap_hashes")


@pytest.fixture
def owned(make_api: Callable[..., Api]) -> Api:
    return make_api(ASTRBOT_ADMIN_PASSWORD=PASSWORD)


def log_in(client: FlaskClient, password: str = PASSWORD, name: str = "astrbot") -> TestResponse:
    return client.post("/api/auth/login", json={"username": name, "password": password})


@pytest.fixture
def token(owned: Api) -> str:
    with owned.app.test_client() as client:
        return str(log_in(client).json["data"]["token"])


@pytest.fixture
def post(owned: Api, token: str) -> Callable[..., TestResponse]:
    def send(path: str, **body: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {token}"}
        return owned.app.test_client().post(f"/api/apikey/{path}", headers=headers, json=body)

    return send


def actions(api: Api) -> list[str]:
    with api.state.db.read() as db:
        return [entry["action"] for entry in audit.list_entries(db)]


def test_the_right_password_gets_a_token_for_the_keys(owned: Api, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    answer = owned.client.get("/api/apikey/list", headers=headers)
    assert answer.status_code == 200
    assert [key["name"] for key in answer.json["data"]] == ["test"]


def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(owned: Api) -> None:
    wrong = log_in(owned.client, "no").json
    unknown = log_in(owned.client, name="nobody").json
    long = log_in(owned.client, "x" * 2000).json
    assert wrong["message"] == unknown["message"] == long["message"]
    assert wrong["code"] == unknown["code"] == long["code"] == "login_failed"
    assert actions(owned) == ["login_failed"] * 3


def test_an_api_key_has_no_owner_access(owned: Api) -> None:
    headers = {"Authorization": f"Bearer {owned.key}"}
    answer = owned.client.get("/api/apikey/list", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (401, "login_expired")


@pytest.mark.parametrize("carrier", ["query", "X-API-Key", "ApiKey"])
def test_the_owners_token_is_accepted_only_as_a_bearer_token(
    owned: Api, token: str, carrier: str
) -> None:
    query = {"api_key": token} if carrier == "query" else {}
    headers = {"X-API-Key": token} if carrier == "X-API-Key" else {}
    if carrier == "ApiKey":
        headers = {"Authorization": f"ApiKey {token}"}
    answer = owned.client.get("/api/v1/configs", query_string=query, headers=headers)
    assert (answer.status_code, answer.json["message"]) == (401, "Invalid API key")


def test_a_logged_out_token_gets_401(owned: Api, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    client = owned.app.test_client()
    assert client.post("/api/auth/logout", headers=headers).status_code == 200
    answer = client.get("/api/apikey/list", headers=headers)
    assert (answer.status_code, answer.json["message"]) == (401, "Token 无效")


@pytest.mark.parametrize("path", ["/api/apikey/create", "/api/v1/api-keys", "/api/v1/im/message"])
def test_a_slow_body_is_refused_after_its_login_has_ended(
    owned: Api, token: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(request_body, "_SLOW_BODY_S", 0.0)
    headers, client = {"Authorization": f"Bearer {token}"}, owned.app.test_client()

    def log_out() -> None:
        owned.app.test_client().post("/api/auth/logout", headers=headers)

    def send(meanwhile: Callable[[], object]) -> int:
        body = SlowBody(b'{"name": "another"}', meanwhile)
        return client.post(
            path, headers=headers, content_type="application/json", content_length=19,
            input_stream=body,
        ).status_code  # fmt: skip

    assert send(lambda: None) != 401
    assert send(log_out) == 401


def test_a_login_expires(owned: Api, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    later = keys.now_us() + 25 * 3600 * 1_000_000
    monkeypatch.setattr("astrbot_api.db.owners.now_us", lambda: later)
    headers = {"Authorization": f"Bearer {token}"}
    assert owned.client.get("/api/apikey/list", headers=headers).status_code == 401


def test_a_logout_needs_the_token_of_a_page_but_no_login(owned: Api) -> None:
    client = owned.client
    assert client.post("/api/auth/logout").status_code == 200
    log_in(client)
    refused = client.post("/api/auth/logout")
    assert (refused.status_code, refused.json["code"]) == (403, "csrf_failed")
    assert client.get("/api/apikey/list").status_code == 200


def test_a_cookie_alone_can_read_but_not_change(owned: Api) -> None:
    client = owned.client
    assert log_in(client).status_code == 200
    assert client.get("/api/apikey/list").status_code == 200
    refused = client.post("/api/apikey/create", json={"name": "x"})
    assert (refused.status_code, refused.json["code"]) == (403, "csrf_failed")
    cookie = client.get_cookie("astrbot_owner")
    assert cookie is not None
    assert (cookie.http_only, cookie.same_site) == (True, "Strict")
    login = owned.state.owner
    found = login.find_login(cookie.value)
    assert found is not None
    headers = {"X-CSRF-Token": login.csrf_token(found)}
    assert client.post("/api/apikey/create", json={}, headers=headers).status_code == 200


def test_every_worker_rejects_the_eleventh_failure_of_an_address(owned: Api) -> None:
    # A second application with the same data acts like a second worker.
    other = create_app({"ASTRBOT_DATA_DIR": str(owned.state.settings.data_dir)})
    clients = [owned.client, other.test_client()]
    answers = [log_in(clients[number % 2], "no") for number in range(12)]
    assert [one.status_code for one in answers] == [401] * 10 + [429] * 2
    right = log_in(clients[1])
    assert right.status_code == 429
    assert 0 < int(right.headers["Retry-After"]) <= 900
    elsewhere = owned.client.post(
        "/api/auth/login",
        json={"username": "astrbot", "password": PASSWORD},
        environ_base={"REMOTE_ADDR": "192.0.2.7"},
    )
    assert elsewhere.status_code == 200
    assert actions(owned).count("login_throttled") == 1
    other.extensions["astrbot_api"].close()


def test_a_known_browser_counts_apart_only_for_its_own_name(owned: Api) -> None:
    browser = owned.app.test_client()
    assert log_in(browser).status_code == 200
    assert [log_in(browser, name="root").status_code for _ in range(10)] == [401] * 10
    assert log_in(owned.app.test_client()).status_code == 429, "they count for its address"
    assert log_in(browser).status_code == 200


def test_failures_before_a_clock_change_lock_nobody_out(
    owned: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    tomorrow = keys.now_us() + keys.DAY_US
    with monkeypatch.context() as ahead:
        ahead.setattr("astrbot_api.db.owners.now_us", lambda: tomorrow)
        assert [log_in(owned.client, "no").status_code for _ in range(11)] == [401] * 10 + [429]
    assert log_in(owned.client).status_code == 200


def log_in_from(api: Api, number: int, password: str = "no") -> TestResponse:
    """Try to log in from another address."""
    return api.client.post(
        "/api/auth/login",
        json={"username": "astrbot", "password": password},
        environ_base={"REMOTE_ADDR": f"192.0.2.{number}"},
    )


def test_strangers_can_delay_a_login_but_not_lock_it(
    owned: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(owned.state.owner, "_wait", waits.append)
    statuses = {log_in_from(owned, number).status_code for number in range(50)}
    assert statuses == {401}
    assert waits == [2.0] * 30
    assert log_in_from(owned, 99, PASSWORD).status_code == 200
    assert actions(owned).count("login_throttled") == 1


def test_the_number_of_waiting_attempts_is_limited(
    owned: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned.state.owner, "_wait", lambda seconds: None)
    for number in range(21):
        log_in_from(owned, number)
    monkeypatch.setattr(owned.state.owner, "_waiting", 20)
    refused = log_in_from(owned, 50)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")


def test_a_known_browser_has_its_own_failure_counter(
    owned: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(owned.state.owner, "_wait", waits.append)
    assert log_in_from(owned, 1, PASSWORD).status_code == 200
    cookie = owned.client.get_cookie("astrbot_browser")
    assert cookie is not None
    owned.client.delete_cookie("astrbot_browser")
    for number in range(30):  # strangers, while the owner's own address is blocked
        log_in_from(owned, 1 if number < 11 else number)
    assert log_in_from(owned, 1, PASSWORD).status_code == 429
    waits.clear()
    owned.client.set_cookie("astrbot_browser", cookie.value)
    assert log_in_from(owned, 1, PASSWORD).status_code == 200
    assert waits == []
    # Its own failures block it, and a forged cookie counts as a stranger's.
    assert [log_in_from(owned, 1).status_code for _ in range(11)] == [401] * 10 + [429]
    owned.client.set_cookie("astrbot_browser", f"{cookie.value}x")
    assert log_in_from(owned, 77, PASSWORD).status_code == 200


def test_passwords_of_strangers_are_checked_one_at_a_time(
    owned: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in_from(owned, 1, PASSWORD).status_code == 200  # now a known browser
    checking, go_on = threading.Semaphore(0), threading.Event()

    def check(password_hash: str | None, password: str) -> bool:
        if password == "no":
            checking.release()
            go_on.wait(60)
        return password == PASSWORD

    monkeypatch.setattr("astrbot_api.owner.login.verify_password", check)

    def guess(number: int) -> int:
        client = owned.app.test_client()
        return client.post(
            "/api/auth/login",
            json={"username": "astrbot", "password": "no"},
            environ_base={"REMOTE_ADDR": f"192.0.2.{number}"},
        ).status_code

    with ThreadPoolExecutor(3) as threads:
        guesses = [threads.submit(guess, number) for number in (7, 8, 9)]
        assert checking.acquire(timeout=60)
        wait_for(lambda: owned.count_rows("login_failure") == 4)  # three addresses and the name
        assert log_in_from(owned, 1, PASSWORD).status_code == 200
        assert not checking.acquire(blocking=False)
        go_on.set()
        assert [one.result() for one in guesses] == [401] * 3


def test_addresses_of_one_ipv6_network_share_a_counter() -> None:
    assert name_customer("2001:db8::1") == name_customer("2001:db8::ffff:1")
    assert name_customer("2001:db8::1") != name_customer("2001:db8:0:1::1")
    # IPv4 addresses on a dual-stack socket are separate addresses.
    assert name_customer("::ffff:192.0.2.1") == name_customer("192.0.2.1")
    assert name_customer("::ffff:192.0.2.1") != name_customer("::ffff:192.0.2.2")


def test_a_new_password_ends_logins_and_resets_failures(owned: Api, token: str) -> None:
    for _ in range(11):
        log_in(owned.client, "no")
    done = CliRunner().invoke(
        main,
        ["admin", "set-password", "--stdin", "--data-dir", str(owned.state.settings.data_dir)],
        input="another long password\n",
    )
    assert done.exit_code == 0, done.output
    headers = {"Authorization": f"Bearer {token}"}
    assert owned.client.get("/api/apikey/list", headers=headers).status_code == 401
    assert log_in(owned.client, "another long password").status_code == 200


def test_only_the_process_user_can_read_the_secret_key(owned: Api, token: str) -> None:
    path = owned.state.settings.data_dir / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_secret_key_invalidates_old_tokens(owned: Api, token: str) -> None:
    config = {
        "ASTRBOT_DATA_DIR": str(owned.state.settings.data_dir),
        "ASTRBOT_SECRET_KEY": "x" * 32,
    }
    other = create_app(config)
    answer = other.test_client().get(
        "/api/apikey/list", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 401
    other.extensions["astrbot_api"].close()


def test_the_password_is_hashed_and_shown_nowhere(owned: Api) -> None:
    with owned.state.db.read() as db:
        (stored,) = db.execute_sql("SELECT password_hash FROM owner").fetchone()
    assert stored.startswith("$argon2id$")
    assert PASSWORD not in repr(owned.state.settings)


def test_without_an_owner_nobody_can_log_in(api: Api) -> None:
    assert log_in(api.client, "").status_code == 401


def test_the_owners_access_can_be_disabled(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_OWNER_ACCESS="off", ASTRBOT_ADMIN_PASSWORD=PASSWORD)
    assert log_in(api.client).json["message"] == "Missing API key"
    assert api.client.get("/").headers["Location"] == "api/v1/docs"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"scopes": "chat"}, "Invalid scopes"),
        ({"expires_in_days": "soon"}, "expires_in_days must be an integer"),
        ({"expires_in_days": []}, "expires_in_days must be an integer"),
        ({"expires_in_days": 0}, "expires_in_days must be greater than 0"),
        ({"name": "x" * 201}, "name must have at most 200 characters"),
    ],
)
def test_an_invalid_key_request_is_rejected(
    post: Callable[..., TestResponse], body: dict[str, Any], message: str
) -> None:
    answer = post("create", **body)
    assert (answer.status_code, answer.json["message"]) == (400, message)


@pytest.mark.parametrize(
    ("scopes", "message"),
    [
        (["im", "nope", 5], "Invalid scopes: nope, 5"),
        ([], "At least one valid scope is required"),
        (["chat:admin"], "chat:admin requires the chat scope"),
        (["chat:admin", "im"], "chat:admin requires the chat scope"),
    ],
)
def test_invalid_scopes_are_rejected(
    post: Callable[..., TestResponse], scopes: list[Any], message: str
) -> None:
    answer = post("create", scopes=scopes)
    assert (answer.status_code, answer.json["message"]) == (400, message)


def test_scopes_of_newer_versions_are_accepted(post: Callable[..., TestResponse]) -> None:
    newer = ["bot", "provider", "persona", "data", "plugin", "mcp", "skill"]
    assert post("create", scopes=newer).json["data"]["scopes"] == newer


def test_a_key_may_have_a_default_username_and_legacy_errors(
    owned: Api, post: Callable[..., TestResponse]
) -> None:
    made = post("create", default_username="alice", legacy_errors=True, scopes=["chat"]).json
    assert made["data"]["rules"] == {"default_username": "alice", "legacy_errors": True}
    headers = {"X-API-Key": made["data"]["api_key"]}
    body = {"message": "hi", "session_id": "s"}
    owned.client.post("/api/v1/chat", headers=headers, json=body).get_data()
    sessions = owned.client.get("/api/v1/chat/sessions", headers=headers).json["data"]
    assert sessions["sessions"][0]["creator"] == "alice"
    other = owned.client.get("/api/v1/chat/sessions?username=bob", headers=headers)
    assert other.json["data"]["sessions"] == []
    missing = owned.client.get("/api/v1/chat/sessions/none", headers=headers)
    assert (missing.status_code, missing.json["code"]) == (200, "session_not_found")
    assert owned.client.get("/api/v1/configs", headers=headers).status_code == 403
    assert owned.client.get("/api/v1/nothing", headers=headers).status_code == 404
    for wrong in ({"legacy_errors": "yes"}, {"default_username": " "}):
        assert post("create", **wrong).status_code == 400
    bound = {"username_prefix": "web:", "default_username": "alice"}
    assert "default_username" in post("create", rules=bound).json["message"]


def test_a_created_key_works_until_it_is_revoked(
    owned: Api, post: Callable[..., TestResponse]
) -> None:
    made = post("create", name="bot", scopes=["config"]).json["data"]
    headers = {"X-API-Key": made["api_key"]}
    assert owned.client.get("/api/v1/configs", headers=headers).status_code == 200
    assert post("revoke", key_id=made["key_id"]).json["data"] == {}
    assert owned.client.get("/api/v1/configs", headers=headers).status_code == 401
    assert actions(owned)[:2] == ["key_revoked", "key_created"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/auth/login", {"username": 1, "password": PASSWORD}),
        ("/api/auth/login", {"username": "astrbot", "password": None}),
        ("/api/apikey/revoke", {"key_id": ["a"]}),
        ("/api/apikey/delete", {}),
        ("/api/apikey/rotate", {"key_id": "a", "grace_s": 2592001}),
        ("/api/apikey/create", {"expires_in_days": 36501}),
        ("/api/chat/stop", {"session_id": 1}),
        ("/api/chat/stop", {"session_id": " "}),
        ("/admin/data/bots/test", {"umo": 1, "message": "a"}),
        ("/admin/data/bots/test", {"umo": " ", "message": "a"}),
        ("/admin/data/approvals", {"id": "a", "decision": "maybe"}),
    ],
)
def test_bodies_with_wrong_values_are_refused(
    owned: Api, token: str, path: str, body: dict[str, Any]
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    answer = owned.app.test_client().post(path, headers=headers, json=body)
    assert answer.status_code == 400
    assert answer.json["code"] in ("invalid_request", "missing_field")


def test_an_update_changes_only_the_named_fields(
    owned: Api, post: Callable[..., TestResponse]
) -> None:
    made = post("create", name="bot", expires_in_days=3).json["data"]
    headers = {"X-API-Key": made["api_key"]}
    changed = post("update", key_id=made["key_id"], scopes=["im"]).json["data"]
    assert (changed["name"], changed["scopes"]) == ("bot", ["im"])
    assert changed["expires_at"] == made["expires_at"]
    assert owned.client.get("/api/v1/configs", headers=headers).status_code == 403
    endless = post("update", key_id=made["key_id"], name="b", expires_in_days=None).json["data"]
    assert (endless["name"], endless["expires_at"]) == ("b", None)
    longer = post("update", key_id=made["key_id"], expires_in_days=30).json["data"]
    assert longer["expires_at"] > made["expires_at"]
    limited = post("update", key_id=made["key_id"], rules={"streams": 5}).json["data"]
    assert limited["rules"] == {"streams": 5}
    assert limited["expires_at"] == longer["expires_at"]
    assert "rules" not in post("update", key_id=made["key_id"], rules=None).json["data"]
    assert post("update", key_id=made["key_id"]).status_code == 400
    assert post("update", key_id="none", name="x").json["message"] == "API key not found"


def test_a_rotated_key_works_for_its_grace_period(
    owned: Api, post: Callable[..., TestResponse], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = post("create", name="bot", scopes=["config"]).json["data"]
    new = post("rotate", key_id=old["key_id"], grace_s=60).json["data"]
    assert (new["name"], new["scopes"], new["expires_at"]) == ("bot", ["config"], None)

    def ask(row: dict[str, Any]) -> int:
        headers = {"X-API-Key": row["api_key"]}
        return owned.client.get("/api/v1/configs", headers=headers).status_code

    assert (ask(old), ask(new)) == (200, 200)
    later = keys.now_us() + 61 * 1_000_000
    monkeypatch.setattr("astrbot_api.db.key_secrets.now_us", lambda: later)
    assert (ask(old), ask(new)) == (401, 200)
    assert post("rotate", key_id=new["key_id"], grace_s="1").status_code == 400


def test_the_first_use_of_a_key_is_recorded_once(
    owned: Api, post: Callable[..., TestResponse]
) -> None:
    made = post("create", scopes=["config"]).json["data"]
    for _ in range(2):
        owned.client.get("/api/v1/configs", headers={"X-API-Key": made["api_key"]})
        owned.state.keys.usage.flush()
    with owned.state.db.read() as db:
        entries = audit.list_entries(db)
    first = [one for one in entries if one["action"] == "key_first_used"]
    assert [(one["subject"], one["address"]) for one in first] == [(made["key_id"], "127.0.0.1")]


def test_a_use_that_could_not_be_stored_is_stored_later(
    owned: Api, post: Callable[..., TestResponse], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = post("create", scopes=["config"]).json["data"]
    owned.client.get("/api/v1/configs", headers={"X-API-Key": made["api_key"]})
    usage = owned.state.keys.usage

    def refuse(db: Any, counts: Any) -> None:
        raise StorageError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("astrbot_api.keys.usage.add_requests", refuse)
        with pytest.raises(StorageError):
            usage.flush()
    owned.client.get("/api/v1/configs", headers={"X-API-Key": made["api_key"]})
    usage.flush()
    with owned.state.db.read() as db:
        row = KeyUse.select().where(KeyUse.key_id == made["key_id"]).get(db)
        entries = audit.list_entries(db)
    assert row.requests == 2
    assert [one["address"] for one in entries if one["action"] == "key_first_used"] == ["127.0.0.1"]


def test_old_entries_are_removed(owned: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(owned.client, "no")
    remove_old_rows(owned.state.db, 90, 30, 30)
    assert actions(owned) == ["login_failed"]
    later = keys.now_us() + 91 * keys.DAY_US
    monkeypatch.setattr("astrbot_api.chores.now_us", lambda: later)
    remove_old_rows(owned.state.db, 90, 30, 30)
    assert actions(owned) == []


def test_the_log_has_a_line_for_each_action(
    owned: Api, post: Callable[..., TestResponse], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "astrbot_api.audit")
    made = post("create", name="bot\nforged line").json["data"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert made["key_id"] in lines[0]
    assert "\n" not in lines[0]
    assert made["api_key"] not in lines[0]


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_app(
        {
            "ASTRBOT_DATA_DIR": str(tmp_path),
            "ASTRBOT_URL_PREFIX": "/bot",
            "ASTRBOT_ADMIN_PASSWORD": PASSWORD,
        }
    )
    yield app.test_client()
    app.extensions["astrbot_api"].close()


def test_the_login_is_below_the_prefix(hosted: FlaskClient) -> None:
    body = {"username": "astrbot", "password": PASSWORD}
    assert hosted.post("/bot/api/auth/login", json=body).status_code == 200
    cookie = hosted.get_cookie("astrbot_owner", path="/bot")
    assert cookie is not None


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "x" * 201])
def test_the_command_line_refuses_an_unreadable_name_of_a_key(tmp_path: Path, name: str) -> None:
    refused = CliRunner().invoke(main, ["keys", "create", name, "--data-dir", str(tmp_path)])
    assert (refused.exit_code, "at most 200 printable characters" in refused.output) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_the_audit_includes_the_command_line(owned: Api) -> None:
    folder = str(owned.state.settings.data_dir)
    runner = CliRunner()
    made = runner.invoke(main, ["keys", "create", "bot", "--json", "--data-dir", folder])
    key_id = json.loads(made.output)["key_id"]
    for verb in ("rotate", "revoke", "delete"):
        assert runner.invoke(main, ["keys", verb, key_id, "--data-dir", folder]).exit_code == 0
    assert actions(owned)[:4] == ["key_deleted", "key_revoked", "key_rotated", "key_created"]
