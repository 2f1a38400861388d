"""Lists of newer versions of AstrBot: scopes, shapes, and no secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Api

CONFIG = """\
name = "default"
[provider]
type = "mock"
model = "small"
api_key = "sk-hidden"
[providers.big]
type = "openai"
base_url = "http://10.9.8.7:1234/v1"
api_key = "sk-hidden-too"
model = "big"
[agent]
system_prompt = "Be brief."
"""

LISTS = {
    "/providers": "provider",
    "/provider-sources": "provider",
    "/config-profiles": "config",
    "/personas": "persona",
    "/personas/tree": "persona",
    "/plugins": "plugin",
    "/conversations": "data",
    "/conversations/filter-options": "data",
}


@pytest.fixture
def listed(make_api: Any) -> Api:
    return make_api(CONFIG)


def get(api: Api, path: str, key: str = "", **options: Any) -> Any:
    headers = {"X-API-Key": key or api.create_key(*set(LISTS.values()), "chat")}
    answer = api.client.get(f"/api/v1{path}", headers=headers, **options)
    assert answer.status_code == 200, answer.get_data()
    return answer.get_json()["data"]


@pytest.mark.parametrize(("path", "scope"), LISTS.items())
def test_a_list_requires_its_scope_and_shows_no_secret(listed: Api, path: str, scope: str) -> None:
    headers = {"X-API-Key": listed.create_key(scope)}
    answer = listed.client.get(f"/api/v1{path}", headers=headers)
    assert answer.status_code == 200
    assert "hidden" not in answer.get_data(as_text=True)
    assert "10.9.8.7" not in answer.get_data(as_text=True)
    other = listed.create_key(*{"provider", "data"} - {scope})
    refused = listed.client.get(f"/api/v1{path}", headers={"X-API-Key": other})
    assert refused.get_json()["message"] == "Insufficient API key scope"


@pytest.mark.parametrize("path", ["/providers", "/provider-sources"])
def test_a_key_for_configs_also_lists_their_models(listed: Api, path: str) -> None:
    assert get(listed, path, key=listed.create_key("config"))


def test_providers_and_prompts_are_those_of_the_configs(listed: Api) -> None:
    providers = {one["id"]: one for one in get(listed, "/providers")["providers"]}
    assert providers["mock"]["model"] == "small"
    assert providers["big"]["configs"] == ["default"]
    assert get(listed, "/provider-sources")["provider_sources"][0]["key"] == []
    (persona,) = get(listed, "/personas")
    assert (persona["persona_id"], persona["system_prompt"]) == ("default", "Be brief.")
    assert get(listed, "/config-profiles")["info_list"][0]["id"] == "default"
    assert get(listed, "/chat/configs")["info_list"] == get(listed, "/chat/configs")["configs"]
    assert any(one["reserved"] and one["activated"] for one in get(listed, "/plugins"))


def test_conversations_are_listed_beside_other_requests(
    listed: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The total and a distant page read all sessions, so they run in a native thread."""
    store, asides = listed.app.extensions["astrbot_api"].db, []
    read_aside = type(store).read_aside

    def count(self: object, job: object) -> object:
        asides.append(job)
        return read_aside(self, job)

    monkeypatch.setattr(type(store), "read_aside", count)
    get(listed, "/conversations?page=9999")
    assert len(asides) == 1


def test_conversations_are_those_of_all_users(listed: Api) -> None:
    listed.chat("one", session_id="a")
    listed.chat("two", session_id="b", username="bob")
    data = get(listed, "/conversations")
    assert [one["cid"] for one in data["conversations"]] == ["b", "a"]
    assert data["pagination"] == {
        "page": 1, "page_size": 20, "total": 2, "total_pages": 1, "grouped_by_session": False,
    }  # fmt: skip
    first = data["conversations"][1]
    assert first["user_id"] == "webchat:FriendMessage:webchat!alice!a"
    history = json.loads(first["history"])
    assert [one["role"] for one in history] == ["user", "assistant"]
    assert history[0]["content"] == [{"type": "text", "text": "one"}]
    bare = get(listed, "/conversations?include_history=false&page_size=1&page=2")
    assert [one["cid"] for one in bare["conversations"]] == ["a"]
    assert "history" not in bare["conversations"][0]
    assert bare["pagination"]["total_pages"] == 2
    for query, found in (("search=bob", ["b"]), ("umo=" + first["user_id"], ["a"]),
                         ("platforms=tg,qq", []), ("keyword=nobody", [])):  # fmt: skip
        data = get(listed, f"/conversations?{query}")
        assert [one["cid"] for one in data["conversations"]] == found, query


