"""A turn by its id: streamed from any event, described, stopped, with access checks."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import peewee
import pytest

from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta
from astrbot_api.chat import pushes
from astrbot_api.chat.resuming import recovery
from astrbot_api.chat.turns import reply
from astrbot_api.chores import prune_journal
from astrbot_api.db import leases, run_workers, runs, statistics
from astrbot_api.db.models.runs import Run
from astrbot_api.db.run_stops import request_stop
from astrbot_api.errors import StorageError, StoreClosed
from astrbot_api.events import decode_event
from astrbot_api.runlog.journal import Piece

from ..query_plans import explain
from ..servers import FAILED, parse_events
from ..waiting import wait_for
from .conftest import Api


def frames_of(data: bytes) -> list[str]:
    return [one + "\n\n" for one in data.decode().split("\n\n") if one.startswith("data: ")]


def run_id_of(stream: bytes) -> str:
    found = [one for one in parse_events(stream) if one["type"] == "run_started"]
    return str(found[0]["data"]["run_id"])


def resume(api: Api, run_id: str, query: str = "", **headers: str) -> bytes:
    answer = api.get(f"/api/v1/chat/runs/{run_id}/stream{query}", headers=headers)
    assert answer.status_code == 200, answer.get_data()
    return answer.get_data()


def test_a_finished_run_can_be_streamed_from_any_event(api: Api) -> None:
    stream = api.post_chat(username="alice", message="hi").get_data()
    run_id, frames = run_id_of(stream), frames_of(stream)
    assert frames_of(resume(api, run_id)) == frames
    assert frames_of(resume(api, run_id, "?after=3")) == frames[3:]
    assert frames_of(resume(api, run_id, **{"Last-Event-ID": "5"})) == frames[5:]
    assert frames_of(resume(api, run_id, "?after=2", **{"Last-Event-ID": "5"})) == frames[5:]
    assert frames_of(resume(api, run_id, "?after=6", **{"Last-Event-ID": "5"})) == frames[6:]
    for after in (-1, 2**63):
        refused = api.get(f"/api/v1/chat/runs/{run_id}/stream?after={after}")
        assert refused.status_code == 400


def get_stream(api: Api, run_id: str, query: str, last_event_id: str = "") -> Any:
    headers = {"X-API-Key": api.key, "Last-Event-ID": last_event_id}
    return api.client.get(f"/api/v1/chat/runs/{run_id}/stream{query}", headers=headers)


def test_an_event_source_stops_after_the_end_of_a_run(api: Api, slow: tuple[Api, Slow]) -> None:
    stream = api.post_chat(username="alice", message="hi").get_data()
    run_id, last = run_id_of(stream), str(len(frames_of(stream)))
    wait_until_journaled(api, run_id)
    for query, header in (
        ("", last),
        (f"?after={last}", ""),
        ("?after=2", last),
        ("?snapshot=true", last),
        (f"?after={2**63 - 1}", ""),
    ):
        answer = get_stream(api, run_id, query, header)
        assert (answer.status_code, answer.get_data()) == (204, b""), (query, header)
    assert b'"end"' in get_stream(api, run_id, "", str(int(last) - 1)).get_data()
    # The stream of an active run waits.
    waiting, model = slow
    chat = Background(waiting)
    assert model.asked.wait(30)
    (run_id,) = active_runs(waiting)
    answer = get_stream(waiting, run_id, "", "1000")
    assert answer.status_code == 200
    model.go_on.set()
    assert parse_events(answer.get_data()) == []
    chat.wait()


@pytest.mark.parametrize("sent", ["x", "-1", "1.5", "9" * 30])
def test_a_last_event_id_that_is_not_a_number_is_rejected(api: Api, sent: str) -> None:
    run_id = run_id_of(api.post_chat(username="alice", message="hi").get_data())
    answer = api.get(f"/api/v1/chat/runs/{run_id}/stream", headers={"Last-Event-ID": sent})
    assert answer.status_code == 400
    assert "Last-Event-ID" in answer.get_json()["message"]


def test_a_snapshot_contains_the_text_so_far_and_the_rest_follows(api: Api) -> None:
    stream = api.post_chat(username="alice", session_id="s", message="hi").get_data()
    run_id = run_id_of(stream)
    first, *rest = parse_events(resume(api, run_id, "?snapshot=true"))
    text = next(one["data"] for one in rest if one["type"] == "complete")
    assert first["type"] == "run_snapshot"
    assert first["data"]["run_id"] == run_id
    assert first["data"]["session_id"] == "s"
    assert first["data"]["status"] == "completed"
    assert first["data"]["content"]["message"] == [{"type": "plain", "text": text}]
    assert [one["type"] for one in rest] == ["agent_stats", "complete", "message_saved", "end"]
    assert first["data"]["revision"] == len(frames_of(stream)) - len(rest)


def test_a_run_without_stored_events_is_streamed_from_its_reply(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = api.post_chat(username="alice", session_id="s", message="hi").get_data()
    run_id, before = run_id_of(stream), parse_events(stream)
    wait_until_journaled(api, run_id)
    prune_journal(api.state.worker.journal, -60)
    monkeypatch.setattr("astrbot_api.chat.resuming.following._CLOSING_US", 0)
    again = parse_events(resume(api, run_id))
    assert [one["type"] for one in again[:3]] == ["session_id", "run_started", "plain"]
    assert again[-4:] == before[-4:]
    # The events have other numbers now. A client with a number of the run gets its end.
    assert parse_events(resume(api, run_id, "?after=3")) == before[-4:]
    last = resume(api, run_id, "?after=3").decode().split("id: ")[-1].strip()
    assert get_stream(api, run_id, "", last).status_code == 204
    first = resume(api, run_id).decode().split("id: ")[1].split()[0]
    assert parse_events(resume(api, run_id, f"?after={first}")) == again[1:]
    snapshot, *rest = parse_events(resume(api, run_id, "?snapshot=true"))
    assert snapshot["data"]["content"]["message"] == [{"type": "plain", "text": again[2]["data"]}]
    assert rest == before[-4:]


def test_a_run_has_its_status_and_result(api: Api) -> None:
    stream = api.post_chat(username="alice", session_id="s", message="hi").get_data()
    saved = next(one for one in parse_events(stream) if one["type"] == "message_saved")
    run = api.get(f"/api/v1/chat/runs/{run_id_of(stream)}?username=alice").get_json()["data"]
    assert run["status"] == "completed"
    assert run["session_id"] == "s"
    assert run["message_id"] == saved["data"]["id"]
    assert run["result"]["type"] == "bot"
    assert run["finished_at"] >= run["started_at"] >= run["created_at"]


def test_a_run_is_visible_only_to_its_user_and_key(api: Api) -> None:
    run_id = run_id_of(api.post_chat(username="alice", message="hi").get_data())
    path = f"/api/v1/chat/runs/{run_id}"
    assert api.get(f"{path}?username=mallory").get_json()["code"] == "session_of_another_user"
    assert api.get(f"{path}?username=astrbot").get_json()["code"] == "username_reserved"
    other = {"X-API-Key": api.create_key("chat")}
    for suffix in ("", "/stream"):
        answer = api.client.get(path + suffix, headers=other)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "run_not_found")
    answer = api.client.post(f"{path}/stop", headers=other)
    assert answer.get_json()["code"] == "run_not_found"
    assert api.client.get(f"{path}?username=alice", headers=other).status_code == 200
    assert api.get("/api/v1/chat/runs/nope").get_json()["code"] == "run_not_found"


class Slow:
    """A model that yields a word, then waits until it is released or stopped."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta("one ")
        yield TextDelta("two")
        self.asked.set()
        assert self.go_on.wait(30)
        yield TextDelta(" three")


