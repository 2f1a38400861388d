"""Streams without rewind continue where a repeated run sends the same text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from astrbot_api import events
from astrbot_api.chat.turns.fold import ReplyFold
from astrbot_api.events import encode_event
from astrbot_api.http.agui.rendering import AguiStream
from astrbot_api.http.aisdk.rendering import UIMessageStream
from astrbot_api.http.openai.rendering import Completion
from astrbot_api.http.sse import Rendering


def play(kept: str, again: list[str]) -> tuple[str, bool]:
    """Return a client's final text, and whether it is the answer."""
    rewind = events.rewind("r", 0, len(kept), again=True)
    stream = Completion("r", "m", "")
    *chunks, last = play_in(stream, plain(kept), rewind, *map(plain, again), events.end("r"))
    deltas = [one["choices"][0]["delta"] for one in chunks]
    return "".join(one["content"] for one in deltas), "error" not in last


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        (["Hello", " world", "!"], ("Hello world!", True)),
        (["Hel", "lo wo", "rld!"], ("Hello world!", True)),
        (["Hello wor"], ("Hello wor", True)),
        (["Hello"], ("Hello wor", False)),
        (["Hi", " there"], ("Hello wor", False)),
        (["Hello wonder", "ful"], ("Hello wor", False)),
        ([], ("Hello wor", False)),
    ],
)
def test_the_same_text_goes_on_and_another_one_does_not(
    again: list[str], expected: tuple[str, bool]
) -> None:
    assert play("Hello wor", again) == expected


def test_a_text_that_differed_goes_on_if_a_third_run_repeats_it() -> None:
    whole = render(
        plain("Hello wor"), events.rewind("r", 0, 9, again=True),
        plain("Hi"), events.rewind("r", 0, 2, again=True), plain("Hello world"), events.end("r"),
    )  # fmt: skip
    assert whole.count('"content"') == 2
    assert '"content":"ld"' in whole
    assert "error" not in whole


_RUN = "4433dfa2-3f3c-4f53-9c2f-0d33f7f2d8e1"


def make_agui(history: bytes = b"") -> Rendering:
    return AguiStream("t", "c", _RUN, names="r", history=history)


def make_aisdk() -> Rendering:
    return UIMessageStream("m", _RUN, "s", "/files")


def plain(text: str) -> events.Event:
    return events.plain("r", text, streaming=True)


def thinking(text: str) -> events.Event:
    return events.plain("r", text, streaming=True, chain_type="reasoning")


_BEGIN = (thinking("Hm"), plain("It is "), plain("half"))

_AGAIN = events.rewind("r", 0, 10, again=True, reasoning_chars=2)


@pytest.mark.parametrize("make", [make_agui, make_aisdk])
def test_a_stream_that_takes_nothing_back_goes_on_with_the_same_text(
    make: Callable[[], Rendering],
) -> None:
    whole = play_in(
        make(),
        *_BEGIN,
        _AGAIN,
        thinking("Hm"),
        plain("It is"),
        plain(" half past"),
        events.end("r"),
    )
    deltas = [one["delta"] for one in whole if one["type"] in _DELTAS]
    assert deltas == ["Hm", "It is ", "half", " past"]
    assert "data-rewind" not in {one["type"] for one in whole}
    assert sum(one["type"] in ("TEXT_MESSAGE_START", "text-start") for one in whole) == 1
    assert whole[-1]["type"] in ("RUN_FINISHED", "finish")


@pytest.mark.parametrize("make", [make_agui, make_aisdk])
def test_a_stream_that_takes_nothing_back_fails_with_another_text(
    make: Callable[[], Rendering],
) -> None:
    whole = play_in(make(), *_BEGIN, _AGAIN, thinking("Oh"), plain("It is six."), events.end("r"))
    deltas = [one["delta"] for one in whole if one["type"] in _DELTAS]
    assert deltas == ["Hm", "It is ", "half"]
    assert whole[-1]["type"] in ("RUN_ERROR", "error")


def test_a_snapshot_takes_back_what_a_client_of_agui_was_shown() -> None:
    history = b'[{"id":"1","role":"user","content":"Hi"}]'
    whole = play_in(
        make_agui(history), *_BEGIN, _AGAIN, thinking("Oh"), plain("It is six."), events.end("r")
    )
    (snapshot,) = [one["messages"] for one in whole if one["type"] == "MESSAGES_SNAPSHOT"]
    assert snapshot == [{"id": "1", "role": "user", "content": "Hi"}]
    at = next(number for number, one in enumerate(whole) if one["type"] == "MESSAGES_SNAPSHOT")
    assert [one["delta"] for one in whole[at:] if one["type"] in _DELTAS] == ["Oh", "It is six."]
    assert whole[-1]["type"] == "RUN_FINISHED"


def test_a_snapshot_takes_text_back_from_several_messages_and_keeps_results() -> None:
    shown = (
        plain("It is "),
        events.tool_call("r", {"id": "c", "name": "look", "args": {}, "ts": 1.0}),
        plain("half"),
        events.tool_call_result("r", {"id": "c", "ts": 2.0, "result": "six"}),
        plain(" past"),
        events.rewind("r", 0, 15, again=True),
        events.end("r"),
    )
    whole = play_in(make_agui(b"[]"), *shown)
    (snapshot,) = [one["messages"] for one in whole if one["type"] == "MESSAGES_SNAPSHOT"]
    (call,) = snapshot[0].pop("toolCalls")
    assert snapshot == [
        {"id": "r-1", "role": "assistant", "content": ""},
        {"id": "r-3", "role": "tool", "toolCallId": call["id"], "content": "six"},
    ]


