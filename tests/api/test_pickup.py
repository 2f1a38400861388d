"""Another worker continues a run after its worker died."""

from __future__ import annotations

import ast
import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from astrbot_api import ToolContext, tool
from astrbot_api.agent.calling import OUTCOME_UNKNOWN
from astrbot_api.agent.provider import ReasoningDelta, ToolCallDelta, Usage
from astrbot_api.chat.resuming import pickup, recovery
from astrbot_api.chat.turns import checkpoints as turn_checkpoints
from astrbot_api.chat.turns import handover
from astrbot_api.chat.turns.fold import fold_events
from astrbot_api.db import checkpoints
from astrbot_api.db.checkpoints import add_checkpoint
from astrbot_api.db.messages import find_message
from astrbot_api.db.models.files import Attachment
from astrbot_api.db.models.runs import Run
from astrbot_api.db.runs import RunRow, find_run
from astrbot_api.errors import OutcomeUnknown, StorageError
from astrbot_api.events import decode_event
from astrbot_api.messages import plain_text
from astrbot_api.testing import ScriptedModel, make_app
from astrbot_api.testing.scripted_model import Script, Step

from ..servers import ENDED, FAILED, parse_events, shown_text
from ..waiting import LIMIT_S, wait_for
from .conftest import Api
from .dying import Death, Drain, end_leases
from .uploading import PNG, upload


