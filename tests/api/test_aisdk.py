"""The UI message streams of the AI SDK."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrbot_api import Tool
from astrbot_api.agent.provider import (
    Delta,
    MediaDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from astrbot_api.testing import ScriptedModel
from astrbot_api.testing.scripted_model import Step

from ..contract.wire import PNG
from .conftest import Api
from .test_guard_rails import make_key
from .test_openai_tools import CUT, call_weather

Make = Callable[..., tuple[Api, ScriptedModel]]

PATH = "/api/v1/aisdk"
WEATHER = {"get_weather": {"description": "The weather.", "parameters": {"type": "object"}}}


def say(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"id": "m1", "role": role, "parts": [{"type": "text", "text": text}], **more}


def post(api: Api, *messages: Any, **body: Any) -> Any:
    sent = {"id": "chat-1", "messages": list(messages) or [say("Hello")], **body}
    return api.post(PATH, json=sent)


def read(answer: Any) -> list[dict[str, Any]]:
    """Return the chunks of a stream, which must end as the protocol requires."""
    assert answer.status_code == 200, answer.get_data()
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    *frames, done, rest = answer.get_data().decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    frames = [one for one in frames if not one.startswith(":")]
    assert all(one.startswith("data: ") for one in frames)
    chunks = [json.loads(one[6:]) for one in frames]
    check_parts(chunks)
    return chunks


def check_parts(chunks: list[dict[str, Any]]) -> None:
    """Check that each part begins once, ends once, and grows only in between."""
    begun: set[str] = set()
    grows: list[str] = []
    for one in chunks:
        kind, _, what = one["type"].partition("-")
        if kind not in ("text", "reasoning"):
            continue
        if what == "start":
            assert not grows
            assert one["id"] not in begun
            begun.add(one["id"])
            grows.append(one["id"])
        else:
            assert grows == [one["id"]]
        if what == "end":
            grows.pop()
    assert not grows


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(one["delta"] for one in chunks if one["type"] == "text-delta")


def test_thinking_and_text_are_parts_and_the_turn_is_stored(make_scripted: Make) -> None:
    api, _ = make_scripted([ReasoningDelta("Hm."), TextDelta("Hello "), TextDelta("there.")])
    chunks = read(post(api, username="alice"))
    assert [one["type"] for one in chunks] == [
        "start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-end",
        "text-start", "text-delta", "text-delta", "text-end", "finish-step", "finish",
    ]  # fmt: skip
    assert text_of(chunks) == "Hello there."
    about = chunks[0]["messageMetadata"]
    assert (about["session_id"], about["run_id"]) == ("chat-1", chunks[0]["messageId"])
    assert chunks[-1]["finishReason"] == "stop"
    stored = api.get("/api/v1/chat/sessions/chat-1/messages?username=alice").get_json()
    assert [one["content"]["type"] for one in stored["data"]["messages"]] == ["bot", "user"]


def test_the_clients_conversation_is_the_context(make_scripted: Make) -> None:
    api, model = make_scripted("ok")
    read(post(api, say("First")))
    read(post(api, say("Edited"), say("yes", "assistant"), say("And?"), system="Be brief."))
    given = [(one["role"], one["content"]) for one in model.seen[-1] if one["role"] != "system"]
    lead = "[Instructions of the application]\nBe brief.\n\n"
    assert given == [("user", f"{lead}Edited"), ("assistant", "yes"), ("user", "And?")]


def test_a_single_message_is_answered_with_the_sessions_history(make_scripted: Make) -> None:
    api, model = make_scripted("ok")
    read(post(api, say("First")))
    read(post(api, messages=None, message=say("Second")))
    assert [one["content"] for one in model.seen[-1]][-3:] == ["First", "ok", "Second"]


@pytest.mark.parametrize(("name", "shown"), [("cat.png", "image/png"), ("cat", "image/*")])
def test_the_servers_tools_are_shown_with_their_results_and_files(
    make_scripted: Make, name: str, shown: str
) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield TextDelta("Look.")
            yield ToolCallDelta(0, "c1", "draw", '{"what": "a cat"}')
        else:
            yield TextDelta("Here.")

    def draw(arguments: Any, context: Any) -> str:
        context.send_file(PNG, name)
        return "done"

    api, _ = make_scripted(answer, tools=[Tool("draw", "Draw.", draw)])
    chunks = read(post(api))
    called = next(one for one in chunks if one["type"] == "tool-input-available")
    assert (called["toolName"], called["input"]) == ("draw", {"what": "a cat"})
    assert called["providerExecuted"]
    assert called["dynamic"]
    result = next(one for one in chunks if one["type"] == "tool-output-available")
    assert result["output"].startswith("done")
    file = next(one for one in chunks if one["type"] == "file")
    assert file["mediaType"] == shown
    assert api.get(file["url"]).get_data() == PNG
    steps = [one["type"] for one in chunks if one["type"] in ("start-step", "finish-step")]
    assert steps == ["start-step", "finish-step"] * 2


def test_text_after_a_picture_of_the_model_is_another_part(make_scripted: Make) -> None:
    api, _ = make_scripted([TextDelta("Look:"), MediaDelta(PNG, "cat.png"), TextDelta("A cat.")])
    kinds = [one["type"] for one in read(post(api)) if one["type"] != "text-delta"]
    assert kinds[2:7] == ["text-start", "text-end", "file", "text-start", "text-end"]


def test_a_repeated_request_leaves_no_second_file(make_scripted: Make) -> None:
    api, _ = make_scripted("ok")
    file = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"}
    sent = {"id": "chat-1", "messages": [{"role": "user", "parts": [file]}]}
    for _ in range(2):
        read(api.post(PATH, json=sent, headers={"Idempotency-Key": "k"}))
    assert api.count_rows("attachment") == 1


def test_a_client_tools_call_ends_the_turn_and_its_result_continues_the_message(
    make_scripted: Make,
) -> None:
    api, model = make_scripted(call_weather)
    chunks = read(post(api, say("How is it in Oslo?"), tools=WEATHER))
    called = next(one for one in chunks if one["type"] == "tool-input-available")
    assert "dynamic" not in called
    assert chunks[-1]["finishReason"] == "tool-calls"
    part = {
        "type": "tool-get_weather", "toolCallId": called["toolCallId"],
        "state": "output-available", "input": called["input"], "output": "sunny",
    }  # fmt: skip
    said = {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, part]}
    chunks = read(post(api, say("How is it in Oslo?"), said, tools=WEATHER))
    assert text_of(chunks) == "It is sunny."
    assert chunks[0]["messageId"] == "a1"
    assert [one["role"] for one in model.seen[-1]][-3:] == ["user", "assistant", "tool"]
    assert api.count_rows("message") == 3, "the user's message once"


def test_a_call_that_the_limit_cut_off_ends_the_message_with_the_reason_length(
    make_scripted: Make,
) -> None:
    api, _ = make_scripted(CUT)
    chunks = read(post(api, say("How is it in Oslo?"), tools=WEATHER))
    assert "tool-input-available" in {one["type"] for one in chunks}
    assert chunks[-1]["finishReason"] == "length"


def test_the_steps_of_an_earlier_answer_reach_the_model(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    parts = [
        {"type": "step-start"}, {"type": "text", "text": "Let me look."},
        {"type": "tool-a", "toolCallId": "c1", "state": "output-available", "input": {"n": 1},
         "output": {"sun": True}},
        {"type": "step-start"},
        {"type": "tool-b", "toolCallId": "c2", "state": "output-error", "input": '{"n": 2}',
         "errorText": "no signal"},
        {"type": "dynamic-tool", "toolName": "c", "toolCallId": "c3", "state": "output-denied",
         "input": None},
        {"type": "step-start"}, {"type": "text", "text": "Half of it"},
        {"type": "text", "text": "works."},
    ]  # fmt: skip
    said = {"id": "a1", "role": "assistant", "parts": parts}
    read(post(api, say("How is it?"), said, say("And now?")))
    _, asked, first, sunny, second, failed, denied, last, again = model.seen[0]
    assert [one["role"] for one in (asked, last, again)] == ["user", "assistant", "user"]
    assert (first["content"], last["content"]) == ("Let me look.", "Half of it\nworks.")
    calls = [one["function"] for one in (*first["tool_calls"], *second["tool_calls"])]
    assert [(one["name"], one["arguments"]) for one in calls] == [
        ("a", '{"n":1}'), ("b", '{"n": 2}'), ("c", "{}")
    ]  # fmt: skip
    assert [one["content"] for one in (sunny, failed, denied)] == [
        '{"sun":true}', "Error: no signal", "The user did not allow this call."
    ]  # fmt: skip


def test_a_call_without_a_result_is_not_sent_to_the_model(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    chunks = read(post(api, say("How is it in Oslo?"), tools=WEATHER))
    called = next(one for one in chunks if one["type"] == "tool-input-available")
    part = {
        "type": "tool-get_weather", "toolCallId": called["toolCallId"],
        "state": "input-available", "input": called["input"],
    }  # fmt: skip
    said = {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, part]}
    read(post(api, say("How is it in Oslo?"), said, say("Never mind."), tools=WEATHER))
    assert "tool_calls" not in str(model.seen[-1])


def test_a_call_never_has_the_id_of_an_earlier_one(make_scripted: Make) -> None:
    """``addToolOutput`` looks for the id in all messages, from the first one on."""
    api, _ = make_scripted(call_weather)
    found = []
    for number in range(2):  # the first call has no result, so the model does not see it
        chunks = read(post(api, say(f"Ask {number}"), tools=WEATHER))
        found += [one["toolCallId"] for one in chunks if one["type"] == "tool-input-available"]
    assert len(set(found)) == len(found) == 2


def test_a_regenerated_answer_replaces_the_last_one(make_scripted: Make) -> None:
    words = iter(["one", "two", "three"])
    api, _ = make_scripted(lambda messages: [TextDelta(next(words))])
    read(post(api))
    assert text_of(read(post(api, trigger="regenerate-message", messageId="m2"))) == "two"
    assert api.count_rows("message") == 2
    assert text_of(read(post(api, say("Else"), trigger="regenerate-message"))) == "three"
    assert api.count_rows("message") == 4, "another message is a turn of its own"


def test_a_new_chat_has_no_answer_to_replace(make_scripted: Make) -> None:
    api, _ = make_scripted("ok")
    assert text_of(read(post(api, trigger="regenerate-message"))) == "ok"


def test_a_key_of_one_session_uses_no_other(make_scripted: Make) -> None:
    api, _ = make_scripted("ok")
    api.key = make_key(api, session_id="mine")
    chunks = read(post(api, id=None))
    assert chunks[0]["messageMetadata"]["session_id"] == "mine"
    for answer in (post(api), api.get(f"{PATH}/chat-1/stream")):
        assert (answer.status_code, answer.get_json()["code"]) == (403, "key_restricted")


def test_messages_pushed_after_an_answer_do_not_hide_it_from_a_regeneration(
    make_scripted: Make,
) -> None:
    words = iter(["one", "two"])
    api, _ = make_scripted(lambda messages: [TextDelta(next(words))])
    read(post(api, username="alice"))
    for text in ("Your order", "has been sent."):
        pushed = {"umo": "webchat:FriendMessage:webchat!alice!chat-1", "message": text}
        assert api.post("/api/v1/im/message", json=pushed).status_code == 200
    again = post(api, username="alice", trigger="regenerate-message", messageId="m2")
    assert text_of(read(again)) == "two"
    assert api.count_rows("message") == 4


def test_a_running_turn_is_streamed_again_from_its_beginning(make_scripted: Make) -> None:
    go_on = threading.Event()
    api, _ = make_scripted([TextDelta("Let me "), go_on, TextDelta("see.")])
    path = f"{PATH}/chat-1/stream"
    assert api.get(path).status_code == 204, "there is no such session"
    begun = post(api)
    again, other = api.get(path), {"X-API-Key": api.create_key("chat")}
    assert api.get(path, headers=other).status_code == 204, "another key"
    shared = api.get(f"{path}?username=aisdk:{api.key[:12]}", headers=other)
    go_on.set()
    for answer in (again, begun, shared):
        assert text_of(read(answer)) == "Let me see."
    assert api.get(path).status_code == 204
    for name, code in (("bob", "session_of_another_user"), ("astrbot", "username_reserved")):
        assert api.get(f"{path}?username={name}").get_json()["code"] == code


class Held:
    """A model whose first answer waits for ``go_on``, and whose second one is "Done."."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def answer(self, messages: Any) -> Iterator[Step]:
        if self.begun.is_set():
            yield "Done."
            return
        yield "Let me "
        self.begun.set()
        yield self.go_on
        yield "see."


