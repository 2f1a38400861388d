"""Callers' own tools, response formats and parameters in OpenAI's format."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from astrbot_api import Tool
from astrbot_api.agent.provider import Delta, Finished, TextDelta, ToolCallDelta
from astrbot_api.testing import ScriptedModel
from astrbot_api.testing.fake_openai import FakeOpenAI

from .conftest import Api
from .test_openai import ask, connect, post

Make = Callable[..., tuple[Api, ScriptedModel]]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
USER = {"role": "user", "content": "How is it in Oslo?"}
CALL = {
    "id": "c1", "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
}  # fmt: skip
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
SCHEMA = {
    "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
    "additionalProperties": False,
}  # fmt: skip
STRICT = {
    "type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
}  # fmt: skip


def offer(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "a", **function}}]}


#: A call whose arguments lack their end.
CUT = [ToolCallDelta(0, "c1", "get_weather", '{"city": "Os'), Finished("length")]


def call_weather(messages: Any) -> Iterator[Delta]:
    if messages[-1]["role"] == "tool":
        yield TextDelta(f"It is {messages[-1]['content']}.")
    else:
        yield TextDelta("Let me look.")
        yield ToolCallDelta(0, "c1", "get_weather", '{"city": ')
        yield ToolCallDelta(0, arguments='"Oslo"}')


def test_a_client_tools_call_ends_the_turn_and_its_result_continues_it(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    with connect(api) as client:
        (choice,) = ask(client, USER["content"], tools=[WEATHER]).choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me look."
        (call,) = choice.message.tool_calls
        assert (call.id, call.function.name) == ("c1", "get_weather")
        assert json.loads(call.function.arguments) == {"city": "Oslo"}
        assert model.offered[0][-1] == "get_weather"
        said = choice.message.model_dump(exclude_none=True)
        answer = post(api, messages=[USER, said, RESULT], tools=[WEATHER]).get_json()
    assert answer["choices"][0]["message"]["content"] == "It is sunny."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert [one["role"] for one in model.seen[-1]][-3:] == ["user", "assistant", "tool"]
    assert model.seen[-1][-2]["tool_calls"] == [CALL]


@pytest.mark.parametrize(
    ("sent", "read"), [({"city": "Oslo"}, '{"city":"Oslo"}'), ({}, "{}"), (None, ""), ("", "")]
)
def test_arguments_of_an_earlier_call_may_be_an_object(
    make_scripted: Make, sent: Any, read: str
) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    function = {"name": "get_weather", "arguments": sent}
    called = {**CALLED, "tool_calls": [{**CALL, "function": function}]}
    assert post(api, messages=[USER, called, RESULT], tools=[WEATHER]).status_code == 200
    assert [one["role"] for one in model.seen[-1]][-3:] == ["user", "assistant", "tool"]
    assert model.seen[-1][-2]["tool_calls"][0]["function"]["arguments"] in (read, "{}")


@pytest.mark.parametrize("given", ["c1", "", None, "c\0"])
def test_results_of_calls_with_one_id_or_none_belong_to_the_calls_in_order(
    make_scripted: Make, given: str | None
) -> None:
    api, model = make_scripted("ok")
    called = {**CALLED, "tool_calls": [{**CALL, "id": given}] * 2}
    results = [{**RESULT, "tool_call_id": given, "content": text} for text in ("sun", "rain")]
    last = {**CALLED, "tool_calls": [{**CALL, "id": given}]}, {**results[0], "content": "fog"}
    messages = [USER, called, *results, *last]
    assert post(api, messages=messages, tools=[WEATHER]).status_code == 200
    *_, called, sun, rain, again, fog = model.seen[-1]
    ids = [one["id"] for message in (called, again) for one in message["tool_calls"]]
    assert "" not in ids
    assert ids[0] != ids[1]
    results = [(one["tool_call_id"], one["content"]) for one in (sun, rain, fog)]
    assert results == list(zip(ids, ("sun", "rain", "fog"), strict=True))


def test_values_without_effect_are_not_sent(passing: Api, fake_model: FakeOpenAI) -> None:
    empty = {"stop": [], "logprobs": False, "top_logprobs": 0, "modalities": ["text"]}
    assert post(passing, **empty, **offer(description=None)).status_code == 200
    sent = fake_model.requests()[-1]
    assert not empty.keys() & sent.keys()
    assert sent["tools"][-1]["function"] == {
        "name": "a", "description": "", "parameters": {"type": "object", "properties": {}},
    }  # fmt: skip


def test_a_stream_contains_the_calls_of_client_tools(make_scripted: Make) -> None:
    api, _ = make_scripted(call_weather)
    with (
        connect(api) as client,
        client.chat.completions.stream(
            model="default",
            messages=[USER],  # type: ignore[list-item]
            tools=[WEATHER],  # type: ignore[list-item]
        ) as stream,
    ):
        (choice,) = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Oslo"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_the_limit_cut_off_has_the_reason_length(
    make_scripted: Make, stream: bool
) -> None:
    """With any other reason, OpenAI's clients parse the arguments."""
    api, _ = make_scripted(CUT)
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
    asked: Any = {"model": "default", "messages": [USER], "tools": [strict]}

    def read_stream(client: openai.OpenAI) -> None:
        with client.chat.completions.stream(**asked) as chunks:
            chunks.until_done()

    def read_whole(client: openai.OpenAI) -> None:
        client.chat.completions.parse(**asked)

    with connect(api) as client, pytest.raises(openai.LengthFinishReasonError):
        (read_stream if stream else read_whole)(client)


