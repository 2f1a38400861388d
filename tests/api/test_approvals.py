"""Tools that need approval: the turn waits for a person without using a thread."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from werkzeug.serving import make_server

from astrbot_api import AskModel, Command, Handled, hookimpl, tool
from astrbot_api.agent.calling import OUTCOME_UNKNOWN
from astrbot_api.agent.provider import ToolCallDelta, Usage
from astrbot_api.chat.resuming import recovery
from astrbot_api.chat.turns import checkpoints
from astrbot_api.db import approvals, keys, run_stops, runs
from astrbot_api.db.models.runs import Run, RunApproval
from astrbot_api.errors import StorageError
from astrbot_api.keys.rules import KeyRules
from astrbot_api.runlog.log import RunLog
from astrbot_api.testing.scripted_model import Step

from ..servers import parse_events
from ..waiting import LIMIT_S, wait_for
from ..websocket import WebSocketClient, handshake
from .conftest import Api
from .dying import end_leases
from .test_owner_as_caller import PASSWORD, Owner
from .test_pickup import Worker, make_worker  # noqa: F401


class Shop:
    """A tool that pays, and a model that calls it and repeats its result."""

    def __init__(self, calls: int = 1) -> None:
        self.paid: list[int] = []
        self.calls = calls

    def tools(self) -> list[Any]:
        @tool(needs_approval=True)
        def pay(amount: int) -> str:
            """Pay an amount."""
            self.paid.append(amount)
            return f"paid {amount}"

        @tool
        def look() -> str:
            """Look at the price."""
            return "5"

        return [pay, look]

    def answer(self, messages: list[Any]) -> Iterator[Step]:
        results = [one["content"] for one in messages if one["role"] == "tool"]
        if messages[-1]["role"] == "tool":
            yield f"Results: {results[:-1]}"
        elif messages[-1]["content"] == "buy":
            yield "I will pay."
            for number in range(self.calls):
                yield ToolCallDelta(number, f"pay{number}", "pay", f'{{"amount": {number + 5}}}')
            yield ToolCallDelta(self.calls, "look", "look", "{}")
        else:
            yield "Hello"


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def worker(make_worker: Callable[..., Worker], shop: Shop) -> Worker:  # noqa: F811
    return make_worker(shop.answer, tools=shop.tools())


def begin(api: Api, **body: Any) -> tuple[str, list[dict[str, Any]], int]:
    """Start a turn that waits. Return its run, approvals and the number of its last event."""
    events = api.chat("buy", session_id="s", **body)
    asked = [one["data"] for one in events if one["type"] == "approval_required"]
    run_id = next(one["data"]["run_id"] for one in events if one["type"] == "run_started")
    assert events[-1]["type"] == "approval_required"
    wait_for(lambda: describe(api, run_id)["status"] == "waiting")
    return run_id, asked, len(events)


def describe(api: Api, run_id: str) -> dict[str, Any]:
    data = api.get(f"/api/v1/chat/runs/{run_id}?username=alice").get_json()["data"]
    assert isinstance(data, dict)
    return data


def decide(api: Api, run_id: str, approval: str, decision: str, **body: Any) -> Any:
    return api.post(
        f"/api/v1/chat/runs/{run_id}/approvals/{approval}",
        json={"username": "alice", "decision": decision, **body},
    )


def resume(api: Api, run_id: str, after: int) -> list[dict[str, Any]]:
    answer = api.get(f"/api/v1/chat/runs/{run_id}/stream?username=alice&after={after}")
    return parse_events(answer.get_data()) if answer.status_code == 200 else []


def complete_of(events: list[dict[str, Any]]) -> str:
    assert events[-1]["type"] == "end"
    return str(next(one["data"] for one in events if one["type"] == "complete"))


def test_a_call_is_made_after_its_approval(worker: Worker, shop: Shop) -> None:
    api = worker.api
    run_id, (asked,), seen = begin(api)
    assert (asked["tool"], asked["arguments"]) == ("pay", {"amount": 5})
    assert not shop.paid
    waits = describe(api, run_id)
    assert [one["status"] for one in waits["approvals"]] == ["pending"]
    assert waits["approvals"][0]["id"] == asked["id"]
    wait_for(lambda: api.state.chat.runs.active_count == 0)  # no thread
    assert resume(api, run_id, seen) == []  # and no stream
    answer = decide(api, run_id, asked["id"], "approve")
    assert answer.get_json()["data"] == {"run_id": run_id, "pending": 0}
    assert complete_of(resume(api, run_id, seen)) == "I will pay.Results: ['paid 5']"
    assert shop.paid == [5]
    again = decide(api, run_id, asked["id"], "approve")
    assert (again.status_code, again.get_json()["code"]) == (404, "approval_not_found")
    with api.state.db.read() as db:
        rows = db.execute_sql(
            "SELECT action, actor, detail FROM audit WHERE action LIKE 'call%'"
        ).fetchall()
    assert rows == [("call_approved", "alice", 'pay {"amount":5}')]
    assert api.count_rows("run_approval") == api.count_rows("run_checkpoint") == 0


def test_nobody_is_asked_about_a_call_with_wrong_arguments(
    make_worker: Callable[..., Worker],  # noqa: F811
    shop: Shop,
) -> None:
    def answer(messages: list[Any]) -> Iterator[Step]:
        if messages[-1]["role"] == "tool":
            yield messages[-1]["content"]
        else:
            yield ToolCallDelta(0, "c1", "pay", '{"amount": "much"}')

    api = make_worker(answer, tools=shop.tools()).api
    assert "amount" in complete_of(api.chat("buy", session_id="s"))
    assert not shop.paid


def test_a_stream_from_the_beginning_continues_after_a_decided_call(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = worker.api
    run_id, (asked,), _ = begin(api)
    recovery = api.state.chat.recovery
    with monkeypatch.context() as patched:
        patched.setattr(recovery, "recover_run", lambda run_id: None)
        patched.setattr(recovery, "_recover", lambda run: None)
        assert decide(api, run_id, asked["id"], "approve").status_code == 200
        path = f"/api/v1/chat/runs/{run_id}/stream?username=alice"
        opened = api.get(path, buffered=False)
        frames, seen = opened.iter_encoded(), b""
        while b"approval_required" not in seen:
            seen += next(frames)
    recovery.recover()
    assert complete_of(parse_events(seen + b"".join(frames))) == "I will pay.Results: ['paid 5']"


def test_each_call_is_asked_for_if_the_endpoint_repeats_its_ids(
    make_worker: Callable[..., Worker],  # noqa: F811
    shop: Shop,
) -> None:
    def answer(messages: list[Any]) -> Iterator[Step]:
        made = sum(one["role"] == "tool" for one in messages)
        yield "Done" if made == 2 else ToolCallDelta(0, "c", "pay", f'{{"amount": {made + 5}}}')

    api = make_worker(answer, tools=shop.tools()).api
    run_id, (first,), seen = begin(api)
    decide(api, run_id, first["id"], "approve")
    events = resume(api, run_id, seen)
    (second,) = [one["data"] for one in events if one["type"] == "approval_required"]
    assert (second["arguments"], shop.paid) == ({"amount": 6}, [5])
    wait_for(lambda: describe(api, run_id)["status"] == "waiting")
    decide(api, run_id, second["id"], "approve")
    assert complete_of(resume(api, run_id, seen + len(events))) == "Done"
    assert shop.paid == [5, 6]


def test_the_model_is_informed_of_a_rejection(worker: Worker, shop: Shop) -> None:
    run_id, (asked,), seen = begin(worker.api)
    assert decide(worker.api, run_id, asked["id"], "reject", comment="too much").status_code == 200
    said = complete_of(resume(worker.api, run_id, seen))
    assert "this call was rejected: too much. It was not made." in said
    assert not shop.paid


def test_edited_arguments_are_used(worker: Worker, shop: Shop) -> None:
    run_id, (asked,), seen = begin(worker.api)
    for body in ({"decision": "edit"}, {"decision": "approve", "arguments": {}}, {"decision": "x"}):
        assert decide(worker.api, run_id, asked["id"], **body).status_code == 400
    assert decide(worker.api, run_id, "nonsense", "approve").status_code == 404
    changed = decide(worker.api, run_id, asked["id"], "edit", arguments={"amount": 4})
    assert changed.status_code == 200
    said = complete_of(resume(worker.api, run_id, seen))
    assert 'with other arguments: {"amount":4}' in said
    assert shop.paid == [4]


def test_a_run_continues_after_the_last_decision(
    make_worker: Callable[..., Worker],  # noqa: F811
) -> None:
    shop = Shop(calls=2)
    api = make_worker(shop.answer, tools=shop.tools()).api
    run_id, _, seen = begin(api)
    seen = max(seen, len(resume(api, run_id, 0)))
    waits = describe(api, run_id)["approvals"]
    assert len(waits) == 2
    first = decide(api, run_id, waits[0]["id"], "approve")
    assert first.get_json()["data"]["pending"] == 1
    twice = decide(api, run_id, waits[0]["id"], "reject")
    assert (twice.status_code, twice.get_json()["code"]) == (409, "approval_decided")
    assert describe(api, run_id)["status"] == "waiting"
    assert decide(api, run_id, waits[1]["id"], "reject").get_json()["data"]["pending"] == 0
    complete_of(resume(api, run_id, seen))
    assert len(shop.paid) == 1


def test_another_worker_accepts_the_approval_after_all_have_died(
    make_worker: Callable[..., Worker],  # noqa: F811
) -> None:
    shop = Shop()
    dead = make_worker(shop.answer, tools=shop.tools())
    run_id, (asked,), seen = begin(dead.api)
    dead.die()
    living = make_worker(shop.answer, tools=shop.tools())
    end_leases(living.api)
    living.api.state.chat.recovery.recover()
    assert describe(living.api, run_id)["status"] == "waiting"
    assert decide(living.api, run_id, asked["id"], "approve").status_code == 200
    assert complete_of(resume(living.api, run_id, seen)) == "I will pay.Results: ['paid 5']"
    assert shop.paid == [5]


def test_a_worker_that_dies_during_an_approved_call_does_not_make_it_twice(
    make_worker: Callable[..., Worker],  # noqa: F811
) -> None:
    shop = Shop()
    dead = make_worker(shop.answer, tools=shop.tools())
    run_id, (asked,), seen = begin(dead.api)
    paid = shop.paid

    class DyingList(list[int]):
        def append(self, amount: int) -> None:
            super().append(amount)
            dead.die()

    shop.paid = DyingList(paid)
    assert decide(dead.api, run_id, asked["id"], "approve").status_code == 200
    wait_for(lambda: dead.death is not None and dead.death.dead.is_set())
    living = make_worker(shop.answer, tools=shop.tools())
    living.go_on()
    assert (
        complete_of(resume(living.api, run_id, seen)) == f"I will pay.Results: {[OUTCOME_UNKNOWN]}"
    )
    assert shop.paid == [5]


def test_an_approved_call_is_made_despite_an_outage_of_the_journal(
    worker: Worker, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, journal = worker.api, worker.api.state.worker.journal
    run_id, (asked,), seen = begin(api)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "take_over", raise_storage_error)
        decide(api, run_id, asked["id"], "approve")
    assert not shop.paid
    monkeypatch.setattr(recovery, "_UNKNOWN_S", 0.0)
    api.state.chat.recovery.end_forgotten(api.state.chat.runs.knows)
    assert complete_of(resume(api, run_id, seen)) == "I will pay.Results: ['paid 5']"


def raise_storage_error(*args: Any) -> bool:
    raise StorageError("The journal is away.")


def test_commands_decide_pending_calls(worker: Worker, shop: Shop) -> None:
    run_id, _, seen = begin(worker.api)
    answer = worker.api.chat("/approve", session_id="s")
    assert "Approved: pay." in [one.get("data") for one in answer]
    worker.api.state.chat.recovery.recover()
    assert complete_of(resume(worker.api, run_id, seen)).endswith("['paid 5']")
    nothing = worker.api.chat("/reject", session_id="s")
    assert "No tool call waits for approval in this session." in [
        one.get("data") for one in nothing
    ]


def test_a_new_message_rejects_pending_calls_and_is_answered_next(
    worker: Worker, shop: Shop
) -> None:
    api = worker.api
    run_id, _, seen = begin(api)
    assert complete_of(api.chat("hi", session_id="s")) == "Hello"
    said = complete_of(resume(api, run_id, seen))
    assert "rejected: the user sent a new message instead of deciding" in said
    assert not shop.paid
    texts = [one["content"] for one in worker.model.seen[-1]]
    assert texts[-1] == "hi"
    assert any("Results" in str(one) for one in texts)


def test_a_waiting_run_can_be_stopped_and_its_session_deleted(worker: Worker) -> None:
    api = worker.api
    run_id, _, seen = begin(api)
    shown = api.get("/api/v1/chat/sessions/s?username=alice").get_json()["data"]
    assert [(one["run_id"], one["status"]) for one in shown["active_runs"]] == [(run_id, "waiting")]
    stopped = api.post(f"/api/v1/chat/runs/{run_id}/stop", json={"username": "alice"})
    assert stopped.get_json()["data"]["stopped_count"] == 1
    api.state.chat.recovery.recover()
    assert describe(api, run_id)["status"] == "stopped"
    assert complete_of(resume(api, run_id, seen)) == "I will pay."
    begin(api)
    api.state.chat.remover.remove("s", "alice")
    api.state.chat.recovery.recover()
    wait_for(lambda: (api.state.chat.remover.empty_removed(), not api.count_rows("run"))[1])
    assert api.count_rows("run_approval") == 0


def test_a_turn_that_is_stopped_while_it_begins_to_wait_ends(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, suspend = worker.api, runs.wait_for_person

    def stop_and_suspend(db: Any, number: int, worker_id: str) -> bool:
        """Suspend the run a moment after another worker was asked to stop it."""
        run_id = Run.select(Run.run_id).where(Run.id == number).scalar(db)
        assert run_stops.request_stop(db, run_id)
        return suspend(db, number, worker_id)

    monkeypatch.setattr(runs, "wait_for_person", stop_and_suspend)
    started = api.chat("buy", session_id="s")
    run_id = next(one["data"]["run_id"] for one in started if one["type"] == "run_started")
    wait_for(lambda: (api.state.chat.recovery.recover(), describe(api, run_id))[1]["finished_at"])
    assert describe(api, run_id)["status"] == "stopped"
    assert api.count_rows("run_approval") == api.count_rows("run_checkpoint") == 0


def test_a_waiting_turn_of_a_deleted_session_leaves_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = worker.api
    begin(api)
    remover = api.state.chat.remover
    stopped: list[int] = []
    with monkeypatch.context() as crashed:  # between the deletion and the stop request
        crashed.setattr(remover, "_stop_runs", stopped.append)
        remover.remove("s", "alice")
    assert api.count_rows("run") == api.count_rows("run_approval") == 1
    api.state.chat.runs.stop_session(*stopped)
    api.state.chat.recovery.recover()
    wait_for(lambda: (remover.empty_removed(), not api.count_rows("run"))[1])
    assert api.count_rows("run_approval") == api.count_rows("run_checkpoint") == 0


def test_a_call_is_rejected_after_its_deadline(
    make_worker: Callable[..., Worker],  # noqa: F811
) -> None:
    shop = Shop()
    worker = make_worker(shop.answer, tools=shop.tools(), approval_s=1)
    run_id, _, seen = begin(worker.api)

    def is_over() -> bool:
        return describe(worker.api, run_id)["status"] != "waiting"

    wait_for(is_over)  # the background job checks every few seconds
    assert "nobody has decided in time" in complete_of(resume(worker.api, run_id, seen))
    assert not shop.paid


def test_nobody_decides_after_the_deadline(
    worker: Worker, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "list_expired", lambda db, limit: [])  # before the periodic job
    run_id, (asked,), _ = begin(worker.api)
    over = RunApproval.update(expires_at=1)
    worker.api.state.db.write(lambda db: over.execute(db))
    answer = decide(worker.api, run_id, asked["id"], "approve")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "approval_decided")
    assert not shop.paid


def test_a_blocking_response_lists_pending_calls(worker: Worker) -> None:
    answer = worker.api.post_chat(
        username="alice", session_id="s", message="buy", response_mode="blocking"
    )
    assert answer.status_code == 202
    data = answer.get_json()["data"]
    assert data["status"] == "waiting"
    assert [one["tool"] for one in data["approvals"]] == ["pay"]


def test_a_call_is_rejected_if_nobody_can_decide_it(worker: Worker, shop: Shop) -> None:
    answer = worker.api.post(
        "/api/v1/openai/chat/completions",
        json={"model": "default", "messages": [{"role": "user", "content": "buy"}]},
    )
    assert "nobody can be asked here" in answer.get_json()["choices"][0]["message"]["content"]
    assert not shop.paid


@pytest.mark.parametrize("resumable", [False, True])
def test_a_call_does_not_wait_if_its_turn_could_not_continue(
    make_worker: Callable[..., Worker],  # noqa: F811
    resumable: bool,
) -> None:
    shop = Shop()
    command = Command("shop", "Buy.", lambda context: AskModel("buy"), resumable=resumable)
    worker = make_worker(shop.answer, tools=shop.tools(), commands=[command])
    events = worker.api.chat("/shop", session_id="s")
    assert (events[-1]["type"] == "approval_required") is resumable
    assert ("nobody can be asked here" in str(events)) is not resumable


def test_a_waiting_run_takes_less_than_two_kilobytes(
    make_worker: Callable[..., Worker],  # noqa: F811
) -> None:
    count, shop = 120, Shop()
    worker = make_worker(shop.answer, tools=shop.tools())
    api = worker.api

    def let_wait(names: range) -> None:
        for number in names:
            answer = api.post_chat(username="alice", session_id=f"s{number}", message="buy")
            assert b"approval_required" in answer.get_data()
            answer.close()
        wait_for(lambda: api.state.chat.runs.active_count == 0)
        worker.model.seen.clear()
        gc.collect()

    tracemalloc.start()
    try:
        let_wait(range(40))  # initialises shared objects
        before, _ = tracemalloc.get_traced_memory()
        let_wait(range(40, 40 + count))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held / count < 2048, f"{held / count:.0f} bytes a run"
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "run"])


@pytest.mark.parametrize("end", ["approve", "stop", "delete", "new message"])
def test_a_waiting_turn_counts_for_the_limits_of_its_key(
    make_worker: Callable[..., Worker],  # noqa: F811
    shop: Shop,
    end: str,
) -> None:
    def answer(messages: list[Any]) -> Iterator[Step]:
        yield from shop.answer(messages)
        yield Usage(input_other=60, input_cached=0, output=40)

    api = make_worker(answer, tools=shop.tools()).api
    rules = KeyRules(turns_per_day=2, tokens_per_day=10_000).dump()
    _, secret = api.state.db.write(
        lambda db: keys.create_key(db, "limited", ["chat"], created_by="test", rules=rules)
    )
    limited = Api(api.app, api.model, secret)

    def read_used() -> tuple[int, int, int]:
        own = limited.get("/api/v1/keys/self").get_json()["data"]
        used = own["used"]
        return used["turns_today"], used["tokens_today"], own["left"]["turns_per_day"]

    run_id, (asked,), seen = begin(limited)
    assert read_used() == (1, 100, 1)
    if end == "new message":
        assert limited.chat("hello", session_id="s")[-1]["type"] == "end"
        api.state.chat.recovery.recover()
        wait_for(lambda: describe(limited, run_id)["status"] == "completed")
        assert read_used() == (2, 300, 0)
    else:
        limited.chat("buy", session_id="other")
        wait_for(lambda: api.state.chat.runs.active_count == 0)
        assert read_used() == (2, 200, 0)
    refused = limited.post_chat(username="alice", session_id="third", message="hi")
    assert (refused.status_code, refused.json["code"]) == (429, "budget_exhausted")
    if end == "approve":
        decide(limited, run_id, asked["id"], "approve")
        assert resume(limited, run_id, seen)[-1]["type"] == "end"
        assert read_used() == (2, 300, 0)
    elif end == "stop":
        limited.post(f"/api/v1/chat/runs/{run_id}/stop", json={"username": "alice"})
        api.state.chat.recovery.recover()
        assert describe(limited, run_id)["status"] == "stopped"
        assert read_used() == (2, 200, 0)
    elif end == "delete":
        limited.client.delete(
            "/api/v1/chat/sessions/s?username=alice", headers={"X-API-Key": secret}
        )
        api.state.chat.recovery.recover()
        assert read_used() == (2, 200, 0)


def test_a_waiting_turn_gives_no_tokens_back_if_no_model_is_asked_later(
    make_worker: Callable[..., Worker],  # noqa: F811
    shop: Shop,
) -> None:
    """A plugin may answer a turn that resumes, or fail before the turn is restored."""

    class Closing:
        @hookimpl
        def on_message(self, message: str) -> Handled | None:
            return Handled("We have closed.") if shop.calls == 0 else None

    def answer(messages: list[Any]) -> Iterator[Step]:
        yield from shop.answer(messages)
        yield Usage(input_other=60, input_cached=0, output=40)

    api = make_worker(answer, tools=shop.tools(), plugins=[Closing]).api

    def read_tokens() -> int:
        return int(api.get("/api/v1/keys/self").get_json()["data"]["used"]["tokens_today"])

    run_id, (asked,), seen = begin(api)
    assert read_tokens() == 100
    shop.calls = 0
    decide(api, run_id, asked["id"], "approve")
    assert resume(api, run_id, seen)[-1]["type"] == "end"
    assert read_tokens() == 100


def test_a_key_can_require_approval_for_more_tools(
    make_worker: Callable[..., Worker],  # noqa: F811
) -> None:
    calls: list[str] = []

    @tool
    def look() -> str:
        """Look at the price."""
        calls.append("look")
        return "5"

    def answer(messages: list[Any]) -> Iterator[Step]:
        if messages[-1]["role"] == "tool":
            yield messages[-1]["content"]
        else:
            yield ToolCallDelta(0, "c1", "look", "{}")

    api = make_worker(answer, tools=[look]).api
    assert complete_of(api.chat("go", session_id="free")) == "5"
    rules = KeyRules(approve=("lo*",)).dump()
    _, secret = api.state.db.write(
        lambda db: keys.create_key(db, "asks", ["chat"], created_by="test", rules=rules)
    )
    body = {"username": "alice"}
    made = api.client.post("/api/v1/keys/session", headers={"X-API-Key": secret}, json=body)
    for number, key in enumerate((secret, made.json["data"]["api_key"]), 1):
        careful = Api(api.app, api.model, key)
        asked = careful.chat("go", session_id=f"s{number}")[-1]
        assert (asked["type"], asked["data"]["tool"]) == ("approval_required", "look")
        assert calls == ["look"] * number
        run_id = asked["message_id"]
        assert decide(careful, run_id, asked["data"]["id"], "approve").status_code == 200
        assert complete_of(resume(careful, run_id, 0)) == "5"


@pytest.mark.parametrize("may", [False, True])
def test_a_setting_lets_the_owner_decide_for_users(
    make_worker: Callable[..., Worker],  # noqa: F811
    shop: Shop,
    *,
    may: bool,
) -> None:
    options = {"admin_password": PASSWORD, "owner_approves": may}
    api = make_worker(shop.answer, tools=shop.tools(), **options).api
    run_id, (asked,), seen = begin(api)
    answer = Owner(api).ask(
        "POST", f"/api/v1/chat/runs/{run_id}/approvals/{asked['id']}", json={"decision": "approve"}
    )
    if not may:
        assert (answer.status_code, answer.get_json()["code"]) == (403, "key_restricted")
        assert describe(api, run_id)["status"] == "waiting"
        return
    assert answer.status_code == 200
    assert complete_of(resume(api, run_id, seen)) == "I will pay.Results: ['paid 5']"
    with api.state.db.read() as db:
        rows = db.execute_sql("SELECT actor FROM audit WHERE action = 'call_approved'").fetchall()
    assert rows == [("astrbot",)]


def test_a_websocket_decides_and_streams_the_rest_of_the_turn(worker: Worker, shop: Shop) -> None:
    server = make_server("127.0.0.1", 0, worker.api.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with WebSocketClient(server.server_port, handshake(worker.api.key)) as client:
            client.send({"t": "send", "username": "alice", "session_id": "s", "message": "buy"})
            while (asked := client.receive())["type"] != "approval_required":
                pass
            wrong = {"t": "decide", "username": "alice", "run_id": asked["message_id"]}
            client.send({**wrong, "id": asked["data"]["id"], "decision": "maybe"})
            refused = client.receive()
            assert (refused["code"], refused["data"][:8]) == ("INVALID_MESSAGE", "decision")
            client.send({**wrong, "id": asked["data"]["id"], "decision": "approve"})
            frames = [client.receive()]
            while frames[-1]["type"] != "end":
                frames.append(client.receive())
        decided = next(one for one in frames if one["type"] == "decided")
        assert decided["data"] == {"id": asked["data"]["id"], "pending": 0}
        said = next(one["data"] for one in frames if one["type"] == "complete")
        assert said == "I will pay.Results: ['paid 5']"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)


def post(api: Api, path: str, key: str, body: dict[str, Any]) -> Any:
    return api.client.post(f"/api/v1/{path}", headers={"X-API-Key": key}, json=body)


def answer_of(protocol: str, *approvals: str, approved: Any = True) -> dict[str, Any]:
    """Return the decision in a protocol's format."""
    if protocol == "agui":
        entry: dict[str, Any] = {"status": "resolved", "payload": {"approved": approved}}
        if approved is None:
            entry = {"status": "cancelled"}
        message = {"id": "m", "role": "user", "content": "buy"}
        resume = [{**entry, "interruptId": one} for one in approvals]
        return {"threadId": "s", "runId": "r", "messages": [message], "resume": resume}
    part = {"type": "dynamic-tool", "toolName": "pay", "toolCallId": "pay0", "input": {}}
    parts = [
        {**part, "state": "approval-responded", "approval": {"id": one, "approved": approved}}
        for one in approvals
    ]
    asked = {"id": "", "role": "user", "parts": []}
    return {"id": "s", "messages": [asked, {"id": "m", "role": "assistant", "parts": parts}]}


