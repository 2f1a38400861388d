"""OpenAI's clients in Python and JavaScript, and Vercel's with its OpenAI provider, unchanged.

The server has two workers. Its model is a fake endpoint that counts its requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, create_key, write_config
from .npm_packages import Do, make_do

pytestmark = pytest.mark.e2e

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
CALL = 'TOOL=get_weather TOOLARGS={"city":"Oslo"}'
WEATHER: Any = {
    "type": "function", "name": "get_weather", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


class Place(BaseModel):
    city: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, fake_model: FakeOpenAI) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("sdks")
    write_config(data_dir, fake_model.base_url, agent="titles = false")
    with Server(data_dir) as made:
        yield made


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return create_key(server.data_dir, "chat")


@pytest.fixture
def client(server: Server, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=key, base_url=f"{server.url}/api/v1/openai/v1") as made:
        yield made


def ask(client: openai.OpenAI, given: Any, **options: Any) -> Any:
    return client.responses.create(**{"model": "default", "input": given, **options})


def test_chat_completions_support_create_stream_and_parse(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="default", messages=MESSAGES)
    assert whole.choices[0].message.content == "Hello from mock."
    with client.chat.completions.stream(model="default", messages=MESSAGES) as stream:
        said = stream.get_final_completion().choices[0].message.content
    assert said == "Hello from mock."
    parsed = client.chat.completions.parse(
        model="default",
        messages=[{"role": "user", "content": 'SAY={"city":"Oslo"}'}],
        response_format=Place,
    )
    assert parsed.choices[0].message.parsed == Place(city="Oslo")


def test_responses_support_create_stream_and_parse(client: openai.OpenAI) -> None:
    first = ask(client, "Hello")
    assert first.output_text == "Hello from mock."
    again = ask(client, "ECHO again", previous_response_id=first.id)
    assert again.output_text == "echo: ECHO again"
    with client.responses.stream(model="default", input="THINK") as stream:
        kinds = {event.type for event in stream}
        assert stream.get_final_response().output_text == "Hello from mock."
    assert "response.reasoning_summary_text.delta" in kinds
    parsed = client.responses.parse(model="default", input='SAY={"city":"Oslo"}', text_format=Place)
    assert parsed.output_parsed == Place(city="Oslo")


def test_tools_of_the_client_run_in_the_client(client: openai.OpenAI) -> None:
    called = ask(client, CALL, tools=[WEATHER])
    (call,) = (one for one in called.output if one.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    answered = ask(client, [result], tools=[WEATHER], previous_response_id=called.id)
    assert answered.output_text == "tool said: sunny"


def test_responses_of_a_conversation_share_its_items(client: openai.OpenAI) -> None:
    made = client.conversations.create(items=[{"role": "user", "content": "Hi"}])
    ask(client, "ECHO one", conversation=made.id)
    texts = [
        one.content[0].text  # type: ignore[union-attr]
        for one in client.conversations.items.list(made.id, order="asc", limit=2)
    ]
    assert texts == ["Hi", "ECHO one", "echo: ECHO one"]
    assert client.conversations.delete(made.id).deleted


def test_a_background_response_is_resumed_on_another_worker(
    server: Server, key: str, client: openai.OpenAI
) -> None:
    """The client closes the stream during the answer at one worker, and continues it at another."""
    body = {
        "model": "default", "input": "N=40 DELAY=100", "background": True, "stream": True,
    }  # fmt: skip
    path = "/api/v1/openai/responses"
    begun = server.request("POST", path, key, json=body, preload_content=False)
    worker, events = server.find_worker(begun), iter_events(begun)
    seen = [next(events)]
    response_id = seen[0]["response"]["id"]
    while seen[-1]["type"] != "response.output_text.delta":
        seen.append(next(events))
    begun.close()
    rest = None
    for _ in range(50):
        last = seen[-1]["sequence_number"]
        opened = server.request(
            "GET", f"{path}/{response_id}?stream=true&starting_after={last}", key,
            preload_content=False,
        )  # fmt: skip
        if server.find_worker(opened) != worker:
            rest = list(iter_events(opened))
            break
        opened.close()
    assert rest is not None, "no connection came to the other worker"
    seen += rest
    assert [one["sequence_number"] for one in seen] == list(range(len(seen)))
    assert seen[-1]["type"] == "response.completed"
    deltas = [one["delta"] for one in seen if one["type"] == "response.output_text.delta"]
    text = "".join(deltas)
    assert text.split() == [f"tok{number}" for number in range(40)]
    assert client.responses.retrieve(response_id).output_text == text


def test_a_background_response_is_cancelled_from_any_worker(client: openai.OpenAI) -> None:
    begun = ask(client, "N=600 DELAY=100", background=True)
    stopped = client.responses.cancel(begun.id)
    assert stopped.status == "cancelled"
    assert client.responses.retrieve(begun.id).status == "cancelled"


@pytest.mark.parametrize("mode", ["completions", "responses"])
def test_a_permanent_error_is_one_request_to_the_model(
    client: openai.OpenAI, fake_model: FakeOpenAI, mode: str
) -> None:
    """By default, the client sends a request up to three times."""
    assert client.max_retries == 2
    fake_model.reset()
    words: Any = [{"role": "user", "content": "FAIL=401"}]
    ask_model = {
        "completions": lambda: client.chat.completions.create(model="default", messages=words),
        "responses": lambda: ask(client, words),
    }
    with pytest.raises(openai.APIStatusError) as failed:
        ask_model[mode]()
    assert failed.value.status_code == 502
    assert len(fake_model.requests()) == 1
    with pytest.raises(openai.BadRequestError, match=r"temperature must be a number from 0 to 2"):
        ask(client, "Hello", temperature=3)
    assert len(fake_model.requests()) == 1


def iter_events(response: Any) -> Iterator[dict[str, Any]]:
    buffer = b""
    while chunk := response.read1():
        buffer += chunk
        *frames, buffer = buffer.split(b"\n\n")
        for frame in frames:
            lines = [line for line in frame.split(b"\n") if line.startswith(b"data: ")]
            if lines:
                yield json.loads(lines[0][6:])


@pytest.fixture(scope="module")
def do(server: Server, key: str) -> Do:
    """Run a job of ``npm/openai.mjs`` and return its result."""
    return make_do("openai.mjs", "openai", server, key)


def test_node_streams_completions_and_runs_tools(do: Do) -> None:
    assert do("completions") == {
        "text": "Hello from mock.", "streamed": "Hello from mock.",
        "tool": "tool said: sunny in Oslo",
    }  # fmt: skip


def test_node_streams_and_parses_responses_and_runs_tools(do: Do) -> None:
    found = do("responses")
    assert found["kinds"][-1] == "response.completed"
    assert {key: found[key] for key in ("text", "next", "city", "final", "tool")} == {
        "text": "Hello from mock.", "next": "echo: ECHO again", "city": "Oslo",
        "final": "Hello from mock.", "tool": "tool said: sunny",
    }  # fmt: skip


def test_node_resumes_a_background_response(do: Do) -> None:
    text = " ".join(f"tok{number}" for number in range(8))
    assert do("background") == {"text": text, "ended": "response.completed", "again": text}


def test_node_uses_conversations(do: Do) -> None:
    assert do("conversations") == {"items": ["user: Hello", "assistant: Hello from mock."]}


def test_node_sends_a_permanent_error_once(do: Do, fake_model: FakeOpenAI) -> None:
    fake_model.reset()
    assert do("fails")["status"] == 502
    assert len(fake_model.requests()) == 1


@pytest.mark.parametrize("provider", ["aisdk", "aisdkUnstored", "aisdkCompatible"])
def test_the_ai_sdk_chats_runs_tools_and_parses(do: Do, provider: str) -> None:
    """``@ai-sdk/openai`` with its default model, stored and not stored, and the compatible
    provider.
    """
    assert do(provider) == {
        "text": "Hello from mock.", "tool": "tool said: sunny in Oslo", "steps": 2,
        "again": "echo: ECHO again", "streamed": "Hello from mock.",
        "reasoning": "Let me think about it.", "finish": "stop", "object": "Oslo",
    }  # fmt: skip


def test_the_ai_sdk_shows_no_empty_text_beside_a_call(do: Do) -> None:
    assert [kind for kind in do("aisdkChat") if kind.startswith("t")] == [
        "tool-input-start", "tool-input-delta", "tool-input-end", "tool-call", "tool-result",
    ]  # fmt: skip
