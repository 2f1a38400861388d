"""One session by its id: read, create, rename, delete, and its owner."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from astrbot_api.agent.provider import Delta, TextDelta
from astrbot_api.chat import removal as removing
from astrbot_api.db import message_pages, messages, runs, sessions
from astrbot_api.db.models import ALL_MODELS
from astrbot_api.db.models.sessions import ChatSession
from astrbot_api.testing import ScriptedModel

from ..query_plans import explain
from ..waiting import wait_for
from .conftest import Api
from .test_idempotency import check_code
from .uploading import upload

SESSIONS = "/api/v1/chat/sessions"


def call(api: Api, method: str, path: str, **options: Any) -> TestResponse:
    headers = {"X-API-Key": api.key}
    return api.client.open(SESSIONS + path, method=method, headers=headers, **options)


def data_of(answer: TestResponse) -> Any:
    assert answer.status_code == 200, answer.get_data()
    body = answer.get_json()
    assert body["status"] == "ok"
    return body["data"]


def test_an_idle_session_is_returned_with_its_history(api: Api) -> None:
    api.chat("first", session_id="s")
    api.chat("second", session_id="s")
    data = data_of(call(api, "GET", "/s?username=alice"))
    assert data["session_id"] == "s"
    assert (data["creator"], data["config_id"]) == ("alice", None)
    assert (data["active_runs"], data["is_running"], data["next_cursor"]) == ([], False, None)
    texts = [one["content"]["message"][0]["text"] for one in data["history"]]
    assert texts == ["first", "Hello from mock.", "second", "Hello from mock."]
    assert [one["sender_id"] for one in data["history"]] == ["alice", "bot"] * 2
    turns = [one["llm_checkpoint_id"] for one in data["history"]]
    assert turns[0] == turns[1] != turns[2] == turns[3]


def test_a_running_turn_is_shown_until_it_ends(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
) -> None:
    go_on = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        assert go_on.wait(30)
        yield TextDelta("done")

    api, _ = make_scripted(answer)
    stream = api.post("/api/v1/chat", json={"username": "alice", "session_id": "s", "message": "x"})
    data = data_of(call(api, "GET", "/s?username=alice"))
    (run,) = data["active_runs"]
    assert (run["status"], data["is_running"]) == ("running", True)
    assert run["run_id"] in next(iter(stream.response)).decode()
    check_code(edit(api, 1, "y"), 409, "session_busy")
    go_on.set()
    stream.get_data()
    assert data_of(call(api, "GET", "/s?username=alice"))["active_runs"] == []


def edit(api: Api, number: int, text: str, **body: Any) -> TestResponse:
    body = {"username": "alice", "content": {"message": text}, **body}
    return call(api, "PATCH", f"/s/messages/{number}", json=body)


def test_the_key_that_created_a_session_need_not_name_its_user(api: Api) -> None:
    api.chat(session_id="s")
    new = data_of(call(api, "POST", "/new", json={"username": "bob"}))["session_id"]
    for session_id, creator in (("s", "alice"), (new, "bob")):
        assert data_of(call(api, "GET", f"/{session_id}"))["creator"] == creator
    assert len(data_of(call(api, "GET", "/s/messages"))["messages"]) == 2
    assert data_of(call(api, "PATCH", "/s", json={"display_name": "x"}))["display_name"] == "x"
    ids = {"session_ids": [new, "other"]}
    deleted = data_of(call(api, "POST", "/batch-delete", json=ids))
    assert deleted["deleted_count"] == 1
    assert deleted["failed_items"][0]["code"] == "missing_field"
    data_of(call(api, "DELETE", "/s"))
    check_code(call(api, "GET", "/s?username=alice"), 404, "session_not_found")
    # A key cannot act as an administrator through a session from the time when it could.
    api.chat(session_id="t")
    api.state.db.write(lambda db: ChatSession.update(creator="astrbot").where(True).execute(db))
    check_code(call(api, "GET", "/t"), 403, "username_reserved")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/s", None),
        ("PATCH", "/s", {"display_name": "x"}),
        ("DELETE", "/s", None),
        ("GET", "/s/messages", None),
        ("PATCH", "/s/messages/1", {"content": {"message": "x"}}),
        ("POST", "/s/messages/2/regenerate", {}),
    ],
)
def test_every_route_checks_the_owner_of_the_session(
    api: Api, method: str, path: str, body: dict[str, Any] | None
) -> None:
    api.chat(session_id="s")
    options = {} if body is None else {"json": body}
    check_code(call(api, method, f"{path}?username=mallory", **options), 409,
               "session_of_another_user")  # fmt: skip
    other = api.client.open(
        SESSIONS + path, method=method, headers={"X-API-Key": api.create_key("chat")}, **options
    )
    check_code(other, 400, "missing_field")
    check_code(call(api, method, f"{path}?username=astrbot", **options), 403, "username_reserved")
    unknown = path.replace("/s", "/other", 1)
    check_code(call(api, method, f"{unknown}?username=alice", **options), 404, "session_not_found")
    assert api.count_rows("message") == 2
    assert data_of(call(api, "GET", "/s?username=alice"))["display_name"] != "x"


def test_the_username_may_be_in_the_body(api: Api) -> None:
    api.chat(session_id="s")
    body = {"username": "mallory", "display_name": "x"}
    answer = call(api, "PATCH", "/s?username=alice", json=body)
    check_code(answer, 409, "session_of_another_user")
    data = data_of(call(api, "PATCH", "/s", json={**body, "username": "alice"}))
    assert data["display_name"] == "x"


def test_a_given_title_is_kept_and_a_blank_title_is_ignored(api: Api) -> None:
    data = data_of(call(api, "POST", "/new", json={"username": "alice", "display_name": " T "}))
    name = data["session_id"]
    assert (len(name), data["display_name"], data["platform_id"]) == (36, "T", "webchat")
    api.chat(session_id=name)
    assert data_of(call(api, "GET", f"/{name}?username=alice"))["display_name"] == "T"
    data = data_of(call(api, "PATCH", f"/{name}?username=alice", json={"display_name": " "}))
    assert data["display_name"] is None
    too_long = call(api, "PATCH", f"/{name}?username=alice", json={"display_name": "x" * 256})
    check_code(too_long, 400, "invalid_request")
    check_code(call(api, "PATCH", f"/{name}?username=alice", json={}), 400, "missing_field")


def test_a_session_can_also_be_created_by_get(api: Api) -> None:
    data = data_of(call(api, "GET", "/new?username=alice"))
    assert data["creator"] == "alice"
    check_code(call(api, "GET", "/new?username=alice&platform_id=tg"), 400, "invalid_request")
    check_code(
        call(api, "POST", "/new?username=alice", json={"config_id": "no"}), 404, "config_not_found"
    )
    assert api.count_rows("chat_session") == 1


def test_messages_are_paged_in_either_order(api: Api) -> None:
    for number in range(6):
        api.chat(str(number), session_id="s")
    ids = [one["id"] for one in data_of(call(api, "GET", "/s?username=alice"))["history"]]
    for order, expected in (("asc", ids), ("desc", ids[::-1])):
        found: list[int] = []
        cursor: int | str | None = ""
        while cursor is not None:
            page = data_of(
                call(
                    api, "GET", f"/s/messages?username=alice&order={order}&limit=5&cursor={cursor}"
                )
            )
            found += [one["id"] for one in page["messages"]]
            cursor = page["next_cursor"]
            assert len(page["messages"]) == (5 if cursor else 2)
        assert found == expected
    history = data_of(call(api, "GET", "/s?username=alice&history_limit=3"))
    assert [one["id"] for one in history["history"]] == ids[-3:]
    before = f"/s/messages?username=alice&cursor={history['next_cursor']}"
    assert data_of(call(api, "GET", before))["messages"][0]["id"] == ids[-4]


def test_a_page_of_long_messages_ends_early(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_pages, "_MAX_PAGE_CHARS", 2500)
    for _ in range(3):
        api.chat("x" * 1000, session_id="s", _skip_user_history=False)
    page = data_of(call(api, "GET", "/s/messages?username=alice"))
    assert 1 < len(page["messages"]) < 6
    assert page["next_cursor"] == page["messages"][-1]["id"]


@pytest.mark.parametrize("query", ["cursor=x", "limit=x", "order=up", f"cursor={2**63}"])
def test_an_invalid_page_is_rejected(api: Api, query: str) -> None:
    api.chat(session_id="s")
    answer = call(api, "GET", f"/s/messages?username=alice&{query}")
    check_code(answer, 400, "invalid_request")
    assert query.partition("=")[0] in answer.get_json()["message"]


def test_a_page_of_messages_reads_only_the_index(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.chat(session_id="s")
    with api.state.db.read() as db:
        for statement in (message_pages.NEWEST_FIRST, message_pages.OLDEST_FIRST):
            plan = explain(db, statement)
            assert plan[0].startswith("SEARCH t1 USING INDEX message_session")
            assert len(plan) == 1, "no sort"


def test_deleting_a_session_deletes_all_of_its_data(api: Api) -> None:
    attachment = upload(api, b"hello", b"a.txt")["attachment_id"]
    message = [{"type": "plain", "text": "x"}, {"type": "file", "attachment_id": attachment}]
    api.chat(message, session_id="s")
    api.chat(session_id="other")
    assert data_of(call(api, "DELETE", "/s?username=alice")) == {"session_id": "s"}
    check_code(call(api, "GET", "/s?username=alice"), 404, "session_not_found")
    check_code(call(api, "DELETE", "/s?username=alice"), 404, "session_not_found")
    counts = {table: api.count_rows(table) for table in ("chat_session", "message", "run")}
    assert counts == {"chat_session": 1, "message": 2, "run": 1}
    assert api.count_rows("message_attachment") == api.count_rows("deleted_session") == 0
    assert data_of(call(api, "GET", "?username=alice"))["total"] == 1
    assert api.count_rows("attachment") == 1, "another message may use it; the sweep takes it"


def test_the_id_of_a_deleted_session_can_be_reused_without_its_history(api: Api) -> None:
    api.chat("secret", session_id="s")
    call(api, "DELETE", "/s?username=alice")
    api.chat("hi", username="bob", session_id="s")
    history = data_of(call(api, "GET", "/s?username=bob"))["history"]
    assert len(history) == 2
    assert "secret" not in str(history)


def test_a_large_session_is_deleted_in_several_short_transactions(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "_BATCH", 10)
    monkeypatch.setattr(removing, "_MAX_BATCHES_AT_ONCE", 2)
    api.state.worker.chores.start()
    api.state.worker.chores.close()  # otherwise they delete more

    def fill(db: Any) -> None:
        session = sessions.create_session(db, "big", "alice")
        for _ in range(75):
            messages.add_message(db, session.id, "webchat", "alice", {"type": "user"}, None)

    api.state.db.write(fill)
    data_of(call(api, "DELETE", "/big?username=alice"))
    assert api.count_rows("message") == 55
    assert api.count_rows("chat_session") == 0
    monkeypatch.setattr(removing, "_MAX_BATCHES", 3)
    api.state.chat.remover.empty_removed()
    assert api.count_rows("message") == 25
    api.state.chat.remover.empty_removed()
    assert api.count_rows("message") == api.count_rows("deleted_session") == 0


def test_the_reply_of_a_turn_in_a_deleted_session_is_dropped(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        begun.set()
        assert go_on.wait(30)
        yield TextDelta("done")

    api, _ = make_scripted(answer)
    stream = api.post("/api/v1/chat", json={"username": "alice", "session_id": "s", "message": "x"})
    assert begun.wait(30)
    data_of(call(api, "DELETE", "/s?username=alice"))
    go_on.set()
    assert '"type":"end"' in stream.get_data(as_text=True)

    def is_idle() -> bool:
        with api.state.db.read() as db:
            return not runs.list_active_runs(db, 1)

    wait_for(is_idle)
    api.state.chat.remover.empty_removed()
    for table in ("message", "run", "deleted_session", "chat_session"):
        assert api.count_rows(table) == 0, table


def test_several_sessions_are_deleted_and_failures_are_listed(api: Api) -> None:
    for name in ("a", "b/c", "new"):
        api.chat(session_id=name)
    api.chat(session_id="m", username="mallory")
    body = {"username": "alice", "session_ids": ["a", "b/c", "new", "m", "a", "no"]}
    data = data_of(call(api, "POST", "/batch-delete", json=body))
    assert (data["deleted_count"], data["failed_count"]) == (3, 2)
    assert [(one["session_id"], one["code"]) for one in data["failed_items"]] == [
        ("m", "session_of_another_user"),
        ("no", "session_not_found"),
    ]
    assert data_of(call(api, "GET", "?username=alice"))["total"] == 0
    for wrong in ({"session_ids": ["x"] * 501}, {"session_ids": "x"}, {"session_ids": [1]}):
        check_code(
            call(api, "POST", "/batch-delete?username=alice", json=wrong), 400, "invalid_request"
        )


def test_no_table_has_the_username_once_its_sessions_are_deleted(api: Api) -> None:
    """``docs/database.rst`` says which data of a user remains."""
    headers = {"Idempotency-Key": "once"}
    body = {"username": "ann@example.com", "message": "my words", "session_id": "a"}
    api.post("/api/v1/chat", json=body, headers=headers).get_data()
    api.chat("my words", username="ann@example.com", session_id="b")
    response = {"model": "default", "input": "my words", "user": "ann@example.com"}
    assert api.post("/api/v1/openai/responses", json=response).status_code == 200
    listed = data_of(call(api, "GET", "?username=ann@example.com"))["sessions"]
    ids = [one["session_id"] for one in listed]
    wanted = {"username": "ann@example.com", "session_ids": ids}
    assert data_of(call(api, "POST", "/batch-delete", json=wanted))["deleted_count"] == 3
    with api.state.db.read() as db:
        rows = [(model, row) for model in ALL_MODELS for row in model.select().tuples().execute(db)]
    assert [one for one in rows if "ann@example.com" in str(one) or "my words" in str(one)] == []


def test_keys_with_the_chat_scope_can_list_configs(api: Api) -> None:
    key = api.create_key("chat")
    answer = api.client.get("/api/v1/chat/configs", headers={"X-API-Key": key})
    configs = data_of(api.get("/api/v1/configs"))["configs"]
    assert data_of(answer) == {"configs": configs, "info_list": configs}
