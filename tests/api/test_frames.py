"""Programs can read frames by lines, in the charset of the header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import requests
from requests.structures import CaseInsensitiveDict

from astrbot_api import Tool
from astrbot_api.agent.provider import Delta, ModelMessage, TextDelta, ToolCallDelta
from astrbot_api.event_lines import MAX_LINE_BYTES, encode_line

#: Every character at which ``str.splitlines`` splits.
LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"

TEXT = f"全部完成{LINE_ENDS}谢谢！"


def test_line_ends_lists_every_line_separator_of_python() -> None:
    ends = "".join(one for one in map(chr, range(0x110000)) if len(f"a{one}b".splitlines()) == 2)
    assert sorted(ends) == sorted(LINE_ENDS)


def test_no_line_of_json_can_be_split() -> None:
    line = encode_line({LINE_ENDS: [TEXT, {"inner": orjson.dumps(TEXT).decode()}]})
    assert len(line.decode().splitlines()) == 1
    assert orjson.loads(line) == {LINE_ENDS: [TEXT, {"inner": orjson.dumps(TEXT).decode()}]}


def say(messages: list[ModelMessage]) -> Iterator[Delta]:
    if messages[-1]["role"] == "user":
        yield TextDelta(TEXT)
        yield ToolCallDelta(0, "c1", "shout", orjson.dumps({"text": TEXT}).decode())
    else:
        yield TextDelta("done")


SHOUT = Tool(
    "shout",
    "Say it.",
    lambda arguments, context: arguments["text"],
    {"type": "object", "properties": {"text": {"type": "string"}}},
)


def read_events(lines: list[str]) -> list[dict[str, Any]]:
    datas = [one[6:] for one in lines if one.startswith("data: ") and one != "data: [DONE]"]
    return [orjson.loads(one) for one in datas]


def iter_readers(data: bytes, headers: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the lines that Python's readers return for a response."""
    yield "splitlines", data.decode().splitlines()
    answer = requests.Response()
    answer._content, answer._content_consumed = data, True
    answer.headers = CaseInsensitiveDict(headers.items())
    answer.encoding = requests.utils.get_encoding_from_headers(answer.headers)
    yield "requests", list(answer.iter_lines(decode_unicode=True))
    yield "text", answer.text.splitlines()


def test_every_reader_of_lines_reads_a_turn(make_scripted: Any) -> None:
    api, _ = make_scripted(say, tools=[SHOUT])
    answer = api.post_chat(username="alice", message=TEXT)
    for reader, lines in iter_readers(answer.get_data(), answer.headers):
        events = read_events(lines)
        assert [one["type"] for one in events][-2:] == ["message_saved", "end"], reader
        texts = [one["data"] for one in events if one["type"] == "plain"]
        assert texts[0] == TEXT, reader
        assert orjson.loads(texts[1])["args"] == {"text": TEXT}, reader
        assert orjson.loads(texts[2])["result"] == TEXT, reader


def test_every_reader_of_lines_reads_openais_chunks(make_scripted: Any) -> None:
    api, _ = make_scripted(lambda messages: iter([TextDelta(TEXT)]))
    body = {"model": "default", "messages": [{"role": "user", "content": "x"}], "stream": True}
    answer = api.post("/api/v1/openai/chat/completions", json=body)
    assert answer.content_type == "text/event-stream; charset=utf-8"
    for reader, lines in iter_readers(answer.get_data(), answer.headers):
        deltas = [one["choices"][0]["delta"] for one in read_events(lines)]
        assert "".join(one.get("content") or "" for one in deltas) == TEXT, reader


@pytest.mark.parametrize("end", LINE_ENDS)
def test_a_long_answer_of_line_ends_has_no_long_line(make_scripted: Any, end: str) -> None:
    api, _ = make_scripted(lambda messages: iter([TextDelta(end * 100_000)]))
    data = api.post_chat(username="alice", message="x").get_data()
    assert max(map(len, data.split(b"\n"))) < MAX_LINE_BYTES
    events = read_events(data.decode().splitlines())
    said = "".join(one["data"] for one in events if one["type"] == "plain")
    assert said == end * 100_000
