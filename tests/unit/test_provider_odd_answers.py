"""Responses of real endpoints that OpenAI's documentation does not describe."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import (
    Delta,
    Finished,
    ModelOptions,
    ReasoningDelta,
    ToolCallDelta,
    Usage,
)

from ..strict_endpoint import StrictEndpoint, say
from .openai_asking import HELLO, TOOL, begin, failure_of, provider_of, text_of
from .raw_endpoint import DONE, Connection, RawEndpoint, answering, event

STOP = event({}, "stop")


def of(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def call(**fields: Any) -> bytes:
    return event({"tool_calls": [{"index": 0, **fields}]})


def look(arguments: Any = "") -> dict[str, Any]:
    return {"name": "look", "arguments": arguments}


def sending(body: bytes, headers: str = "") -> Callable[[Connection], None]:
    """Return a handler that responds with this body."""

    def handle(connection: Connection) -> None:
        while connection.read_request()[0]:
            head = f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
            connection.send(head.encode() + body)

    return handle


def deltas(handler: Callable[[Connection], None]) -> list[Delta]:
    with RawEndpoint(handler) as endpoint:
        return list(begin(provider_of(endpoint, max_retries=0), tools=(TOOL,)))


@pytest.mark.parametrize(
    "events",
    [
        [event({"tool_calls": {"index": 0, "id": "c", "function": look('{"a":1}')}})],
        [call(index="0", id="c", function=look('{"a"')), call(index="0", function=look(":1}"))],
        [call(index=0.0, id="c", function=look('{"a"')), call(index=0.0, function=look(":1}"))],
        [call(index=None, id="c", function=look('{"a":1}'))],
        [call(index=None, function=look('{"a":1}')), call(index=None, id="c")],
        [call(id="c", function=look({"a": 1}))],
        [call(id="c", function=look('{"a":1}')), call(id="c", function=look('{"a":1}'))],
        [call(id="c", function={"name": "lo"}), call(function={**look('{"a":1}'), "name": "ok"})],
        [of({"choices": [{"delta": {}, "message": {"tool_calls": [
            {"id": "c", "function": look('{"a":1}')}]}}]})],
        [event({"role": "assistant"}), call(id="c", function=look('{"a":1}'), role="assistant")],
    ],
)  # fmt: skip
def test_a_call_is_one_call(events: list[bytes]) -> None:
    found = [
        one for one in deltas(answering(*events, STOP, DONE)) if isinstance(one, ToolCallDelta)
    ]
    assert {one.index for one in found} == {0}
    assert "".join(one.name for one in found) == "look"
    assert json.loads("".join(one.arguments for one in found)) == {"a": 1}


@pytest.mark.parametrize(
    "usage",
    [
        of({"choices": None, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}),
        of({"choices": [], "usage": {"prompt_tokens": "3", "completion_tokens": 1.0}}),
        of({"usage": {"input_tokens": 3, "output_tokens": 1}}),
        of({"choices": [], "x_groq": {"id": "x", "usage": {"prompt_tokens": 3,
                                                           "completion_tokens": 1}}}),
        of({"choices": [{"delta": {}, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}]}),
    ],
)  # fmt: skip
def test_usage_is_found_wherever_it_is(usage: bytes) -> None:
    found = deltas(answering(event({"content": "Hello"}), STOP, usage, DONE))
    assert [one for one in found if isinstance(one, Usage)] == [Usage(input_other=3, output=1)]


def test_an_id_beside_no_usage_is_none() -> None:
    found = deltas(answering(of({"choices": [], "x_groq": {"id": "x"}}), *HELLO))
    assert not [one for one in found if isinstance(one, Usage)]


@pytest.mark.parametrize(
    ("chunk", "text", "thought"),
    [
        ({"content": {"type": "text", "text": "Hello"}}, "Hello", ""),
        ({"content": [{"type": "text", "text": "Hello"}]}, "Hello", ""),
        ({"content": 42}, "42", ""),
        ({"content": "He\x00llo", "reasoning": "\x00hm"}, "Hello", "hm"),
        ({"content": "Hello", "reasoning": {"text": "hm"}}, "Hello", "hm"),
        ({"content": "Hello", "reasoning_text": "hm"}, "Hello", "hm"),
        ({"content": "Hello", "reasoning": "hm", "reasoning_content": "hm"}, "Hello", "hm"),
        ({"content": "Hello", "thinking_blocks": [{"thinking": "hm", "signature": "S"}]}, "Hello",
         "hm"),
        ({"content": "Hello", "reasoning_content": "hm", "thinking_blocks": [{"thinking": "hm"}]},
         "Hello", "hm"),
        ({"content": "Hello", "thinking_blocks": [{"type": "redacted_thinking", "data": "X"}]},
         "Hello", ""),
        ({"content": "Hello", "reasoning": {"effort": 3}}, "Hello", ""),
        ({"content": "Hello", "tool_calls": True}, "Hello", ""),
        ({"content": [{"type": {}, "x": 1}, {"type": "text", "text": "Hello"}]}, "Hello", ""),
    ],
)  # fmt: skip
def test_text_and_thinking_are_found(chunk: dict[str, Any], text: str, thought: str) -> None:
    found = deltas(answering(event(chunk), STOP, DONE))
    assert text_of(found) == text
    assert "".join(one.text for one in found if isinstance(one, ReasoningDelta)) == thought


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["Hello", "<|im_end|>"], "Hello"),
        (["Hello<", "|im", "_end|", ">"], "Hello"),
        (["Hello<|im_end|>\n<|endoftext|>\n"], "Hello"),
        (["Hello", "</", "s>"], "Hello"),
        (["Hello<｜end▁of▁sentence｜>"], "Hello"),
        (["Hello<end_of_turn>"], "Hello"),
        (["<s>Hel", "lo</s>"], "<s>Hello</s>"),
        (["Hello <", "b> and <|im_end|> here"], "Hello <b> and <|im_end|> here"),
        (["It ends with `<|im_end|>`"], "It ends with `<|im_end|>`"),
        (["1 <", " 2 <3"], "1 < 2 <3"),
        (["Hello <|im_e"], "Hello <|im_e"),
        (["Hello </", "s![image](x)"], "Hello </s![image](x)"),
    ],
)
def test_only_an_end_token_at_the_end_is_dropped(pieces: list[str], text: str) -> None:
    chunks = [event({"content": piece}) for piece in pieces]
    assert text_of(deltas(answering(*chunks, STOP, DONE))) == text


@pytest.mark.parametrize(
    "chunks",
    [
        [[(1, "other"), (0, "Hello")]],
        [[(0, "Hel")], [(1, "other")], [(0, "lo")]],
        [[(1, "Hel")], [(1, "lo")]],
        [[(0, "Hel"), (1, "other")], [(1, "more"), (0, "lo")]],
        [[("1", "other"), (0, "Hel")], [("0", "lo"), ([], "")]],
    ],
)
def test_of_several_choices_one_is_followed(chunks: list[Any]) -> None:
    events = [
        of({"choices": [{"index": at, "delta": {"content": text}} for at, text in chunk]})
        for chunk in chunks
    ]
    assert text_of(deltas(answering(*events, STOP, DONE))) == "Hello"


BODY = b"".join(HELLO)


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        gzip.compress(BODY),
        BODY.decode().encode("utf-16"),
        BODY.decode().encode("utf-16-be").join([b"\xfe\xff", b""]),
        BODY.replace(b"data: {", b"data: data: {").replace(b"data: [", b"data: data: ["),
        BODY.replace(b"\n\n", b"\0\n\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_body_is_read_by_its_bytes(body: bytes, size: int) -> None:
    def handle(connection: Connection) -> None:
        while connection.read_request()[0]:
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            connection.send_stream(*pieces)

    found = deltas(handle)
    assert text_of(found) == "Hello"
    assert [one.reason for one in found if isinstance(one, Finished)] == ["stop"]


def test_a_packed_body_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrbot_api.providers.sse.MAX_EVENT_BYTES", 10_000)
    with RawEndpoint(sending(gzip.compress(b"x" * 10_000_000))) as endpoint:
        assert "overlong" in failure_of(provider_of(endpoint, max_retries=0)).message


def test_others_run_while_a_body_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[None] = []
    monkeypatch.setattr("astrbot_api.providers.sse.let_others_run", lambda: runs.append(None))
    body = gzip.compress(b":\n" * 4_000_000 + BODY)
    assert text_of(deltas(sending(body))) == "Hello"
    assert len(runs) > 100


@pytest.mark.timeout(120)
def test_blank_lines_before_an_answer_are_not_kept() -> None:
    body = gzip.compress(b"\n" * 300_000_000 + BODY, 1)
    assert text_of(deltas(sending(body, "Content-Encoding: gzip\r\n"))) == "Hello"


@pytest.mark.parametrize("end", [b"", b"x"], ids=["JSON", "other text"])
def test_a_payload_with_too_many_members_is_refused(
    end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.providers.shapes._MAX_MEMBERS", 1000)
    for body in (b"data: [%b{}]%b\n\n" % (b"{}," * 1000, end), b"[%b{}]" % (b"{}," * 1000)):
        with RawEndpoint(sending(body)) as endpoint:
            assert "members" in failure_of(provider_of(endpoint, max_retries=0)).message


def test_json_lines_may_have_more_members_than_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrbot_api.providers.shapes._MAX_MEMBERS", 1000)
    chunks = [{"choices": [{"delta": {"content": "word "}}]}] * 500
    body = b"\n".join(map(orjson.dumps, chunks))
    assert text_of(deltas(sending(body))) == "word " * 500


def test_many_short_payloads_of_one_read_let_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[None] = []
    monkeypatch.setattr("astrbot_api.providers.answer.let_others_run", lambda: runs.append(None))
    assert text_of(deltas(sending(b"data: x\n\n" * 1000 + BODY))) == "Hello"
    assert len(runs) >= 5


def test_others_run_while_json_lines_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[None] = []
    monkeypatch.setattr("astrbot_api.providers.sse.let_others_run", lambda: runs.append(None))
    line = orjson.dumps({"choices": [{"delta": {"content": "word "}}]})
    assert text_of(deltas(sending(line + b"\r\n\n{}" * 15_000 + b"\n" + line))) == "word word "
    assert len(runs) == 6  # 30,000 lines are read twice


def test_one_line_is_logged_for_all_unexpected_data_of_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd = [b"data: junk\n\n", of({"odd": 1}), b"data: [\n\n"]
    assert text_of(deltas(answering(*odd * 20, *HELLO))) == "Hello"
    assert caplog.text.count("sent unexpected data") == 1


def test_pieces_of_two_calls_may_alternate_under_one_index() -> None:
    first = [call(id=one, function=look()) for one in ("a", "b")]
    rest = [call(id=one, function={"arguments": text}) for text in ('{"x":', "1}") for one in "ab"]
    found = [
        one
        for one in deltas(answering(*first, *rest, STOP, DONE))
        if isinstance(one, ToolCallDelta)
    ]
    assert [(one.id, one.arguments) for one in found] == [("a", '{"x":1}'), ("b", '{"x":1}')]


def test_a_huge_id_is_replaced() -> None:
    found = deltas(answering(call(id="c" * 200_000, function=look("{}")), STOP, DONE))
    (made,) = [one for one in found if isinstance(one, ToolCallDelta)]
    assert made.id.startswith("call_")


def test_a_huge_name_is_cut() -> None:
    huge = {"name": "n" * 200_000, "arguments": "{}"}
    found = deltas(answering(call(id="c", function=huge), STOP, DONE))
    (made,) = [one for one in found if isinstance(one, ToolCallDelta)]
    assert made.name == "n" * 1000


def test_attached_values_can_be_stored() -> None:
    values = b'{"signature":"a\\ud83d","s\\udc00":NaN,"list":["\\ud83d",%b]}' % (b"9" * 5000)
    odd = b'data: {"choices":[{"delta":%b}]}\n\n' % values
    made = b'data: {"choices":[{"delta":{"tool_calls":[{"function":%b,"odd":%b}]}}]}\n\n' % (
        json.dumps(look("{}")).encode(),
        values,
    )
    (last,) = [one for one in deltas(answering(odd, made, *HELLO)) if isinstance(one, Finished)]
    assert b"a\xef\xbf\xbd" in orjson.dumps(last.attached)
    assert len(last.attached["calls"]) == 1


@pytest.mark.parametrize(
    ("kind", "most"),
    [("calls", 100), ("calls without a number", 100), ("arguments", 100), ("objects", 100),
     ("ids", 49)],
)  # fmt: skip
def test_calls_without_end_fail_the_answer(
    kind: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.providers.calls._MAX_CALLS", 100)
    monkeypatch.setattr("astrbot_api.providers.calls._MAX_CHARS", 5000)

    def make_piece(number: int) -> bytes:
        if kind == "arguments":
            return call(function={"arguments": "a" * 50})
        if kind == "objects":
            return call(function={"arguments": f'{{"a":{number}}}'})
        index = {"index": number} if kind == "calls" else {}
        made = {"id": f"{number:0{100 if kind == 'ids' else 1}}", "function": look("{}")}
        return event({"tool_calls": [{**index, **made}]})

    for count, fails in ((most, False), (most + 1, True)):
        with RawEndpoint(answering(*map(make_piece, range(count)), STOP, DONE)) as endpoint:
            provider = provider_of(endpoint, max_retries=0)
            if fails:
                assert "without end" in failure_of(provider, tools=(TOOL,)).message
            else:
                assert list(begin(provider, tools=(TOOL,)))


def test_the_unknown_parts_of_a_call_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrbot_api.providers.calls.MAX_CHARS", 500)
    pieces = [call(function={"name": f"n{at:03}"}, **{f"field{at}": "x" * 50}) for at in range(300)]
    found = deltas(answering(*pieces, STOP, DONE))
    (made,) = [one for one in found if isinstance(one, ToolCallDelta)]
    (last,) = [one for one in found if isinstance(one, Finished)]
    assert len(made.name) == 1000
    assert len(last.attached["calls"][0]) == 10


def test_empty_parts_of_a_call_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrbot_api.providers.calls.MAX_CHARS", 500)
    pieces = [call(function=look("{}" if at == 0 else ""), parts=[{}]) for at in range(300)]
    (last,) = [one for one in deltas(answering(*pieces, STOP, DONE)) if isinstance(one, Finished)]
    assert 1 < len(last.attached["calls"][0]["parts"]) < 100


def test_a_call_is_not_parsed_at_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(
        "astrbot_api.providers.calls._Call.is_object",
        lambda self: parsed.append(self.arguments.getvalue()),
    )
    pieces = ['{"a":[', '{"b":1}', ',{"b":2}', ',{"b":3}', "]}"]
    found = deltas(answering(*(call(function=look(one)) for one in pieces), STOP, DONE))
    (made,) = [one for one in found if isinstance(one, ToolCallDelta)]
    assert made.arguments == "".join(pieces)
    assert parsed == ['{"a":[']


@pytest.mark.parametrize("depth", [90, 600])
def test_deep_fields_and_arguments_do_not_fail_the_answer(depth: int) -> None:
    deep = json.loads('{"a":' * depth + "1" + "}" * depth)
    hello = event({"content": "Hello", "odd": deep})
    made = call(id="c", function=look(deep), odd=deep)
    found = deltas(answering(hello, made, STOP, DONE))
    (last,) = [one for one in found if isinstance(one, Finished)]
    assert text_of(found) == "Hello"
    assert ("fields" in last.attached) is (depth == 90)


def test_an_attached_text_that_is_repeated_as_a_whole_is_not_doubled() -> None:
    texts = ("ab", "cd", "abcd")
    pieces = [event({"signature": one}) for one in texts]
    pieces += [call(function=look(), signature=one) for one in texts]
    (last,) = [one for one in deltas(answering(*pieces, *HELLO)) if isinstance(one, Finished)]
    assert last.attached["fields"] == {"signature": "abcd"}
    assert last.attached["calls"] == [{"signature": "abcd"}]


def test_the_pieces_of_a_field_of_a_call_are_joined() -> None:
    pieces = [call(function=look(), signature=one) for one in ("ab", "cd")]
    found = deltas(answering(*pieces, STOP, DONE))
    (last,) = [one for one in found if isinstance(one, Finished)]
    assert last.attached["calls"] == [{"signature": "abcd"}]


def test_attached_texts_are_joined_from_many_pieces() -> None:
    def make_piece(number: int) -> bytes:
        details = [{"type": "reasoning.text", "index": 0, "text": f"d{number} "}]
        return event({"reasoning": f"r{number} ", "reasoning_details": details, "signature": "s"})

    with RawEndpoint(answering(*map(make_piece, range(3)), *HELLO)) as endpoint:
        (last,) = [one for one in begin(provider_of(endpoint)) if isinstance(one, Finished)]
    assert last.attached["fields"] == {
        "reasoning": "r0 r1 r2 ",
        "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "d0 d1 d2 "}],
        "signature": "s",
    }


def refused(words: str) -> bytes:
    """Return the chunk with which MiniMax refuses a request: its status is 200."""
    return of({"choices": None, "base_resp": {"status_code": 2013, "status_msg": words}})


def test_forbidden_content_is_not_sent_again_after_a_refusal_with_status_200() -> None:
    with StrictEndpoint(lambda number, body: [refused("input new_sensitive")]) as endpoint:
        assert failure_of(provider_of(endpoint)).reason == "provider_refused"
        assert len(endpoint.bodies) == 1


def test_a_conversation_is_shortened_after_a_refusal_with_status_200() -> None:
    too_long = refused("invalid params, context window exceeds limit")
    roles = ["user", "assistant"] * 8 + ["user"]
    messages = [{"role": role, "content": "x" * 800} for role in roles]
    with StrictEndpoint(lambda number, body: [too_long] if number == 1 else say("ok")) as endpoint:
        asked = ModelOptions(Cancellation())
        assert text_of(list(provider_of(endpoint).stream(messages, (), asked))) == "ok"
        first, second = (len(json.dumps(body)) for body in endpoint.bodies)
    assert second < first


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([of({"detail": "model is loading"}), DONE], "model is loading"),
        ([of({"code": 401, "msg": "bad token", "data": None}), DONE], "bad token"),
        ([of({"success": False, "message": "no quota left"}), DONE], "no quota left"),
        ([event({"content": "Hel"}), b"event: error\n" + of({"message": "boom"})], "boom"),
        ([event({"content": "Hel"}), of({"error": "overloaded"})], "overloaded"),
        (
            [event({}, "stop", base_resp={"status_code": 1026, "status_msg": "input sensitive"})],
            "input sensitive",
        ),
    ],
)
def test_what_an_endpoint_says_of_its_failure_is_passed_on(events: list[bytes], said: str) -> None:
    with RawEndpoint(answering(*events)) as endpoint:
        assert said in failure_of(provider_of(endpoint, max_retries=0)).message
