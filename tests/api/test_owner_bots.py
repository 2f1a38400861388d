"""The admin page of bots and its test message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from astrbot_api.deliveries.http import PlatformError
from astrbot_api.owner import passwords
from astrbot_api.testing import make_app

from ..fake_messenger import FakeMessenger

PASSWORD = "a long enough password"


@pytest.fixture
def messenger() -> FakeMessenger:
    return FakeMessenger()


@pytest.fixture
def client(
    tmp_path: Path, messenger: FakeMessenger, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlaskClient]:
    """A client that can log in."""
    cheap = passwords.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", cheap)
    (tmp_path / "bots.toml").write_text(
        '[[bot]]\nid = "bot1"\ntype = "fake"\n[[bot]]\nid = "bad"\ntype = "unknown"\n'
    )
    adapters = {"fake": messenger}
    with make_app(data_dir=tmp_path, adapters=adapters, admin_password=PASSWORD) as app:
        yield app.app.test_client(use_cookies=False)


def log_in(client: FlaskClient) -> dict[str, str]:
    body = {"username": "astrbot", "password": PASSWORD}
    token = client.post("/api/auth/login", json=body).get_json()["data"]["token"]
    return {"Authorization": f"Bearer {token}"}


def test_the_owner_sends_a_test_message_and_sees_its_result(
    client: FlaskClient, messenger: FakeMessenger
) -> None:
    owner = log_in(client)
    body = {"umo": "bot1:FriendMessage:1", "message": "A test"}
    sent = client.post("/admin/data/bots/test", headers=owner, json=body)
    assert sent.get_json()["data"]["status"] == "sent"
    assert messenger.texts() == ["A test"]
    good, bad = client.get("/admin/data/bots", headers=owner).get_json()["data"]["bots"]
    assert (good["last_delivery"]["status"], good["fault"]) == ("sent", "")
    assert bad["last_delivery"] is None
    assert "unknown type 'unknown'" in bad["fault"]


def test_a_failed_test_message_shows_the_reason(
    client: FlaskClient, messenger: FakeMessenger
) -> None:
    def refuse(target: object, text: str) -> None:
        raise PlatformError("The chat does not exist.")

    messenger.before_part = refuse
    body = {"umo": "bot1:FriendMessage:1", "message": "A test"}
    refused = client.post("/admin/data/bots/test", headers=log_in(client), json=body)
    assert refused.status_code == 502
    assert "The chat does not exist." in refused.get_json()["message"]


def test_only_the_owner_sends_test_messages(client: FlaskClient, messenger: FakeMessenger) -> None:
    body = {"umo": "bot1:FriendMessage:1", "message": "A test"}
    assert client.post("/admin/data/bots/test", json=body).status_code == 401
    assert messenger.sent == []
