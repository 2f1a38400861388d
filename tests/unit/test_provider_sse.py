"""The events of an endpoint do not depend on how their bytes are split."""

from __future__ import annotations

import pytest

from astrbot_api.errors import ProviderError
from astrbot_api.providers import sse
from astrbot_api.providers.sse import SSEParser

SAMPLES = {
    "newlines": b"data: one\n\ndata: two\n\n",
    "carriage returns": b"data: one\r\rdata: two\r\r",
    "both": b"data: one\r\n\r\ndata: two\r\n\r\n",
    "mixed": b"data: one\r\n\ndata: two\n\r\n",
    "no blank after the colon": b"data:one\n\ndata:two\n\n",
    "comments": b": hello\n\ndata: one\n\n:\n\n: again\ndata: two\n\n",
    "other fields": b"event: x\nid: 1\ndata: one\n\nretry: 5\n\ndata: two\nid: 2\n\n",
    "byte order mark": b"\xef\xbb\xbfdata: one\n\ndata: two\n\n",
    "blank lines": b"\n\n\ndata: one\n\n\n\ndata: two\n\n\n",
    "no blank line at the end": b"data: one\n\ndata: two\n",
    "no line end at the end": b"data: one\n\ndata: two",
}


def parse(*pieces: bytes) -> list[bytes]:
    parser = SSEParser()
    found = [data for piece in pieces for data in parser.feed(piece)]
    return found + parser.finish()


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES.keys())
def test_events_are_found_in_one_piece(text: bytes) -> None:
    assert parse(text) == [b"one", b"two"]


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES.keys())
def test_events_are_found_wherever_the_bytes_are_cut(text: bytes) -> None:
    for cut in range(len(text) + 1):
        assert parse(text[:cut], text[cut:]) == [b"one", b"two"]


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES.keys())
def test_events_are_found_byte_by_byte(text: bytes) -> None:
    assert parse(*(text[at : at + 1] for at in range(len(text)))) == [b"one", b"two"]


def test_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: one\n") == []
    assert parser.feed(b"\n") == [b"one"]
    assert parser.feed(b"data: two\n\ndata: th") == [b"two"]
    assert parser.feed(b"ree\n\n") == [b"three"]


def test_lines_of_one_event_are_joined() -> None:
    assert parse(b"data: a\ndata: b\ndata\ndata:\n\n") == [b"a\nb\n\n"]


def test_only_one_blank_after_the_colon_is_dropped() -> None:
    assert parse(b"data:  x\n\n", b"data:  y\n\n") == [b" x", b" y"]


def test_field_that_only_begins_like_data_is_ignored() -> None:
    assert parse(b"database: x\n\ndata: y\n\n") == [b"y"]


def test_cut_character_is_whole_again() -> None:
    text = "data: grüße 😀\n\n".encode()
    for cut in range(len(text)):
        assert parse(text[:cut], text[cut:]) == ["grüße 😀".encode()]


def test_nothing_is_left_of_a_stream_that_ended_cleanly() -> None:
    assert parse(b"data: one\n\n", b": bye\n") == [b"one"]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 60, b"x" * 60],
        [b"data: " + b"x" * 60, b"x" * 60 + b"\n\n"],
        [b"data: " + b"x" * 30 + b"\n"] * 5,
        [b"data\n"] * 5,
    ],
    ids=["line without end", "line", "many lines of one event", "many empty lines"],
)
def test_overlong_event_is_an_error_and_not_memory(
    pieces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    parser = SSEParser()
    with pytest.raises(ProviderError, match="overlong"):
        [parser.feed(piece) for piece in pieces]