@pytest.mark.parametrize("protocol", ["agui", "aisdk"])
def test_only_users_of_a_run_decide_it_in_another_protocol(
    worker: Worker, shop: Shop, protocol: str
) -> None:
    api = worker.api
    run_id, (asked,), _ = begin(api)
    _, other = api.state.db.write(
        lambda db: keys.create_key(db, "other", ["chat"], created_by="test")
    )
    body = answer_of(protocol, asked["id"])
    assert post(api, protocol, other, body).get_json()["code"] == "run_not_found"
    assert post(api, protocol, api.key, answer_of(protocol, "x")).status_code == 404
    assert describe(api, run_id)["status"] == "waiting"
    answer = post(api, protocol, api.key, body)
    assert answer.status_code == 200
    assert b"Results: ['paid 5']" in answer.get_data()
    assert shop.paid == [5]


@pytest.mark.parametrize(
    ("protocol", "refusal"), [("agui", False), ("agui", None), ("aisdk", False)]
)
def test_a_run_continues_in_another_protocol_after_all_decisions(
    make_worker: Callable[..., Worker],  # noqa: F811
    protocol: str,
    refusal: Any,
) -> None:
    shop = Shop(calls=2)
    api = make_worker(shop.answer, tools=shop.tools()).api
    run_id, asked, _ = begin(api)
    first = post(api, protocol, api.key, answer_of(protocol, asked[0]["id"]))
    assert first.status_code == 200
    assert b"Results" not in first.get_data()
    assert describe(api, run_id)["status"] == "waiting"
    second = post(api, protocol, api.key, answer_of(protocol, asked[1]["id"], approved=refusal))
    assert b"Results" in second.get_data()
    assert len(shop.paid) == 1


