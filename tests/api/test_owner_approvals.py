"""The admin page of pending tool calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrbot_api import tool
from astrbot_api.agent.provider import ToolCallDelta
from astrbot_api.db import approvals
from astrbot_api.runtime.clock import now_us
from astrbot_api.testing.scripted_model import Step

from ..query_plans import explain
from ..waiting import wait_for
from .conftest import Api
from .test_owner_as_caller import PASSWORD, Owner
from .test_pickup import Worker, make_worker  # noqa: F401

_PATH = "/admin/data/approvals"


@tool(needs_approval=True)
def note(text: str, number: int = 0) -> str:
    """Write a note."""
    return f"noted {len(text)}"


def _answer(messages: list[Any]) -> Iterator[Step]:
    """Record the user's text and return the tool's result."""
    said = messages[-1]
    if said["role"] == "tool":
        yield f"Result: {said['content']}"
    else:
        yield ToolCallDelta(0, "call", "note", f'{{"text": "{said["content"]}"}}')


pytestmark = pytest.mark.usefixtures("cheap_hashes")


@pytest.fixture
def make_owner(make_worker: Callable[..., Worker]) -> Callable[..., Owner]:  # noqa: F811
    def make(*, approves: bool) -> Owner:
        options = {"admin_password": PASSWORD, "owner_approves": approves}
        return Owner(make_worker(_answer, tools=[note], **options).api)

    return make


def ask(api: Api, username: str, message: str) -> str:
    """Start a turn that waits, in a separate session, and return its run's id."""
    events = api.chat(message, session_id=f"of {username}", username=username)
    run_id: str = next(one["data"]["run_id"] for one in events if one["type"] == "run_started")
    wait_for(lambda: status_of(api, username, run_id) == "waiting")
    return run_id


def status_of(api: Api, username: str, run_id: str) -> Any:
    return describe(api, username, run_id)["status"]


def describe(api: Api, username: str, run_id: str) -> Any:
    path = f"/api/v1/chat/runs/{run_id}?username={username}"
    return api.get(path).get_json()["data"]


def decide(owner: Owner, call: dict[str, Any], decision: str, comment: str = "") -> Any:
    body = {"id": call["id"], "decision": decision, "comment": comment}
    return owner.ask("POST", _PATH, json=body)


def reply_of(api: Api, username: str, run_id: str) -> str:
    wait_for(lambda: status_of(api, username, run_id) == "completed")
    return str(describe(api, username, run_id)["result"]["message"][-1]["text"])


def test_the_owner_sees_and_decides_the_calls_of_every_user(
    make_owner: Callable[..., Owner],
) -> None:
    owner = make_owner(approves=True)
    first = ask(owner.api, "alice", "<b>one</b>")
    second = ask(owner.api, "bob", "two")
    page = owner.data_of("GET", _PATH)
    assert (page["next"], page["may_decide"]) == (None, True)
    alices, bobs = page["calls"]
    assert (alices["run_id"], bobs["run_id"]) == (first, second)
    assert {name: alices[name] for name in ("tool", "arguments", "cut", "username")} == {
        "tool": "note",
        "arguments": '{\n  "text": "<b>one</b>"\n}',
        "cut": False,
        "username": "alice",
    }
    assert (alices["session_id"], alices["config_id"]) == ("of alice", None)
    assert alices["key_name"] == owner.data_of("GET", "/admin/data/keys")[0]["name"]
    assert alices["asked_at"] < alices["expires_at"]
    assert decide(owner, alices, "approve").get_json()["data"] == {"pending": 0}
    assert reply_of(owner.api, "alice", first) == "Result: noted 10"
    assert decide(owner, bobs, "reject", "not today").status_code == 200
    assert "not today" in reply_of(owner.api, "bob", second)
    assert owner.data_of("GET", _PATH)["calls"] == []
    owner.api.state.keys.usage.flush()  # it records the key's use
    entries = owner.data_of("GET", "/admin/data/audit")["entries"]
    decided = [one for one in entries if one["action"].startswith("call_")]
    assert [(one["action"], one["actor"], one["detail"]) for one in decided] == [
        ("call_rejected", "astrbot", 'note {"text":"two"}'),
        ("call_approved", "astrbot", 'note {"text":"<b>one</b>"}'),
    ]
    again = decide(owner, bobs, "approve")
    assert (again.status_code, again.get_json()["code"]) == (404, "approval_not_found")


def test_without_the_setting_the_owner_decides_only_its_own_calls(
    make_owner: Callable[..., Owner],
) -> None:
    owner = make_owner(approves=False)
    others = ask(owner.api, "alice", "one")
    body = {"message": "two", "session_id": "own"}
    owner.ask("POST", "/api/v1/chat", json=body).get_data()
    page = owner.data_of("GET", _PATH)
    assert page["may_decide"] is False
    alices, mine = page["calls"]
    assert (alices["run_id"], alices["own"], mine["own"]) == (others, False, True)
    refused = decide(owner, alices, "approve")
    assert (refused.status_code, refused.get_json()["code"]) == (403, "key_restricted")
    assert status_of(owner.api, "alice", others) == "waiting"
    assert decide(owner, mine, "approve").status_code == 200
    assert [one["run_id"] for one in owner.data_of("GET", _PATH)["calls"]] == [others]