@pytest.mark.parametrize("make", [make_agui, make_aisdk])
def test_text_follows_a_rewind_that_the_protocol_cannot_show(make: Callable[[], Rendering]) -> None:
    whole = play_in(make(), plain("Hm. "), events.rewind("r", 0, 4), plain("Six."), events.end("r"))
    deltas = [one["delta"] for one in whole if one["type"] in _DELTAS]
    assert deltas == ["Hm. ", "Six."]
    assert ("data-rewind" in {one["type"] for one in whole}) == (make is make_aisdk)
    assert whole[-1]["type"] in ("RUN_FINISHED", "finish")


def call(call_id: str, city: str) -> events.Event:
    shown = {"id": call_id, "name": "weather", "args": {"city": city}, "ts": 1.0, "by_caller": True}
    return events.tool_call("r", shown)


_CALLED_AGAIN = events.rewind("r", 0, 0, again=True, calls=1)

_STREAMS = [lambda: Completion("r", "m", ""), make_agui, make_aisdk]


@pytest.mark.parametrize("make", _STREAMS)
def test_a_call_that_is_repeated_with_another_id_is_sent_once(
    make: Callable[[], Rendering],
) -> None:
    whole = play_in(make(), call("a", "Rome"), _CALLED_AGAIN, call("b", "Rome"), events.end("r"))
    assert json.dumps(whole).count("Rome") == 1
    assert "b_4433dfa2" not in json.dumps(whole)
    assert "error" not in json.dumps(whole[-1]).lower()


@pytest.mark.parametrize("make", _STREAMS)
def test_a_stream_fails_if_the_client_has_a_call_that_is_not_repeated(
    make: Callable[[], Rendering],
) -> None:
    whole = play_in(make(), call("a", "Rome"), _CALLED_AGAIN, plain("Sunny"), events.end("r"))
    assert "could not be continued" in json.dumps(whole)


def test_each_call_in_chunks_has_its_own_index_after_a_rewind() -> None:
    chunks = play_in(
        Completion("r", "m", ""), call("a", "Rome"), _CALLED_AGAIN, call("b", "Oslo"),
        call("c", "Rome"), call("d", "Bonn"), events.end("r"),
    )  # fmt: skip
    sent = [one for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [one["index"] for one in sent] == [0, 1, 2]
    assert [one["id"] for one in sent] == ["a", "b", "d"]


class JoinedOnce(ReplyFold):
    """A fold whose texts are not joined before the end."""

    @property
    def text(self) -> str:
        raise AssertionError("joining all pieces for each new one takes quadratic time")

    reasoning = text


@pytest.mark.parametrize(
    "stream",
    [
        AguiStream("t", "c", "r", fold=JoinedOnce()),
        UIMessageStream("m", "r", "s", "/files", fold=JoinedOnce()),
        Completion("r", "m", "", fold=JoinedOnce()),
    ],
)
def test_a_piece_is_sent_without_joining_the_text_before_it(stream: Rendering) -> None:
    data = stream.render([(at, encode_event(one)) for at, one in enumerate(_BEGIN)])
    assert b"It is " in data


_DELTAS = ("TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "text-delta", "reasoning-delta")


def play_in(stream: Rendering, *shown: events.Event) -> list[dict[str, Any]]:
    """Return the output of a stream for these events, one object each."""
    lines = [(number, encode_event(event)) for number, event in enumerate(shown, 1)]
    data = stream.render(lines) + stream.finish()
    return [
        json.loads(line[6:])
        for line in data.decode().splitlines()
        if line.startswith("data: ") and "[DONE]" not in line
    ]


def render(*shown: events.Event) -> str:
    completion = Completion("r", "m", "")
    lines = [(number, encode_event(event)) for number, event in enumerate(shown, 1)]
    return (completion.render(lines) + completion.finish()).decode()


def test_chunks_go_on_after_a_pickup_or_end_as_failed() -> None:
    begin = (plain("It is "), plain("half"), events.rewind("r", 0, 10, again=True))
    whole = render(*begin, plain("It is"), plain(" half past"), plain(" six."), events.end("r"))
    assert whole.count('"content"') == 4
    assert '"content":" past"' in whole
    assert "error" not in whole
    wrong = render(plain("Hm. "), events.rewind("r", 0, 4), plain("Six."), events.end("r"))
    assert wrong.count('"content"') == 2
    assert "error" not in wrong
    again = events.rewind("r", 0, 0, again=True, reasoning_chars=2)
    thought = render(thinking("Hm"), again, thinking("Hm, so"), events.end("r"))
    assert '"reasoning_content":", so"' in thought
    other = render(*begin, plain("It is"), plain(" six."), events.end("r"))
    assert '"code":"run_interrupted"' in other
    assert other.endswith("data: [DONE]\n\n")
