"""Every entry point of a server works for a config that uses an AstrBot."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from astrbot_api.testing import FakeAstrBot

from ..servers import parse_events
from ..waiting import LIMIT_S, wait_for
from ..websocket import WebSocketClient, handshake
from . import test_agui, test_aisdk
from .conftest import Api
from .test_guard_rails import make_key, refusal, say
from .test_upstream import text_of


@pytest.fixture
def astrbot() -> Iterator[FakeAstrBot]:
    with FakeAstrBot() as fake:
        yield fake


@pytest.fixture
def api(make_api: Callable[..., Api], astrbot: FakeAstrBot) -> Api:
    """An application whose default config uses that AstrBot."""
    table = f'[upstream]\nbase_url = "{astrbot.url}"\napi_key = "{astrbot.key}"\n'
    return make_api(f'name = "default"\n{table}')


@pytest.fixture
def client(api: Api, serve: Callable[[Api], int]) -> Iterator[openai.OpenAI]:
    """OpenAI's own client for that application."""
    url = f"http://127.0.0.1:{serve(api)}/api/v1/openai"
    with openai.OpenAI(base_url=url, api_key=api.key, max_retries=0) as made:
        yield made


def test_a_keys_rules_are_checked_before_astrbot_is_called(api: Api, astrbot: FakeAstrBot) -> None:
    assert refusal(say(api, "abk_none")) == (401, "invalid_api_key")
    assert refusal(say(api, api.create_key("file"))) == (403, "insufficient_scope")
    bound = make_key(api, username="bob")
    assert refusal(say(api, bound)) == (403, "key_restricted")
    assert refusal(say(api, make_key(api, configs=["other"]))) == (403, "key_restricted")
    assert not astrbot.asked
    assert say(api, bound, username="bob").status_code == 200
    assert [one[0] for one in astrbot.asked] == ["bob"]


def test_a_budget_counts_the_tokens_reported_by_astrbot(api: Api, astrbot: FakeAstrBot) -> None:
    by_tokens = make_key(api, tokens_per_day=24)  # 20 for the question and 4 for the answer
    assert say(api, by_tokens).status_code == 200
    assert refusal(say(api, by_tokens)) == (429, "budget_exhausted")
    by_turns = make_key(api, max_turns=1)
    assert say(api, by_turns, session_id="s").status_code == 200
    assert refusal(say(api, by_turns, session_id="s")) == (429, "budget_exhausted")
    assert len(astrbot.asked) == 2


def test_a_stream_resumes_during_and_after_the_answer(api: Api, astrbot: FakeAstrBot) -> None:
    answer = api.post_chat(username="alice", message="DELAY=20 N=20")
    stream = iter(answer.response)
    seen = b""
    while b"tok1" not in seen:
        seen += next(stream)
    run_id = next(one["data"]["run_id"] for one in parse_events(seen + b"\n\n")
                  if one["type"] == "run_started")  # fmt: skip
    last_id = [line[4:] for line in seen.split(b"\n") if line.startswith(b"id: ")][-1].decode()
    headers = {"X-API-Key": api.key, "Last-Event-ID": last_id}
    path = f"/api/v1/chat/runs/{run_id}/stream"
    rest = api.client.get(path, headers=headers).get_data()
    said = text_of(parse_events(seen)) + text_of(parse_events(rest))
    assert said.split() == [f"tok{number}" for number in range(20)]
    assert api.client.get(path, headers=headers).get_data() == rest
    b"".join(stream)
    assert len(astrbot.asked) == 1


def test_a_repeated_request_joins_the_turn_that_astrbot_answers(
    api: Api, astrbot: FakeAstrBot
) -> None:
    headers = {"X-API-Key": api.key, "Idempotency-Key": "k1"}
    body = {"username": "alice", "message": "DELAY=20 N=10", "response_mode": "blocking"}
    found: list[Any] = []

    def ask() -> None:
        answer = api.app.test_client().post("/api/v1/chat", headers=headers, json=body)
        found.append(answer.get_json()["data"])

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    first, second = found
    assert first["message"].split() == [f"tok{number}" for number in range(10)]
    assert first["message_id"] == second["message_id"]
    assert len(astrbot.asked) == 1


