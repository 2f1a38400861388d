"""One turn through the public API."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest

from astrbot_api import Tool, ToolContext
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta
from astrbot_api.db import messages
from astrbot_api.errors import ProviderError
from astrbot_api.event_lines import MAX_LINE_BYTES
from astrbot_api.testing import ScriptedModel

from ..servers import FAILED, parse_events
from ..waiting import LIMIT_S, wait_for
from .conftest import Api


def _say(*texts: str) -> Callable[[list[ModelMessage]], Iterator[Delta]]:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        for text in texts:
            yield TextDelta(text)

    return answer


def test_the_stream_has_the_headers_that_proxies_and_clients_need(api: Api) -> None:
    answer = api.post_chat(username="alice", message="hi")
    assert answer.content_type == "text/event-stream; charset=utf-8"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    assert "Connection" not in answer.headers
    assert "Transfer-Encoding" not in answer.headers


def test_every_frame_is_one_data_line_and_its_number(api: Api) -> None:
    frames = api.post_chat(username="alice", message="hi").get_data(as_text=True).split("\n\n")
    assert frames.pop() == ""
    for number, frame in enumerate(frames, 1):
        data, event_id = frame.split("\n")
        assert data.startswith('data: {"type":"')
        assert event_id == f"id: {number}"


def test_the_first_events_come_before_the_model_is_asked(make_scripted: Any) -> None:
    may_answer = threading.Event()

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        may_answer.wait(30)
        yield TextDelta("late")

    api, _model = make_scripted(answer)
    response = api.post("/api/v1/chat", json={"username": "a", "message": "hi"}, buffered=False)
    first = next(response.iter_encoded())
    assert b'"type":"session_id"' in first
    may_answer.set()
    rest = parse_events(b"".join(response.iter_encoded()))
    assert rest[-1]["type"] == "end"
    response.close()


def test_the_model_gets_the_previous_messages(make_scripted: Any) -> None:
    api, model = make_scripted(_say("fine"))
    api.chat("one", session_id="s")
    api.chat("two", session_id="s")
    assert model.seen[-1] == [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "fine"},
        {"role": "user", "content": "two"},
    ]


def test_the_oldest_turns_are_dropped_whole_when_the_budget_is_full(
    make_scripted: Any,
) -> None:
    api, model = make_scripted(_say("b" * 100), agent="titles = false\nhistory_tokens = 200")
    for letter in "1234567890":
        api.chat(letter * 100, session_id="s")
    conversation = model.seen[-1][1:-1]
    assert [one["role"] for one in conversation] == ["user", "assistant"] * 2
    assert conversation[-2]["content"] == "9" * 100


def test_reset_clears_the_models_context(make_scripted: Any) -> None:
    api, model = make_scripted(_say("fine"))
    api.chat("one", session_id="s")
    api.chat("/reset", session_id="s")
    api.chat("two", session_id="s")
    assert [one["content"] for one in model.seen[-1][1:]] == ["two"]


def test_a_message_that_is_not_stored_is_answered(make_scripted: Any) -> None:
    api, _model = make_scripted(_say("fine"))
    events = api.chat("one", _skip_user_history=True)
    assert "user_message_saved" not in [event["type"] for event in events]
    assert events[-3]["data"] == "fine"
    assert api.count_rows("message") == 1


def test_only_a_message_of_the_same_session_can_be_quoted(make_scripted: Any) -> None:
    api, model = make_scripted(_say("the secret"))
    number = api.chat("hi", username="victim")[-2]["data"]["id"]
    quote = [{"type": "reply", "message_id": number}, {"type": "plain", "text": "what?"}]
    api.chat(quote, username="mallory")
    assert "the secret" not in str(model.seen[-1])
    mine = api.chat("hi", username="alice", session_id="s")[-2]["data"]["id"]
    api.chat(
        [{"type": "reply", "message_id": mine}, {"type": "plain", "text": "what?"}],
        session_id="s",
    )
    assert "(bot): the secret" in model.seen[-1][-1]["content"]


def test_a_whole_number_may_have_a_decimal_point(make_scripted: Any) -> None:
    api, model = make_scripted(_say("the answer"))
    number = api.chat("hi", session_id=7.0)[-2]["data"]["id"]
    for sent in (float(number), -1.2e28):
        quote = [{"type": "reply", "message_id": sent}, {"type": "plain", "text": "what?"}]
        assert api.chat(quote, session_id="7")[-1]["type"] == "end"
        assert ("(bot): the answer" in model.seen[-1][-1]["content"]) == (sent > 0)


def test_without_streaming_the_text_is_one_event(make_scripted: Any) -> None:
    api, _ = make_scripted(_say("one ", "two"))
    events = api.chat(enable_streaming=False)
    texts = [event for event in events if event["type"] == "plain"]
    assert [(one["data"], one["streaming"]) for one in texts] == [("one two", False)]
    assert api.count_rows("message") == 2


def test_flags_override_the_field(make_scripted: Any) -> None:
    api, _ = make_scripted(_say("one ", "two"))
    events = api.chat(enable_streaming=True, flags={"enable_streaming": False})
    assert [one["data"] for one in events if one["type"] == "plain"] == ["one two"]


def test_no_line_exceeds_the_buffers_of_clients(make_scripted: Any) -> None:
    api, _ = make_scripted(_say("\x01" * 100_000, "é" * 200_000))
    answer = api.post_chat(username="alice", message="hi").get_data()
    assert max(len(line) for line in answer.split(b"\n")) < MAX_LINE_BYTES
    events = parse_events(answer)
    said = "".join(event["data"] for event in events if event["type"] == "plain")
    assert said == "\x01" * 100_000 + "é" * 200_000
    complete = events[-3]
    assert complete["truncated"]
    assert said.startswith(complete["data"])


def test_an_endless_answer_is_cut_off_with_a_reason(make_scripted: Any) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        while True:
            yield TextDelta("more ")

    api, _ = make_scripted(answer, max_reply_chars=1000)
    events = api.chat()
    assert events[-4]["code"] == "provider_error"
    assert "1000 characters" in events[-4]["data"]


def test_an_unexpected_exception_is_an_event_without_its_details(
    make_scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta("begun")
        raise RuntimeError("password=hunter2")

    api, _ = make_scripted(answer)
    events = api.chat(session_id="s")
    assert [event["type"] for event in events[-4:]] == FAILED
    assert events[-4]["code"] == "internal_error"
    assert "hunter2" not in str(events)
    assert "hunter2" in caplog.text
    assert api.chat("again", session_id="s")[-4]["code"] == "internal_error"


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_ignores_errors_shows_the_reason_of_a_failure(
    make_scripted: Any, streaming: bool
) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        raise ProviderError("The model's endpoint is away.")
        yield

    api, _ = make_scripted(answer)
    said = api.chat(session_id="s", enable_streaming=streaming)
    error, complete, saved, _ = failed = [one for one in said if one["type"] in FAILED]
    assert [event["type"] for event in failed] == FAILED
    assert complete["data"] == error["data"] == "The model's endpoint is away."
    assert complete["streaming"] == streaming
    history = api.get("/api/v1/chat/sessions/s/messages?username=alice").get_json()["data"]
    newest = history["messages"][0]
    assert newest["id"] == saved["data"]["id"]
    content = newest["content"]
    assert content["error"] == {"code": "provider_error", "message": error["data"]}
    assert content["message"] == [{"type": "plain", "text": error["data"]}]
    run_id = complete["message_id"]
    assert api.get(f"/api/v1/chat/runs/{run_id}").get_json()["data"]["result"] == content


def test_tools_of_one_step_run_concurrently_and_errors_reach_the_model(
    make_scripted: Any,
) -> None:
    from astrbot_api.agent.provider import ToolCallDelta

    meet = threading.Barrier(2, timeout=30)

    def call(arguments: Mapping[str, Any], context: ToolContext) -> str:
        meet.wait()
        return f"{context.username} {arguments['n']}"

    tool = Tool(
        "meet", "Wait for the other.", call,
        {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    )  # fmt: skip

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta("done")
            return
        arguments = ('{"n": 1}', '{"n": 2}', '{"n": "x"}', "{nope")
        for index, text in enumerate(arguments):
            yield ToolCallDelta(index, f"c{index}", "meet", text)
        yield ToolCallDelta(9, "c9", "missing", "")

    api, model = make_scripted(answer, tools=[tool])
    events = api.chat()
    results = {
        data["id"]: data["result"]
        for event in events
        if event.get("chain_type") == "tool_call_result"
        for data in [orjson.loads(event["data"])]
    }
    assert results["c0"] == "alice 1"
    assert results["c1"] == "alice 2"
    assert "is not of type 'integer'" in results["c2"]
    assert "not a JSON object" in results["c3"]
    assert "no tool named missing" in results["c9"]
    told = [one["content"] for one in model.seen[-1] if one["role"] == "tool"]
    assert told == [results[f"c{index}"] for index in (0, 1, 2, 3, 9)]
    assert events[-3]["data"] == "done"


def test_a_tool_that_never_returns_does_not_block_the_turn(make_scripted: Any) -> None:
    from astrbot_api.agent.provider import ToolCallDelta

    release = threading.Event()
    tool = Tool("hang", "Never returns.", lambda arguments, context: str(release.wait(60)))

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["role"] == "tool":
            yield TextDelta(messages[-1]["content"])
        else:
            yield ToolCallDelta(0, "c", "hang", "{}")

    api, _ = make_scripted(answer, tools=[tool], agent="titles = false\ntool_timeout_s = 0.1")
    assert "did not answer within 0.1 s" in api.chat()[-3]["data"]
    release.set()


def test_a_turn_ends_if_code_exits_and_blocks_no_later_one(make_scripted: Any) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if messages[-1]["content"] == "exit":
            raise SystemExit
        yield TextDelta("hello")

    api, _ = make_scripted(answer, agent="titles = false")
    assert [one["type"] for one in api.chat("exit", session_id="s")[-2:]] == [
        "message_saved",
        "end",
    ]
    assert api.chat("hi", session_id="s")[-3]["data"] == "hello"


def test_the_model_names_a_new_session(make_scripted: Any) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta('"A short title"' if "title" in str(messages[0]) else "hello")

    api, _ = make_scripted(answer, agent="titles = true")
    api.chat("what is the weather", session_id="s")
    assert wait_for(lambda: _name(api)) == "A short title"


def test_sessions_are_named_after_no_thread_could_be_started(
    make_scripted: Any, without_threads: Any
) -> None:
    api, _ = make_scripted("hello", agent="titles = true")
    with without_threads("titles") as refused:
        for number in range(5):
            assert api.chat("hi", session_id=f"s{number}")[-1]["type"] == "end"
            assert refused.wait(LIMIT_S)
            refused.clear()
    api.chat("hi", session_id="last")
    assert wait_for(lambda: _name(api)) == "hello"


def test_the_first_words_name_a_session_if_the_model_fails(make_scripted: Any) -> None:
    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        if "title" in str(messages[0]):
            raise RuntimeError("no")
        yield TextDelta("hello")

    api, _ = make_scripted(answer, agent="titles = true")
    api.chat("what is   the weather like in the town of my grandmother's birth, today?")
    name = wait_for(lambda: _name(api))
    assert name == "what is the weather like in the town of my grandmother's…"


def _name(api: Api) -> str:
    body = api.get("/api/v1/chat/sessions?username=alice").get_json()
    return body["data"]["sessions"][0]["display_name"] or ""


def test_an_administrators_name_needs_its_scope(api: Api) -> None:
    answer = api.post_chat(username="astrbot", message="hi")
    assert (answer.status_code, answer.get_json()["code"]) == (403, "username_reserved")
    assert api.get("/api/v1/chat/sessions?username=astrbot").status_code == 403
    admin = api.create_key("chat", "chat:admin")
    assert api.post_chat(admin, username="astrbot", message="hi").status_code == 200


def test_too_many_waiting_turns_are_rejected_without_storing_anything(
    make_scripted: Any,
) -> None:
    release, begun = threading.Event(), threading.Event()

    def answer(messages: list[ModelMessage]) -> Iterator[Delta]:
        begun.set()
        release.wait(30)
        yield TextDelta("done")

    api, _ = make_scripted(answer, max_turns_per_session=1)
    worker = threading.Thread(target=lambda: api.chat("one", session_id="s"))
    worker.start()
    assert begun.wait(30)
    answer_ = api.app.test_client().post(
        "/api/v1/chat",
        headers={"X-API-Key": api.key},
        json={"username": "alice", "message": "two", "session_id": "s"},
    )
    assert (answer_.status_code, answer_.get_json()["code"]) == (429, "too_many_turns")
    assert answer_.headers["Retry-After"]
    assert api.count_rows("message") == 1
    release.set()
    worker.join(30)


def test_legacy_status_answers_business_errors_with_200(
    make_api: Callable[..., Api],
) -> None:
    api = make_api(ASTRBOT_LEGACY_ERROR_STATUS="1")
    answer = api.post_chat(message="hi")
    assert (answer.status_code, answer.get_json()["code"]) == (200, "missing_field")
    assert api.client.get("/api/v1/im/bots").status_code == 401
    assert api.get("/api/v1/nope").status_code == 404


def test_a_reply_that_cannot_be_stored_is_an_error_and_is_stored_later(
    make_scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = make_scripted(_say("fine"), worker_lease_s=1)
    add_message = messages.add_message

    def refuse_bots(
        db: Any, session: int, platform: str, sender: str, *rest: Any, **named: Any
    ) -> Any:
        if sender == messages.BOT:
            raise sqlite3.OperationalError("database or disk is full")
        return add_message(db, session, platform, sender, *rest, **named)

    with monkeypatch.context() as broken:
        broken.setattr(messages, "add_message", refuse_bots)
        events = api.chat(session_id="s", enable_streaming=False)
        assert [event["type"] for event in events[-3:]] == ["error", "complete", "end"]
        assert events[-3]["code"] == "storage_error"
        assert [one["data"] for one in events if one["type"] == "plain"] == ["fine"]
        assert events[-2]["data"] == "fine"
    wait_for(lambda: api.count_rows("message") == 2)
    assert api.chat("again", session_id="s")[-3]["data"] == "fine"


def test_a_failure_without_streaming_is_also_in_plain(make_scripted: Any) -> None:
    """AstrBot sends no ``complete`` without streaming, so its clients read only ``plain``."""
    api, _ = make_scripted([ProviderError("The endpoint is down.")])
    events = api.chat(session_id="s", enable_streaming=False)
    kinds = [one["type"] for one in events[-5:]]
    assert kinds == ["error", "plain", "complete", "message_saved", "end"]
    said = events[-4]
    assert (said["data"], said["streaming"], said["chain_type"]) == (
        events[-5]["data"],
        False,
        None,
    )
    path = f"/api/v1/chat/runs/{said['message_id']}/stream?snapshot=true"
    (snapshot, *_) = parse_events(api.get(path).get_data())
    assert snapshot["data"]["content"]["message"] == [], "it is no part of the answer"
    failed = api.post_chat(
        username="alice", message="x", enable_streaming=False, response_mode="blocking"
    )
    assert (failed.status_code, failed.get_json()["message"]) == (502, said["data"])


def test_an_exception_in_error_handling_does_not_block_the_session(
    make_scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = make_scripted(_say("fine"))
    with monkeypatch.context() as broken:
        broken.setattr("astrbot_api.chat.turns.answering.Reply", None)
        assert api.chat(session_id="s")[-4]["code"] == "internal_error"
    assert api.chat("again", session_id="s")[-3]["data"] == "fine"


def test_the_command_stop_ends_only_the_users_previous_turn(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
) -> None:
    begun, free = threading.Event(), threading.Event()

    def talk(messages: list[ModelMessage]) -> Iterator[Delta]:
        yield TextDelta("Once upon a time")
        begun.set()
        while not free.wait(0.01):
            yield TextDelta(".")

    api, _ = make_scripted(talk)
    ended: list[str] = []
    thread = threading.Thread(
        target=lambda: ended.extend(
            event["type"] for event in api.chat("a long story", session_id="story")
        )
    )
    thread.start()
    assert begun.wait(30)
    assert api.post_chat(username="bob", message="/stop", session_id="story").status_code == 409
    assert not ended
    said = api.chat("/stop", session_id="story")
    thread.join(30)
    assert ended[-1] == "end"
    assert not free.is_set()
    assert "Stopped" in next(event["data"] for event in said if event["type"] == "plain")