def test_a_conversation_can_be_read_and_deleted(listed: Api) -> None:
    listed.chat("one", session_id="a")
    key = listed.create_key("data")
    assert get(listed, "/conversations/a", key)["cid"] == "a"
    path, headers = "/api/v1/conversations/a", {"X-API-Key": key}
    assert listed.client.delete(path, headers=headers).status_code == 200
    assert listed.client.get(path, headers=headers).get_json()["code"] == "session_not_found"
    assert listed.client.delete(path, headers=headers).status_code == 404


def test_a_bound_key_lists_only_its_own_users(listed: Api) -> None:
    for name in ("web:a", "web:b", "other"):
        listed.chat("x", username=name, session_id=f"of {name}")
    listed.state.db.write(
        lambda db: db.execute_sql("UPDATE chat_session SET creator = 'astrbot' WHERE id = 3")
    )

    def seen(**rules: Any) -> list[str]:
        body = {"scopes": ["data"], "rules": rules}
        key = make_key(listed, body)
        data = get(listed, "/conversations", key)
        return sorted(one["cid"] for one in data["conversations"])

    assert seen() == ["of web:a", "of web:b"]
    assert seen(username="web:a") == ["of web:a"]
    assert seen(username_prefix="web:") == ["of web:a", "of web:b"]
    assert seen(username_prefix="w_b") == []
    key = make_key(listed, {"scopes": ["data"], "rules": {"username": "web:a"}})
    other = "umo=webchat:FriendMessage:webchat!web:b!of web:b"
    assert get(listed, f"/conversations?{other}", key)["conversations"] == []
    headers = {"X-API-Key": key}
    for session_id in ("of web:b", "of other"):
        answer = listed.client.delete(f"/api/v1/conversations/{session_id}", headers=headers)
        assert answer.status_code == 404


def test_a_key_bound_to_a_session_reaches_no_other(listed: Api) -> None:
    for session_id in ("own", "other"):
        listed.chat("x", session_id=session_id)
    key = make_key(listed, {"scopes": ["data"], "rules": {"session_id": "own"}})
    other = "umo=webchat:FriendMessage:webchat!alice!other"
    assert get(listed, f"/conversations?{other}", key)["conversations"] == []
    headers = {"X-API-Key": key}
    for call in (listed.client.get, listed.client.delete):
        answer = call("/api/v1/conversations/other", headers=headers)
        assert answer.get_json()["code"] == "session_not_found"
    assert get(listed, "/conversations/own", key)["cid"] == "own"


def make_key(api: Api, body: dict[str, Any]) -> str:
    from astrbot_api.db import keys
    from astrbot_api.keys.rules import read_rules

    rules = read_rules(body["rules"]).dump()
    _, secret = api.state.db.write(
        lambda db: keys.create_key(db, "k", body["scopes"], created_by="t", rules=rules)
    )
    return str(secret)


def test_start_time_and_versions_need_no_key(listed: Api) -> None:
    for path in ("/api/v1/stats/start-time", "/api/stat/start-time"):
        assert listed.client.get(path).get_json()["data"]["start_time"] > 1_700_000_000
    versions = listed.client.get("/api/v1/stats/versions").get_json()["data"]
    assert versions["webui_version"] == f"v{versions['astrbot_version']}"
    assert versions["server"] == "astrbot-api"


def test_a_session_also_has_the_fields_of_newer_versions(listed: Api) -> None:
    for text in ("one", "two"):
        listed.chat(text, session_id="s")
    whole = get(listed, "/chat/sessions/s?username=alice")
    assert (len(whole["history"]), whole["page_size"]) == (4, 1000)
    data = get(listed, "/chat/sessions/s?username=alice&page=1&page_size=3")
    assert (data["total"], data["page"], data["page_size"], data["has_more"]) == (4, 1, 3, True)
    assert data["session"]["session_id"] == data["session_id"] == "s"
    assert (data["threads"], data["is_running"], data["active_runs"]) == ([], False, [])
    rest = get(listed, "/chat/sessions/s?username=alice&page=2&page_size=3")
    assert (rest["has_more"], len(rest["history"]), len(data["history"])) == (False, 1, 3)
    beyond = get(listed, "/chat/sessions/s?username=alice&page=9&page_size=3")
    assert (beyond["history"], beyond["has_more"]) == ([], False)
    row = rest["history"][0]
    assert (row["platform_id"], row["user_id"], row["content"]["message"][0]["text"]) == (
        "webchat", "s", "one",
    )  # fmt: skip
    assert row["updated_at"] == row["created_at"]
    stats = data["history"][-1]["content"]["agent_stats"]
    assert stats["current_context_tokens"] == stats["token_usage"]["input_other"]
