"""``[widget]`` lets visitors of pages chat without a key, within its limits."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from astrbot_api.agent.provider import TextDelta
from astrbot_api.chores import remove_old_rows
from astrbot_api.db import key_usage, keys, visits
from astrbot_api.db.models.keys import ApiKey, Visit
from astrbot_api.keys import limits, visitors

from ..servers import parse_events
from .conftest import Api

SHOP = "https://shop.example"

_CONFIG = """\
name = "default"
[provider]
type = "mock"
[widget]
origins = ["https://Shop.example/"]
heading = "Ask us"
suggestions = ["Where is my order?"]
"""


@pytest.fixture
def shop(make_api: Callable[..., Api]) -> Api:
    return make_api(_CONFIG + "turns_per_visitor = 15\nturns_per_address = 25\n")


def visit(
    api: Api, visitor: str = "", *, origin: str = SHOP, address: str = "192.0.2.1", **body: Any
) -> TestResponse:
    return api.client.post(
        "/api/v1/widget/visits",
        json={"config_id": "default", "visitor": visitor, **body},
        headers={"Origin": origin} if origin else {},
        environ_overrides={"REMOTE_ADDR": address},
    )


def admit(api: Api, visitor: str = "", **options: Any) -> dict[str, Any]:
    answer = visit(api, visitor, **options)
    assert answer.status_code == 200, answer.json
    return answer.json["data"]


def chat(api: Api, key: str, **body: Any) -> TestResponse:
    return api.client.post(
        "/api/v1/chat", json={"message": "Hello", **body}, headers={"X-API-Key": key}
    )


def read_rules(api: Api, key: str) -> dict[str, Any]:
    return api.client.get("/api/v1/keys/self", headers={"X-API-Key": key}).json["data"]["rules"]


def refusal(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.json["code"]


def test_a_returning_visitor_keeps_its_identity(shop: Api) -> None:
    first = admit(shop)
    assert (first["heading"], first["suggestions"]) == ("Ask us", ["Where is my order?"])
    events = parse_events(chat(shop, first["api_key"]).data)
    session = events[0]["session_id"]
    again = admit(shop, first["visitor"])
    assert again["username"] == first["username"]
    shown = shop.client.get(
        f"/api/v1/chat/sessions/{session}", headers={"X-API-Key": again["api_key"]}
    )
    assert shown.json["data"]["history"][0]["content"]["message"][0]["text"] == "Hello"


def test_a_visitor_can_only_chat(shop: Api) -> None:
    one, other = admit(shop), admit(shop)
    assert one["username"] != other["username"]
    session = parse_events(chat(shop, one["api_key"]).data)[0]["session_id"]
    headers = {"X-API-Key": other["api_key"]}
    shown = shop.client.get(f"/api/v1/chat/sessions/{session}", headers=headers)
    assert refusal(shown) == (409, "session_of_another_user")
    assert refusal(chat(shop, other["api_key"], username=one["username"]))[0] == 403
    assert shop.client.get("/api/v1/im/bots", headers=headers).status_code == 403
    assert refusal(
        shop.client.post("/api/v1/keys/session", json={"username": "x"}, headers=headers)
    ) == (403, "key_restricted")
    upload = shop.client.post("/api/v1/file", data={"file": (b"", "x")}, headers=headers)
    assert refusal(upload) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    "origin",
    ["", "null", "https://shop.example.evil.example", "http://shop.example", "https://x.example"],
)
def test_a_page_of_another_origin_is_refused(shop: Api, origin: str) -> None:
    answer = visit(shop, origin=origin)
    assert refusal(answer) == (403, "origin_refused")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert shop.count_rows("visit") == 0


def test_only_pages_of_the_origin_may_call_the_api(shop: Api) -> None:
    def ask(origin: str) -> TestResponse:
        return shop.client.options(
            "/api/v1/chat",
            headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
        )

    assert ask(SHOP).headers["Access-Control-Allow-Origin"] == SHOP
    assert "Access-Control-Allow-Origin" not in ask("https://other.example").headers
    assert visit(shop).headers["Access-Control-Allow-Origin"] == SHOP


def test_a_config_without_the_table_has_no_visitors(make_api: Callable[..., Api]) -> None:
    api = make_api()
    assert refusal(visit(api)) == (404, "config_not_found")
    assert refusal(visit(api, config_id="nope")) == (404, "config_not_found")
    assert refusal(visit(api, config_id=" ")) == (400, "missing_field")


def test_a_forged_token_or_one_of_another_config_is_a_new_visitor(shop: Api) -> None:
    first = admit(shop)
    forged = first["visitor"].replace(".", "x.", 1)
    for number, token in enumerate((forged, "nonsense", "x" * 10_000, first["api_key"])):
        again = admit(shop, token, address=f"192.0.2.{number + 10}")
        assert again["username"] != first["username"]


def test_new_keys_do_not_raise_a_visitors_turns_per_day(shop: Api) -> None:
    first = admit(shop)
    assert read_rules(shop, first["api_key"])["max_turns"] == 10
    second = admit(shop, first["visitor"], address="192.0.2.2")
    assert read_rules(shop, second["api_key"])["max_turns"] == 5
    answer = visit(shop, first["visitor"], address="192.0.2.3")
    assert refusal(answer) == (429, "visits_exhausted")
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400


def test_the_visitors_of_one_address_share_its_turns_per_day(shop: Api) -> None:
    turns = [
        read_rules(shop, admit(shop, address="2001:db8::1")["api_key"])["max_turns"]
        for _ in range(3)
    ]
    assert turns == [10, 10, 5]
    # The same customer: a /64.
    assert refusal(visit(shop, address="2001:db8::ffff:2")) == (429, "visits_exhausted")
    admit(shop, address="2001:db8:0:1::1")
    # An IPv4 address is a separate customer, also on a dual-stack socket.
    admit(shop, address="::ffff:192.0.2.9")
    admit(shop, address="::ffff:192.0.2.10")
    assert shop.count_rows("visit") == 6


def test_unused_turns_of_an_expired_key_are_released(
    shop: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = admit(shop)
    parse_events(chat(shop, first["api_key"]).data)
    parse_events(chat(shop, first["api_key"]).data)
    shop.state.db.write(
        lambda db: ApiKey.update(expires_at=1).where(ApiKey.parent_id.is_null(False)).execute(db)
    )
    # Two turns are used. The keys themselves are deleted an hour later.
    remove_old_rows(shop.state.db, 90, 30, 30)
    assert shop.count_rows("visit") == 1
    second = admit(shop, first["visitor"])
    assert read_rules(shop, second["api_key"])["max_turns"] == 10
    third = admit(shop, first["visitor"])
    assert read_rules(shop, third["api_key"])["max_turns"] == 3


def test_a_turn_running_when_its_key_expires_counts_as_used(
    make_scripted: Callable[..., tuple[Api, Any]],
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def answer(request: Any) -> list[Any]:
        begun.set()
        may_end.wait(30)
        return [TextDelta("done")]

    api, _ = make_scripted(
        answer, agent=f'titles = false\n[widget]\norigins = ["{SHOP}"]\nturns_per_visitor = 2'
    )
    first = admit(api)
    stream = chat(api, first["api_key"], response_mode="background")
    assert (stream.status_code, begun.wait(30)) == (202, True)
    api.state.db.write(
        lambda db: ApiKey.update(expires_at=1).where(ApiKey.parent_id.is_null(False)).execute(db)
    )
    second = admit(api, first["visitor"])
    may_end.set()
    assert read_rules(api, second["api_key"])["max_turns"] == 1


def test_visitors_cannot_fill_the_disk_with_files(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitors, "_UPLOAD_BYTES", 10)
    api = make_api(f"{_CONFIG}files = true\n")

    def upload(address: str, data: bytes) -> TestResponse:
        return api.client.post(
            "/api/v1/files", data={"file": (io.BytesIO(data), "a.txt")},
            headers={"X-API-Key": admit(api, address=address)["api_key"]},
        )  # fmt: skip

    assert upload("192.0.2.1", b"123456").status_code == 200
    assert refusal(upload("192.0.2.2", b"12345")) == (413, "quota_exceeded")


def test_many_addresses_neither_fill_the_table_of_keys_nor_close_the_chat(
    shop: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_SESSION_KEYS", 2)
    used = admit(shop, address="192.0.2.1")
    parse_events(chat(shop, used["api_key"]).data)
    unused = admit(shop, address="192.0.2.2")
    latest = admit(shop, address="192.0.2.3")
    assert chat(shop, unused["api_key"]).status_code == 401
    again = admit(shop, address="192.0.2.2", visitor=unused["visitor"])
    assert again["username"] == unused["username"]
    assert chat(shop, latest["api_key"]).status_code == 401
    for one in (used, again):
        parse_events(chat(shop, one["api_key"]).data)
    answer = visit(shop, address="192.0.2.9")
    assert refusal(answer) == (429, "too_many_keys")
    assert shop.count_rows("visit") == 4


def test_counters_of_earlier_days_are_deleted(shop: Api) -> None:
    admit(shop)
    shop.state.db.write(lambda db: Visit.update(day=Visit.day - 2).execute(db))
    assert shop.state.db.write(visits.purge_visits) == 1


def test_a_chat_closes_when_its_key_expires(shop: Api) -> None:
    admit(shop)
    over = ApiKey.update(expires_at=1).where(ApiKey.created_by == "widget default")
    shop.state.db.write(lambda db: over.execute(db))
    assert refusal(visit(shop)) == (403, "widget_closed")


def test_the_owner_disables_and_enables_a_chat_by_its_key(shop: Api) -> None:
    first = admit(shop)
    with shop.state.db.read() as db:
        (root,) = [row for row in keys.list_keys(db) if row["created_by"] == "widget default"]
    assert (root["name"], root["rules"]["configs"]) == ("widget default", ["default"])
    shop.state.db.write(lambda db: keys.revoke_key(db, root["key_id"]))
    assert chat(shop, first["api_key"]).status_code == 401
    assert refusal(visit(shop)) == (403, "widget_closed")
    shop.state.db.write(lambda db: keys.delete_key(db, root["key_id"]))
    admit(shop)


def test_usage_of_visitors_counts_towards_the_widgets_key(shop: Api) -> None:
    parse_events(chat(shop, admit(shop)["api_key"]).data)
    parse_events(chat(shop, admit(shop)["api_key"]).data)
    with shop.state.db.read() as db:
        (root,) = [row for row in keys.list_keys(db) if row["created_by"] == "widget default"]
        assert key_usage.sum_turns(db, root["key_id"])[0] == 2


def test_no_address_is_stored(shop: Api) -> None:
    admit(shop, address="198.51.100.7")
    with shop.state.db.read() as db:
        (row,) = Visit.select().dicts().execute(db)
    assert "198.51.100.7" not in str(row)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('origins = ["shop.example"]', "widget.origins"),
        ('origins = ["https://shop.example/page"]', "widget.origins"),
        ("origins = []", "widget.origins"),
        ('origins = ["*"]\nturns_per_visitor = 0', "widget.turns_per_visitor"),
        ('origins = ["*"]\ngreting = "x"', "widget.greting"),
        ('heading = "x"', "widget.origins"),
    ],
)
def test_an_invalid_table_is_rejected_by_name(
    make_api: Callable[..., Api], table: str, told: str
) -> None:
    from astrbot_api.errors import SettingsError

    with pytest.raises(SettingsError, match=told.replace(".", r"\.")):
        make_api(f'[provider]\ntype = "mock"\n[widget]\n{table}\n')