def test_a_message_of_the_ai_sdk_continues_after_an_approval(worker: Worker) -> None:
    said = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "buy"}]}
    asking = post(worker.api, "aisdk", worker.api.key, {"messages": [said], "approvals": True})
    chunks = parse_chunks(asking)
    assert chunks[-1]["finishReason"] == "tool-calls"
    approval = next(one for one in chunks if one["type"] == "tool-approval-request")["approvalId"]
    body = answer_of("aisdk", approval)
    later = {"id": "n", "role": "assistant", "parts": [{"type": "text", "text": "Later."}]}
    # The SDK names an earlier message if its call is decided late.
    sent = {"messages": [*body["messages"], said, later], "messageId": "m"}
    chunks = parse_chunks(post(worker.api, "aisdk", worker.api.key, sent))
    assert chunks[0]["messageId"] == "m"
    assert [one["type"] for one in chunks[:4]] == [
        "start", "tool-output-available", "finish-step", "start-step",
    ]  # fmt: skip


def test_a_message_of_the_ai_sdk_does_not_stop_a_waiting_turn(worker: Worker) -> None:
    api = worker.api
    run_id, _, _ = begin(api)
    said = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    sent = {"id": "s", "messages": [said], "username": "alice"}
    assert b"Hello" in post(api, "aisdk", api.key, sent).get_data()
    # The model is informed that the call was rejected, and answers.
    wait_for(lambda: describe(api, run_id)["status"] == "completed")


