"""Further formats of responses, each from a real endpoint, gateway or template."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from astrbot_api.agent.provider import (
    Finished,
    MediaDelta,
    ReasoningDelta,
    ToolCallDelta,
    Usage,
)
from astrbot_api.agent.toolbox import parse_arguments
from astrbot_api.errors import ProviderError
from astrbot_api.providers import generated
from astrbot_api.providers.finish_reasons import read_finish_reason
from astrbot_api.providers.inline_images import InlineImages
from astrbot_api.providers.usage import read_usage

from .openai_asking import TOOL, begin, failure_of, provider_of, text_of
from .raw_endpoint import DONE, Connection, RawEndpoint, answering, event

HELLO = event({"content": "Hello"})
STOP = event({}, "stop")


def of(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def deltas(*events: bytes) -> list[Any]:
    with RawEndpoint(answering(*events)) as endpoint:
        return list(begin(provider_of(endpoint, max_retries=0), tools=(TOOL,)))


def reason_of(found: list[Any]) -> str:
    (end,) = [one for one in found if isinstance(one, Finished)]
    return end.reason


@pytest.mark.parametrize(
    "delta",
    [
        {"thoughts": "hm"}, {"thought": "hm"}, {"reasoning_summary": "hm"},
        {"thinking_content": "hm"}, {"reasoning": {"summary": [{"text": "hm"}]}},
        {"content": [{"type": "reasoning", "reasoning": "hm"}]},
        {"content": [{"type": "reasoning_content", "reasoning_content": {"text": "hm"}}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"content": "<THINK>hm</THINK>"}, {"content": "<seed:think>hm</seed:think>"},
        {"content": "<mm:think>hm</mm:think>"},
        {"content": "<|channel>thought\nhm<channel|>"}, {"content": "hm\n<channel|>"},
        {"content": "<|START_THINKING|>hm<|END_THINKING|>"}, {"content": "hm<|END_THINKING|>"},
        {"content": "[THINK]hm[/THINK]"}, {"content": "◁think▷hm◁/think▷"},
        {"content": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final"
                    "<|message|>"},
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "content",
    [[{"text": "Hello"}], [{"type": "text_delta", "text": "Hello"}], "Hello",
     [{"type": "text", "text": {"value": "Hello", "annotations": []}}]],
)  # fmt: skip
def test_reasoning_and_text_are_distinguished(delta: dict[str, Any], content: Any) -> None:
    found = deltas(event(delta), event({"content": content}), STOP, DONE)
    assert text_of(found) == "Hello"
    assert "".join(one.text for one in found if isinstance(one, ReasoningDelta)) == "hm"


THOUGHTS = "<think>h</think>\n\n<think>\nm</think>\nHello <think>x</think>"


@pytest.mark.parametrize("size", [1, 7, 100])
def test_one_piece_of_reasoning_may_follow_another(size: int) -> None:
    pieces = [THOUGHTS[at : at + size] for at in range(0, len(THOUGHTS), size)]
    found = deltas(*(event({"content": one}) for one in pieces), STOP, DONE)
    assert text_of(found) == "Hello <think>x</think>"
    assert "".join(one.text for one in found if isinstance(one, ReasoningDelta)) == "hm"


def test_pieces_of_reasoning_are_bounded() -> None:
    found = deltas(event({"content": "<think></think>" * 1000 + "Hello"}), STOP, DONE)
    assert text_of(found).endswith("<think></think>Hello")


COMPLETION = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "answer",
    [{"code": 200, "data": COMPLETION}, {"success": True, "result": COMPLETION},
     {"output": COMPLETION}, {"choices": COMPLETION["choices"][0]},
     {"choices": [{"delta": "Hello", "finish_reason": "stop"}]}],
)  # fmt: skip
def test_an_answer_in_a_wrapping_is_read(answer: Any) -> None:
    assert text_of(deltas(json.dumps(answer).encode())) == "Hello"


PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256))).decode()
URL = f"data:image/png;base64,{PICTURE}"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([f"![image]({URL})"], ""),
        (["Here: ", f"![a cat]({URL})", " Done."], "Here:  Done."),
        (
            [f"Here: ![image]({URL[:40]}", URL[40:200], f'{URL[200:]} "a cat") Done.'],
            "Here:  Done.",
        ),
        ([URL], ""),
        ([f"Here:\n![x]({URL})\n![x]({URL})"], "Here:\n\n"),
    ],
)
def test_a_picture_in_the_text_is_a_picture(pieces: list[str], text: str) -> None:
    found = deltas(*(event({"content": one}) for one in pieces), STOP, DONE)
    pictures = [one for one in found if isinstance(one, MediaDelta)]
    assert {one.filename for one in pictures} == {"image.png"}
    assert len(pictures) == str(pieces).count("data:")
    assert text_of(found) == text


@pytest.mark.parametrize("size", [7, 11])
def test_a_picture_in_a_text_of_small_pieces_is_a_picture(size: int) -> None:
    text = f"See ![1] or ![2](data/2) and ![a cat](\n{URL}). Wow![](data:"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = deltas(*(event({"content": one}) for one in pieces), STOP, DONE)
    assert [one.filename for one in found if isinstance(one, MediaDelta)] == ["image.png"]
    assert text_of(found) == "See ![1] or ![2](data/2) and . Wow![](data:"


@pytest.mark.parametrize(
    "delta",
    [
        {"content": [{"inline_data": {"mime_type": "image/png", "data": PICTURE}}]},
        {"images": [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}]},
        {"image": {"url": URL}}, {"image": URL},
    ],
)  # fmt: skip
def test_a_picture_is_found_in_other_fields(delta: dict[str, Any]) -> None:
    found = deltas(event(delta), STOP, DONE)
    assert [one.filename for one in found if isinstance(one, MediaDelta)] == ["image.png"]


def test_an_object_as_the_content_is_its_json() -> None:
    assert text_of(deltas(event({"content": {"a": ["ü"]}}), STOP, DONE)) == '{"a": ["ü"]}'


@pytest.mark.parametrize(
    "text",
    [
        f'<img src="{URL}">', "![x](data:image/png;base64,no picture)", f"`{URL}`",
        "data:image/png;base64,iVBORw0KGgo is how it begins", f"url({URL})", "![x](data:image/",
    ],
)  # fmt: skip
def test_other_data_urls_are_text(text: str) -> None:
    assert text_of(deltas(event({"content": text}), STOP, DONE)) == text


@pytest.mark.timeout(30)  # quadratic work takes minutes
def test_a_text_may_have_very_many_data_urls() -> None:
    text = "![x](data:image/png) " * 400_000
    assert text_of(deltas(event({"content": text}), STOP, DONE)) == text


def test_a_picture_in_the_text_without_an_end_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "_MAX_CHARS", 1000)
    images = InlineImages(generated.MediaCollector(""))
    assert images.feed(URL) == []
    with pytest.raises(ProviderError, match="too many bytes of media"):
        images.feed("A" * 1000)


@pytest.mark.parametrize(
    "pieces",
    [
        ["SUQzBAAA//+A"],
        ["SUQzBAAA__-A"],
        ["SUQz\nBAAA", "\n//+A\n"],
        ["SUQzB", "AAA//", "+A"],
        ["SUQ=", "MwQ=", "AAD/", "/4A="],
        ["data:audio/mpeg;base64,SUQzBAAA", "//+A"],
    ],
)
def test_recordings_are_read_in_all_forms_of_base64(pieces: list[str]) -> None:
    sound = generated.MediaCollector("mp3")
    for one in pieces:
        sound.add_audio({"data": one})
    (made,) = sound.finish()
    assert made.data.startswith(b"ID3\x04")
    assert made.data.endswith(b"\xff\xff\x80")


def call(arguments: Any = '{"a":1}', **fields: Any) -> dict[str, Any]:
    return {"index": 0, "id": "c", "function": {"name": "look", "arguments": arguments}, **fields}


def calls(*pieces: dict[str, Any]) -> bytes:
    return event({"tool_calls": list(pieces)})


MORE = {"index": 0, "function": {"arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    "events",
    [
        [calls(call("{}")), calls(MORE)],
        [calls(call('{"a"')), calls(call('{"a":1}'))],
        [calls({"index": 0, "id": "c", "name": "look", "arguments": '{"a":1}'})],
        [calls({"index": 0, "id": "c", "name": "look", "input": {"a": 1}})],
        [calls({"index": 0, "id": "c", "function": {"name": "look", "parameters": {"a": 1}}})],
        [calls({"index": 0, "id": "c", "type": "custom",
                "custom": {"name": "look", "input": '{"a":1}'}})],
        [calls(call('```json\n{"a":1}\n```'))],
        [event({"content": [{"type": "tool_use", "id": "c", "name": "look", "input": {"a": 1}}]})],
        [of({"choices": [{"delta": {"content": ""}, "tool_calls": [call()]}]})],
        [of({"choices": [{"index": 0, "delta": {"content": "x"}},
                         {"index": 0, "delta": {"tool_calls": [call()]}}]})],
        *([calls({"index": 0, "id": "c", "function": {"name": name, "arguments": '{"a":1}'}})]
          for name in ("functions.look", "functions.look:0", " look ", "default_api.look",
                       "look<|channel|>commentary")),
    ],
)  # fmt: skip
def test_a_call_is_found_and_understood(events: list[bytes]) -> None:
    found = deltas(*events, STOP, DONE)
    (one,) = [one for one in found if isinstance(one, ToolCallDelta)]
    assert (one.name, parse_arguments(one.arguments)) == ("look", {"a": 1})
    assert reason_of(found) == "tool_calls"


@pytest.mark.parametrize("arguments", ["", None])
def test_two_calls_without_arguments_and_ids_are_two_calls(arguments: Any) -> None:
    names = ("look", "jump")
    pieces = [{"index": 0, "function": {"name": one, "arguments": arguments}} for one in names]
    tools = [{"type": "function", "function": {"name": one, "parameters": {}}} for one in names]
    with RawEndpoint(answering(*map(calls, pieces), STOP, DONE)) as endpoint:
        found = list(begin(provider_of(endpoint), tools=tuple(tools)))
    assert [one.name for one in found if isinstance(one, ToolCallDelta)] == ["look", "jump"]


def test_a_message_after_its_deltas_adds_only_what_they_lack() -> None:
    """MiniMax ends each stream with the whole message."""
    message = {"role": "assistant", "content": "Hello", "tool_calls": [call()]}
    whole = of({"choices": [{"finish_reason": "stop", "message": message}]})
    for before in (HELLO, HELLO + calls(call())):
        found = deltas(before, whole, DONE)
        assert text_of(found) == "Hello"
        (one,) = [one for one in found if isinstance(one, ToolCallDelta)]
        assert one.arguments == '{"a":1}'


def test_an_answer_without_calls_did_not_end_for_them() -> None:
    assert reason_of(deltas(HELLO, event({}, "tool_calls"), DONE)) == "stop"


def test_arguments_that_repeat_their_beginning_are_no_repetition() -> None:
    nested = [calls(call('{"a":')), calls({"index": 0, "function": {"arguments": '{"a":1}}'}})]
    (one,) = [one for one in deltas(*nested, STOP, DONE) if isinstance(one, ToolCallDelta)]
    assert json.loads(one.arguments) == {"a": {"a": 1}}


def test_a_name_that_no_tool_has_stays() -> None:
    piece = {"index": 0, "id": "c", "function": {"name": "functions.jump", "arguments": "{}"}}
    (one,) = [one for one in deltas(calls(piece), STOP, DONE) if isinstance(one, ToolCallDelta)]
    assert one.name == "functions.jump"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"promptTokens": 3, "completionTokens": 1}, Usage(3, 0, 1)),
        ({"promptTokenCount": 3, "candidatesTokenCount": 1}, Usage(3, 0, 1)),
        ({"prompt_tokens": None, "input_tokens": 3, "output_tokens": 1}, Usage(3, 0, 1)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 3}, Usage(3, 0, 0)),
        ({"prompt_tokens": 3, "total_tokens": 4}, Usage(3, 0, 1)),
        ({"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 9}, Usage(3, 0, 6)),
        ({"prompt_tokens": 3, "completion_tokens": 1, "cached_tokens": 2}, Usage(1, 2, 1)),
        ({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 2}}, Usage(1, 2, 0)),
        ({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 2}, Usage(1, 2, 1)),
        ({"prompt_tokens": 3, "total_tokens": -1, "completion_tokens": True}, Usage(3, 0, 1)),
    ],
)
def test_tokens_are_counted_under_each_name(usage: dict[str, Any], counted: Usage) -> None:
    assert read_usage(usage) == counted


@pytest.mark.parametrize(
    "events",
    [
        [event({}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 1}),
         event({}, usage={"prompt_tokens": 0, "completion_tokens": 0})],
        [event({}, usage={"prompt_tokens": 3}), event({}, "stop", usage={"completion_tokens": 1})],
        [event({"usage": {"prompt_tokens": 3, "completion_tokens": 1}}, "stop")],
        [STOP, of({"choices": [], "usageMetadata": {"promptTokenCount": 3,
                                                    "candidatesTokenCount": 1}})],
    ],
)  # fmt: skip
def test_counts_that_come_in_pieces_are_put_together(events: list[bytes]) -> None:
    found = deltas(HELLO, *events, DONE)
    assert [one for one in found if isinstance(one, Usage)] == [Usage(3, 0, 1)]


@pytest.mark.parametrize(
    ("word", "reason"),
    [("FinishReason.STOP", "stop"), ("FINISH_REASON_MAX_TOKENS", "length"), ("</s>", "stop"),
     ("<|im_end|>", "stop"), ("end-turn", "stop"), ("content-filter", "content_filter"),
     ("max_new_tokens", "length"), ({"type": "length"}, "length"), (["stop"], "stop"), (1, ""),
     (False, ""), ("IMAGE_SAFETY", "content_filter"), ("UNEXPECTED_TOOL_CALL", "error"),
     ("pause_turn", "length"), ("FINISH_REASON_UNSPECIFIED", ""), ("null", "")],
)  # fmt: skip
def test_reasons_are_translated(word: Any, reason: str) -> None:
    assert read_finish_reason(word) == reason


@pytest.mark.parametrize(
    "choice",
    [{"delta": {}, "finishReason": "length"}, {"delta": {"finish_reason": "length"}},
     {"delta": {}, "stop_reason": "max_tokens"}, {"delta": {}, "done_reason": "length"}],
)  # fmt: skip
def test_a_reason_is_found_and_a_later_stop_hides_no_cut(choice: dict[str, Any]) -> None:
    assert reason_of(deltas(HELLO, of({"choices": [choice]}))) == "length"
    assert reason_of(deltas(HELLO, of({"choices": [choice]}), STOP, DONE)) == "length"


RESULTS = [
    {"title": "Berlin [city]", "url": "https://en.example/Berlin_(city)", "date": None},
    {"title": "", "url": "https://de.example/b"},
    {"title": "no page", "url": "javascript:alert(1)"},
]


@pytest.mark.parametrize(("field", "address"), [("search_results", "url"), ("web_search", "link")])
def test_the_search_results_that_an_answer_cites_are_listed_below_it(
    field: str, address: str
) -> None:
    results = [{"title": one["title"], address: one["url"]} for one in RESULTS]
    said = of({"choices": [{"delta": {"content": "3.7 million[1][2]"}}], field: results})
    last = of({"choices": [{"delta": {}, "finish_reason": "stop"}], field: results})
    with RawEndpoint(answering(said, last, DONE)) as endpoint:
        provider = provider_of(endpoint)
        assert text_of(list(begin(provider))) == (
            "3.7 million[1][2]\n"
            "\n1. [Berlin city](https://en.example/Berlin_(city%29)"
            "\n2. [https://de.example/b](https://de.example/b)"
        )
        as_json = begin(provider, extra={"response_format": {"type": "json_object"}})
        assert text_of(list(as_json)) == "3.7 million[1][2]"


def cite(url: str, **place: int) -> dict[str, Any]:
    return {"type": "url_citation", "url_citation": {"url": url, "title": "A page", **place}}


def test_the_cited_pages_of_a_whole_text_are_listed_once_below_it() -> None:
    whole = cite("https://a.example/x", start_index=0, end_index=0)
    linked = cite("https://b.example/y", start_index=4, end_index=30)
    last = {"content": "", "annotations": [whole, linked, whole]}
    found = deltas(HELLO, event({"annotations": [whole]}), event(last), STOP, DONE)
    assert text_of(found) == "Hello\n\n1. [A page](https://a.example/x)"


@pytest.mark.parametrize("odd", [{}, "x", [1], [{"url": 5}], None])
def test_odd_search_results_end_no_answer(odd: Any) -> None:
    found = deltas(
        HELLO, of({"choices": [], "search_results": odd}), event({"annotations": odd}),
        event({"annotations": [{"url_citation": odd}]}), STOP, DONE,
    )  # fmt: skip
    assert text_of(found) == "Hello"


ONE, TWO = HELLO.strip()[6:], STOP.strip()[6:]


@pytest.mark.parametrize(
    "body",
    [
        b"data: " + ONE + TWO + b"\n\n", b"data: " + ONE + b" " + TWO + b"[DONE]\n\n",
        b"data: " + ONE + b"data: " + TWO + b"\n\n", b"data: [" + ONE + b"," + TWO + b"]\n\n",
        ONE + TWO, b"[" + ONE + b",\n" + TWO + b"]",
        (HELLO + STOP).replace(b"data: ", b" data: "), (HELLO + STOP).replace(b"data", b"Data"),
        (HELLO + STOP).replace(b"data:", b"data :"),
        (HELLO + STOP).replace(b"data", b"\xef\xbb\xbfdata"),
        HELLO + b"data: [done]\n\n", HELLO + b"data: DONE\n\n", HELLO + b"data: [EOS]\n\n",
        b'data: {\n  "choices": [\ndata: {"delta": {"content": "Hello"}}\n]\n}\n\n' + DONE,
        b"data: keep-alive\n\nworking\n\n" + HELLO + STOP + DONE,
    ],
)  # fmt: skip
def test_events_in_other_spellings_are_read(body: bytes) -> None:
    assert text_of(deltas(body)) == "Hello"


@pytest.mark.parametrize(
    "body",
    [
        b"event: error\ndata: boom here\n\n", b"data: error: boom here\n\n" + DONE,
        b"data: [ERROR] boom here\n\n" + DONE, b"boom here", b'"boom here"',
        b'{"errors":[{"message":"boom here"}]}', b'{"errors":["boom here"]}',
        b'{"success":false,"errorMessage":"boom here"}', b'{"resultMsg":"boom here"}',
        b'{"Response":{"Error":{"Code":"X","Message":"boom here"}}}',
        b'{"error":true,"message":"boom here"}', b'{"error":"boom here","code":429}',
        '{"error":{"message":"boom here","code":"²"}}'.encode(),
        b'{"error":{"message":"boom here","code":"%b"}}' % (b"9" * 5000),
        b'{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":'
        b'"{\\"error\\":{\\"message\\":\\"boom here\\"}}"}}}',
        HELLO + b"event: error\ndata: boom here\n\n", HELLO + b'error: {"message":"boom here"}\n\n',
    ],
)  # fmt: skip
def test_the_words_of_a_failure_are_found(body: bytes) -> None:
    with RawEndpoint(answering(body)) as endpoint:
        assert "boom here" in failure_of(provider_of(endpoint, max_retries=0)).message


WORDS = "参数错误"


@pytest.mark.parametrize(
    "raw", ["参数错误".encode("gbk"), "参数错误".encode(), b"\x1f\x8b\x08\x00xx"]
)
def test_a_refusal_in_other_bytes_is_shown_in_letters_or_not_at_all(raw: bytes) -> None:
    def handle(connection: Connection) -> None:
        while connection.read_request()[0]:
            head = f"HTTP/1.1 422 X\r\nContent-Length: {len(raw)}\r\n\r\n"
            connection.send(head.encode() + raw)

    with RawEndpoint(handle) as endpoint:
        message = failure_of(provider_of(endpoint)).message
    assert "\ufffd" not in message
    assert (WORDS in message) == (raw[:1] != b"\x1f")
