"""What frameworks send to OpenAI's API, and what they read in its errors."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest

from astrbot_api import Tool
from astrbot_api.agent.provider import ToolCallDelta
from astrbot_api.errors import ProviderError
from astrbot_api.http import sse
from astrbot_api.providers.failures import TOO_LONG
from astrbot_api.testing import ScriptedModel

from ..contract.wire import PNG
from .conftest import Api
from .openai_responses import WEATHER, read_events
from .openai_responses import ask as ask_response
from .openai_responses import post as post_response
from .test_openai import PATH, ask, connect, nothing_is_left, post

Make = Callable[..., tuple[Api, ScriptedModel]]

#: Content of a user's message that some clients add to instructions.
EMPTY: list[Any] = ["", " \n", None, [], [{"type": "text", "text": ""}]]

CALL: dict[str, Any] = {
    "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"},
}  # fmt: skip


def texts_of(model: ScriptedModel) -> list[tuple[str, str]]:
    """Return role and text of the messages of the last request to the model."""
    found = []
    for one in model.seen[-1]:
        content = one["content"]
        text = content if isinstance(content, str) else (content or [{"text": ""}])[-1]["text"]
        found.append((one["role"], text))
    return found


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        ({"reason": "provider_rate_limited", "retry_after_s": 7}, openai.RateLimitError,
         "provider_rate_limited"),
        ({"reason": "context_length_exceeded"}, openai.BadRequestError, "context_length_exceeded"),
        ({"reason": "provider_refused"}, openai.BadRequestError, "provider_refused"),
        ({}, openai.InternalServerError, "provider_error"),
    ],
)  # fmt: skip
def test_a_stream_that_fails_before_its_first_output_has_the_status_of_the_error(
    make_scripted: Make, failure: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    """Frameworks repeat a request, or shorten it, by the class of the error. LiteLLM repeats each
    stream that fails.
    """
    api, _ = make_scripted([ProviderError("no", **failure)])
    with connect(api) as client, pytest.raises(kind) as failed:
        ask(client, "Hello", stream=True)
    assert failed.value.code == code
    headers = failed.value.response.headers
    assert headers.get("Retry-After") == ("7" if "retry_after_s" in failure else None)
    assert headers.get("X-Should-Retry") == ("false" if code == "provider_error" else None)
    assert nothing_is_left(api)


def test_a_stream_that_fails_after_a_tool_ran_is_not_repeated(make_scripted: Make) -> None:
    ran = []
    pay = Tool("pay", "Pays.", lambda arguments, context: str(ran.append(arguments)))
    limited = ProviderError("no", reason="provider_rate_limited")
    api, _ = make_scripted(
        lambda messages: [limited if len(messages) > 2 else ToolCallDelta(0, "c", "pay", "{}")],
        tools=[pay],
    )
    answered = post(api, stream=True)
    assert answered.status_code == 200
    *_, failed, done = answered.get_data(as_text=True).strip().split("\n\n")
    assert json.loads(failed.removeprefix("data: "))["error"]["code"] == "provider_rate_limited"
    assert done == "data: [DONE]"
    assert ran == [{}]


def test_a_stream_of_a_silent_model_starts(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "_MAX_START_S", 0.05)
    started = threading.Event()
    api, _ = make_scripted([started, "ok"])
    pieces = iter(post(api, stream=True).response)
    assert b'"role":"assistant"' in next(pieces)
    started.set()
    assert b'"content":"ok"' in b"".join(pieces)


def test_models_and_chunks_have_the_fields_that_clients_of_other_services_require(
    api: Api,
) -> None:
    """mistralai accepts no model without the first two, cerebras-cloud-sdk no chunk without the
    last one.
    """
    (model,) = api.get("/api/v1/openai/models").get_json()["data"]
    assert (model["type"], type(model["capabilities"])) == ("base", dict)
    assert api.get("/api/v1/openai/models/default").get_json() == model
    *chunks, _, _ = post(api, stream=True).get_data(as_text=True).split("\n\n")
    assert len(chunks) > 2
    for chunk in chunks:
        fingerprint = json.loads(chunk.removeprefix("data: "))["system_fingerprint"]
        assert isinstance(fingerprint, str)


@pytest.mark.parametrize(
    "words",
    [
        "exceeds the context window",  # langchain-openai
        "this model's maximum context length is",  # LiteLLM, Aider
        "maximum context length",  # crewai, agno, gptme
    ],
)
def test_frameworks_find_their_words_in_the_error_of_a_conversation_that_is_too_long(
    words: str,
) -> None:
    assert words in TOO_LONG


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("context_length_exceeded", "context_length_exceeded"),
        ("provider_refused", "invalid_prompt"),
    ],
)
def test_a_response_that_would_fail_again_has_openais_code(
    make_scripted: Make, reason: str, code: str
) -> None:
    """Codex repeats a response that failed with most other codes."""
    api, _ = make_scripted([ProviderError("no", reason=reason)])
    *_, error, last = read_events(post_response(api, stream=True).get_data())
    assert (error["type"], error["code"], error["error"]["code"]) == ("error", code, code)
    assert last["type"] == "response.failed"
    with connect(api) as client:
        again = client.responses.retrieve(last["response"]["id"])
        with pytest.raises(openai.APIError) as raised:  # LangChain ignores the last event
            list(ask_response(client, "Hello", stream=True))
    assert again.error.code == last["response"]["error"]["code"] == code  # type: ignore[union-attr]
    assert raised.value.code == code


@pytest.mark.parametrize("content", EMPTY)
def test_a_completion_of_instructions_and_an_empty_message_answers_the_instructions(
    make_scripted: Make, content: Any
) -> None:
    api, model = make_scripted("ok")
    messages = [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": content}]
    assert post(api, messages=messages).status_code == 200
    assert texts_of(model)[-1] == ("user", "Rhyme.")
    answer = post(api, messages=messages[1:])
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "message_empty")


@pytest.mark.parametrize("content", ["", [], [{"type": "input_text", "text": ""}]])
def test_a_response_of_instructions_and_an_empty_message_answers_the_instructions(
    make_scripted: Make, content: Any
) -> None:
    """pydantic-ai sends this for an agent without a prompt."""
    api, model = make_scripted("ok")
    given = [{"role": "user", "content": content}]
    with connect(api) as client:
        ask_response(client, given, instructions="Rhyme.")
        assert texts_of(model)[-1] == ("user", "Rhyme.")
        with pytest.raises(openai.BadRequestError) as failed:
            ask_response(client, given)
    assert failed.value.code == "message_empty"


def test_an_empty_message_after_others_reaches_the_model(make_scripted: Make) -> None:
    """The automatic reply of AutoGen's UserProxyAgent is empty."""
    api, model = make_scripted("ok")
    said = [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": ""},
    ]  # fmt: skip
    seen = [("user", "Hi"), ("assistant", "Hello"), ("user", "(no text)")]
    assert post(api, messages=said).status_code == 200
    assert texts_of(model)[-3:] == seen
    answered = api.post("/api/v1/openai/responses", json={"model": "default", "input": said})
    assert answered.status_code == 200
    assert texts_of(model)[-3:] == seen
    in_session = post(api, messages=said, session_id="s1")
    assert in_session.json["error"]["code"] == "message_empty"