def test_a_regenerated_answer_replaces_a_turn_that_waits(worker: Worker, shop: Shop) -> None:
    api = worker.api
    said = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "buy"}]}
    sent = {"id": "s", "messages": [said], "approvals": True}
    for trigger in ("submit-message", "regenerate-message"):
        chunks = parse_chunks(post(api, "aisdk", api.key, {**sent, "trigger": trigger}))
    asked = next(one for one in chunks if one["type"] == "tool-approval-request")
    post(api, "aisdk", api.key, answer_of("aisdk", asked["approvalId"])).get_data()
    wait_for(lambda: api.state.chat.runs.active_count == 0)
    assert (shop.paid, api.count_rows("message")) == ([5], 2)


def test_an_answer_that_waits_is_replaced_if_its_message_is_answered_again(
    worker: Worker, shop: Shop
) -> None:
    api = worker.api
    first, _, _ = begin(api)
    with api.state.db.read() as db:
        message = Run.select(Run.user_message).scalar(db)
    again = api.post(
        f"/api/v1/chat/sessions/s/messages/{message}/regenerate", json={"username": "alice"}
    )
    shown = parse_events(again.get_data())
    second = next(one["data"]["run_id"] for one in shown if one["type"] == "run_started")
    assert describe(api, first)["status"] == "stopped"
    assert decide(api, second, shown[-1]["data"]["id"], "approve").status_code == 200
    resume(api, second, 0)
    assert (shop.paid, api.count_rows("message")) == ([5], 2)