@pytest.mark.parametrize(
    ("text", "trigger", "stored"),
    [
        ("Else", "submit-message", ["Hello", "Let me ", "Else", "Done."]),
        ("Hello", "regenerate-message", ["Hello", "Done."]),
    ],
)
def test_the_next_message_stops_a_turn_that_its_client_left(
    make_scripted: Make, text: str, trigger: str, stored: list[str]
) -> None:
    model = Held()
    api, _ = make_scripted(model.answer)
    left = post(api, username="alice")
    assert model.begun.wait(30)
    answer = post(api, say(text), username="alice", trigger=trigger)
    assert text_of(read(answer)) == "Done."
    assert text_of(read(left)) == "Let me "
    path = "/api/v1/chat/sessions/chat-1/messages?username=alice"
    found = api.get(path).get_json()["data"]["messages"][::-1]
    assert [one["content"]["message"][0]["text"] for one in found] == stored


NO_FILE = {"type": "file", "mediaType": "text/plain", "url": "/api/v1/files/none/content"}


@pytest.mark.parametrize(
    ("again", "trigger", "code"),
    [
        (say("Else"), "submit-message", "budget_exhausted"),
        (say("Hello"), "regenerate-message", "budget_exhausted"),
        (
            {"id": "m1", "role": "user", "parts": [NO_FILE]},
            "submit-message",
            "attachment_not_found",
        ),
    ],
)
def test_a_refused_message_stops_no_turn(
    make_scripted: Make, again: dict[str, Any], trigger: str, code: str
) -> None:
    model = Held()
    api, _ = make_scripted(model.answer)
    if code == "budget_exhausted":
        api.key = make_key(api, turns_per_day=1)
    left = post(api)
    assert model.begun.wait(30)
    refused = post(api, again, trigger=trigger)
    model.go_on.set()
    assert refused.get_json()["code"] == code
    assert text_of(read(left)) == "Let me see."


