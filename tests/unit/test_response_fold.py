"""Text that a run takes back is removed from the items of a response."""

from __future__ import annotations

import json
from typing import Any

import pytest

from astrbot_api import events
from astrbot_api.chat.turns.approvals import name_approval
from astrbot_api.http.responses.rendering import ResponseFold

RUN = "7254cd9a-814f-498e-a202-2c1777b1bd2d"


def make_fold(**options: Any) -> ResponseFold:
    entry_id = RUN.replace("-", "")
    return ResponseFold(entry_id, RUN, {"background": False}, lambda: None, **options)


def play(fold: ResponseFold, *shown: events.Event) -> list[dict[str, Any]]:
    numbered = [(at, events.encode_event(event)) for at, event in enumerate(shown, 1)]
    data = fold.render(numbered) + fold.finish()
    return [
        json.loads(line.removeprefix(b"data: "))
        for line in data.split(b"\n")
        if line.startswith(b"data: ")
    ]


def say(text: str, kind: str | None = None) -> events.Event:
    return events.plain(RUN, text, streaming=True, chain_type=kind)


def call(call_id: str, **more: Any) -> events.Event:
    return events.tool_call(RUN, {"id": call_id, "name": "dice", "args": {}, "ts": 1.0, **more})


def result(call_id: str) -> events.Event:
    return events.tool_call_result(RUN, {"id": call_id, "ts": 2.0, "result": "four"})


def test_thinking_that_was_taken_for_the_answer_is_no_part_of_the_message() -> None:
    shown = play(
        make_fold(), say("I th"), events.rewind(RUN, 3, 4), say("I think.", "reasoning"), say("Hi")
    )
    output = shown[-1]["response"]["output"]
    assert [one["type"] for one in output] == ["reasoning", "message"]
    assert output[1]["content"][0]["text"] == "Hi"


@pytest.mark.parametrize("before", ["Look.", ""])
def test_a_file_is_an_annotation_with_its_name(before: str) -> None:
    shown = play(
        make_fold(),
        say(before), events.media(RUN, "image", "a.png", streaming=True),
        events.attachment_saved("f1", "image"),
    )  # fmt: skip
    (added,) = [one for one in shown if one["type"] == "response.output_text.annotation.added"]
    assert added["annotation"] == {
        "type": "file_path", "file_id": "f1", "index": len(before), "filename": "a.png",
        "file_type": "image",
    }  # fmt: skip
    (item,) = shown[-1]["response"]["output"]
    assert item["content"][0]["annotations"] == [added["annotation"]]


def test_a_step_that_another_worker_makes_once_more_has_items_of_its_own() -> None:
    shown = play(
        make_fold(),
        say("Hm.", "reasoning"), say("Let me see. "), call("a"), call("b"),
        events.media(RUN, "image", "a.png", streaming=True),
        events.attachment_saved("f1", "image"),
        events.rewind(RUN, 3, 12, again=True, reasoning_chars=3, calls=2, files=1),
        say("Let me look. "), call("c"),
        result("c"), say("Four."),
    )  # fmt: skip
    output = shown[-1]["response"]["output"]
    assert shown[-1]["type"] == "response.completed"
    assert [one["type"] for one in output] == ["message", "mcp_call", "message"]
    texts = [one["content"][0]["text"] for one in output if one["type"] == "message"]
    assert texts == ["Let me look. ", "Four."]
    assert output[1]["output"] == "four"
    assert output[2]["content"][0]["annotations"] == []
    added = [one["item"]["id"] for one in shown if one["type"] == "response.output_item.added"]
    done = [one["item"]["id"] for one in shown if one["type"] == "response.output_item.done"]
    assert sorted(added) == sorted(done) == sorted(set(done))


@pytest.mark.parametrize("asks", [False, True])
def test_only_the_newest_calls_are_taken_back(asks: bool) -> None:
    shown = play(
        make_fold(asks=asks),
        call("a"), result("a"), call("b"), events.rewind(RUN, 3, 0, again=True, calls=1), say("4"),
    )  # fmt: skip
    output = shown[-1]["response"]["output"]
    assert [(one["type"], one.get("output")) for one in output] == [
        ("mcp_call", "four"), ("message", None),
    ]  # fmt: skip
    done = [one["item"] for one in shown if one["type"] == "response.output_item.done"]
    assert (done == output) is asks, "a call that may need approval is shown only with its result"
    assert [one["name"] for one in done if one["status"] == "failed"] == ([] if asks else ["dice"])
    assert done[-1]["type"] == "message", "the call has ended before"


@pytest.mark.parametrize("asks", [False, True])
def test_a_call_gets_its_result_after_a_rewind_that_leaves_it(asks: bool) -> None:
    shown = play(
        make_fold(asks=asks),
        call("a"), events.media(RUN, "image", "a.png", streaming=True),
        events.attachment_saved("f1", "image"), events.rewind(RUN, 3, 0, again=True, files=1),
        result("a"),
    )  # fmt: skip
    (made,) = shown[-1]["response"]["output"]
    assert (made["status"], made["output"]) == ("completed", "four")
    assert "response.mcp_call.failed" not in [one["type"] for one in shown]


def test_a_clients_call_is_shown_at_once() -> None:
    fold = make_fold(asks=True, check_text=lambda text: f"{text} is wrong")
    shown = play(fold, call("a", by_caller=True), call("b"), result("b"))
    output = shown[-1]["response"]["output"]
    assert [one["type"] for one in output] == ["function_call", "mcp_call"]
    assert shown[-1]["type"] == "response.completed", "there is no answer to check yet"


def ask(call_id: str) -> events.Event:
    data = {"id": name_approval(RUN, call_id), "tool": call_id, "arguments": {}}
    return {"type": "approval_required", "data": data}


def test_a_response_has_all_requests_if_its_stream_ends_after_the_first() -> None:
    asked = [ask("a"), ask("b")]
    fold = make_fold(asks=True, list_asked=lambda: asked)
    shown = play(fold, call("a"), call("b"), asked[0])
    output = shown[-1]["response"]["output"]
    assert [one["name"] for one in output] == ["a", "b"]
    assert {one["type"] for one in output} == {"mcp_approval_request"}


def test_a_call_of_the_clients_that_was_taken_back_leaves_the_form_to_be_checked() -> None:
    fold = make_fold()
    fold.check_text = lambda text: f"{text} is wrong"
    shown = play(
        fold, call("a", by_caller=True), events.rewind(RUN, 3, 0, again=True, calls=1), say("No")
    )
    assert shown[-1]["type"] == "response.failed"
    assert shown[-1]["response"]["error"]["message"] == "No is wrong"


def test_a_call_without_a_result_has_failed() -> None:
    shown = play(make_fold(), say("I roll."), call("a"))
    assert [one["type"] for one in shown[-3:]] == [
        "response.mcp_call.failed", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert shown[-2]["item"] == shown[-1]["response"]["output"][-1]
    assert (shown[-2]["item"]["status"], shown[-2]["item"]["output"]) == ("failed", None)


def test_a_run_with_an_error_has_failed_even_if_its_end_is_not_stored() -> None:
    fold = make_fold()
    shown = play(fold, say("It is"), events.error(RUN, "storage_error", "The disk is full."))
    assert shown[-1]["response"]["status"] == "failed"
    assert shown[-1]["response"]["error"]["message"] == "The disk is full."