def test_a_call_that_was_approved_first_is_not_denied(
    make_worker: Callable[..., Worker],  # noqa: F811
) -> None:
    shop = Shop(calls=2)
    api = make_worker(shop.answer, tools=shop.tools()).api
    run_id, asked, _ = begin(api)
    first, second = (one["id"] for one in asked)
    assert decide(api, run_id, first, "approve").status_code == 200
    body = answer_of("aisdk", first, second, approved=False)
    chunks = parse_chunks(post(api, "aisdk", api.key, body))
    shown = {one["toolCallId"][:4]: one["type"] for one in chunks if "toolCallId" in one}
    assert shown == {"pay0": "tool-output-available", "pay1": "tool-output-denied"}
    assert shop.paid == [5]


@pytest.mark.parametrize("approved", [True, False])
def test_an_agui_message_after_an_interrupt_is_answered(
    worker: Worker, shop: Shop, approved: bool
) -> None:
    api = worker.api
    run_id, (asked,), _ = begin(api)
    body = answer_of("agui", asked["id"], approved=approved)
    body["messages"].append({"id": "m2", "role": "user", "content": "Hi"})
    sent = {**body, "forwardedProps": {"username": "alice"}}
    assert b'"delta":"Hello"' in post(api, "agui", api.key, sent).get_data()
    assert shop.paid == ([5] if approved else [])
    assert describe(api, run_id)["status"] == "completed"


