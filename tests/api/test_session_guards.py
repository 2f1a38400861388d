"""Limits of keys on the routes of sessions, the inbox and OpenAI's clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api import ToolContext, tool
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta, ToolCallDelta
from astrbot_api.db.attachments import find_attachment
from astrbot_api.keys import files
from astrbot_api.testing import ScriptedModel

from ..servers import parse_events
from .conftest import Api
from .test_guard_rails import ask, make_key, mint, refusal, say
from .uploading import upload

SESSIONS = "/api/v1/chat/sessions"


def call(api: Api, key: str, method: str, path: str, **body: Any) -> Any:
    return api.client.open(
        f"/api/v1{path}", method=method, headers={"X-API-Key": key}, json=body or None
    )


def test_a_key_that_is_bound_to_a_username_need_not_send_it(api: Api) -> None:
    api.chat(session_id="s")
    key = make_key(api, username="alice")
    assert ask(api, key, f"{SESSIONS}/s").status_code == 200
    assert ask(api, key, f"{SESSIONS}/s/messages").status_code == 200
    assert call(api, key, "PATCH", "/chat/sessions/s", display_name="x").status_code == 200
    assert refusal(ask(api, key, f"{SESSIONS}/s?username=bob")) == (403, "key_restricted")
    assert call(api, key, "DELETE", "/chat/sessions/s").status_code == 200


def test_a_key_that_is_bound_to_a_session_sees_no_other(api: Api) -> None:
    for name in ("mine", "other"):
        api.chat(session_id=name)
    key = make_key(api, username="alice", session_id="mine")
    assert ask(api, key, f"{SESSIONS}/mine").status_code == 200
    for path in (f"{SESSIONS}/other", f"{SESSIONS}/other/messages", "/api/v1/chat/inbox"):
        assert refusal(ask(api, key, path)) == (403, "key_restricted"), path
    for method, path in (("DELETE", "/chat/sessions/other"), ("POST", "/chat/sessions/new")):
        assert refusal(call(api, key, method, path)) == (403, "key_restricted"), path
    answer = call(api, key, "POST", "/chat/sessions/batch-delete", session_ids=["other"])
    (failed,) = answer.json["data"]["failed_items"]
    assert failed["code"] == "key_restricted"


def test_a_key_that_is_bound_to_a_session_sees_no_files_of_others(api: Api) -> None:
    files = {}
    for session, username in (("mine", "alice"), ("other", "alice"), ("foreign", "bob")):
        name = files[session] = upload(api, session.encode(), b"a.txt")["attachment_id"]
        message = [{"type": "plain", "text": "see"}, {"type": "file", "attachment_id": name}]
        api.chat(message, session_id=session, username=username)
    bound = [make_key(api, session_id="mine"), make_key(api, session_id="mine", username="alice")]
    for key in bound:
        for path in ("", "/content", "/thumbnail"):
            for session in ("other", "foreign"):
                answer = ask(api, key, f"/api/v1/files/{files[session]}{path}")
                assert refusal(answer) == (404, "attachment_not_found")
        answer = call(api, key, "DELETE", f"/files/{files['other']}?force=true")
        assert refusal(answer) == (404, "attachment_not_found")
        sent = [{"type": "file", "attachment_id": files["other"]}]
        answer = say(api, key, session_id="mine", message=sent)
        assert refusal(answer) == (404, "attachment_not_found")
        with ask(api, key, f"/api/v1/files/{files['mine']}/content") as answer:
            assert answer.data == b"mine"
        sent[0]["attachment_id"] = files["mine"]
        assert say(api, key, session_id="mine", message=sent).status_code == 200


def push_file(api: Api, data: bytes, *users: str) -> str:
    """Push a file to users, and return its id."""
    name = upload(api, data, b"a.txt")["attachment_id"]
    umos = [f"webchat:FriendMessage:webchat!{user}!of-{user}" for user in users]
    for start in range(0, len(umos), 100):
        answer = call(
            api, api.key, "POST", "/im/messages", umos=umos[start : start + 100],
            message=[{"type": "file", "attachment_id": name}],
        )  # fmt: skip
        assert answer.status_code == 200, answer.get_data()
    return name


def test_a_file_for_many_users_can_be_read_by_each_of_them(api: Api) -> None:
    users = [f"user-{number}" for number in range(120)]
    name = push_file(api, b"for all", *users)
    for user in (users[0], users[-1]):
        key = mint(api, username=user).json["data"]["api_key"]
        with ask(api, key, f"/api/v1/files/{name}/content") as answer:
            assert answer.data == b"for all", user


@pytest.mark.parametrize("number", [0, 119])
def test_other_keys_read_only_their_own_part_of_a_file_for_many_users(
    api: Api, number: int
) -> None:
    users = [f"user-{one:03}" for one in range(120)]
    name = push_file(api, b"for all", *users)
    user = users[number]
    rules: list[tuple[dict[str, str], int]] = [
        ({"session_id": f"of-{user}"}, 200),
        ({"session_id": f"of-{user}", "username": user}, 200),
        ({"username_prefix": user}, 200),
        ({"username": "other"}, 404),
        ({"username_prefix": "other"}, 404),
        ({"session_id": "of-other"}, 404),
        ({"session_id": f"of-{user}", "username": "other"}, 404),
    ]
    for rule, status in rules:
        with ask(api, make_key(api, **rule), f"/api/v1/files/{name}/content") as answer:
            assert answer.status_code == status, rule


def test_a_users_newest_messages_are_searched_for_a_file_for_many_users(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("early", "of-alice"):
        api.chat("hi", session_id=name, username="alice")
    name = push_file(api, b"for all", "alice", "bob")
    for limit in ("_FEW_USES", "_MAX_USES"):
        monkeypatch.setattr(files, limit, 1)
    for rules in ({"username": "alice"}, {"session_id": "of-alice"}):
        with ask(api, make_key(api, **rules), f"/api/v1/files/{name}/content") as answer:
            assert answer.data == b"for all", rules


def test_a_bound_key_deletes_no_file_that_others_have(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, own = push_file(api, b"both", "alice", "bob"), push_file(api, b"one", "alice")
    for rules in ({"username": "alice"}, {"username_prefix": "al"}, {"session_id": "of-alice"}):
        key = make_key(api, **rules)
        answer = call(api, key, "DELETE", f"/files/{shared}?force=true")
        assert refusal(answer) == (409, "attachment_in_use"), rules
    more = [{"type": "file", "attachment_id": own}]
    api.chat(more, session_id="of-alice", username="alice")
    with monkeypatch.context() as few:
        for limit in ("_FEW_USES", "_MAX_USES"):
            few.setattr(files, limit, 1)
        answer = call(api, key, "DELETE", f"/files/{own}?force=true")
        assert refusal(answer) == (409, "attachment_in_use"), "others may have used it earlier"
    assert call(api, key, "DELETE", f"/files/{own}?force=true").status_code == 200
    assert call(api, api.key, "DELETE", f"/files/{shared}?force=true").status_code == 200


def test_a_key_of_one_session_may_send_a_file_that_another_session_has(api: Api) -> None:
    data = "data:text/plain;base64,aGVsbG8="
    file = {"type": "input_file", "filename": "a.txt", "file_data": data}
    asked = {"role": "user", "content": [{"type": "input_text", "text": "see"}, file]}
    whole = [asked, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "and?"}]
    parent = make_key(api, username="alice")
    other, mine = (
        mint(api, parent, session_id=name).json["data"]["api_key"] for name in ("other", "mine")
    )
    stored = []
    for key, sent in ((other, [asked]), (mine, whole), (mine, whole)):
        answer = call(api, key, "POST", "/openai/responses", model="default", input=sent)
        assert answer.status_code == 200, answer.get_data()
        stored.append(api.count_rows("attachment"))
    assert stored == [1, 2, 2]


def test_an_edit_cannot_use_attachments_of_others(api: Api) -> None:
    theirs = upload(api, b"secret", b"a.txt")["attachment_id"]
    key = make_key(api, username="alice")
    say(api, key, session_id="s")
    parts = [{"type": "file", "attachment_id": theirs}]
    answer = call(api, key, "PATCH", "/chat/sessions/s/messages/1", content={"message": parts})
    assert refusal(answer) == (404, "attachment_not_found")
    assert api.count_rows("message_attachment") == 0


def test_only_a_keys_configs_are_listed_as_models(api: Api) -> None:
    folder = Path(api.state.settings.data_dir) / "configs"
    (folder / "other.toml").write_text('name = "other"\n[provider]\ntype = "mock"\n')
    api.state.agents.configs.load_all()
    key = make_key(api, configs=["other"])
    models = ask(api, key, "/api/v1/openai/models").json
    assert [one["id"] for one in models["data"]] == ["other"]
    assert ask(api, key, "/api/v1/openai/models/default").status_code == 403
    assert ask(api, key, "/api/v1/openai/models/other").status_code == 200
    answer = call(api, key, "POST", "/chat/sessions/new", username="alice")
    assert refusal(answer) == (403, "key_restricted")
    body = {"username": "alice", "config_id": "other"}
    assert call(api, key, "POST", "/chat/sessions/new", **body).status_code == 200


def test_an_openai_client_with_a_bound_key_uses_its_session(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    api.chat("first", session_id="mine")
    key = make_key(api, username="alice", session_id="mine")
    messages = [{"role": "user", "content": "second"}]
    answer = call(api, key, "POST", "/openai/chat/completions", model="default", messages=messages)
    assert (answer.status_code, answer.json["session_id"]) == (200, "mine")
    assert [one["content"] for one in model.seen[-1][1:]] == ["first", "ok", "second"]


def test_a_session_key_cannot_use_an_unlisted_model(api: Api) -> None:
    made = api.post("/api/v1/keys/session", json={"username": "alice"}).get_json()["data"]
    body = {"username": "alice", "message": "hi", "selected_model": "the-most-expensive"}
    answers = [
        api.client.post("/api/v1/chat", headers={"X-API-Key": key}, json=body)
        for key in (made["api_key"], api.key)
    ]
    assert answers[0].get_json()["code"] == "model_not_found"
    assert answers[1].status_code == 200
    answers[1].close()


def test_a_push_cannot_use_attachments_of_others(api: Api) -> None:
    theirs = upload(api, b"BOB PRIVATE", b"bob.txt")["attachment_id"]
    part = {"type": "file", "attachment_id": theirs}
    api.chat([{"type": "plain", "text": "x"}, part], username="bob")
    mallory = make_key(api, username="mallory")
    for umo in ("webchat:FriendMessage:webchat!mallory!m1", "webchat:FriendMessage:m2"):
        answer = api.client.post(
            "/api/v1/im/message",
            headers={"X-API-Key": mallory},
            json={"umo": umo, "message": [part]},
        )
        assert answer.status_code in (403, 404), answer.get_data()
    assert ask(api, mallory, f"/api/v1/files/{theirs}/content").status_code == 404


def test_a_tool_cannot_use_attachments_of_others(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
) -> None:
    theirs: list[str] = []

    def send(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta(messages[-1]["content"])
            return
        part = {"type": "file", "attachment_id": theirs[0]}
        yield ToolCallDelta(0, "c1", "send_message_to_user", json.dumps({"messages": [part]}))

    api, _ = make_scripted(send)
    theirs.append(upload(api, b"BOB PRIVATE", b"bob.txt")["attachment_id"])
    mallory = make_key(api, username="mallory")
    answer = api.post_chat(mallory, message="send it")
    assert b"attachment not found" in answer.get_data()
    assert ask(api, mallory, f"/api/v1/files/{theirs[0]}/content").status_code == 404


def test_session_keys_share_the_limits_of_their_parent(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_MAX_RUNS_PER_KEY="2")
    made = [
        api.post("/api/v1/keys/session", json={"username": f"u{number}"}).json["data"]["api_key"]
        for number in range(3)
    ]
    opened = [api.post_chat(key, message="SLOW N=200") for key in made]
    try:
        assert [one.status_code for one in opened] == [200, 200, 429]
    finally:
        for one in opened[:2]:
            one.close()


def test_a_tools_file_counts_towards_the_parent_of_a_session_key(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
) -> None:
    @tool
    def draw(context: ToolContext) -> str:
        """Draw."""
        return context.send_file(b"x" * 100, "a.txt")

    def call(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta("done")
        else:
            yield ToolCallDelta(0, "c1", "draw", "{}")

    api, _ = make_scripted(call, tools=[draw])
    made = api.post("/api/v1/keys/session", json={"username": "alice"}).json["data"]
    events = parse_events(api.post_chat(made["api_key"], message="draw").get_data())
    (saved,) = [one["data"]["id"] for one in events if one["type"] == "attachment_saved"]
    with api.state.db.read() as db:
        row = find_attachment(db, saved)
    assert row is not None
    assert row.key_id != made["key_id"]
