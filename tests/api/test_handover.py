"""A stopping worker hands its runs over to another one, and clients notice nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrbot_api.agent.calling import OUTCOME_UNKNOWN
from astrbot_api.chat.turns import checkpoints, handover, opening
from astrbot_api.db.runs import BEFORE_CALLS
from astrbot_api.errors import OutcomeUnknown, StorageError
from astrbot_api.testing.scripted_model import Step

from ..servers import ENDED, FAILED, parse_events, shown_text
from ..waiting import LIMIT_S, wait_for
from .dying import end_leases
from .test_pickup import (
    _TEXT,
    Held,
    HeldAgent,
    Steps,
    Tools,
    Worker,
    kill_when_journaled,
    make_worker,
    of_type,
)
from .test_tracing import Spans

__all__ = ["make_worker"]


@pytest.fixture(autouse=True)
def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_SETTLE_S", 0.0)
    monkeypatch.setattr(handover, "_FRESH_S", 0.0)


class Stream:
    """A chat request of one client, which reads it to its end in a thread."""

    def __init__(self, worker: Worker, headers: dict[str, str] | None = None, **body: Any) -> None:
        self.data = b""
        self.run_id = ""
        self.begun = threading.Event()
        opened = worker.api.post(
            "/api/v1/chat",
            headers=headers or {},
            json={"username": "alice", "session_id": "s", "message": "hi", **body},
            buffered=False,
        )
        self._frames = opened.iter_encoded()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for frame in self._frames:
            self.data += frame
            if b"run_started" in self.data:
                self.run_id = self.data.partition(b'"run_id":"')[2][:36].decode()
                self.begun.set()

    def read(self) -> list[dict[str, Any]]:
        """Return all events once the stream has ended."""
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        return parse_events(self.data)


def make_heir(make_worker: Callable[..., Worker], script: Any, **options: Any) -> Worker:
    """Return a running worker that takes over runs only on request."""
    heir = make_worker(script, **options)
    heir.api.state.worker.lease.get_worker_id()
    heir.api.state.worker.chores.close()
    return heir


def worker_of(worker: Worker, run_id: str) -> str:
    return worker.find(run_id).worker_id


def recover(worker: Worker) -> None:
    worker.api.state.chat.recovery.recover()


@pytest.mark.parametrize("streaming", [True, False])
def test_a_run_is_handed_over_after_its_step_and_its_stream_continues(
    make_worker: Callable[..., Worker], streaming: bool
) -> None:
    tools, steps = Tools(), Steps(2)
    stopping = make_worker(steps, tools=tools.make())
    heir = make_heir(make_worker, Steps(), tools=tools.make())
    stream = Stream(stopping, enable_streaming=streaming)
    assert steps.holding.wait(LIMIT_S)
    stopping.api.state.chat.runs.drain()
    steps.never.set()
    wait_for(lambda: worker_of(heir, stream.run_id) == BEFORE_CALLS)
    assert stopping.api.state.chat.runs.wait_until_idle(LIMIT_S)
    recover(heir)
    events = stream.read()
    assert not of_type(events, "rewind")
    assert shown_text(events) == _TEXT
    assert [one["type"] for one in events[-4:]] == ENDED
    assert events == heir.read(stream.run_id)
    # The calls of the step had not started, so the second worker made them.
    assert (sorted(a for a, _ in tools.added), tools.looked) == ([1, 2, 3], 3)
    assert len(stopping.model.seen) == len(heir.model.seen) == 2
    figures = stopping.api.client.get("/metrics").get_data(as_text=True)
    assert "astrbot_run_handovers_total 1.0" in figures
    figures = heir.api.client.get("/metrics").get_data(as_text=True)
    assert "astrbot_run_pickups_total 0.0" in figures


@pytest.mark.parametrize("stored", [False, True])
def test_a_run_continues_on_one_worker_if_its_handover_fails(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, *, stored: bool
) -> None:
    tools, steps, given, made = Tools(), Steps(2), list[bool](), list[tuple[int, int]]()
    stopping = make_worker(steps, tools=tools.make())
    heir = make_heir(make_worker, Steps(), tools=tools.make())
    hand_over, db = handover.run_workers.hand_over, stopping.api.state.db
    write = db.write

    def fail(*args: Any, **options: Any) -> bool:
        if not stored:
            raise StorageError("The disk is full.")
        given.append(hand_over(*args, **options))
        return given[-1]

    def lose_outcome(job: Any, **options: Any) -> Any:
        done = write(job, **options)
        if given and not made:
            made.append((len(tools.added), tools.looked))
            raise OutcomeUnknown("It is unknown whether this was stored.")
        return done

    monkeypatch.setattr(handover.run_workers, "hand_over", fail)
    monkeypatch.setattr(db, "write", lose_outcome)
    stream = Stream(stopping)
    assert steps.holding.wait(LIMIT_S)
    stopping.api.state.chat.runs.drain()
    steps.never.set()
    assert stopping.api.state.chat.runs.wait_until_idle(LIMIT_S)
    assert made in ([], [(len(tools.added), tools.looked)])  # it makes no call afterwards
    recover(heir)
    events = stream.read()
    assert shown_text(events) == _TEXT
    assert [one["type"] for one in events[-4:]] == ENDED
    assert (sorted(a for a, _ in tools.added), tools.looked) == ([1, 2, 3], 3)
    assert bool(heir.model.seen) is stored


def test_a_run_with_running_tools_is_handed_over_after_their_last_result(
    make_worker: Callable[..., Worker],
) -> None:
    tools = Tools()
    tools.hold = threading.Event()
    stopping = make_worker(Steps(), tools=tools.make())
    heir = make_heir(make_worker, Steps(), tools=tools.make())
    stream = Stream(stopping)
    assert tools.holding.wait(LIMIT_S)
    stopping.api.state.chat.runs.drain()
    tools.hold.set()
    wait_for(lambda: worker_of(heir, stream.run_id) == "")
    recover(heir)
    events = stream.read()
    assert not of_type(events, "rewind")
    assert shown_text(events) == _TEXT
    assert (sorted(a for a, _ in tools.added), tools.looked) == ([1, 2, 3], 3)


def test_waiting_turns_are_handed_over_at_once_and_keep_their_order(
    make_worker: Callable[..., Worker],
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(messages: Any) -> Iterator[Step]:
        begun.set()
        yield go_on
        yield f"to {messages[-1]['content']}"

    stopping = make_worker(answer)
    heir = make_heir(make_worker, lambda messages: f"to {messages[-1]['content']}")
    first = Stream(stopping, message="first")
    assert begun.wait(LIMIT_S)
    assert first.begun.wait(LIMIT_S)
    others = [Stream(stopping, message=f"next {number}") for number in range(2)]
    assert all(one.begun.wait(LIMIT_S) for one in others)
    stopping.api.state.chat.runs.drain()
    for one in others:
        wait_for(lambda one=one: worker_of(heir, one.run_id) == "")  # type: ignore[misc]
    recover(heir)
    assert worker_of(heir, first.run_id) != ""
    go_on.set()
    texts = [shown_text(one.read()) for one in (first, *others)]
    assert texts == ["to first", "to next 0", "to next 1"]
    assert [len(seen) for seen in heir.model.seen] == [4, 6]


def test_without_another_worker_nothing_is_handed_over(make_worker: Callable[..., Worker]) -> None:
    tools, steps = Tools(), Steps(2)
    stopping = make_worker(steps, tools=tools.make())
    other = make_heir(make_worker, "unused")
    other.api.state.chat.runs.drain()
    stream = Stream(stopping)
    assert steps.holding.wait(LIMIT_S)
    stopping.api.state.chat.runs.drain()
    steps.never.set()
    assert shown_text(stream.read()) == _TEXT
    assert len(stopping.model.seen) == 4
    recover(other)
    assert not other.model.seen


def test_new_turns_are_accepted_until_the_handover_begins(
    make_worker: Callable[..., Worker],
) -> None:
    stopping = make_worker("Hello")
    stopping.api.state.chat.runs.drain()
    assert stopping.api.client.get("/readyz").status_code == 503
    assert shown_text(Stream(stopping).read()) == "Hello"
    stopping.api.state.chat.runs.release_all()
    refused = stopping.api.post_raw(b'{"username":"alice","message":"hi"}')
    assert (refused.status_code, refused.get_json()["code"]) == (503, "shutting_down")


def test_a_worker_hands_over_unfinished_steps_at_its_deadline(
    make_worker: Callable[..., Worker],
) -> None:
    tools, steps = Tools(), Steps(3)
    stopping = make_worker(steps, tools=tools.make())
    stream = Stream(stopping)
    assert steps.holding.wait(LIMIT_S)
    wait_for(lambda: b"say 3" in stream.data)
    runs = stopping.api.state.chat.runs
    runs.drain()
    assert runs.release_all() is False
    assert runs.wait_until_idle(LIMIT_S)
    runs.end_streams()
    seen = stream.read()
    assert (seen[-1]["data"], stream.data[-13:]) == ("say 3. ", b"retry: 1000\n\n")
    # The next start continues the run, and a resuming client gets all of it.
    heir = make_heir(make_worker, Steps(), tools=tools.make())
    recover(heir)
    rest = heir.read(stream.run_id, len(seen))
    assert len(of_type(rest, "rewind")) == 1
    assert shown_text([*seen, *rest]) == _TEXT
    assert sorted(a for a, _ in tools.added) == [1, 2, 3]
    figures = heir.api.client.get("/metrics").get_data(as_text=True)
    assert "astrbot_run_rewinds_total 1.0" in figures
    assert "astrbot_run_pickups_total 0.0" in figures


def test_a_call_interrupted_by_a_handover_is_not_repeated(
    make_worker: Callable[..., Worker],
) -> None:
    tools = Tools()
    tools.hold = threading.Event()
    stopping = make_worker(Steps(), tools=tools.make())
    heir = make_heir(make_worker, Steps(), tools=tools.make())
    stream = Stream(stopping)
    assert tools.holding.wait(LIMIT_S)
    wait_for(lambda: b"call2" in stream.data)
    stopping.api.state.chat.runs.drain()
    assert stopping.api.state.chat.runs.release_all() is True
    recover(heir)
    events = stream.read()
    tools.hold.set()
    assert sorted(a for a, _ in tools.added) == [1, 2, 3]
    (shown,) = of_type(events, "complete")
    assert OUTCOME_UNKNOWN in shown["data"]


@pytest.mark.parametrize("too_long", ["request", "step"])
def test_a_run_that_no_worker_can_continue_is_not_handed_over(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, too_long: str
) -> None:
    if too_long == "request":
        monkeypatch.setattr(opening, "pack_request", lambda *args, **options: None)
    else:
        monkeypatch.setattr(checkpoints, "_MAX_BYTES", 10)
    steps = Steps(2)
    stopping = make_worker(steps, tools=Tools().make())
    heir = make_heir(make_worker, Steps(), tools=Tools().make())
    stream = Stream(stopping)
    assert steps.holding.wait(LIMIT_S)
    stopping.api.state.chat.runs.drain()
    steps.never.set()
    assert [one["type"] for one in stream.read()[-4:]] == ENDED
    assert not heir.model.seen


def test_a_run_that_no_worker_can_continue_ends_with_an_error(
    make_worker: Callable[..., Worker],
) -> None:
    agent = HeldAgent()
    stopping = make_worker("unused", agent=agent)
    make_heir(make_worker, "unused")
    stream = Stream(stopping)
    assert agent.holding.wait(LIMIT_S)
    wait_for(lambda: b"one " in stream.data)
    runs = stopping.api.state.chat.runs
    runs.drain()
    runs.release_all()
    agent.release.set()
    events = stream.read()
    assert [one["type"] for one in events[-4:]] == FAILED
    assert events[-4]["code"] == "run_interrupted"


@pytest.mark.parametrize("dies", [False, True])
def test_a_continued_run_is_one_trace_and_is_logged(
    make_worker: Callable[..., Worker], caplog: pytest.LogCaptureFixture, dies: bool
) -> None:
    caplog.set_level("INFO", logger="astrbot_api")
    spans, tools, steps = Spans(), Tools(), Steps(2)
    first = make_worker(steps, tools=tools.make(), tracer_provider=spans.provider)
    stream = Stream(first, headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
    assert steps.holding.wait(LIMIT_S)
    wait_for(lambda: b"say 2" in stream.data)
    worker_id = first.api.state.worker.lease.current_id
    if dies:
        kill_when_journaled(first, stream.run_id, "say 2")
    else:
        first.api.state.chat.runs.release_all()
    second = make_worker(Steps(), tools=tools.make(), tracer_provider=spans.provider)
    if dies:
        end_leases(second.api)
    recover(second)
    second.read(stream.run_id)
    wait_for(lambda: second.api.state.chat.runs.active_count == 0)
    turns = spans.find_all("invoke_agent default")
    assert len(turns) == (1 if dies else 2)  # a dead worker ends no span
    assert {f"{one.context.trace_id:032x}" for one in turns} == {"1" * 32}
    said = [one.getMessage() for one in caplog.records if stream.run_id in one.getMessage()]
    heir_id = second.api.state.worker.lease.current_id
    assert any(" resumes from step 1" in one and heir_id in one for one in said)
    assert any(worker_id in one for one in said)


def test_a_run_can_be_stopped_during_a_handover(make_worker: Callable[..., Worker]) -> None:
    steps = Steps(1)
    stopping = make_worker(steps, tools=Tools().make())
    stream = Stream(stopping)
    assert steps.holding.wait(LIMIT_S)
    wait_for(lambda: b"say 1" in stream.data)
    stopping.api.state.chat.runs.release_all()
    heir = make_heir(make_worker, "unused")
    stopped = heir.api.post(f"/api/v1/chat/runs/{stream.run_id}/stop", json={"username": "alice"})
    assert stopped.status_code == 200
    recover(heir)
    assert [one["type"] for one in stream.read()[-3:]] == ["complete", "message_saved", "end"]
    assert not heir.model.seen


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("openai/chat/completions", {"model": "default", "stream": True,
         "metadata": {"session_id": "s"}, "messages": [{"role": "user", "content": "hi"}]},
         b'"code":"run_interrupted"'),
        ("openai/responses", {"model": "default", "stream": True, "input": "hi"},
         b'"code":"server_error"'),
        ("agui", {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": [],
         "forwardedProps": {}, "messages": [{"id": "1", "role": "user", "content": "hi"}]},
         b'"code":"run_interrupted"'),
        ("aisdk", {"id": "c", "messages": [
         {"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]},
         b'{"type":"error","errorText":"The server is restarting.'),
        ("chat", {"response_mode": "blocking"}, b'"code":"shutting_down"'),
    ],
)  # fmt: skip
def test_a_client_that_cannot_resume_gets_an_error_when_its_worker_stops(
    make_worker: Callable[..., Worker], path: str, body: dict[str, Any], said: bytes
) -> None:
    model = Held("one ")
    stopping = make_worker(model)
    answers: list[bytes] = []

    def ask() -> None:
        answer = stopping.api.client.post(
            f"/api/v1/{path}", headers={"Authorization": f"Bearer {stopping.api.key}"},
            json={"username": "alice", "session_id": "s", "message": "hi", **body}
            if path == "chat" else body,
        )  # fmt: skip
        answers.append(answer.get_data())

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert model.holding.wait(LIMIT_S), answers
    stopping.api.state.chat.runs.release_all()
    stopping.api.state.chat.runs.end_streams()
    thread.join(LIMIT_S)
    assert said in answers[0], answers
    heir = make_heir(make_worker, "one two")
    recover(heir)
    wait_for(lambda: heir.api.count_rows("message") == 2)