def test_an_agui_message_of_several_texts_is_not_new_after_an_interrupt(
    make_worker: Callable[..., Worker],  # noqa: F811
    shop: Shop,
) -> None:
    def answer(messages: list[Any]) -> Iterator[Step]:
        return shop.answer(
            [{**one, "content": "buy"} if one["role"] == "user" else one for one in messages]
        )

    api = make_worker(answer, tools=shop.tools()).api
    parts = [{"type": "text", "text": text} for text in ("Please buy", "this.\n")]
    body = {
        "threadId": "s", "runId": "r", "protocolVersion": "1.0",
        "messages": [{"id": "m", "role": "user", "content": parts}],
    }  # fmt: skip
    (*_, last) = parse_events(post(api, "agui", api.key, body).get_data())
    (interrupt,) = last["outcome"]["interrupts"]
    sent = {**body, "resume": answer_of("agui", interrupt["id"])["resume"]}
    (*_, last) = parse_events(post(api, "agui", api.key, sent).get_data())
    assert last["outcome"] == {"type": "success"}
    assert (shop.paid, api.count_rows("message")) == ([5], 2)


def test_an_agui_client_can_leave_an_interrupt_of_an_ended_run(worker: Worker) -> None:
    api = worker.api
    run_id, (asked,), seen = begin(api)
    decide(api, run_id, asked["id"], "reject")
    resume(api, run_id, seen)
    for approved, status in ((True, 404), (False, 200)):
        body = answer_of("agui", asked["id"], approved=approved)
        sent = {**body, "protocolVersion": "1.0", "forwardedProps": {"username": "alice"}}
        answer = post(api, "agui", api.key, {**sent, "runId": "运行\n2"})
        assert answer.status_code == status
    last = parse_events(answer.get_data())[-1]
    assert (last["runId"], last["outcome"]) == ("运行\n2", {"type": "success"})
    assert "X-Run-Id" not in answer.headers
    sent["messages"].append({"id": "n", "role": "user", "content": "Hi"})
    assert b'"delta":"Hello"' in post(api, "agui", api.key, sent).get_data()


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("protocol", ["agui", "aisdk"])
def test_a_turn_that_continues_before_its_stream_ends_waits_for_nobody(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, protocol: str, stops: bool
) -> None:
    api, decided = worker.api, threading.Event()
    wait = RunLog.wait_until_written

    def decide_first(log: RunLog, limit_s: float) -> None:
        wait(log, limit_s)
        with api.state.db.read() as db:
            asked = db.execute_sql(
                "SELECT run.run_id, approval_id FROM run_approval JOIN run ON run.id = run"
            ).fetchall()
        if asked and not decided.is_set():
            decided.set()
            if stops:
                api.state.chat.runs.stop([asked[0][0]])
            else:
                assert decide(api, *asked[0], "approve").status_code == 200

    monkeypatch.setattr(RunLog, "wait_until_written", decide_first)
    said = {"id": "u", "role": "user", "content": "buy", "parts": [{"type": "text", "text": "buy"}]}
    sent = {
        "id": "s", "threadId": "s", "runId": "r", "protocolVersion": "1.0", "messages": [said],
        "approvals": True, "username": "alice", "forwardedProps": {"username": "alice"},
    }  # fmt: skip
    opened = api.client.post(f"/api/v1/{protocol}", headers={"X-API-Key": api.key}, json=sent)
    wait_for(decided.is_set)
    wait_for(lambda: api.state.chat.runs.active_count == 0)
    api.state.chat.recovery.recover()
    last = parse_chunks(opened)[-1]
    if protocol == "agui":
        assert last["outcome"] == {"type": "cancelled" if stops else "success"}
    else:
        assert last["finishReason"] == "stop"


