"""The text of an AstrBot's answer in several messages."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import pytest

from astrbot_api.agent.provider import TextDelta
from astrbot_api.errors import ProviderError
from astrbot_api.runtime.outbound import Answer
from astrbot_api.upstream import answer_text, reading
from astrbot_api.upstream.reading import AnswerReader, Pause
from astrbot_api.upstream.stored import find_answer
from astrbot_api.upstream.transport import iter_events

SAVED = {"type": "message_saved", "data": {"id": 1}}
END = {"type": "end", "data": ""}


def plain(text: str) -> dict[str, Any]:
    return {"type": "plain", "data": text, "chain_type": None}


def complete(text: str) -> dict[str, Any]:
    return {"type": "complete", "data": text}


def read(*events: dict[str, Any]) -> str:
    reader = AnswerReader()
    parts = [part for event in events for part in reader.read(event)]
    parts += reader.finish()
    return "".join(part.text for part in parts if isinstance(part, TextDelta))


def test_a_complete_event_adds_only_the_text_that_its_message_lacks() -> None:
    first = (plain("Hel"), complete("Hello"), SAVED)
    assert read(*first, plain("Wor"), complete("World"), SAVED, END) == "Hello\n\nWorld"
    assert read(*first, plain("World"), complete("World"), SAVED, END) == "Hello\n\nWorld"


def test_each_message_begins_on_a_new_line() -> None:
    for text, joined in (("one", "one\n\ntwo"), ("one\n", "one\ntwo"), ("one\r\n", "one\r\ntwo")):
        assert read(plain(text), SAVED, plain("two"), SAVED, END) == joined


def test_a_snapshot_continues_the_message_that_it_begins_with() -> None:
    content = {"message": [{"type": "plain", "text": "one two"}]}
    snapshot = {"type": "run_snapshot", "data": {"content": content}}
    assert read(plain("one"), SAVED, snapshot, END) == "one two"


def test_a_failure_message_within_an_answer_is_text() -> None:
    quote = "All chat models failed, says the log."
    assert read(plain("Hello. "), plain(quote), SAVED, END) == f"Hello. {quote}"


def test_only_silence_after_a_whole_message_is_a_pause() -> None:
    call = {"type": "plain", "chain_type": "tool_call", "data": '{"id": "c", "name": "draw"}'}
    result = {"type": "plain", "chain_type": "tool_call_result", "data": '{"id": "c", "result": 1}'}
    beat = {"type": "heartbeat"}
    reader = AnswerReader()
    events = [beat, call, plain("one"), beat, SAVED, beat, result, beat, plain("two"), SAVED, beat]
    pauses = [any(isinstance(one, Pause) for one in reader.read(event)) for event in events]
    assert pauses == [False] * 10 + [True]
    assert list(reader.read(beat)) == []


def test_a_turn_that_a_reset_elsewhere_stopped_has_ended() -> None:
    """Recorded from 4.29.3, whose stream then ends without ``end``."""
    reader = AnswerReader()
    for event in (plain("Hel"), complete("Hel"), SAVED):
        list(reader.read(event))
        assert not reader.ended
    list(reader.read(complete("")))
    assert reader.ended


def test_an_answer_goes_on_after_a_file_of_a_plugin() -> None:
    reader = AnswerReader()
    file = ({"type": "image", "data": "[IMAGE]a.png"}, {"type": "attachment_saved", "data": {}})
    for event in (plain("one"), complete("one"), SAVED, *file, complete("")):
        list(reader.read(event))
    assert not reader.ended


def test_the_context_continues_an_answer_of_several_messages() -> None:
    reader = AnswerReader()
    parts = [one for event in (plain("one"), SAVED, plain("two")) for one in reader.read(event)]
    parts += reader.read_context([{"role": "assistant", "content": one} for one in ("one", "two!")])
    assert reader.ended
    assert "".join(one.text for one in parts if isinstance(one, TextDelta)) == "one\n\ntwo!"


@pytest.mark.parametrize(
    ("text", "error"), [("", answer_text.NO_ANSWER), ("Hello.", answer_text.BROKE_OFF)]
)
def test_a_failure_message_is_an_error_that_names_whether_text_came_before(
    text: str, error: str
) -> None:
    failure = plain("LLM 响应错误: unknown")
    with pytest.raises(ProviderError) as failed:
        read(*((plain(text), SAVED) if text else ()), failure, SAVED, END)
    assert str(failed.value) == error


def test_text_that_is_too_long_for_a_failure_message_is_shown() -> None:
    text = "All chat models failed" + ", they say" * 10_000
    assert read(plain(text), plain("."), SAVED, END) == f"{text}."


def test_a_short_event_after_a_long_text_does_not_copy_it() -> None:
    text = "a" * 1_000_000
    reader = AnswerReader()
    snapshot = {"type": "run_snapshot", "data": {"message": [plain("b")], "reasoning": "b"}}
    events = [snapshot, complete("b"), snapshot, complete("")]
    for event in (plain(text), {**plain(text), "chain_type": "reasoning"}, *events, *events):
        list(reader.read(event))
    tracemalloc.start()
    try:
        for event in events:
            list(reader.read(event))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def piece(chain_type: str | None, number: int) -> dict[str, Any]:
    call = f'{{"id": {number}, "name": "n", "result": "r"}}'
    return {"type": "plain", "data": call, "chain_type": chain_type}


@pytest.mark.parametrize("chain_type", ["reasoning", "tool_call", "tool_call_result", None])
def test_an_answer_whose_pieces_never_end_is_cut_off(
    chain_type: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_MAX_CHARS", 1000)
    with pytest.raises(ProviderError, match="cut off"):
        read(*(piece(chain_type, number) for number in range(100)))


@pytest.mark.parametrize("kind", ["tool_call", "tool_call_result", "file"])
def test_an_answer_with_calls_or_files_without_end_is_cut_off(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_MAX_PARTS", 10)
    files = ({"type": "attachment_saved", "data": {"id": str(number)}} for number in range(11))
    calls = (piece(kind, number) for number in range(11))
    with pytest.raises(ProviderError, match="cut off"):
        read(*(files if kind == "file" else calls))


def test_a_stored_answer_is_found_by_its_turn_or_else_by_its_time() -> None:
    stored = "user a 01, bot a 02, user b 11, user c 12, bot c 13, bot c 14, bot b 15"
    rows = [
        {"content": {"type": kind}, "llm_checkpoint_id": turn, "created_at": f"19700101T0000{at}Z"}
        for kind, turn, at in (one.split() for one in stored.split(", "))
    ]
    assert find_answer(rows, "b", 0) == rows[6:]
    assert find_answer(rows, "c", 0) == rows[4:6]
    assert find_answer(rows[:6], "b", 0) == []
    assert find_answer(rows, "", 10) == rows[4:]
    assert find_answer(rows, "", 20) == []


def test_a_piece_of_a_long_event_is_no_heartbeat() -> None:
    pieces = [b'data: {"type": "message_saved"}\n\n', b'data: {"type": ', b'"plain"}\n\n',
              b": heartbeat\n\n", b""]  # fmt: skip
    answer = cast(Answer, SimpleNamespace(
        status=200, headers={}, read=lambda size: pieces.pop(0), close=lambda: None
    ))  # fmt: skip
    types = [event["type"] for event in iter_events(answer, 60)]
    assert types == ["message_saved", "plain", "heartbeat"]
