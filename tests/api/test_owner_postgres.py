"""The admin pages and login with PostgreSQL: the same SQL works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from astrbot_api.chores import remove_old_rows
from astrbot_api.db import keys
from astrbot_api.keys.rules import read_rules
from astrbot_api.owner import passwords

from .conftest import Api

PASSWORD = "a long enough password"


@pytest.fixture
def owned(make_api: Callable[..., Api], postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Api:
    cheap = passwords.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", cheap)
    return make_api(ASTRBOT_DATABASE_URL=postgres_url, ASTRBOT_ADMIN_PASSWORD=PASSWORD)


def test_owner_manages_keys_and_reads_the_pages_data(owned: Api) -> None:
    client = owned.app.test_client()

    def log_in(password: str) -> Any:
        body = {"username": "astrbot", "password": password}
        return client.post("/api/auth/login", json=body)

    assert log_in("wrong").status_code == 401
    headers = {"Authorization": f"Bearer {log_in(PASSWORD).json['data']['token']}"}

    def post(path: str, **body: Any) -> Any:
        return client.post(f"/api/apikey/{path}", headers=headers, json=body).json["data"]

    made = post("create", name="bot", rules={"username": "alice", "turns_per_day": 9})
    key = {"X-API-Key": made["api_key"]}
    assert b'"end"' in owned.post_chat(made["api_key"], username="alice", message="hi").get_data()
    assert owned.client.get("/api/v1/keys/self", headers=key).json["data"]["left"] == {
        "turns_per_day": 8
    }
    minted = owned.client.post("/api/v1/keys/session", headers=key, json={"username": "alice"})
    child = minted.json["data"]["api_key"]
    assert owned.post_chat(child, username="alice", message="hi").status_code == 200
    owned.state.keys.usage.flush()
    owned.state.keys.usage.flush()
    for path in ("overview", "keys", "audit", "sessions?q=ali", "approvals", "bots"):
        answer = client.get(f"/admin/data/{path}", headers=headers)
        assert answer.status_code == 200, path
        assert answer.json["data"], path
    assert post("update", key_id=made["key_id"], rules=None, scopes=["chat"])["scopes"] == ["chat"]
    assert owned.post_chat(child, username="alice", message="hi").status_code == 401
    new = post("rotate", key_id=made["key_id"], grace_s=60)
    assert post("revoke", key_id=new["key_id"]) == {}
    assert post("delete", key_id=new["key_id"]) == {}
    remove_old_rows(owned.state.db, 90, 30, 30)
    assert client.post("/api/auth/logout", headers=headers).status_code == 200


def test_limits_apply_to_simultaneous_requests(owned: Api) -> None:
    text = read_rules({"requests_per_minute": 10, "turns_per_day": 5}).dump()
    _, secret = owned.state.db.write(
        lambda db: keys.create_key(db, "k", keys.PUBLIC_SCOPES, created_by="test", rules=text)
    )
    statuses: list[int] = []

    def ask(number: int) -> None:
        body = {"username": "alice", "message": "hi", "session_id": f"s{number}"}
        client, headers = owned.app.test_client(), {"X-API-Key": secret}
        if number < 8:
            answer = client.post("/api/v1/chat", headers=headers, json=body)
        else:
            answer = client.get("/api/v1/configs", headers=headers)
        answer.get_data()
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (statuses.count(200), statuses.count(429)) == (5, 3)
    for number in range(8, 12):
        ask(number)
    assert statuses[-4:] == [200, 200, 429, 429]


def test_a_worker_with_an_exhausted_pool_keeps_its_lease_and_reports_it(
    make_api: Callable[..., Api], postgres_url: str
) -> None:
    api = make_api(
        ASTRBOT_DATABASE_URL=postgres_url,
        ASTRBOT_DATABASE_POOL_SIZE="1",
        ASTRBOT_DATABASE_TIMEOUT_S="0.2",
    )
    lease = api.state.worker.lease
    lease.get_worker_id()
    with api.state.db.read():
        refused = api.get("/api/v1/configs")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        lease._renew(lease._own.get())
        answer = api.client.get("/readyz")
    assert answer.status_code == 503
    assert "all 1 connections of this worker" in answer.json["checks"]["database"]["message"]