def test_server_tools_run_together_with_client_tools(make_scripted: Make) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        yield ToolCallDelta(0, "c1", "get_weather", "{}")
        if messages[-1]["role"] == "user":
            yield ToolCallDelta(1, "d1", "dice", "{}")

    dice = Tool("dice", "Roll.", lambda arguments, context: "four")
    shadowed = Tool("get_weather", "Ours.", lambda arguments, context: pytest.fail("not run"))
    api, model = make_scripted(answer, tools=[dice, shadowed])
    message = post(api, tools=[WEATHER]).get_json()["choices"][0]["message"]
    assert message["content"] is None
    assert [one["id"] for one in message["tool_calls"]] == ["c1"]
    assert model.offered[0].count("get_weather") == 1
    assert "dice" in model.offered[0]
    assert [one["function"]["name"] for one in model.seen[1][-2]["tool_calls"]] == ["dice"]
    assert model.seen[1][-1] == {"role": "tool", "tool_call_id": "d1", "content": "four"}


def test_the_error_of_an_unknown_tool_lists_the_clients_tools(make_scripted: Make) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield ToolCallDelta(0, "c1", "weather", "{}")
        else:
            yield TextDelta("fine")

    api, model = make_scripted(answer)
    post(api, messages=[USER], tools=[WEATHER])
    listed = model.seen[-1][-1]["content"].partition("the tools are: ")[2].split(", ")
    assert listed == model.offered[0]
    assert "get_weather" in listed


def test_server_and_client_tools_together_have_a_limit(make_scripted: Make) -> None:
    api, model = make_scripted("fine")
    tools = [
        {"type": "function", "function": {**WEATHER["function"], "name": f"t{number}"}}
        for number in range(125)
    ]
    post(api, messages=[USER], tools=tools)
    assert model.offered[0][3:] == [f"t{number}" for number in range(125)]


BINARY = "\x7fELF\x00"
RESPONSES_CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
RESPONSES_RESULT = {"type": "function_call_output", "call_id": "c1"}
SDK_TOOL = {
    "type": "dynamic-tool", "toolName": "f", "toolCallId": "c1", "input": {},
    "state": "output-available", "output": BINARY,
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("openai/chat/completions", {"messages": [
            USER, {**CALLED, "content": BINARY}, {**RESULT, "content": BINARY}, USER]}),
        ("openai/responses", {"input": [
            USER, RESPONSES_CALL, {**RESPONSES_RESULT, "output": BINARY},
            {"role": "assistant", "content": BINARY}, USER]}),
        ("openai/responses", {"input": [USER, RESPONSES_CALL, {
            **RESPONSES_RESULT, "output": [{"type": "input_text", "text": BINARY}]}, USER]}),
        ("aisdk", {"id": "c", "messages": [
            {"id": "1", "role": "user", "parts": [{"type": "text", "text": "x"}]},
            {"id": "2", "role": "assistant",
             "parts": [{"type": "text", "text": BINARY}, SDK_TOOL]},
            {"id": "3", "role": "user", "parts": [{"type": "text", "text": "x"}]}]}),
    ],
)  # fmt: skip
def test_a_binary_result_does_not_end_a_conversation(
    make_scripted: Make, path: str, body: dict[str, Any]
) -> None:
    api, model = make_scripted("ok")
    answer = api.post(f"/api/v1/{path}", json={"model": "default", **body})
    assert answer.status_code == 200, answer.get_data()
    answer.get_data()
    said = [one["content"] for one in model.seen[0] if one["role"] in ("assistant", "tool")]
    assert set(filter(None, said)) == {"\x7fELF\ufffd"}


