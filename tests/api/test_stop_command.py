"""``/stop``, ``/reset`` and ``/new`` work at once although turns wait for one another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrbot_api import Command
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta
from astrbot_api.testing import ScriptedModel
from astrbot_api.testing.scripted_model import Step

from ..servers import parse_events
from .conftest import Api
from .test_guard_rails import make_key, say

Make = Callable[..., tuple[Api, ScriptedModel]]


@pytest.fixture
def talking(make_scripted: Make) -> Iterator[Api]:
    """A model that answers until it is stopped."""
    ended = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("and so on")
        while not ended.wait(0.01):
            yield TextDelta(" and on")

    api, _ = make_scripted(answer, max_turns_per_session=2)
    yield api
    ended.set()


def begin(api: Api, session_id: str = "s") -> Any:
    """Start a turn and return its stream."""
    return api.post(
        "/api/v1/chat", json={"username": "alice", "session_id": session_id, "message": "talk"}
    )


def texts_of(events: list[dict[str, Any]]) -> str:
    return "".join(one["data"] for one in events if one["type"] == "plain")


def test_stop_ends_running_and_waiting_turns_and_confirms_it(talking: Api) -> None:
    streams = [begin(talking), begin(talking)]
    other = begin(talking, "other")
    # The queue is full, but the command still works.
    events = talking.chat(" /STOP now", session_id="s")
    assert texts_of(events) == "Stopped 2 turns."
    first = parse_events(streams[0].get_data())
    assert [one["type"] for one in first[-3:]] == ["complete", "message_saved", "end"]
    assert first[-3]["data"].startswith("and so on")
    assert "plain" not in [one["type"] for one in parse_events(streams[1].get_data())]
    assert talking.state.chat.runs.active_count == 1, "another session's turn goes on"
    talking.chat("/stop", session_id="other")
    other.get_data()


def test_stop_says_when_nothing_runs(api: Api) -> None:
    assert texts_of(api.chat("/stop", session_id="s")) == "Nothing is running in this session."


@pytest.mark.parametrize("command", ["/reset", "/new", "/ new"])
def test_a_command_that_forgets_the_conversation_first_stops_the_answer(
    make_scripted: Make, command: str
) -> None:
    said_so_far = threading.Event()

    def answer(messages: list[ModelMessage]) -> Iterator[Step]:
        if messages[-1]["content"] == "hello":
            yield "fine"
            return
        yield "and so on"
        said_so_far.set()
        yield threading.Event()  # until it is stopped

    api, model = make_scripted(answer)
    stream = begin(api)
    assert said_so_far.wait(10)
    said = texts_of(api.chat(command, session_id="s"))
    assert said == "The earlier conversation is forgotten."
    ended = parse_events(stream.get_data())
    assert [one["type"] for one in ended[-3:]] == ["complete", "message_saved", "end"]
    run_id = next(one["data"]["run_id"] for one in ended if one["type"] == "run_started")
    run = api.get(f"/api/v1/chat/runs/{run_id}?username=alice").get_json()["data"]
    assert run["status"] == "stopped"
    api.chat("hello", session_id="s")
    seen = [one["content"] for one in model.seen[-1] if one["role"] != "system"]
    assert seen == ["hello"], "neither the stopped answer nor its question"


def test_a_reset_that_is_not_stored_forgets_the_conversation(make_scripted: Make) -> None:
    api, model = make_scripted("fine")
    api.chat("hello", session_id="s")
    api.chat("/reset", session_id="s", _skip_user_history=True)
    api.chat("again", session_id="s")
    seen = [one["content"] for one in model.seen[-1] if one["role"] != "system"]
    assert seen[-1] == "again"
    assert "hello" not in seen


def test_a_message_that_waits_behind_a_reset_is_remembered(make_scripted: Make) -> None:
    started, go_on = threading.Event(), threading.Event()

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        started.set()
        go_on.wait()
        yield TextDelta("fine")

    api, model = make_scripted(answer)
    first = begin(api)
    assert started.wait(10)
    waiting = [
        api.post_chat(username="alice", session_id="s", message=message)
        for message in ("/reset", "second", "third")
    ]
    go_on.set()
    for stream in (first, *waiting):
        stream.get_data()
    seen = [one["content"] for one in model.seen[-1]]
    assert seen[-3:] == ["second", "fine", "third"]
    assert "talk" not in seen


def test_a_command_of_a_plugin_waits_for_the_answer(make_scripted: Make) -> None:
    started, go_on = threading.Event(), threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        started.set()
        go_on.wait()
        yield TextDelta("done")

    ticket = Command("new", "open a ticket", lambda context: f"Ticket: {context.arguments}")
    api, _ = make_scripted(answer, commands=[ticket])
    stream = begin(api)
    assert started.wait(10)
    later = api.post_chat(username="alice", session_id="s", message="/new printer")
    go_on.set()
    assert texts_of(parse_events(stream.get_data())) == "done"
    assert texts_of(parse_events(later.get_data())) == "Ticket: printer"


def test_texts_that_begin_like_the_command_stop_nothing(talking: Api) -> None:
    stream = begin(talking)
    answer = talking.post_chat(
        username="alice", session_id="s", message="/stopwatch", response_mode="background"
    )
    assert answer.status_code == 202
    assert talking.state.chat.runs.active_count == 2
    talking.chat("/stop", session_id="s")
    stream.get_data()


@pytest.mark.parametrize("rule", ["streams", "turns_per_day", "max_turns", "tokens_per_day"])
def test_stop_works_at_the_limit_of_its_key(talking: Api, rule: str) -> None:
    """The command takes the place of an active turn."""
    key = make_key(talking, **{rule: 1000 if rule == "tokens_per_day" else 1})
    stream = talking.post_chat(key, username="alice", session_id="s", message="talk")
    other = say(talking, key, session_id="s", message="talk too")
    assert other.status_code == 429
    answer = talking.post_chat(key, username="alice", session_id="s", message="/stop")
    assert answer.status_code == 200, answer.text
    assert texts_of(parse_events(answer.get_data())) == "Stopped."
    assert parse_events(stream.get_data())[-1]["type"] == "end"


def test_stop_works_at_the_limit_of_all_keys(make_scripted: Make) -> None:
    started, ended = threading.Event(), threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        started.set()
        while not ended.wait(0.01):
            yield TextDelta("on and ")

    api, _ = make_scripted(answer, max_runs_per_key=1)
    stream = begin(api)
    assert started.wait(10)
    assert begin(api, "other").status_code == 429
    assert texts_of(api.chat("/stop", session_id="s")) == "Stopped."
    stream.get_data()
    ended.set()