class Background:
    """A chat in a separate thread."""

    def __init__(self, api: Api, **body: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._body = {"username": "alice", "session_id": "s", "message": "hi", **body}
        self._thread = threading.Thread(target=self._run, args=(api,))
        self._thread.start()

    def _run(self, api: Api) -> None:
        client = api.app.test_client()
        answer = client.post("/api/v1/chat", headers={"X-API-Key": api.key}, json=self._body)
        self.events = parse_events(answer.get_data())

    def wait(self) -> list[dict[str, Any]]:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.events


#: An application, its model, and a chat that waits for the model.
Talking = tuple[Api, Slow, Background]


def active_runs(api: Api) -> list[str]:
    with api.state.db.read() as db:
        rows = db.execute_sql(
            "SELECT run_id FROM run WHERE status IN ('queued', 'running') ORDER BY id"
        ).fetchall()
    return [run_id for (run_id,) in rows]


def wait_until_journaled(api: Api, run_id: str) -> None:
    """Wait until the journal has a run's end, shortly after its streams."""
    with api.state.db.read() as db:
        run = runs.find_run(db, run_id)
    assert run is not None
    wait_for(lambda: api.state.worker.journal.read_after(run.id, 2**31).closed)


def wait_until_said(api: Api, run_id: str, text: str) -> None:
    """Wait until readers see a text, shortly after the journal has it."""
    log = api.state.chat.runs.find_log(run_id)
    assert log is not None
    wait_for(lambda: text.encode() in b"".join(log.read_after(0) or ()))


@pytest.fixture
def slow(make_scripted: Callable[..., Any]) -> Iterator[tuple[Api, Slow]]:
    model = Slow()
    api, _ = make_scripted(model)
    yield api, model
    model.go_on.set()


@pytest.fixture
def talking(slow: tuple[Api, Slow]) -> Talking:
    api, model = slow
    chat = Background(api)
    assert model.asked.wait(30)
    return api, model, chat


def test_stopping_a_session_ends_its_turn_with_the_text_so_far(talking: Talking) -> None:
    api, model, chat = talking
    answer = api.post("/api/v1/chat/sessions/s/stop", json={"username": "alice"})
    assert answer.get_json()["data"] == {"stopped_count": 1}
    model.go_on.set()
    events = chat.wait()
    assert [one["type"] for one in events[-3:]] == ["complete", "message_saved", "end"]
    assert events[-3]["data"].startswith("one two")
    run = api.get(f"/api/v1/chat/runs/{events[2]['data']['run_id']}").get_json()["data"]
    assert run["status"] == "stopped"
    again = api.post("/api/v1/chat/sessions/s/stop", json={"username": "alice"})
    assert again.get_json()["data"] == {"stopped_count": 0}


def test_a_worker_finds_a_stop_request_whose_signal_was_lost(talking: Talking) -> None:
    api, model, chat = talking
    (run_id,) = active_runs(api)
    api.state.db.write(lambda db: request_stop(db, run_id))
    api.state.chat.runs.poll_stop_requests()
    model.go_on.set()
    assert chat.wait()[-3]["data"].startswith("one two")
    run = api.get(f"/api/v1/chat/runs/{run_id}").get_json()["data"]
    assert run["status"] == "stopped"


def test_a_queued_turn_can_be_stopped_before_it_starts(talking: Talking) -> None:
    api, model, first = talking
    second = Background(api, message="later")
    queued = wait_for(lambda: len(found := active_runs(api)) == 2 and found)[1]
    stopped = api.post(f"/api/v1/chat/runs/{queued}/stop")
    assert stopped.get_json()["data"] == {"stopped_count": 1}
    events = second.wait()
    assert [one["type"] for one in events[-3:]] == ["complete", "message_saved", "end"]
    assert events[-3]["data"] == ""
    model.go_on.set()
    assert first.wait()[-3]["data"] == "one two three"


def test_a_queued_turn_that_another_worker_has_ended_shows_its_end(talking: Talking) -> None:
    api, model, first = talking
    second = Background(api, message="later")
    run_id = wait_for(lambda: len(found := active_runs(api)) == 2 and found)[1]
    ended = Run.update(worker_id="other", status="stopped", finished_at=1)
    api.state.db.write(lambda db: ended.where(Run.run_id == run_id).execute(db))
    model.go_on.set()
    first.wait()
    assert [one["type"] for one in second.wait()[-2:]] == ["run_started", "end"]


def test_without_a_username_a_stop_reaches_only_turns_of_the_key(talking: Talking) -> None:
    api, model, chat = talking
    path = "/api/v1/chat/sessions/s/stop"
    other = {"X-API-Key": api.create_key("chat")}
    assert api.client.post(path, headers=other).get_json()["data"]["stopped_count"] == 0
    wrong = api.post(path, json={"username": "mallory"})
    assert wrong.get_json()["code"] == "session_of_another_user"
    assert api.post(path).get_json()["data"]["stopped_count"] == 1
    model.go_on.set()
    chat.wait()
    # A session's id is never truncated to another one.
    longest = "s" * 255
    api.chat(session_id=longest)
    longer = api.post(f"/api/v1/chat/sessions/{longest}s/stop")
    assert longer.status_code == 404
    missing = api.post("/api/v1/chat/sessions/none/stop")
    assert missing.get_json()["code"] == "session_not_found"


def test_a_run_is_resumed_while_it_runs(talking: Talking) -> None:
    api, model, chat = talking
    (run_id,) = active_runs(api)
    wait_until_said(api, run_id, "two")
    stream = api.get(f"/api/v1/chat/runs/{run_id}/stream?snapshot=true")
    pieces = stream.iter_encoded()
    first = parse_events(next(pieces))[0]
    assert first["data"]["status"] == "running"
    model.go_on.set()
    rest = parse_events(b"".join(pieces))
    said = first["data"]["content"]["message"][0]["text"] + "".join(
        one["data"] for one in rest if one["type"] == "plain"
    )
    assert said == "one two three"
    assert rest[-1]["type"] == "end"
    chat.wait()


@pytest.mark.timeout(120)  # it does not wait for a heartbeat between the parts
@pytest.mark.parametrize("running", [True, False])
def test_a_stream_holds_only_a_part_of_a_long_answer(
    make_scripted: Callable[..., Any], *, running: bool
) -> None:
    long, said, go_on = "x" * 40_000, threading.Event(), threading.Event()

    def answer(_: object) -> Iterator[Any]:
        yield from [long] * 40
        said.set()
        yield go_on

    api, _ = make_scripted(answer, heartbeat_s=60)
    chat = Background(api)
    assert said.wait(30)
    (run_id,) = active_runs(api)
    if not running:
        go_on.set()
        chat.wait()
        wait_until_journaled(api, run_id)
    chunks = api.get(f"/api/v1/chat/runs/{run_id}/stream").iter_encoded()
    sizes, shown = [0], 0
    for chunk in chunks:
        assert len(chunk) < 530_000, sizes  # two events of the maximum size
        sizes.append(len(chunk))
        deltas = [one["data"] for one in parse_events(chunk) if one["type"] == "plain"]
        shown += sum(map(len, deltas))
        if shown == 40 * len(long):
            go_on.set()
    assert shown == 40 * len(long)
    chat.wait()


def test_turns_and_streams_of_a_key_are_limited(
    make_scripted: Callable[..., Any],
) -> None:
    model = Slow()
    api, _ = make_scripted(model, max_runs_per_key=1, max_streams_per_key=2)
    chat = Background(api)
    assert model.asked.wait(30)
    refused = api.post_chat(username="bob", message="hi")
    assert (refused.status_code, refused.get_json()["code"]) == (429, "too_many_turns")
    assert refused.headers["Retry-After"]
    (run_id,) = active_runs(api)
    # The model may be called shortly before the first stream is open.
    wait_for(lambda: api.state.chat.streams.open_count == 1)
    path = f"/api/v1/chat/runs/{run_id}/stream"
    second = api.get(path)
    third = api.get(path)
    assert (third.status_code, third.get_json()["code"]) == (429, "too_many_streams")
    second.close()
    assert api.get(path).status_code == 200
    model.go_on.set()
    chat.wait()


def test_a_turn_without_a_thread_is_refused_and_blocks_no_later_one(
    api: Api, without_threads: Any
) -> None:
    with without_threads("run"):
        refused = api.post_chat(username="alice", message="hi", session_id="s")
    assert (refused.status_code, refused.get_json()["code"]) == (503, "server_busy")
    assert api.state.chat.runs.active_count == 0
    assert api.chat("hi", session_id="s")[-1]["type"] == "end"


def test_a_dead_workers_run_ends_with_all_of_its_text(talking: Talking) -> None:
    api, model, chat = talking
    (run_id,) = active_runs(api)
    wait_until_said(api, run_id, "two")
    set_worker(api, run_id, "dead")
    api.state.chat.recovery.recover()
    run = api.get(f"/api/v1/chat/runs/{run_id}").get_json()["data"]
    assert run["status"] == "interrupted"
    assert run["result"]["message"] == [{"type": "plain", "text": "one two"}]
    assert run["result"]["error"]["code"] == "run_interrupted"
    # The worker was not dead, but it can append nothing, not even the same event.
    model.go_on.set()
    own = chat.wait()
    assert own[-1]["type"] == "end"
    assert api.count_rows("message") == 2
    shown = parse_events(resume(api, run_id))
    assert [one["type"] for one in shown[-4:]] == FAILED
    assert shown[-3]["data"] == "one two"
    assert shown[-2]["data"]["id"] == run["message_id"]


def test_text_written_before_the_log_is_closed_is_in_the_reply(
    talking: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, model, chat = talking
    (run_id,) = active_runs(api)
    wait_until_said(api, run_id, "two")
    journal = api.state.worker.journal
    end_run = journal.end_run

    def say_more(run: int, events: Any) -> bool:
        model.go_on.set()
        wait_for(lambda: b"three" in b"".join(journal.read_after(run, 0).events))
        return end_run(run, events)

    monkeypatch.setattr(journal, "end_run", say_more)
    set_worker(api, run_id, "dead")  # from here on, the job of the worker may also end the run
    api.state.chat.recovery.recover()
    chat.wait()
    run = api.get(f"/api/v1/chat/runs/{run_id}").get_json()["data"]
    assert run["status"] == "interrupted"
    assert run["result"]["message"] == [{"type": "plain", "text": "one two three"}]
    assert run["result"]["error"]["code"] == "run_interrupted"


def set_worker(api: Api, run_id: str, worker_id: str) -> None:
    """Assign a run to a missing worker, and forbid others to continue it."""
    update = Run.update(worker_id=worker_id, request=None).where(Run.run_id == run_id)
    api.state.db.write(update.execute)


def status_of(api: Api, run_id: str) -> str:
    return str(api.get(f"/api/v1/chat/runs/{run_id}").get_json()["data"]["status"])


def test_a_worker_whose_lease_expired_does_not_end_its_own_runs(talking: Talking) -> None:
    api, model, chat = talking
    (run_id,) = active_runs(api)
    api.state.db.write(lambda db: db.execute_sql("UPDATE worker SET lease_until = 0"))
    api.state.chat.recovery.recover()
    assert status_of(api, run_id) == "running"
    model.go_on.set()
    assert chat.wait()[-3]["data"] == "one two three"


def test_after_a_pause_a_worker_gives_the_others_time_to_renew(
    make_scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Slow()
    api, _ = make_scripted(model, worker_lease_s=1)
    chat = Background(api)
    assert model.asked.wait(30)
    (run_id,) = active_runs(api)
    lease = api.state.worker.lease
    own = lease._own.get()
    monkeypatch.setattr(own, "renewed_at", (time.monotonic() - 60, time.time()))
    monkeypatch.setattr(own, "unsure_until", float("inf"))
    assert not lease.can_declare_dead()
    set_worker(api, run_id, "silent as well")
    api.state.chat.recovery.recover()
    assert status_of(api, run_id) == "running"
    monkeypatch.setattr(own, "unsure_until", 0.0)
    wait_for(
        lambda: (api.state.chat.recovery.recover(), status_of(api, run_id))[1] == "interrupted"
    )
    model.go_on.set()
    chat.wait()


def test_a_worker_that_renewed_late_waits_before_it_ends_runs_of_others(api: Api) -> None:
    lease = api.state.worker.lease
    own = lease._own.get()
    assert lease.can_declare_dead()
    own.renewed_at = (time.monotonic(), time.time() - 60)  # the clock jumped
    assert not lease.can_declare_dead()
    lease._renew(own)
    assert not lease.can_declare_dead()


def test_a_worker_that_renews_its_lease_while_it_is_declared_dead_keeps_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, list_finished = api.state.db, run_workers.list_finished_of
    store.write(lambda db: leases.renew_lease(db, "slow", -60.0))

    def renew_meanwhile(*args: Any) -> Any:
        store.write(lambda db: leases.renew_lease(db, "slow", 60.0))
        return list_finished(*args)

    monkeypatch.setattr(run_workers, "list_finished_of", renew_meanwhile)
    api.state.chat.recovery.recover()
    with store.read() as db:
        assert leases.has_successor(db, api.state.worker.lease.get_worker_id())


def test_a_worker_that_was_suspended_renews_its_lease_before_it_opens_a_turn(api: Api) -> None:
    own = api.state.worker.lease._own.get()
    api.state.db.write(lambda db: db.execute_sql("UPDATE worker SET lease_until = 0"))
    own.renewed_at = (time.monotonic() - 60, time.time() - 60)
    api.chat(message="hello")
    with api.state.db.read() as db:
        assert leases.list_dead_workers(db) == []


def test_a_lease_that_expired_before_it_was_stored_is_renewed_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, late_s = leases.renew_lease, [60.0, 0.0]
    clock = SimpleNamespace(monotonic=lambda: 60 - late_s[0], time=lambda: 60 - late_s[0])

    def renew_late(db: Any, worker_id: str, lease_s: float) -> None:
        real(db, worker_id, lease_s - late_s[0])
        if len(late_s) > 1:
            del late_s[0]

    monkeypatch.setattr(leases, "renew_lease", renew_late)
    monkeypatch.setattr("astrbot_api.worker.lease.time", clock)
    api.chat(message="hello")
    with api.state.db.read() as db:
        assert leases.list_dead_workers(db) == []


def test_the_lease_of_a_killed_worker_ends_without_a_time_of_silence(api: Api) -> None:
    store = api.state.db
    store.write(lambda db: leases.renew_lease(db, "killed", 15.0))
    with store.read() as db:
        assert (leases.find_silence_s(db, "killed", 15.0) or 0) < 15
    api.state.worker.lease.prepare("next", ["killed"])
    with store.read() as db:
        assert leases.list_dead_workers(db) == ["killed"]
        assert leases.find_silence_s(db, "killed", 15.0) is None
    assert api.state.worker.lease.get_worker_id() == "next"


def test_a_released_lease_stays_released(api: Api) -> None:
    lease = api.state.worker.lease
    own = lease._own.get()
    lease.close()
    own.renewed_at = (time.monotonic() - 60, time.time() - 60)
    assert lease.get_worker_id() == own.worker_id
    with api.state.db.read() as db:
        assert leases.find_silence_s(db, own.worker_id, 15.0) is None


def test_a_run_unknown_to_its_worker_is_ended(
    talking: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, model, chat = talking
    (known,) = active_runs(api)
    worker_id, strange = api.state.worker.lease.get_worker_id(), str(uuid.uuid4())

    def open_and_forget(db: Any) -> None:  # its commit succeeded without a response
        found = runs.find_run(db, known)
        assert found is not None
        runs.add_run(db, strange, found.session, key_id=found.key_id, worker_id=worker_id,
                     user_message=None, checkpoint="c")  # fmt: skip

    api.state.db.write(open_and_forget)

    def look() -> None:
        api.state.chat.recovery.end_forgotten(api.state.chat.runs.knows)

    look()
    assert status_of(api, strange) == "queued"  # its state may be known soon
    monkeypatch.setattr(recovery, "_UNKNOWN_S", 0.0)
    look()
    assert status_of(api, strange) == "interrupted"
    assert status_of(api, known) == "running"
    model.go_on.set()
    chat.wait()


def test_a_turn_waiting_in_a_closed_application_is_not_ended(
    make_scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    api, _ = make_scripted([TextDelta("a"), released])

    def fail(*_: Any) -> bool:
        raise StoreClosed("closed")

    active = api.state.chat.runs._active
    turns = [threading.Thread(target=api.chat, kwargs={"session_id": "s"}) for _ in range(2)]
    for number, one in enumerate(turns, 1):
        one.daemon = True
        one.start()
        wait_for(lambda count=number: len(active) == count)
    (waiting,) = [one for one in active.values() if one.ahead]
    with monkeypatch.context() as patch:
        patch.setattr(runs, "has_earlier_run", fail)
        wait_for(lambda: waiting.run_id not in active)
    assert waiting.log.lost, "the next start goes on with it"
    released.set()


def test_a_waiting_turn_survives_an_outage_of_the_database(
    talking: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, model, first = talking
    looks = iter(range(2))
    looked = threading.Event()
    real = runs.has_earlier_run

    def fail_twice(*arguments: Any) -> bool:
        if next(looks, None) is None:
            looked.set()
            return real(*arguments)
        raise StorageError("the database is away")

    monkeypatch.setattr(runs, "has_earlier_run", fail_twice)
    second = Background(api, message="later")
    assert looked.wait(30)
    model.go_on.set()
    assert [one.wait()[-3]["data"] for one in (first, second)] == ["one two three"] * 2


def test_a_stream_survives_an_outage_during_a_push(
    talking: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, model, chat = talking
    real, failed = pushes.list_pushed, threading.Event()

    def fail_once(*arguments: Any) -> Any:
        if failed.is_set():
            return real(*arguments)
        failed.set()
        raise StorageError("the database is away")

    monkeypatch.setattr(pushes, "list_pushed", fail_once)
    umo = "webchat:FriendMessage:webchat!alice!s"
    accepted = api.post("/api/v1/im/message", json={"umo": umo, "message": "news"})
    assert accepted.status_code == 200
    assert failed.wait(30)  # while the run continues; its end is not streamed
    model.go_on.set()
    shown = chat.wait()
    assert shown[-1]["type"] == "end"
    assert [one["data"] for one in shown if one.get("data") == "news"] == ["news"]


def test_a_reply_that_cannot_be_stored_still_shows_its_text(
    talking: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, chat = talking
    failing = iter([True])

    def fail_once(*arguments: Any, **options: Any) -> Any:
        if next(failing, False):
            raise peewee.OperationalError("disk full")
        return finish(*arguments, **options)

    finish = runs.finish_run
    monkeypatch.setattr(runs, "finish_run", fail_once)
    model.go_on.set()
    error = next(one for one in chat.wait() if one["type"] == "error")
    assert (error["code"], error["data"]) == ("storage_error", "The answer could not be stored.")


@pytest.mark.parametrize("ended_by", ["this worker", "another"])
def test_an_end_that_cannot_be_stored_is_stored_later(
    talking: Talking, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    api, model, chat = talking
    api.state.worker.chores.close()

    def fail(*arguments: Any, **options: Any) -> Any:
        raise peewee.OperationalError("disk full")

    with monkeypatch.context() as full:
        full.setattr(runs, "finish_run", fail)
        model.go_on.set()
        assert "storage_error" in [one.get("code") for one in chat.wait()]
    (run_id,) = active_runs(api)
    if ended_by == "another":
        ended = Run.update(worker_id="other", status="interrupted", finished_at=1)
        api.state.db.write(lambda db: ended.execute(db))
    api.state.chat.outcomes.retry()
    status = api.get(f"/api/v1/chat/runs/{run_id}").get_json()["data"]["status"]
    assert status == ("interrupted" if ended_by == "another" else "failed")
    assert not api.state.chat.outcomes._unstored


def test_another_worker_sends_the_events_of_a_stored_reply(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = api.post_chat(username="alice", session_id="s", message="hi").get_data()
    run_id = run_id_of(stream)
    with api.state.db.read() as db:
        run = runs.find_run(db, run_id)
    assert run is not None
    wait_until_journaled(api, run_id)
    journal = api.state.worker.journal
    kept = journal.read_after(run.id, 0).events[:-4]
    prune_journal(journal, -60)
    journal.append([Piece(run.id, 1, kept)])
    monkeypatch.setattr("astrbot_api.chat.resuming.following._CLOSING_US", 0)
    again = api.get(f"/api/v1/chat/runs/{run_id}/stream?username=alice")
    assert parse_events(again.get_data()) == parse_events(stream)
    found = journal.read_after(run.id, 0)
    assert found.closed
    assert list(map(decode_event, found.events)) == parse_events(stream)


def test_the_search_for_runs_of_dead_workers_reads_no_ended_run(api: Api) -> None:
    with api.state.db.read() as db:
        for statement in (run_workers.ORPHANS, run_workers.ACTIVE_OF):
            plan = explain(db, statement)
            assert "USING INDEX run_active" in plan[0], plan


def test_a_clock_that_is_set_back_makes_no_negative_durations(
    make_scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = itertools.count(10**9, -3600)
    monkeypatch.setattr(
        reply, "time", SimpleNamespace(time=times.__next__, monotonic=time.monotonic)
    )
    monkeypatch.setattr(runs, "now_us", lambda: next(times) * 1_000_000)
    api, _ = make_scripted("Hello")
    stats = next(one["data"] for one in api.chat() if one["type"] == "agent_stats")
    assert stats["end_time"] >= stats["start_time"]
    assert stats["time_to_first_token"] >= 0
    with api.state.db.read() as db:
        shown = statistics.describe_server(db, 1)
    assert shown["days"][0]["turn_ms"] >= 0
    assert (shown["turn_ms"], shown["turns_measured"]) == (0, 1)