@pytest.mark.parametrize("text", ["", "Look"])
def test_a_picture_with_a_text_of_its_own_is_not_empty(make_scripted: Make, text: str) -> None:
    """Some clients send all fields of a part, so those of other types are empty."""
    api, model = make_scripted("ok", provider='modalities = ["text", "image"]')
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    rules = {"role": "system", "content": "Rhyme."}
    picture = {"type": "image_url", "image_url": {"url": url}, "text": text}
    assert post(api, messages=[rules, {"role": "user", "content": [picture]}]).status_code == 200
    shown = {"type": "input_image", "image_url": url, "text": text}
    body = {"model": "default", "input": [rules, {"role": "user", "content": [shown]}]}
    assert api.post("/api/v1/openai/responses", json=body).status_code == 200
    for seen in model.seen:
        assert [part["type"] for part in seen[-1]["content"]] == ["text", "image_url"]


@pytest.mark.parametrize("file_id", ["", None])
def test_a_file_with_data_and_an_empty_id_is_read(api: Api, file_id: str | None) -> None:
    file = {"file_id": file_id, "file_data": "data:text/plain;base64,cGxhbg=="}
    parts = [{"type": "text", "text": "ECHO"}, {"type": "file", "file": file}]
    answer = post(api, messages=[{"role": "user", "content": parts}]).get_json()
    assert "Attachment: name file" in answer["choices"][0]["message"]["content"]
    assert "plan" in answer["choices"][0]["message"]["content"]