class Worker:
    """An application with a shared data directory.

    :param script: The scripted model, a function of the messages.
    """

    def __init__(self, data_dir: Path, script: Script, tools: Sequence[Any] = (), **options: Any):
        self.model = ScriptedModel(script)
        made = make_app(
            self.model,
            config="[agent]\ntitles = false\nshow_reasoning = true\n",
            data_dir=data_dir,
            **({"tools": tools} if tools else {}),
            **options,
        )
        self.api = Api(made.app, made.model, made.key)
        self.death: Death | None = None

    def open(self, **body: Any) -> str:
        """Start a turn without a stream and return the run's id."""
        opened = self.api.post(
            "/api/v1/chat",
            json={"username": "alice", "session_id": "s", "message": "hi", **body},
            buffered=False,
        )
        frames = opened.iter_encoded()
        seen = b""
        while b"run_started" not in seen:
            seen += next(frames)
        return seen.partition(b'"run_id":"')[2][:36].decode()

    def go_on(self, *living: Worker) -> None:
        """Take over the runs of dead workers.

        :param living: Other workers that are alive.
        """
        end_leases(self.api, *(one.api for one in living))
        self.api.state.chat.recovery.recover()

    def die(self) -> None:
        """Reach no database from now on."""
        self.death = self.death or Death(self.api)
        self.death.die()

    def find(self, run_id: str) -> RunRow:
        """Return a run."""
        with self.api.state.db.read() as db:
            run = find_run(db, run_id)
        assert run is not None
        return run

    def read(self, run_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return all events of a run, once it has ended."""
        run, journal = self.find(run_id), self.api.state.worker.journal
        wait_for(lambda: journal.read_after(run.id, 2**31).closed)
        return [decode_event(line) for line in journal.read_after(run.id, after).events]


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(script: Script, **options: Any) -> Worker:
        made.append(Worker(tmp_path, script, **options))
        return made[-1]

    yield make
    for worker in made:
        if worker.death is not None:
            worker.death.bury()
    for worker in made:
        with contextlib.suppress(StorageError):  # a dead worker cannot release its lease
            # Its turns never end, so do not wait for them.
            worker.api.state.close(timeout_s=5.0 if worker.death is None else 0.0)


def of_type(events: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in events if one["type"] == kind]


def call(name: str, arguments: str = "{}", call_id: str = "c1") -> ToolCallDelta:
    return ToolCallDelta(0, call_id, name, arguments)


class Held:
    """A model that yields some steps, then waits without end."""

    def __init__(self, *said: Step) -> None:
        self.holding = threading.Event()
        self._said = said

    def __call__(self, messages: Any) -> Iterator[Step]:
        yield from self._said
        self.holding.set()
        yield threading.Event()


class HeldAgent:
    """An agent of an embedding application that yields a word, then waits until it is released."""

    def __init__(self) -> None:
        self.holding = threading.Event()
        self.release = threading.Event()

    def __call__(self, messages: Any, context: ToolContext) -> Iterator[str]:
        yield "one "
        self.holding.set()
        self.release.wait(LIMIT_S)
        context.cancel.raise_if_cancelled()


@pytest.mark.timeout(50)  # less than a heartbeat
def test_streams_of_the_worker_that_takes_over_continue_at_once(
    make_worker: Callable[..., Worker],
) -> None:
    held, go_on = Held("Let me "), threading.Event()
    first = make_worker(held)
    second = make_worker(lambda messages: ["It is ", go_on, "four."], heartbeat_s=60)
    run_id = first.open()
    assert held.holding.wait(LIMIT_S)
    path = f"/api/v1/chat/runs/{run_id}/stream?username=alice"
    frames = second.api.get(path, buffered=False).iter_encoded()
    while b"Let me " not in next(frames):
        pass
    first.die()
    second.go_on()
    while b"It is " not in next(frames):
        pass
    go_on.set()
    assert b"four." in b"".join(frames)


def test_another_worker_repeats_an_interrupted_answer(
    make_worker: Callable[..., Worker],
) -> None:
    model = Held(ReasoningDelta("hm"), "one ")
    dead = make_worker(model)
    run_id = dead.open()
    assert model.holding.wait(LIMIT_S)
    kill_when_journaled(dead, run_id, "one ")
    living = make_worker([ReasoningDelta("so"), "one two"])
    living.go_on()
    events = living.read(run_id)
    (rewind,) = of_type(events, "rewind")
    assert rewind["data"] == {"to": 3, "chars": 4, "again": True, "reasoning_chars": 2}
    assert shown_text(events) == "one two"
    (complete,) = of_type(events, "complete")
    assert (complete["data"], complete["reasoning"]) == ("one two", "so")
    assert [one["type"] for one in events[-4:]] == ENDED
    assert living.model.seen == dead.model.seen
    assert living.api.count_rows("message") == 2
    assert living.api.count_rows("run_checkpoint") == 0
    shown = living.api.get(f"/api/v1/chat/runs/{run_id}?username=alice").get_json()["data"]
    assert shown["status"] == "completed"
    assert shown["result"]["message"] == [
        {"type": "think", "think": "so"}, {"type": "plain", "text": "one two"},
    ]  # fmt: skip
    figures = living.api.client.get("/metrics").get_data(as_text=True)
    assert "astrbot_run_pickups_total 1.0" in figures
    assert "astrbot_run_rewinds_total 1.0" in figures


class Steps:
    """A model of three steps with tools and a final answer. The messages identify the step.

    :param hold_at: The step during which it waits.
    """

    def __init__(self, hold_at: int | None = None) -> None:
        self.hold_at = hold_at
        self.holding = threading.Event()
        self.never = threading.Event()

    def __call__(self, messages: list[Any]) -> Iterator[Step]:
        step = sum(one["role"] == "assistant" for one in messages) + 1
        yield ReasoningDelta(f"think {step}. ")
        yield f"say {step}. "
        if step == self.hold_at:
            self.holding.set()
            yield self.never
        yield Usage(10, 0, step)
        if step < 4:
            yield call("add", f'{{"a": {step}}}', f"call{step}")
            yield ToolCallDelta(1, f"ask{step}", "look", "{}")
        else:
            results = [one["content"] for one in messages if one["role"] == "tool"]
            yield f"Results: {results}"


class Tools:
    """A tool that must not be called twice and one that may, with their recorded calls."""

    def __init__(self) -> None:
        self.added: list[tuple[int, str]] = []
        self.looked = 0
        self.hold: threading.Event | None = None
        self.holding = threading.Event()

    def make(self) -> list[Any]:
        @tool
        def add(context: ToolContext, a: int) -> str:
            """Add one to a number and remember it."""
            self.added.append((a, context.idempotency_key))
            if self.hold is not None and a == 2:
                self.holding.set()
                self.hold.wait(LIMIT_S)
            return f"{a + 1}"

        @tool(retry="safe")
        def look() -> str:
            """Look at something."""
            self.looked += 1
            return "seen"

        return [add, look]


_TEXT = "say 1. say 2. say 3. say 4. Results: ['2', 'seen', '3', 'seen', '4', 'seen']"


def start_until_held(
    make_worker: Callable[..., Worker], hold_at: int, tools: Tools, **body: Any
) -> tuple[Worker, str]:
    """Start a turn of four steps that blocks in one of them, and kill its worker there."""
    steps = Steps(hold_at)
    dead = make_worker(steps, tools=tools.make())
    run_id = dead.open(**body)
    assert steps.holding.wait(LIMIT_S)
    words = [f"say {hold_at}. "] if body.get("enable_streaming", True) else []
    results = (f'{kind}{hold_at - 1}\\",\\"ts' for kind in ("call", "ask")) if hold_at > 1 else ()
    kill_when_journaled(dead, run_id, *words, *results)
    return dead, run_id


def kill_when_journaled(worker: Worker, run_id: str, *words: str) -> None:
    run, journal = worker.find(run_id), worker.api.state.worker.journal

    def has_all() -> bool:
        said = b"".join(journal.read_after(run.id, 0).events).rpartition(b'"type":"rewind"')[2]
        return all(one.encode() in said for one in words)

    wait_for(has_all)
    worker.die()


@pytest.mark.parametrize("streaming", [True, False])
def test_completed_steps_are_not_repeated(
    make_worker: Callable[..., Worker], streaming: bool
) -> None:
    tools = Tools()
    dead, run_id = start_until_held(make_worker, 3, tools, enable_streaming=streaming)
    living = make_worker(Steps(), tools=tools.make())
    living.go_on()
    events = living.read(run_id)
    assert shown_text(events) == _TEXT
    (complete,) = of_type(events, "complete")
    assert complete["data"] == _TEXT
    assert complete["reasoning"] == "think 1. think 2. think 3. think 4. "
    assert sorted(tools.added) == [(n, f"{run_id}:call{n}") for n in (1, 2, 3)]
    assert tools.looked == 3
    assert len(living.model.seen) == 2
    assert living.model.seen[0] == dead.model.seen[2]
    (stats,) = of_type(events, "agent_stats")
    assert stats["data"]["token_usage"] == {"input_other": 40, "input_cached": 0, "output": 10}
    result = living.api.get(f"/api/v1/chat/runs/{run_id}?username=alice").get_json()["data"]
    kinds = [one["type"] for one in result["result"]["message"]]
    assert kinds == ["think", "plain", *["tool_call"] * 2] * 3 + ["think", "plain"]
    assert all("result" in one["tool_calls"][0] for one in result["result"]["message"]
               if one["type"] == "tool_call")  # fmt: skip


def test_a_worker_that_has_lost_its_turn_makes_no_call(
    make_worker: Callable[..., Worker],
) -> None:
    tools, steps, taken = Tools(), Steps(1), Run.update(worker_id="other")
    worker = make_worker(steps, tools=tools.make())
    worker.open()
    assert steps.holding.wait(LIMIT_S)
    worker.api.state.db.write(lambda db: taken.execute(db))
    steps.never.set()
    assert worker.api.state.chat.runs.wait_until_idle(LIMIT_S)
    assert not tools.added


def test_no_call_begins_before_its_step_is_stored(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(db: Any, run: int, step: int, *more: Any) -> None:
        if step == 2:
            raise StorageError("the disk is full")
        add_checkpoint(db, run, step, *more)

    monkeypatch.setattr(checkpoints, "add_checkpoint", refuse)
    tools = Tools()
    worker = make_worker(Steps(), tools=tools.make())
    events = worker.read(worker.open())
    (error,) = of_type(events, "error")
    assert (error["code"], shown_text(events)) == ("storage_error", "say 1. say 2. ")
    assert [amount for amount, _ in tools.added] == [1]


def test_a_step_is_stored_again_if_its_commit_is_unknown(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [1, 2, 3]

    def lose(db: Any, run: int, step: int, *more: Any) -> None:
        add_checkpoint(db, run, step, *more)
        if step in lost:
            lost.remove(step)
            raise OutcomeUnknown("the connection was lost during COMMIT")

    monkeypatch.setattr(checkpoints, "add_checkpoint", lose)
    tools = Tools()
    worker = make_worker(Steps(), tools=tools.make())
    assert shown_text(worker.read(worker.open())) == _TEXT
    assert ([amount for amount, _ in tools.added], lost) == ([1, 2, 3], [])


def test_the_model_is_informed_of_a_call_whose_outcome_is_unknown(
    make_worker: Callable[..., Worker],
) -> None:
    tools = Tools()
    tools.hold = threading.Event()
    dead = make_worker(Steps(), tools=tools.make())
    run_id = dead.open()
    assert tools.holding.wait(LIMIT_S)
    kill_when_journaled(dead, run_id, "call2")
    tools.hold.set()
    living = make_worker(Steps(), tools=tools.make())
    living.go_on()
    events = living.read(run_id)
    assert shown_text(events).endswith(repr(["2", "seen", OUTCOME_UNKNOWN, "seen", "4", "seen"]))
    assert sorted(a for a, _ in tools.added) == [1, 2, 3]
    assert not of_type(events, "rewind")
    assert living.model.seen[0][-2]["content"] == OUTCOME_UNKNOWN


def test_a_run_is_picked_up_at_most_twice(make_worker: Callable[..., Worker]) -> None:
    tools = Tools()
    _, run_id = start_until_held(make_worker, 2, tools)
    for _ in range(2):
        steps = Steps(2)
        worker = make_worker(steps, tools=tools.make())
        worker.go_on()
        assert steps.holding.wait(LIMIT_S)
        kill_when_journaled(worker, run_id, "say 2. ")
    last = make_worker(Steps(), tools=tools.make())
    last.go_on()
    events = last.read(run_id)
    assert of_type(events, "error")[0]["code"] == "run_interrupted"
    assert of_type(events, "complete")[0]["data"] == "say 1. say 2. "
    assert last.api.count_rows("run_checkpoint") == 0
    assert len(tools.added) == 1


def test_a_turn_that_its_worker_leaves_again_and_again_ends(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        raise StorageError("the database is unreachable")

    monkeypatch.setattr(pickup, "_MAX_RETURNS", 3)
    monkeypatch.setattr(recovery, "_UNKNOWN_S", 0.0)
    monkeypatch.setattr(checkpoints, "add_checkpoint", lose)
    monkeypatch.setattr(turn_checkpoints, "is_cut_off", lambda _: True)
    tools = Tools()
    worker = make_worker(Steps(), tools=tools.make())
    run_id, chat = worker.open(), worker.api.state.chat
    for _ in range(5):
        assert chat.runs.wait_until_idle(LIMIT_S)
        chat.recovery.end_forgotten(chat.runs.knows)
    assert worker.find(run_id).error_code == "run_interrupted"
    assert len(worker.model.seen) == 4
    assert not tools.added


def test_a_worker_wrongly_declared_dead_stops_writing(
    make_worker: Callable[..., Worker],
) -> None:
    tools = Tools()
    steps = Steps(2)
    silent = make_worker(steps, tools=tools.make())
    run_id = silent.open()
    assert steps.holding.wait(LIMIT_S)
    living = make_worker(Steps(), tools=tools.make())
    living.go_on()
    events = living.read(run_id)
    log = silent.api.state.chat.runs.find_log(run_id)
    assert log is not None
    log.mark_lost()
    resumed = silent.api.get(
        f"/api/v1/chat/runs/{run_id}/stream?username=alice",
        headers={"Last-Event-ID": str(len(events) - 2)},
    )
    assert parse_events(resumed.get_data()) == events[-2:]
    steps.never.set()
    silent.api.state.chat.runs.wait_until_idle(LIMIT_S)
    assert silent.api.state.chat.runs.active_count == 0
    assert shown_text(events) == _TEXT
    assert living.read(run_id) == events
    assert sorted(a for a, _ in tools.added) == [1, 2, 3]
    assert living.api.count_rows("message") == 2


def test_waiting_turns_are_taken_over_in_order(
    make_worker: Callable[..., Worker],
) -> None:
    model = Held()
    dead = make_worker(model)
    runs = [dead.open(message="first")]
    assert model.holding.wait(LIMIT_S)
    runs += [dead.open(message=f"next {number}") for number in range(3)]
    dead.die()
    living = make_worker(lambda messages: f"to {messages[-1]['content']}")
    living.go_on()
    texts = [shown_text(living.read(run_id)) for run_id in runs]
    assert texts == ["to first", "to next 0", "to next 1", "to next 2"]
    assert [len(seen) for seen in living.model.seen] == [2, 4, 6, 8]


OPENING = ["session_id", "user_message_saved", "run_started"]


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_resumed_client_misses_nothing_of_a_run_missing_in_the_journal(
    make_worker: Callable[..., Worker], goes_on: bool
) -> None:
    dead = make_worker(Held())
    dead.death = Death(dead.api)
    die_at_the_journal(dead)
    run_id = dead.open()
    assert dead.death.dead.wait(LIMIT_S)
    living = make_worker("all of it", max_pickups=3 if goes_on else 0)
    living.go_on()
    assert [one["type"] for one in living.read(run_id)[:3]] == OPENING
    following = [one["type"] for one in living.read(run_id, after=3)]
    if goes_on:
        assert following[0] == "plain"
        assert shown_text(living.read(run_id, after=3)) == "all of it"
    else:
        assert following[0] == "error"
    assert following[-1] == "end"


def test_a_run_that_ended_during_a_journal_outage_is_journaled_whole(
    make_worker: Callable[..., Worker],
) -> None:
    dead = make_worker("all of it")
    dead.api.state.worker.journal.append = _refuse  # type: ignore[method-assign]
    seen = dead.api.chat(session_id="s")
    dead.die()
    living = make_worker("unused")
    living.go_on()
    run_id = of_type(seen, "run_started")[0]["data"]["run_id"]
    kept = living.read(run_id)
    assert [one["type"] for one in kept[:3]] == OPENING
    assert shown_text(kept) == "all of it"
    assert [one["type"] for one in kept[-3:]] == [one["type"] for one in seen[-3:]]


def die_at_the_journal(worker: Worker) -> None:
    """Let a worker die at its first write to the journal."""
    journal, death = worker.api.state.worker.journal, worker.death
    assert death is not None
    append = journal.append

    def die(pieces: Any) -> Any:
        death.die()
        return append(pieces)

    journal.append = die  # type: ignore[method-assign]


def _refuse(pieces: Any) -> Any:
    raise StorageError("the disk is full")


def test_a_run_with_a_call_that_must_not_be_repeated_is_interrupted(
    make_worker: Callable[..., Worker],
) -> None:
    def resumable(messages: Any, context: ToolContext) -> Iterator[str]:
        yield "again"

    ends = []
    for marked in (False, True):
        resumable.resumable = marked  # type: ignore[attr-defined]
        agent = HeldAgent()
        dead = make_worker("unused", agent=agent)
        run_id = dead.open(session_id=f"s{marked}")
        assert agent.holding.wait(LIMIT_S)
        kill_when_journaled(dead, run_id, "one ")
        living = make_worker("unused", agent=resumable)
        living.go_on()
        ends.append([one["type"] for one in living.read(run_id)[-4:]])
        agent.release.set()
    assert ends == [FAILED, ENDED]


def test_a_turn_whose_only_picture_was_deleted_ends_at_once(
    make_worker: Callable[..., Worker],
) -> None:
    model = Held("one ")
    dead = make_worker(model)
    sent = upload(dead.api, PNG, b"a.png")["attachment_id"]
    run_id = dead.open(message=[{"type": "image", "attachment_id": sent}])
    assert model.holding.wait(LIMIT_S)
    kill_when_journaled(dead, run_id, "one ")
    living = make_worker("unused")
    living.api.state.db.write(lambda db: Attachment.delete().execute(db))
    living.go_on()
    (error,) = of_type(living.read(run_id), "error")
    assert error["code"] == "run_interrupted"


@pytest.mark.parametrize(("steps", "expected"), [(1, 2), (4, 5)])
def test_a_step_with_calls_costs_one_transaction_and_an_answer_none(
    make_worker: Callable[..., Worker], steps: int, expected: int
) -> None:
    worker = make_worker(Steps() if steps == 4 else "Hello", tools=Tools().make())
    worker.api.chat("to make the session")
    worker.api.state.worker.chores.close()
    db = worker.api.state.db
    written, write = [], db.write

    def count(job: Callable[[Any], Any], **options: Any) -> Any:
        written.append(job)
        return write(job, **options)

    db.write = count  # type: ignore[method-assign]
    worker.open()
    wait_for(lambda: not worker.api.state.chat.runs.active_count)
    assert len(written) == expected, written


@dataclass
class _Kill:
    """Time of a worker's death: before or after one of its commits."""

    at: int
    after: bool


@dataclass
class _Stop:
    """Commit after which a worker drains, and whether its time is over at once."""

    at: int
    give_up: bool


_ENDS = st.builds(_Kill, st.integers(0, 24), st.booleans()) | st.builds(
    _Stop, st.integers(0, 14), st.booleans()
)


@settings(
    max_examples=int(os.environ.get("ASTRBOT_TEST_KILLS", "8")), database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(first=_ENDS, second=_ENDS)
@example(first=_Stop(3, False), second=_Stop(4, False))
def test_two_ended_workers_leave_one_reply_and_repeat_no_call(
    first: _Kill | _Stop, second: _Kill | _Stop
) -> None:
    tools, made = Tools(), list[Worker]()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(handover, "_SETTLE_S", 0.0)
        patch.setattr(handover, "_FRESH_S", 0.0)

        def make(end: _Kill | _Stop | None) -> Worker:
            worker = Worker(Path(folder), Steps(), tools=tools.make())
            made.append(worker)
            worker.api.state.worker.lease.get_worker_id()
            worker.api.state.worker.chores.close()  # the test runs the worker's jobs itself
            if isinstance(end, _Kill):
                worker.death = Death(worker.api, end.at, after=end.after)
            elif end is not None:
                worker.death = Drain(worker.api, end.at, give_up=end.give_up)
            return worker

        def do(worker: Worker, what: Callable[[], object]) -> None:
            def work() -> None:
                # The worker is dead, or accepts no more turns.
                with contextlib.suppress(StorageError, StopIteration):
                    what()

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            wait_for(lambda: is_done(worker, thread) or has_ended(last))

        last = make(None)
        ending = make(first)
        do(ending, ending.open)
        if last.api.count_rows("run") and not has_ended(last):
            other = make(second)
            do(other, lambda: other.go_on(last))
        for worker in made:
            if worker.death is not None:
                worker.death.die()
        gentle = all(isinstance(one, _Stop) and not one.give_up for one in (first, second))
        check_outcome(last, tools, gentle=gentle)
        for worker in made:
            if worker.death is not None:
                worker.death.bury()
        for worker in made:
            with contextlib.suppress(StorageError):
                worker.api.close()


def is_done(worker: Worker, thread: threading.Thread) -> bool:
    """Return whether a worker is dead, or has handed over its thread's turn."""
    death = worker.death
    assert death is not None
    if death.dead.is_set():
        return True
    drained = isinstance(death, Drain) and death.drained.is_set()
    return drained and not thread.is_alive() and not worker.api.state.chat.runs.active_count


def has_ended(worker: Worker) -> bool:
    """Return whether no run is left. Started runs are always stored."""
    with worker.api.state.db.read() as db:
        (left,) = db.execute_sql("SELECT COUNT(*) FROM run WHERE finished_at IS NULL").fetchone()
        (ended,) = db.execute_sql("SELECT COUNT(*) FROM run").fetchone()
    return bool(ended and not left)


def do_chores(worker: Worker) -> None:
    """Run the jobs that a living worker runs about every second."""
    chat = worker.api.state.chat
    worker.go_on()
    chat.outcomes.retry()
    chat.recovery.end_forgotten(chat.runs.knows)


def check_outcome(worker: Worker, tools: Tools, *, gentle: bool) -> None:
    """Check that a run has the expected result.

    :param gentle: Whether its workers were stopped normally, so that nothing was taken back or is
        unknown.
    """
    api = worker.api
    with api.state.db.read() as db:
        found = db.execute_sql("SELECT run_id FROM run").fetchall()
    if not found:
        assert api.count_rows("message") == 0  # the turn was never acknowledged
        return
    ((run_id,),) = found
    wait_for(lambda: (do_chores(worker), has_ended(worker))[1])
    with api.state.db.read() as db:
        run = find_run(db, run_id)
        assert run is not None
        reply = find_message(db, run.session, run.bot_message or 0)
    assert run.status == "completed"
    assert api.count_rows("message") == 2
    assert reply is not None
    added = [a for a, _ in tools.added]
    assert sorted(added) == sorted(set(added)), "a call was made twice"
    text = plain_text(reply.content["message"])
    said, _, results = text.partition("Results: ")
    assert said == "say 1. say 2. say 3. say 4. "
    for number, result in enumerate(ast.literal_eval(results)):
        expected = "seen" if number % 2 else str(number // 2 + 2)
        assert result in (expected, OUTCOME_UNKNOWN)
        assert result != OUTCOME_UNKNOWN or not number % 2
    if not api.state.worker.journal.read_after(run.id, 2**31).closed:
        # Its worker died between the reply and its last event.
        api.state.chat.recovery.close_log(run)
    events = worker.read(run_id)
    kinds = [one["type"] for one in events]
    assert kinds[:3] == OPENING
    assert kinds[-4:] == ENDED
    assert kinds.count("end") == kinds.count("complete") == 1
    assert shown_text(events) == text == of_type(events, "complete")[0]["data"]
    assert fold_events(events).to_parts() == reply.content["message"]
    if gentle:
        assert "rewind" not in kinds
        assert OUTCOME_UNKNOWN not in text