def test_the_last_message_may_have_any_role(make_scripted: Make) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    system = {"role": "developer", "content": "Be brief."}
    lead = "[Instructions of the application]\nBe brief.\n\n"
    for messages, seen in [
        ([system], [("user", "Be brief.")]),
        ([USER, system], [("user", lead + USER["content"])]),
        (
            [USER, {"role": "assistant", "content": "It"}],
            [("user", USER["content"]), ("assistant", "It")],
        ),
        ([USER, {**RESULT, "tool_call_id": "gone"}], [("user", USER["content"])]),
    ]:
        assert post(api, messages=messages).status_code == 200
        given = [(one["role"], one["content"]) for one in model.seen[-1]]
        assert [one for one in given if one[0] != "system"] == seen
    answer = post(api, messages=[USER, CALLED, RESULT], session_id="s")
    assert answer.status_code == 400
    assert "session" in answer.get_json()["error"]["message"]


def test_parameters_reach_the_models_endpoint(passing: Api, fake_model: FakeOpenAI) -> None:
    fields = {
        "temperature": 0.2, "top_p": 0.5, "stop": ["END"], "seed": 7, "presence_penalty": 1,
        "frequency_penalty": -1, "logit_bias": {"50256": -100}, "reasoning_effort": "low",
        "verbosity": "low", "parallel_tool_calls": False, "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "max_completion_tokens": 17,
    }  # fmt: skip
    assert post(passing, **fields).status_code == 200
    sent = fake_model.requests()[-1]
    assert {name: sent.get(name) for name in fields} == fields
    assert post(passing, max_tokens=1000, tools=[WEATHER], tool_choice="none").status_code == 200
    sent = fake_model.requests()[-1]
    assert sent["max_tokens"] == 50, "at most what the config says"
    assert not {"tools", "tool_choice", "response_format"} & sent.keys()
    post(passing, response_format=STRICT)
    assert fake_model.requests()[-1]["response_format"] == STRICT


def test_tool_choice_can_name_the_allowed_tools(passing: Api, fake_model: FakeOpenAI) -> None:
    # A list of tools in Pydantic AI's tool_choice.
    other = {"type": "function", "function": {"name": "other"}}
    named = {"mode": "required", "tools": [other, 7]}
    allowed = {"type": "allowed_tools", "allowed_tools": named}
    assert post(passing, tools=[WEATHER, other], tool_choice=allowed).status_code == 200
    sent = fake_model.requests()[-1]
    assert [one["function"]["name"] for one in sent["tools"]] == ["other"]
    assert sent["tool_choice"] == "required"


def test_a_call_stays_required_after_a_server_tools_call(
    make_api: Callable[..., Api], fake_model: FakeOpenAI
) -> None:
    """Structured output by tools needs one of the client's calls at the end."""
    api = make_api(
        f'[provider]\ntype = "openai"\nbase_url = "{fake_model.base_url}"\nmodel = "m"\n'
    )
    fake_model.reset()
    asked = [{"role": "user", "content": "TOOL=current_time"}]
    post(api, messages=asked, tools=[WEATHER], tool_choice="required")
    first, second = fake_model.requests()
    assert second["messages"][-1]["role"] == "tool"
    assert (first["tool_choice"], second["tool_choice"]) == ("required", "required")


@pytest.mark.parametrize(
    ("form", "text", "status"),
    [
        ({"type": "json_object"}, '{"b": 1}', 200),
        ({"type": "json_object"}, "Hello", 502),
        (STRICT, '{"a": "x"}', 200),
        (STRICT, '{"b": "x"}', 502),
        ({**STRICT, "json_schema": {"name": "n", "schema": SCHEMA}}, '{"b": 1}', 200),
        ({**STRICT, "json_schema": {"name": "n", "strict": True}}, '{"b": 1}', 200),
        (STRICT, ['{"a": "', Finished("length")], 200),
        (STRICT, ["Let me look.", ToolCallDelta(0, "c1", "get_weather", "{}")], 200),
    ],
)
def test_an_answer_has_the_requested_format(
    make_scripted: Make, form: dict[str, Any], text: Any, status: int
) -> None:
    api, _ = make_scripted(text)
    answer = post(api, response_format=form, tools=[WEATHER])
    assert answer.status_code == status
    streamed = post(api, response_format=form, tools=[WEATHER], stream=True).get_data(as_text=True)
    assert ('"error"' in streamed) == (status == 502)
    if status == 502:
        assert answer.headers["X-Should-Retry"] == "false"