def parse_chunks(answer: Any) -> list[dict[str, Any]]:
    return parse_events(answer.get_data().removesuffix(b"data: [DONE]\n\n"))


def test_an_older_agui_client_can_ask_for_approvals(worker: Worker, shop: Shop) -> None:
    message = {"id": "m", "role": "user", "content": "buy"}
    body = {"threadId": "s", "runId": "r", "messages": [message]}
    sent = {**body, "forwardedProps": {"approvals": True}}
    (*_, last) = parse_events(post(worker.api, "agui", worker.api.key, sent).get_data())
    (interrupt,) = last["outcome"]["interrupts"]
    answer = post(worker.api, "agui", worker.api.key, answer_of("agui", interrupt["id"]))
    (*_, last) = parse_events(answer.get_data())
    # The client's schema of the outcome success is strict, so it gets none.
    assert set(last) == {"type", "threadId", "runId"}
    assert shop.paid == [5]


@pytest.mark.parametrize("first", [0, 1])
def test_an_agui_run_is_interrupted_again_for_its_other_calls(
    make_worker: Callable[..., Worker],  # noqa: F811
    first: int,
) -> None:
    shop = Shop(calls=2)
    api = make_worker(shop.answer, tools=shop.tools()).api
    _, asked, _ = begin(api)
    body = {**answer_of("agui", asked[first]["id"]), "protocolVersion": "1.0"}
    (*_, last) = parse_events(post(api, "agui", api.key, body).get_data())
    (left,) = last["outcome"]["interrupts"]
    assert left["id"] == asked[1 - first]["id"]
    assert left["toolCallId"].startswith(f"pay{1 - first}_")
    assert left["metadata"] == {"tool": "pay", "arguments": {"amount": 6 - first}}