def test_an_empty_message_continues_a_thread(make_scripted: Make) -> None:
    api, model = make_scripted("ok")
    with connect(api) as client:
        first = ask_response(client, [{"role": "user", "content": "Hi"}])
        for more in ({}, {"instructions": "Rhyme."}):
            client.responses.create(
                model="default", input="", previous_response_id=first.id, **more
            )
            assert texts_of(model)[-1] == ("user", "(no text)")


def test_a_thread_may_continue_with_the_message_again_and_all_results(make_scripted: Make) -> None:
    """Semantic Kernel's agents stream this."""
    calls = [ToolCallDelta(0, "a", "get_weather", "{}"), ToolCallDelta(1, "b", "get_weather", "{}")]
    scripts: list[Any] = [calls, [ToolCallDelta(0, "c", "get_weather", "{}")], ["ok"]]
    api, model = make_scripted(lambda messages: scripts.pop(0))
    given: list[Any] = [{"role": "user", "content": "Weather?"}]
    previous: dict[str, Any] = {}
    with connect(api) as client:
        for results in ([], ["a", "b"], ["c"]):
            given += [
                {"type": "function_call_output", "call_id": one, "output": f"of {one}"}
                for one in results
            ]
            answer = ask_response(client, given, tools=[WEATHER], **previous)
            previous = {"previous_response_id": answer.id}
    assert answer.output_text == "ok"
    asked, called = ("user", "Weather?"), ("assistant", "")
    assert texts_of(model)[1:] == [
        asked, asked, called, ("tool", "of a"), ("tool", "of b"), asked, called, ("tool", "of c"),
    ]  # fmt: skip


@pytest.mark.parametrize("instructions", ["", "Be kind."])
def test_the_model_gets_a_greeting_before_the_first_message(
    make_scripted: Make, instructions: str
) -> None:
    """Many chat programs and voice agents let the assistant begin."""
    api, model = make_scripted("ok")
    said = [
        {"role": "assistant", "content": "What is your name?"}, {"role": "user", "content": "Ann"},
    ]  # fmt: skip
    seen = [("assistant", "What is your name?"), ("user", "Ann")]
    lead = []
    if instructions:
        said.insert(0, {"role": "system", "content": instructions})
        lead = [("user", "[Instructions of the application]\nBe kind.")]
    for path, field in ((PATH, "messages"), ("/api/v1/openai/responses", "input")):
        assert api.post(path, json={"model": "default", field: said}).status_code == 200
        assert texts_of(model)[1:] == [*lead, *seen]


def test_a_thread_that_begins_with_instructions_contains_their_answer(make_scripted: Make) -> None:
    api, model = make_scripted("What is your name?")
    with connect(api) as client:
        first = ask_response(client, [{"role": "developer", "content": "Greet."}])
        ask_response(client, "Ann", previous_response_id=first.id)
    assert texts_of(model)[-2:] == [("assistant", "What is your name?"), ("user", "Ann")]


def test_results_of_calls_continue_instructions_without_a_message(make_scripted: Make) -> None:
    """The second request of an agent without a prompt."""
    api, model = make_scripted("ok")
    given = [
        {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
    ]
    with connect(api) as client:
        ask_response(client, given, instructions="Report.", tools=[WEATHER])
    assert texts_of(model)[-3:] == [("user", "Report."), ("assistant", ""), ("tool", "sunny")]
    messages = [
        {"role": "system", "content": "Report."}, {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]  # fmt: skip
    assert api.post(PATH, json={"model": "default", "messages": messages}).status_code == 200
    assert texts_of(model)[-3:] == [("user", "Report."), ("assistant", ""), ("tool", "sunny")]
