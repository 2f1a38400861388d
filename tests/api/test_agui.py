"""The events of AG-UI. ``tests/clients/test_protocols.py`` uses its official client."""

from __future__ import annotations

import base64
import gc
import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ag_ui.core import Event, RunAgentInput
from pydantic import TypeAdapter

from astrbot_api import Tool
from astrbot_api.agent.provider import (
    Delta,
    ReasoningDelta,
    Rewind,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from astrbot_api.chat.turns.turn import OpenTurn
from astrbot_api.errors import StorageError
from astrbot_api.http.agui import routes
from astrbot_api.runlog.log import RunLog
from astrbot_api.testing import ScriptedModel
from astrbot_api.testing.scripted_model import Step

from ..contract.wire import PNG
from ..waiting import wait_for
from .conftest import Api
from .test_openai_tools import call_weather

Make = Callable[..., tuple[Api, ScriptedModel]]

#: An event as defined by the official package ``ag-ui-protocol``.
EVENT: TypeAdapter[Any] = TypeAdapter(Event)

USER = {"id": "m1", "role": "user", "content": "Hello"}
TOOL = {"name": "get_weather", "description": "The weather.", "parameters": {"type": "object"}}


def _reject(comment: str) -> dict[str, Any]:
    payload = {"approved": False, "reason": comment}
    return {"interruptId": "i", "status": "resolved", "payload": payload}


EDITED = {
    "interruptId": "i", "status": "resolved", "payload": {"approved": True, "editedArgs": "x"},
}  # fmt: skip


def post(api: Api, *messages: Any, **body: Any) -> Any:
    sent = {"threadId": "t1", "runId": "r1", "messages": list(messages) or [USER], **body}
    return api.post("/api/v1/agui", json=sent)


def read(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.get_data()
    frames = answer.get_data().decode().split("\n\n")
    events = [json.loads(one[6:]) for one in frames if one and not one.startswith(":")]
    for event in events:
        # The official package reads and writes the same JSON, so all names are known.
        read = EVENT.validate_python(event).model_dump(mode="json", by_alias=True)
        assert {name: read.get(name, "unknown") for name in event} == event
    check_pairs(events)
    return events


def check_pairs(events: list[dict[str, Any]]) -> None:
    """Check that all that begins ends once, in reverse order, before the run."""
    open_: list[tuple[str, str]] = []
    for event in events:
        kind, _, what = event["type"].rpartition("_")
        one = (kind, event.get("messageId") or event.get("toolCallId"))
        if what == "START":
            open_.append(one)
        elif what in ("CONTENT", "ARGS"):
            assert open_[-1] == one
        elif what == "END":
            assert open_.pop() == one
        elif kind == "RUN" and what in ("FINISHED", "ERROR"):
            assert not open_


def test_a_run_keeps_the_ids_of_its_client(make_scripted: Make) -> None:
    api, _ = make_scripted("Hello there.")
    answer = post(api, protocolVersion="1.0", forwardedProps={"username": "alice"})
    events = read(answer)
    assert events[0] == {
        "type": "RUN_STARTED", "threadId": "t1", "runId": "r1", "protocolVersion": "1.0",
    }  # fmt: skip
    assert events[-1]["outcome"] == {"type": "success"}
    assert "usage" not in events[-1]
    assert events[1]["messageId"] == f"{answer.headers['X-Run-ID']}-1"
    stored = api.get("/api/v1/chat/sessions/t1/messages?username=alice").get_json()["data"]
    assert [one["content"]["type"] for one in stored["messages"]] == ["bot", "user"]


def test_only_known_counts_of_tokens_are_sent(make_scripted: Make) -> None:
    api, _ = make_scripted([TextDelta("Four."), Usage(20, 0, 3)])
    (usage,) = read(post(api, protocolVersion="1.0"))[-1]["usage"]
    counts = {name: count for name, count in usage.items() if name.endswith("Tokens")}
    assert counts == {"inputTokens": 20, "outputTokens": 3, "totalTokens": 23}


def test_a_stopped_run_is_cancelled(make_scripted: Make) -> None:
    begun = threading.Event()

    def answer(messages: Any) -> Iterator[Step]:
        yield "Let me "
        begun.set()
        yield threading.Event()

    api, _ = make_scripted(answer)
    left = post(api, protocolVersion="1.0")
    assert begun.wait(30)
    api.post("/api/v1/chat/sessions/t1/stop")
    *_, ended, last = read(left)
    assert (ended["type"], last["outcome"]) == ("TEXT_MESSAGE_END", {"type": "cancelled"})


def test_a_run_finishes_if_the_database_cannot_be_read_at_its_end(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = make_scripted([TextDelta("Hello")])

    def fail(*_: Any) -> None:
        raise StorageError("later")

    monkeypatch.setattr(routes, "runs", SimpleNamespace(find_run=fail))
    assert read(post(api, protocolVersion="1.0"))[-1]["outcome"] == {"type": "success"}


def test_an_ended_turn_is_freed_without_the_garbage_collector(make_scripted: Make) -> None:
    def count() -> int:
        return sum(isinstance(one, OpenTurn | RunLog) for one in gc.get_objects())

    api, _ = make_scripted("Hello there.")
    gc.collect()
    before = count()
    gc.disable()
    try:
        read(post(api))
        wait_for(lambda: count() <= before)
    finally:
        gc.enable()


def test_a_number_is_a_username(make_scripted: Make) -> None:
    api, _ = make_scripted("Hello there.")
    read(post(api, forwardedProps={"username": 42, "config": None}))
    listed = api.get("/api/v1/chat/sessions?username=42").get_json()["data"]
    assert listed["total"] == 1


def test_context_of_the_interface_is_an_instruction(make_scripted: Make) -> None:
    api, model = make_scripted("ok")
    assistant = {"id": "m0", "role": "assistant", "content": "Hi."}
    thought = {"id": "m2", "role": "reasoning", "content": "Hm."}
    context = [{"description": "The page", "value": "the cart"}]
    read(post(api, USER, thought, assistant, {**USER, "content": "And?"}, context=context))
    given = [(one["role"], one["content"]) for one in model.seen[-1] if one["role"] != "system"]
    lead = "[Instructions of the application]\nThe page: the cart\n\n"
    assert given == [("user", f"{lead}Hello"), ("assistant", "Hi."), ("user", "And?")]


def test_the_calls_of_a_step_belong_to_the_message_of_its_text(make_scripted: Make) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield TextDelta("Let me look.")
            yield ToolCallDelta(0, "c1", "look", "{}")
            yield ToolCallDelta(1, "c2", "look", "{}")
        else:
            yield TextDelta("Done.")

    api, _ = make_scripted(answer, tools=[Tool("look", "Look.", lambda arguments, context: "x")])
    events = read(post(api))
    said, done = (one["messageId"] for one in events if one["type"] == "TEXT_MESSAGE_START")
    called = [one["parentMessageId"] for one in events if one["type"] == "TOOL_CALL_START"]
    assert called == [said, said]
    assert done != said


def test_calls_without_a_text_have_a_message_for_each_step(make_scripted: Make) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        if sum(one["role"] == "tool" for one in messages) < 2:
            yield ToolCallDelta(0, "", "look", "{}")
        else:
            yield TextDelta("Done.")

    api, _ = make_scripted(answer, tools=[Tool("look", "Look.", lambda arguments, context: "x")])
    events = read(post(api))
    called = {one["parentMessageId"] for one in events if one["type"] == "TOOL_CALL_START"}
    others = {one["messageId"] for one in events if "messageId" in one}
    assert len(called) == 2
    assert not called & others


def test_a_call_without_a_result_is_not_sent_to_the_model(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    events = read(post(api, tools=[TOOL], protocolVersion="1.0"))
    called = next(one for one in events if one["type"] == "TOOL_CALL_START")
    assert events[-1]["outcome"]["pendingToolCallIds"] == [called["toolCallId"]]
    call = {
        "id": called["toolCallId"], "type": "function",
        "function": {"name": "get_weather", "arguments": "{}"},
    }  # fmt: skip
    said = {"id": "a1", "role": "assistant", "toolCalls": [call, {"id": {}}]}
    read(post(api, USER, said, {**USER, "content": "Never mind."}, tools=[TOOL]))
    assert "tool_calls" not in str(model.seen[-1])
    result = {"id": "r1", "role": "tool", "toolCallId": call["id"], "content": "sunny"}
    read(post(api, USER, said, result, tools=[TOOL]))
    assert [one["role"] for one in model.seen[-1]][-3:] == ["user", "assistant", "tool"]
    # CopilotKit sends a decision as the call's result, and then the server's result.
    decided = {**result, "content": '{"approved":true}'}
    read(post(api, USER, said, decided, result, {**USER, "content": "And?"}, tools=[TOOL]))
    *_, answered, asked = model.seen[-1]
    assert [one["role"] for one in model.seen[-1]][-4:] == ["user", "assistant", "tool", "user"]
    assert (answered["content"], asked["content"]) == ("sunny", "And?")


def test_a_call_never_has_the_id_of_an_earlier_one(make_scripted: Make) -> None:
    """Clients look a call up by its id. Some endpoints send the same ids in each response."""
    api, _ = make_scripted(call_weather)
    found = []
    for number in range(2):  # the first call has no result, so the model does not see it
        events = read(post(api, {**USER, "content": f"Ask {number}"}, tools=[TOOL]))
        ids = {one["toolCallId"] for one in events if one["type"].startswith("TOOL_CALL")}
        found += ids
    assert len(set(found)) == len(found) == 2


@pytest.mark.parametrize("content", ["half of it", "", [{"type": "text", "text": "half of it"}]])
def test_the_error_of_a_client_tool_reaches_the_model(make_scripted: Make, content: Any) -> None:
    api, model = make_scripted("ok")
    function = {"name": "get_weather", "arguments": "{}"}
    call = {"id": "c1", "type": "function", "function": function}
    said = {"id": "a1", "role": "assistant", "toolCalls": [call]}
    result = {"id": "r1", "role": "tool", "toolCallId": "c1", "content": content, "error": "No GPS"}
    read(post(api, USER, said, result, tools=[TOOL]))
    got = model.seen[-1][-1]["content"]
    assert got == ("half of it\nError: No GPS" if content else "Error: No GPS")


def test_reasoning_is_a_message_that_ends_before_the_text(make_scripted: Make) -> None:
    api, _ = make_scripted([ReasoningDelta("Hm."), TextDelta("Four.")])
    assert [one["type"] for one in read(post(api))] == [
        "RUN_STARTED", "REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END", "REASONING_END", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END", "RUN_FINISHED",
    ]  # fmt: skip


def test_the_names_of_the_python_types_are_accepted(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    tool = {**TOOL, "parameters": {"type": "object", "properties": {"my_city": {}}}}
    (start, *_, end) = read(_post_python(api, [USER], [tool]))
    assert (start["threadId"], start["runId"]) == ("t1", "r1")
    assert end["type"] == "RUN_FINISHED"
    source = {"type": "data", "value": base64.b64encode(PNG).decode(), "mime_type": "image/png"}
    function = {"name": "get_weather", "arguments": '{"my_city":"Oslo"}'}
    call = {"id": "c1", "type": "function", "function": function}
    read(
        _post_python(
            api,
            [
                {**USER, "content": [{"type": "image", "source": source}]},
                {"id": "m2", "role": "assistant", "tool_calls": [call]},
                {"id": "m3", "role": "tool", "tool_call_id": "c1", "content": "sunny"},
            ],
            [tool],
        )
    )
    *_, user, said, result = model.seen[-1]
    assert "image/png" in str(user["content"])
    assert (said["tool_calls"], result["tool_call_id"]) == ([call], "c1")


def test_the_state_of_the_client_keeps_its_names(make_scripted: Make) -> None:
    api, _ = make_scripted("ok")
    state = {"run_id": 1, "messages": [{"tool_calls": []}]}
    assert read(post(api, state=state))[1] == {"type": "STATE_SNAPSHOT", "snapshot": state}


def _post_python(api: Api, messages: list[Any], tools: list[Any]) -> Any:
    """Send a run with the names and empty values of the official Python types."""
    run = RunAgentInput(
        thread_id="t1", run_id="r1", messages=messages, tools=tools, context=[],
        state=None, forwarded_props=None,
    )  # fmt: skip
    return api.post("/api/v1/agui", json=run.model_dump(mode="json", by_alias=False))


def test_a_rewind_sends_a_snapshot_of_all_messages(make_scripted: Make) -> None:
    api, _ = make_scripted(
        [TextDelta("Let me see."), Rewind(11), ReasoningDelta("Let me see."), TextDelta("Four.")]
    )
    events = read(post(api))
    snapshot = next(one for one in events if one["type"] == "MESSAGES_SNAPSHOT")
    assert snapshot["messages"] == [USER]
    after = events[events.index(snapshot) + 1 :]
    said = [(one["type"], one["delta"]) for one in after if "delta" in one]
    assert said == [
        ("REASONING_MESSAGE_CONTENT", "Let me see."), ("TEXT_MESSAGE_CONTENT", "Four."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "data", "mimeType": "image/png"}},
        {"type": "document", "source": {"type": "data", "mimeType": "image/png"}},
        {"type": "binary", "mimeType": "image/png"},
    ],
)
def test_files_of_the_user_are_stored(api: Api, part: dict[str, Any]) -> None:
    data = base64.b64encode(PNG).decode()
    if "source" in part:
        part = {**part, "source": {**part["source"], "value": data}}
    else:
        part = {**part, "data": data}
    part |= {"filename": "cat.png", "metadata": {"filename": "cat.png"}}
    read(post(api, {**USER, "content": [{"type": "text", "text": "What is it?"}, part]}))
    assert api.count_rows("attachment") == 1
    path = f"/api/v1/chat/sessions/t1/messages?username=agui:{api.key[:12]}"
    stored = api.get(path).get_json()["data"]["messages"][-1]["content"]["message"]
    assert stored[-1]["filename"] == "cat.png"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"threadId": None}, "threadId"),
        ({"threadId": " "}, "threadId"),
        ({"runId": "r" * 256}, "runId"),
        ({"messages": []}, "messages"),
        ({"messages": [{**USER, "role": "bot"}]}, "assistant, tool, activity"),
        ({"messages": [{**USER, "content": [{"type": "image"}]}]}, "messages[0].content[0]"),
        ({"messages": [{**USER, "content": [{"type": "binary"}]}]}, "messages[0].content[0]"),
        ({"messages": [{**USER, "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [USER, {"role": "tool", "toolCallId": 7}]}, "messages[1].toolCallId"),
        ({"messages": [USER, {"role": "assistant", "toolCalls": 7}]}, "messages[1].toolCalls"),
        ({"context": [{}]}, "context[0]"),
        ({"state": "a" * 200_000}, "state"),
        ({"resume": [{"interruptId": "i", "status": "resolved"}]}, "resume"),
        ({"resume": [_reject("x" * 2001)]}, "resume[0].payload.reason must have at most 2000"),
        ({"resume": [EDITED]}, "resume[0].payload.editedArgs must be an object"),
        ({"tools": [{"name": ""}]}, "tools[0].name must"),
        ({"tools": {}}, "tools must be a list"),
        ({"forwardedProps": {"username": "a" * 300}}, "username"),
        ({"forwardedProps": {"username": ["alice"]}}, "forwardedProps.username"),
        ({"forwardedProps": {"username": True}}, "forwardedProps.username"),
        ({"forwardedProps": {"config": {"id": "default"}}}, "forwardedProps.config"),
    ],
)
def test_an_invalid_request_names_its_field(api: Api, body: dict[str, Any], named: str) -> None:
    answer = post(api, **body)
    assert answer.status_code == 400
    assert named in answer.get_json()["message"]


def test_an_answer_to_an_ended_turn_rejects_an_invalid_idempotency_key(api: Api) -> None:
    said = [USER, {"id": "m2", "role": "assistant", "content": "Hi"}]
    sent = {"threadId": "t1", "runId": "r1", "messages": said, "resume": [_reject("no")]}
    for key, status in (("k" * 256, 400), ("k", 200)):
        answer = api.post("/api/v1/agui", json=sent, headers={"Idempotency-Key": key})
        assert answer.status_code == status
