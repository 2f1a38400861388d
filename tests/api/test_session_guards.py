"""Keys with guard rails, on the routes of sessions, the inbox and OpenAI's clients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from astrbot_api.agent.provider import TextDelta
from astrbot_api.testing import ScriptedModel

from .conftest import Api
from .test_guard_rails import ask, make_key, refusal, say
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
    for method, path in (
        ("DELETE", "/chat/sessions/other"),
        ("POST", "/chat/sessions/batch-delete"),
        ("POST", "/chat/sessions/new"),
    ):
        answer = call(api, key, method, path, session_ids=["other"])
        assert refusal(answer) == (403, "key_restricted"), path


def test_no_attachment_of_others_comes_in_by_an_edit(api: Api) -> None:
    theirs = upload(api, b"secret", b"a.txt")["attachment_id"]
    key = make_key(api, username="alice")
    say(api, key, session_id="s")
    parts = [{"type": "file", "attachment_id": theirs}]
    answer = call(api, key, "PATCH", "/chat/sessions/s/messages/1", content={"message": parts})
    assert refusal(answer) == (404, "attachment_not_found")
    assert api.count_rows("message_attachment") == 0


def test_only_the_configs_of_a_key_are_its_models(api: Api) -> None:
    folder = Path(api.state.settings.data_dir) / "configs"
    (folder / "other.toml").write_text('name = "other"\n[provider]\ntype = "mock"\n')
    api.state.agents.configs.load_all()
    key = make_key(api, configs=["other"])
    models = ask(api, key, "/api/v1/openai/models").json
    assert [one["id"] for one in models["data"]] == ["other"]
    answer = call(api, key, "POST", "/chat/sessions/new", username="alice")
    assert refusal(answer) == (403, "key_restricted")
    body = {"username": "alice", "config_id": "other"}
    assert call(api, key, "POST", "/chat/sessions/new", **body).status_code == 200


def test_an_openai_client_with_a_bound_key_talks_in_its_session(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    api.chat("first", session_id="mine")
    key = make_key(api, username="alice", session_id="mine")
    messages = [{"role": "user", "content": "second"}]
    answer = call(api, key, "POST", "/openai/chat/completions", model="default", messages=messages)
    assert (answer.status_code, answer.json["session_id"]) == (200, "mine")
    assert [one["content"] for one in model.seen[-1][1:]] == ["first", "ok", "second"]


def test_a_session_key_chooses_no_model_that_is_not_listed(api: Api) -> None:
    made = api.client.post(
        "/api/v1/keys/session", headers={"X-API-Key": api.key}, json={"username": "alice"}
    ).get_json()["data"]
    body = {"username": "alice", "message": "hi", "selected_model": "the-most-expensive"}
    answers = [
        api.client.post("/api/v1/chat", headers={"X-API-Key": key}, json=body)
        for key in (made["api_key"], api.key)
    ]
    assert answers[0].get_json()["code"] == "model_not_found"
    assert answers[1].status_code == 200
    answers[1].close()