@pytest.mark.parametrize("trigger", ["submit-message", "regenerate-message"])
def test_a_left_turn_does_not_count_as_running(make_scripted: Make, trigger: str) -> None:
    model = Held()
    api, _ = make_scripted(model.answer, max_runs_per_key=1)
    api.key = make_key(api, streams=1)
    post(api)
    assert model.begun.wait(30)
    assert text_of(read(post(api, trigger=trigger))) == "Done."


@pytest.mark.parametrize("who", ["a retry", "another key", "another user"])
def test_others_do_not_stop_a_turn(make_scripted: Make, who: str) -> None:
    model = Held()
    api, _ = make_scripted(model.answer)
    sent = {"id": "chat-1", "messages": [say("Hello")], "username": "alice"}
    headers = {"Idempotency-Key": "k"} if who == "a retry" else {}
    left = api.post(PATH, json=sent, headers=headers)
    assert model.begun.wait(30)
    if who == "another key":
        headers = {"X-API-Key": api.create_key("chat")}
    if who == "another user":
        sent = {**sent, "username": "bob"}
    answer = api.post(PATH, json=sent, headers=headers)
    model.go_on.set()
    assert text_of(read(left)) == "Let me see."
    if who == "another user":
        assert answer.get_json()["code"] == "session_of_another_user"
    else:
        assert text_of(read(answer)) == ("Let me see." if who == "a retry" else "Done.")