def test_a_websocket_runs_turns_of_astrbot(api: Api, serve: Callable[[Api], int]) -> None:
    with WebSocketClient(serve(api), handshake(api.key)) as socket:
        for message in ("ECHO one", "ECHO two"):
            socket.send({"username": "alice", "session_id": "s", "message": message})
            events = list(socket.iter_turn())
            assert text_of(events) == f"echo: {message}"


def test_openais_chat_completions_stream_astrbots_answer(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="default", stream=True, stream_options={"include_usage": True},
        messages=[{"role": "user", "content": "N=3 please"}],
    )  # fmt: skip
    chunks = list(stream)
    said = [one.choices[0].delta.content or "" for one in chunks if one.choices]
    assert "".join(said) == "tok0 tok1 tok2"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


def test_a_failure_of_astrbot_is_an_openai_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "FAIL=401"}]
        )
    assert raised.value.status_code == 502


def test_responses_continue_in_astrbots_session(
    client: openai.OpenAI, astrbot: FakeAstrBot
) -> None:
    first = client.responses.create(model="default", input="ECHO one")
    with client.responses.stream(
        model="default", input="ECHO two", previous_response_id=first.id
    ) as stream:
        second = stream.get_final_response()
    assert (first.output_text, second.output_text) == ("echo: ECHO one", "echo: ECHO two")
    (one, two) = astrbot.asked
    assert one[1] == two[1]  # AstrBot has the history
    assert two[2] == "ECHO two"
    assert client.responses.retrieve(second.id).output_text == "echo: ECHO two"


def test_cancelling_a_background_response_stops_it_in_astrbot(
    client: openai.OpenAI, astrbot: FakeAstrBot
) -> None:
    made = client.responses.create(model="default", input="SLOW N=500", background=True)
    first = next(
        one for one in client.responses.retrieve(made.id, stream=True)
        if one.type == "response.output_text.delta"
    )  # fmt: skip
    assert first.delta
    assert client.responses.cancel(made.id).status == "cancelled"
    wait_for(lambda: astrbot.stopped == [astrbot.asked[0][1]])


def test_agui_streams_text_thinking_and_calls_of_astrbot(api: Api, astrbot: FakeAstrBot) -> None:
    user = {"id": "m1", "role": "user", "content": "THINK TOOL please"}
    events = test_agui.read(test_agui.post(api, user))
    types = [one["type"] for one in events]
    assert (types[0], types[-1]) == ("RUN_STARTED", "RUN_FINISHED")
    for kind in ("REASONING_MESSAGE_CONTENT", "TOOL_CALL_START", "TOOL_CALL_RESULT"):
        assert kind in types
    said = [one["delta"] for one in events if one["type"] == "TEXT_MESSAGE_CONTENT"]
    assert "".join(said).startswith("tool said: error: action must be")
    failed = test_agui.read(test_agui.post(api, {**user, "content": "EMPTY"}, runId="r2"))
    assert failed[-1]["type"] == "RUN_ERROR"


def test_the_ai_sdk_streams_text_and_files_of_astrbot(api: Api, astrbot: FakeAstrBot) -> None:
    chunks = test_aisdk.read(test_aisdk.post(api, test_aisdk.say("THINK ECHO IMAGE hi")))
    assert test_aisdk.text_of(chunks) == "echo: THINK ECHO IMAGE hi"
    types = [one["type"] for one in chunks]
    assert "reasoning-delta" in types
    (file,) = [one for one in chunks if one["type"] == "file"]
    assert file["mediaType"] == "image/png"
    assert astrbot.asked[0][2] == "THINK ECHO IMAGE hi"


def test_client_tools_are_rejected(api: Api, client: openai.OpenAI, astrbot: FakeAstrBot) -> None:
    tool = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.responses.create(model="default", input="Hi", tools=[tool])  # type: ignore[list-item]
    assert test_agui.post(api, tools=[test_agui.TOOL]).status_code == 400
    assert test_aisdk.post(api, tools=test_aisdk.WEATHER).status_code == 400
    assert not astrbot.asked


def test_mcp_chats_with_astrbot(api: Api) -> None:
    call = {"name": "chat", "arguments": {"message": "ECHO hi"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    answer = api.post("/api/v1/mcp", json=body)
    assert json.loads(answer.get_data())["result"]["structuredContent"]["text"] == "echo: ECHO hi"
