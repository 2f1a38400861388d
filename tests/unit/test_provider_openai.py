"""Requests to an OpenAI-compatible endpoint, and the meaning of its responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from astrbot_api.agent.provider import Delta, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from astrbot_api.errors import ProviderError
from astrbot_api.testing.fake_openai import FakeOpenAI

from .openai_asking import HELLO, TOOL, answer_to, ask, begin, failure_of, provider_of, text_of
from .raw_endpoint import DONE, Connection, RawEndpoint, answering, event


@pytest.fixture
def fake(fake_model: FakeOpenAI) -> FakeOpenAI:
    fake_model.reset()
    return fake_model


# -- requests ----------------------------------------------------------------


def test_request_says_what_it_must_and_no_more(fake: FakeOpenAI) -> None:
    ask(provider_of(fake), "hi")
    assert fake.requests() == [
        {
            "model": "some-model",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


#: A tool that the endpoint runs itself. Source: Zhipu's API reference.
SEARCH = {"type": "web_search", "web_search": {"enable": True}}


def test_tools_are_offered_when_there_are_some(fake: FakeOpenAI) -> None:
    ask(provider_of(fake), tools=(TOOL,))
    assert fake.requests()[0]["tools"] == [TOOL]


@pytest.mark.parametrize("tools", [(), (TOOL,)])
def test_an_endpoints_own_tools_are_offered_beside_those_of_the_turn(
    fake: FakeOpenAI, tools: tuple[Any, ...]
) -> None:
    ask(provider_of(fake, extra={"tools": [SEARCH]}), tools=tools)
    assert fake.requests()[0]["tools"] == [SEARCH, *tools]


def test_a_rejected_tool_is_omitted_beside_the_endpoints_own_tools() -> None:
    asked: list[Any] = []

    def handle(connection: Connection) -> None:
        asked.append(json.loads(connection.read_request()[1])["tools"])
        if len(asked) < 3:
            message = ("strict is not supported", "Invalid schema for function 'look'")
            connection.send_json(400, {"error": {"message": message[len(asked) - 1]}})
        else:
            connection.send_stream(*HELLO)

    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    with RawEndpoint(handle) as endpoint:
        ask(provider_of(endpoint, extra={"tools": [SEARCH]}), tools=(strict,))
    assert asked == [[SEARCH, strict], [SEARCH, TOOL], [SEARCH]]


def test_extra_fields_of_the_call_win_over_those_of_the_config(fake: FakeOpenAI) -> None:
    provider = provider_of(fake, extra={"temperature": 1, "seed": 7})
    ask(provider, extra={"temperature": 0})
    body = fake.requests()[0]
    assert (body["temperature"], body["seed"]) == (0, 7)


def test_model_of_the_call_wins_over_that_of_the_config(fake: FakeOpenAI) -> None:
    ask(provider_of(fake), model="other-model")
    assert fake.requests()[0]["model"] == "other-model"


def test_text_with_half_a_character_can_be_asked_about(fake: FakeOpenAI) -> None:
    ask(provider_of(fake), "half \ud83d")
    assert fake.requests()[0]["messages"][0]["content"] == "half \ud83d"


def test_first_listed_model_is_used_where_none_is_named_and_asked_for_once() -> None:
    asked: list[str] = []

    def handle(connection: Connection) -> None:
        for head, body in connection.iter_requests():
            asked.append(head.split(" HTTP")[0])
            if head.startswith("GET"):
                connection.send_json(200, {"data": [{"id": "alpha"}, {"id": "beta"}]})
            else:
                assert json.loads(body)["model"] == "alpha"
                connection.send_stream(*HELLO)

    with RawEndpoint(handle) as endpoint:
        provider = provider_of(endpoint, model="")
        ask(provider)
        ask(provider)
    assert asked == ["GET /v1/models"] + ["POST /v1/chat/completions"] * 2


def test_headers_of_the_config_replace_the_usual_ones(caplog: pytest.LogCaptureFixture) -> None:
    heads: list[str] = []

    def handle(connection: Connection) -> None:
        heads.append(connection.read_request()[0].lower())
        connection.send_json(422, {"error": {"message": "bad header a-long-secret-1"}})

    headers = {"user-agent": "me/1.0", "Authorization": "Basic a-long-secret-1"}
    with RawEndpoint(handle) as endpoint:
        error = failure_of(provider_of(endpoint, headers=headers))
    (head,) = heads
    assert "user-agent: me/1.0\r\n" in head
    assert "authorization: basic a-long-secret-1\r\n" in head
    assert "astrbot-api" not in head
    assert "bearer" not in head
    assert "a-long-secret" not in error.message + caplog.text


@pytest.mark.parametrize(
    ("status", "value", "message"),
    [
        (404, {}, "The config names no model, and its endpoint's list of models could not "
         "be read: The model's endpoint refused the request (HTTP 404). Check "
         "base_url in the config."),
        (200, {"data": []}, "The config names no model, and its endpoint lists none."),
        (200, [], "The config names no model, and its endpoint lists none."),
    ],
)  # fmt: skip
def test_missing_list_of_models_is_a_clear_failure(status: int, value: Any, message: str) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send_json(status, value)

    with RawEndpoint(handle) as endpoint, pytest.raises(ProviderError) as caught:
        ask(provider_of(endpoint, model=""))
    assert caught.value.message == message


def test_endpoint_without_stream_options_is_asked_without_them_from_then_on() -> None:
    asked: list[bool] = []

    def handle(connection: Connection) -> None:
        for _, body in connection.iter_requests():
            asked.append("stream_options" in json.loads(body))
            if asked[-1]:
                error = {"message": "Unrecognized request argument: stream_options"}
                connection.send_json(400, {"error": error})
            else:
                connection.send_stream(*HELLO)

    with RawEndpoint(handle) as endpoint:
        provider = provider_of(endpoint)
        assert text_of(ask(provider)) == "Hello"
        assert text_of(ask(provider)) == "Hello"
    assert asked == [True, False, False]


TOOLS = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice to be set'),
        (500, "tools param requires --jinja flag"),
        (404, "No endpoints found that support tool use."),
    ],
)
def test_model_that_takes_no_tools_is_asked_without_them_from_then_on(
    status: int, message: str
) -> None:
    asked: list[bool] = []

    def handle(connection: Connection) -> None:
        for _, body in connection.iter_requests():
            asked.append("tools" in json.loads(body))
            if asked[-1]:
                connection.send_json(status, {"error": {"message": message}})
            else:
                connection.send_stream(*HELLO)

    with RawEndpoint(handle) as endpoint:
        provider = provider_of(endpoint)
        assert text_of(ask(provider, tools=TOOLS)) == "Hello"
        assert text_of(ask(provider, tools=TOOLS)) == "Hello"
    assert asked == [True, False, False]


def test_another_fault_in_a_request_with_tools_is_reported() -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        message = "Invalid schema for function 'f' in tools[0]: 'x' is a required property"
        connection.send_json(400, {"error": {"message": message}})

    with RawEndpoint(handle) as endpoint, pytest.raises(ProviderError) as caught:
        ask(provider_of(endpoint), tools=TOOLS)
    assert "refused the request (HTTP 400)" in caught.value.message


# -- responses ---------------------------------------------------------------


def test_answer_comes_in_tokens_and_usage_last(fake: FakeOpenAI) -> None:
    assert ask(provider_of(fake)) == [
        *map(TextDelta, ("Hello", " from", " mock", ".")),
        Usage(input_other=10, input_cached=0, output=4),
    ]


def test_reasoning_is_separated_from_the_answer(fake: FakeOpenAI) -> None:
    deltas = ask(provider_of(fake), "THINK N=1")
    assert deltas[:-1] == [
        *map(ReasoningDelta, ("Let me", " think", " about it.")),
        TextDelta("tok0"),
    ]


def test_tool_call_comes_whole(fake: FakeOpenAI) -> None:
    deltas = ask(provider_of(fake), 'TOOL TOOLARGS={"a":1}', tools=(TOOL,))
    assert deltas[:-1] == [
        ToolCallDelta(0, "call_mock_1", "look", '{"a":1}'),
    ]


def test_null_fields_and_empty_choices_are_nothing() -> None:
    nothing = {"content": None, "reasoning_content": None, "tool_calls": None}
    assert answer_to(
        event(nothing | {"role": "assistant"}, usage=None),
        b'data: {"choices": null}\n\n',
        b'data: {"choices": [{"delta": null}]}\n\n',
        b": a comment\n\n",
        *HELLO,
    ) == [TextDelta("Hello")]


def test_reasoning_is_known_by_its_other_name() -> None:
    assert answer_to(event({"reasoning": "hm"}), *HELLO)[0] == ReasoningDelta("hm")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, Usage(9, 0, 2)),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(5, 4, 0),
        ),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 6}, Usage(3, 6, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, Usage(9, 0, 0)),
        ({"prompt_tokens": None}, Usage()),
    ],
)
def test_usage_counts_cached_tokens_apart(usage: dict[str, Any], expected: Usage) -> None:
    assert answer_to(*HELLO[:2], event(usage=usage), DONE)[-1] == expected


def test_running_usage_counts_once() -> None:
    running = [event({"content": "x"}, usage={"completion_tokens": n}) for n in (1, 2, 3)]
    usages = [one for one in answer_to(*running, *HELLO) if isinstance(one, Usage)]
    assert usages == [Usage(output=3)]


def call(**fields: Any) -> dict[str, Any]:
    return {"type": "function", **fields}


@pytest.mark.parametrize(
    "pieces",
    [
        [[call(index=0, id="a", function={"name": "f", "arguments": "{}"})],
         [call(index=1, id="b", function={"name": "g", "arguments": "{}"})]],
        [[call(id="a", function={"name": "f", "arguments": "{}"}),
          call(id="b", function={"name": "g", "arguments": "{}"})]],
        [[call(index=0, id="a", function={"name": "f", "arguments": "{}"})],
         [call(index=0, id="b", function={"name": "g", "arguments": "{}"})]],
        [[call(index=None, id="a", function={"name": "f", "arguments": {}})],
         [call(id="b", function={"name": "g"})], [call(function={"arguments": "{}"})]],
    ],
    ids=["one by one", "no index, at once", "always index 0", "no index, arguments later"],
)  # fmt: skip
def test_tool_calls_are_kept_apart(pieces: list[Any]) -> None:
    deltas = answer_to(*(event({"tool_calls": one}) for one in pieces), event({}, "tool_calls"))
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        assert isinstance(delta, ToolCallDelta)
        known = calls.setdefault(delta.index, ["", "", ""])
        for at, text in enumerate((delta.id, delta.name, delta.arguments)):
            known[at] += text
    assert calls == {0: ["a", "f", "{}"], 1: ["b", "g", "{}"]}


def test_tool_call_without_an_id_is_given_one() -> None:
    nameless = event({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]})
    (delta,) = answer_to(nameless, event({}, "tool_calls"))
    assert isinstance(delta, ToolCallDelta)
    assert delta.id.startswith("call_")


def test_whole_completion_is_understood_in_place_of_a_stream() -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm"}
    value = {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }

    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send_json(200, value)

    with RawEndpoint(handle) as endpoint:
        assert ask(provider_of(endpoint)) == [
            ReasoningDelta("hm"),
            TextDelta("Hello"),
            Usage(3, 0, 1),
        ]


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_thinking_inside_the_content_is_separated_from_the_answer(step: int) -> None:
    text = "\n<think>\nso <b> </thin k>\n</think>\n\nThe <think>answer</think>"
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    deltas = answer_to(*(event({"content": piece}) for piece in pieces), *HELLO[1:])
    thought = "".join(one.text for one in deltas if isinstance(one, ReasoningDelta))
    assert thought == "so <b> </thin k>\n"
    assert text_of(deltas) == "The <think>answer</think>"


@pytest.mark.parametrize(
    "text",
    [
        "<thin", "<b>x", " \nx", "x <think>y</think>", "<",
        "x <|START_THINKING|>y<|END_THINKING|> z",
    ],
)  # fmt: skip
def test_content_that_does_not_begin_with_the_tag_is_left_as_it_is(text: str) -> None:
    deltas = answer_to(*(event({"content": one}) for one in text), *HELLO[1:])
    assert text_of(deltas) == text


def test_thinking_that_is_cut_short_is_thinking() -> None:
    cut = (event({"content": "<think>hm </th"}), event({}, "length"), DONE)
    found: list[Delta] = []
    with RawEndpoint(answering(*cut)) as endpoint:
        stream = begin(provider_of(endpoint))
        with pytest.raises(ProviderError, match="thought, but gave no answer"):
            found.extend(stream)
    assert found[:2] == [ReasoningDelta("hm "), ReasoningDelta("</th")]


def test_character_cut_between_two_deltas_is_joined() -> None:
    deltas = answer_to(event({"content": "a\ud83d"}), event({"content": "\ude00b"}), *HELLO[1:])
    assert deltas == [TextDelta("a"), TextDelta("😀b")]


@pytest.mark.parametrize("channel", ["content", "reasoning_content"])
def test_half_character_without_its_other_half_is_replaced(channel: str) -> None:
    halves = [
        event({channel: "a\ud83d"}),
        event({channel: "b\ude00"}),
        event({channel: "\ud83d"}),
        event({"content": "." if channel == "reasoning_content" else ""}),
    ]
    texts = [one.text for one in answer_to(*halves, *HELLO[1:])]  # type: ignore[union-attr]
    assert [one for one in texts if one != "."] == ["a", "\ufffdb\ufffd", "\ufffd"]


def test_half_a_character_in_arguments_is_repaired_too() -> None:
    pieces = [{"index": 0, "function": {"name": "f", "arguments": '"\ud83d'}},
              {"index": 0, "function": {"arguments": '\ude00\ud83d'}}]  # fmt: skip
    deltas = answer_to(*(event({"tool_calls": [one]}) for one in pieces), *HELLO[1:])
    arguments = [one.arguments for one in deltas if isinstance(one, ToolCallDelta)]
    assert "".join(arguments) == '"😀\ufffd'