def choose(choice: Any) -> dict[str, Any]:
    return {"tools": [WEATHER], "tool_choice": choice}


def form(given: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": given}}


FORM = "response_format.json_schema"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"temperature": True}, "temperature must"),
        ({"temperature": 2.1}, "temperature must"),
        ({"stop": [""]}, "stop must"),
        ({"stop": [7]}, "stop must"),
        ({"max_tokens": 0}, "max_tokens must"),
        ({"max_tokens": "many"}, "max_tokens must"),
        ({"logit_bias": {"x": 1}}, "logit_bias must"),
        ({"seed": 1.5}, "seed must"),
        ({"seed": -(2**63) - 1}, "seed must"),
        ({"logprobs": True}, "logprobs is"),
        ({"top_logprobs": 3}, "top_logprobs is"),
        ({"modalities": ["audio"]}, "modalities is"),
        ({"audio": {"voice": "x"}}, "audio is"),
        ({"function_call": {"name": "x"}}, "function_call is"),
        ({"web_search_options": {}}, "web_search_options is"),
        ({"tools": [WEATHER, WEATHER]}, "tools has the name get_weather twice"),
        (offer(name="a b"), "tools[0].function.name must"),
        (offer(name=7), "tools[0].function.name must"),
        (offer(parameters={"type": 7}), "tools[0].function.parameters is not"),
        (offer(parameters=True), "tools[0].function.parameters must"),
        (offer(description=7), "tools[0].function.description must"),
        (offer(strict="yes"), "tools[0].function.strict must"),
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        (choose("any"), "tool_choice must"),
        (choose({"type": "function", "function": {"name": "other"}}), "tool_choice must"),
        (choose({"type": "function", "function": 7}), "tool_choice must"),
        (choose({**WEATHER, "type": "custom"}), "tool_choice must"),
        (choose({"type": "allowed_tools", "allowed_tools": []}), "tool_choice must"),
        ({"response_format": {"type": "grammar"}}, "response_format.type must"),
        ({"response_format": "text"}, "response_format.type must"),
        (form(None), f"{FORM} must"),
        (form({"name": "a b"}), f"{FORM}.name must"),
        (form({"name": "n", "schema": 7}), f"{FORM}.schema must"),
        (form({"name": "n", "strict": "yes"}), f"{FORM}.strict must"),
    ],
)
def test_an_invalid_parameter_is_rejected_by_name(
    api: Api, body: dict[str, Any], words: str
) -> None:
    answer = post(api, **body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"].startswith(words)


def test_a_call_too_long_for_an_event_fails_the_turn(make_scripted: Make) -> None:
    long = json.dumps({"city": "x" * 130_000})
    api, _ = make_scripted(lambda messages: iter([ToolCallDelta(0, "c", "get_weather", long)]))
    with connect(api) as client, pytest.raises(openai.InternalServerError) as failed:
        ask(client, "x", tools=[WEATHER])
    assert failed.value.code == "provider_error"


def test_a_custom_agent_rejects_parameters_of_models(
    make_api: Callable[..., Api], new_database: Any, tmp_path: Any
) -> None:
    from astrbot_api.testing import make_app

    asked = threading.Event()

    def agent(messages: Any, context: Any) -> Iterator[str]:
        asked.set()
        yield "ok"

    made = make_app(data_dir=tmp_path, agent=agent, **new_database())
    api = Api(made.app, made.model, made.key)
    try:
        assert post(api, tools=[WEATHER]).status_code == 400
        assert post(api, response_format=STRICT).status_code == 400
        assert not asked.is_set()
        assert post(api, temperature=1).status_code == 200
    finally:
        api.close()


def test_the_total_size_of_schemas_is_limited(api: Api) -> None:
    many = {f"p{number}": {} for number in range(11_000)}
    tools = [
        {"type": "function", "function": {"name": f"t{half}", "parameters": {"properties": many}}}
        for half in range(2)
    ]
    for asked in (
        {"tools": tools},
        {"response_format": {"type": "json_schema", "json_schema": {
            "name": "n", "schema": {"properties": {**many, "more": {"enum": [0] * 9_000}}}}}},
    ):  # fmt: skip
        answer = post(api, messages=[{"role": "user", "content": "x"}], **asked)
        assert answer.status_code == 400
        assert "has more than 20000 members" in answer.get_json()["error"]["message"]