def test_a_failed_turn_is_an_error_at_the_end(make_scripted: Make) -> None:
    api, _ = make_scripted([TextDelta("Well"), RuntimeError("no")])
    chunks = read(post(api))
    assert [one["type"] for one in chunks[-2:]] == ["text-end", "error"]
    assert chunks[-1]["errorText"]


def test_a_users_file_reaches_the_model_from_a_data_url_or_an_attachment(api: Api) -> None:
    url = "data:image/png;base64,AAAA"
    file = {"type": "file", "mediaType": "image/png", "url": url, "filename": "cat.png"}
    message = {"role": "user", "parts": [file, {"type": "text", "text": "What is it?"}]}
    read(post(api, message, username="alice"))
    stored = api.get("/api/v1/chat/sessions/chat-1/messages?username=alice").get_json()["data"]
    (attachment, text) = stored["messages"][-1]["content"]["message"]
    assert text == {"type": "plain", "text": "What is it?"}
    assert attachment["filename"] == "cat.png"
    ours = {**file, "url": f"http://localhost/api/v1/files/{attachment['attachment_id']}/content"}
    read(post(api, {**message, "parts": [ours]}, username="alice"))
    assert api.count_rows("attachment") == 1
    text = {**file, "mediaType": "text/plain", "url": "data:text/plain,see%20/files/a"}
    read(post(api, {**message, "parts": [text]}, username="alice"))
    assert api.count_rows("attachment") == 2
    far = {**file, "url": "https://example.com/a.png"}
    refused = post(api, {"role": "user", "parts": [far]})
    assert refused.status_code == 400
    assert "other URLs are not fetched" in refused.get_json()["message"]