def test_only_the_owner_reads_calls_and_only_its_pages_decide(
    make_owner: Callable[..., Owner],
) -> None:
    owner = make_owner(approves=True)
    ask(owner.api, "alice", "one")
    (call,) = owner.data_of("GET", _PATH)["calls"]
    body = {"id": call["id"], "decision": "approve"}
    stranger = owner.api.app.test_client()
    for path in (_PATH, f"{_PATH}/arguments?id={call['id']}"):
        assert stranger.get(path).status_code == 401
        assert stranger.get(path, headers={"X-API-Key": owner.api.key}).status_code == 401
    assert stranger.post(_PATH, json=body).status_code == 401
    browser = owner.api.app.test_client()
    browser.post("/api/auth/login", json={"username": "astrbot", "password": PASSWORD})
    assert len(browser.get(_PATH).get_json()["data"]["calls"]) == 1
    forged = browser.post(_PATH, json=body)
    assert (forged.status_code, forged.get_json()["code"]) == (403, "csrf_failed")
    assert len(owner.data_of("GET", _PATH)["calls"]) == 1


def test_long_arguments_are_truncated_and_shown_whole_on_request(
    make_owner: Callable[..., Owner],
) -> None:
    owner = make_owner(approves=True)
    ask(owner.api, "alice", "x" * 5000)
    (call,) = owner.data_of("GET", _PATH)["calls"]
    assert (len(call["arguments"]), call["cut"]) == (approvals.LISTED_ARGS_CHARS, True)
    whole = owner.data_of("GET", f"{_PATH}/arguments?id={call['id']}")
    assert whole == {"arguments": f'{{\n  "text": "{"x" * 5000}"\n}}'}


def test_the_page_shows_the_arguments_exactly(make_owner: Callable[..., Owner]) -> None:
    owner = make_owner(approves=True)
    ask(owner.api, "alice", 'x", "number": 9007199254740993, "text": "safe\u202e\u200b')
    (call,) = owner.data_of("GET", _PATH)["calls"]
    assert r'"text": "safe\u202e\u200b"' in call["arguments"]
    assert '"number": 9007199254740993' in call["arguments"]


def test_ten_thousand_calls_are_paged_by_an_index(make_owner: Callable[..., Owner]) -> None:
    api = (owner := make_owner(approves=True)).api
    ask(api, "alice", "one")
    api.state.worker.chores.close()  # they reject expired calls
    ends = now_us() + 3_600_000_000

    def add(db: Any) -> None:
        (run,) = db.execute_sql("SELECT id FROM run").fetchone()
        db.execute_sql("DELETE FROM run_approval")
        db.connection().executemany(
            "INSERT INTO run_approval (approval_id, run, call_id, tool, args, status, created_at,"
            " expires_at) VALUES (?, ?, 'c', 'note', '{}', ?, 0, ?)",
            # Some expire at the same time, one is decided, one is expired.
            [(f"id{n:05}", run, "pending", ends + n // 7) for n in range(10_000)]
            + [("decided", run, "approved", ends), ("late", run, "pending", 1)],
        )

    api.state.db.write(add)
    first = owner.data_of("GET", _PATH)
    second = owner.data_of("GET", f"{_PATH}?after={first['next']}")
    shown = [one["id"] for page in (first, second) for one in page["calls"]]
    assert shown == [f"id{n:05}" for n in range(60)]
    after, seen = None, list[str]()
    with api.state.db.read() as db:
        while page := approvals.list_pending(db, after=after, limit=997):
            seen += [one.approval_id for one in page]
            after = page[-1].expires_at, page[-1].approval_id
        assert seen == [f"id{n:05}" for n in range(10_000)]
        for statement in (approvals._LIST_PENDING, approvals._LIST_EXPIRED):
            plan = explain(db, statement)
            assert "USING INDEX run_approval_due (expires_at" in plan[0], plan
            assert not [step for step in plan if "SCAN" in step], plan


@pytest.mark.parametrize("cursor", ["x", "1" * 30 + ".id", "-5.id", "²."])
def test_an_invalid_page_is_rejected(make_owner: Callable[..., Owner], cursor: str) -> None:
    answer = make_owner(approves=True).ask("GET", f"{_PATH}?after={cursor}")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")


def test_an_invalid_decision_is_rejected(make_owner: Callable[..., Owner]) -> None:
    owner = make_owner(approves=True)
    for body, code, field in (
        ({"decision": "approve"}, "missing_field", "id"),
        ({"id": "x"}, "invalid_request", "decision"),
        ({"id": "x", "decision": "edit"}, "invalid_request", "decision"),
        ({"id": "x", "decision": "reject", "comment": 5}, "invalid_request", "comment"),
        ({"id": "x", "decision": "reject", "comment": "y" * 2001}, "invalid_request", "comment"),
        ({"id": "x", "decision": "reject"}, "approval_not_found", "approval"),
    ):  # fmt: skip
        answer = owner.ask("POST", _PATH, json=body).get_json()
        assert (answer["code"], field in answer["message"]) == (code, True), answer