@pytest.mark.parametrize("protocol", ["agui", "aisdk"])
def test_decisions_of_one_request_are_applied_together_or_not_at_all(
    make_worker: Callable[..., Worker],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    shop = Shop(calls=2)
    api = make_worker(shop.answer, tools=shop.tools()).api
    run_id, asked, _ = begin(api)
    ids = [one["id"] for one in asked]

    def list_states() -> list[str]:
        return [one["status"] for one in describe(api, run_id)["approvals"]]

    assert post(api, protocol, api.key, answer_of(protocol, ids[0], "x")).status_code == 404
    assert list_states() == ["pending", "pending"]
    decide = approvals.decide

    def decide_one(failing: str, db: Any, approval_id: str, status: str, **more: Any) -> bool:
        if approval_id == failing:
            raise StorageError("the disk is full")
        return decide(db, approval_id, status, **more)

    for one in ids:
        with monkeypatch.context() as patch:
            patch.setattr(approvals, "decide", partial(decide_one, one))
            assert post(api, protocol, api.key, answer_of(protocol, *ids)).status_code >= 500
        assert list_states() == ["pending", "pending"]
    # One call is decided, then a second request rejects both. The first decision stays.
    post(api, protocol, api.key, answer_of(protocol, ids[0]))
    last = post(api, protocol, api.key, answer_of(protocol, *ids, approved=False))
    assert b"Results" in last.get_data()
    assert len(shop.paid) == 1


def test_a_call_can_wait_in_a_very_long_conversation(worker: Worker, shop: Shop) -> None:
    said = [("user", "x" * 300_000), ("assistant", "I see."), ("user", "buy")]
    messages = [
        {"id": f"m{number}", "role": role, "parts": [{"type": "text", "text": text}]}
        for number, (role, text) in enumerate(said)
    ]
    body = {"id": "s", "messages": messages, "approvals": True}
    asked = post(worker.api, "aisdk", worker.api.key, body).get_data(as_text=True)
    approval = asked.partition('"approvalId":"')[2][:36]
    answer = post(worker.api, "aisdk", worker.api.key, answer_of("aisdk", approval))
    assert "Results: ['paid 5']" in answer.get_data(as_text=True)
    assert shop.paid == [5]


@pytest.mark.parametrize("size", [100_000, 300_000])
def test_waiting_turns_count_for_the_quota_of_their_key(
    worker: Worker, shop: Shop, size: int
) -> None:
    """Their conversation is stored only until they end. Calls of one step share it."""
    api, shop.calls = worker.api, 2
    rules = KeyRules(stored_bytes=size).dump()
    _, secret = api.state.db.write(
        lambda db: keys.create_key(db, "limited", ["chat"], created_by="test", rules=rules)
    )

    def buy(session_id: str) -> Any:
        said = [("user", "x" * size), ("assistant", "I see."), ("user", "buy")]
        messages = [
            {"id": role, "role": role, "parts": [{"type": "text", "text": text}]}
            for role, text in said
        ]
        body = {"id": session_id, "messages": messages, "approvals": True}
        return post(api, "aisdk", secret, body)

    def read_bytes() -> int:
        own = api.client.get("/api/v1/keys/self", headers={"X-API-Key": secret}).get_json()
        return int(own["data"]["used"]["stored_bytes"])

    assert '"approvalId"' in buy("first").get_data(as_text=True)
    assert size < read_bytes() < size + 10_000
    refused = buy("second")
    assert (refused.status_code, refused.json["code"]) == (413, "quota_exceeded")
    with api.state.db.read() as db:
        run_id = Run.select(Run.run_id).scalar(db)
    wait_for(lambda: api.state.chat.runs.active_count == 0)
    api.client.post(f"/api/v1/chat/runs/{run_id}/stop", headers={"X-API-Key": secret}, json={})
    api.state.chat.recovery.recover()
    assert read_bytes() < 10_000
    assert '"approvalId"' in buy("third").get_data(as_text=True)


def test_a_worker_that_has_lost_its_turn_asks_nobody(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, taken = checkpoints.StepStore.save, Run.update(worker_id="other")

    def save_last(*args: Any) -> None:
        save(*args)
        worker.api.state.db.write(lambda db: taken.execute(db))

    monkeypatch.setattr(checkpoints.StepStore, "save", save_last)
    worker.open(message="buy")
    assert worker.api.state.chat.runs.wait_until_idle(LIMIT_S)
    assert worker.api.count_rows("run_approval") == 0


def test_a_call_can_wait_whatever_the_size_of_its_step(
    make_worker: Callable[..., Worker],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    worker = make_worker(shop.answer, tools=shop.tools())
    monkeypatch.setattr(checkpoints, "_MAX_BYTES", 10)
    run_id, (asked,), seen = begin(worker.api)
    decide(worker.api, run_id, asked["id"], "approve")
    assert complete_of(resume(worker.api, run_id, seen)) == "I will pay.Results: ['paid 5']"


def test_no_call_waits_after_a_step_that_is_not_stored(
    make_worker: Callable[..., Worker],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look_and_buy(messages: list[Any]) -> Iterator[Step]:
        if messages[-1]["role"] == "tool":
            yield ToolCallDelta(0, "pay0", "pay", '{"amount": 5}')
        else:
            yield ToolCallDelta(0, "look0", "look", "{}")

    worker = make_worker(look_and_buy, tools=Shop().tools())
    monkeypatch.setattr(checkpoints, "_MAX_BYTES", 10)
    (error,) = (one for one in worker.api.chat("buy") if one["type"] == "error")
    assert error["code"] == "storage_error"


def test_an_invalid_answer_to_an_interrupt_names_its_field(worker: Worker) -> None:
    api = worker.api
    _, (asked,), _ = begin(api)
    answer = post(api, "agui", api.key, answer_of("agui", asked["id"], approved="yes"))
    assert answer.status_code == 400
    assert answer.get_json()["message"].startswith("resume[0].payload.approved must be true")