def test_files_of_earlier_messages_reach_the_model(make_scripted: Make) -> None:
    api, model = make_scripted([TextDelta("ok")] * 2, provider='modalities = ["text", "image"]')
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    file = {"type": "file", "mediaType": "image/png", "url": url}
    look = {"role": "user", "parts": [file, {"type": "text", "text": "What is it?"}]}
    read(post(api, look, username="alice"))
    read(post(api, look, say("A dot.", "assistant"), say("Which colour?"), username="alice"))
    assert [part["type"] for part in model.seen[-1][-3]["content"]] == ["text", "image_url"]
    assert api.count_rows("attachment") == 1


#: Parts of calls without a name and without the approval that was answered.
UNNAMED = {"type": "dynamic-tool", "toolCallId": "c"}
UNASKED = {**UNNAMED, "toolName": "a", "state": "approval-responded", "approval": None}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"messages": None}, "Missing key: messages"),
        ({"messages": []}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"role": "tool", "parts": []}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].parts"),
        ({"messages": [{"role": "user", "parts": [{}]}]}, "messages[0].parts[0].type"),
        ({"messages": [{"role": "user", "parts": [{"type": "text"}]}]}, "parts[0].text"),
        ({"messages": [{"role": "user", "parts": [{"type": "file"}]}]}, "parts[0].url"),
        ({"messages": [{"role": "assistant", "parts": [{"type": "tool-a"}]}]}, "a toolCallId"),
        ({"messages": [{"role": "assistant", "parts": [UNNAMED]}]}, "the name of a tool"),
        ({"messages": [{"role": "assistant", "parts": [UNASKED]}]}, "parts[0].approval.id"),
        ({"tools": 7}, "tools"),
        ({"tools": {"a b": {}}}, "tools[0].name must"),
        ({"tools": [7]}, "tools[0]"),
        ({"config": "nowhere"}, "nowhere"),
        ({"config": {"modelName": "nowhere"}}, "nowhere"),
        ({"config": {"modelName": ["x"]}}, "config must be a string"),
        ({"approvals": 0}, "approvals must be true or false"),
    ],
)
def test_an_invalid_request_names_its_field(api: Api, body: dict[str, Any], named: str) -> None:
    answer = post(api, **body)
    assert answer.status_code in (400, 404)
    assert named in answer.get_json()["message"]


@pytest.mark.parametrize("reason", [5, "x" * 2001, "\0"])
def test_an_invalid_reason_of_a_decision_is_refused(api: Api, reason: Any) -> None:
    part: dict[str, Any] = {"type": "tool-a", "toolCallId": "c", "state": "approval-responded"}
    part["approval"] = {"id": "x", "approved": False, "reason": reason}
    answer = post(api, messages=[{"id": "m", "role": "assistant", "parts": [part]}])
    assert answer.status_code == 400
    assert "parts[0].approval.reason must" in answer.get_json()["message"]
    part["approval"] = {"id": reason}
    answer = post(api, messages=[{"id": "m", "role": "assistant", "parts": [part]}])
    assert answer.status_code == (404 if isinstance(reason, str) and reason.isprintable() else 400)


def test_a_request_answers_a_bounded_number_of_calls(api: Api) -> None:
    part: dict[str, Any] = {"type": "tool-a", "toolCallId": "c", "state": "approval-responded"}
    part["approval"] = {"id": "x"}
    for count, status in ((100, 404), (101, 400)):
        message = {"id": "m", "role": "assistant", "parts": [part] * count}
        answer = api.post_raw(
            json.dumps({"id": "s", "messages": [message]}).encode(), path="/api/v1/aisdk"
        )
        assert answer.status_code == status
    assert "at most 100 are allowed" in answer.get_json()["message"]
