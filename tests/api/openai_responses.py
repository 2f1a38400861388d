"""Requests to OpenAI's Responses, and models for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai

from astrbot_api import Tool
from astrbot_api.agent.provider import (
    Delta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from astrbot_api.db import keys
from astrbot_api.keys.rules import KeyRules
from astrbot_api.testing import ScriptedModel

from .conftest import Api

Make = Callable[..., tuple[Api, ScriptedModel]]

PATH = "/api/v1/openai/responses"

WEATHER: Any = {
    "type": "function", "name": "get_weather", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


def ask(client: openai.OpenAI, given: Any, **options: Any) -> Any:
    return client.responses.create(**{"model": "default", "input": given, **options})


def post(api: Api, path: str = PATH, **body: Any) -> Any:
    body = {"model": "default", "input": "Hello", **body}
    return api.post(path, json=body)


def read_events(data: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, which contain their type twice."""
    found = []
    for frame in data.decode().split("\n\n"):
        lines = [line for line in frame.split("\n") if line and not line.startswith(":")]
        if lines:
            event, text = lines
            value = json.loads(text.removeprefix("data: "))
            assert event == f"event: {value['type']}"
            found.append(value)
    return found


def stream_again(api: Api, response_id: str, after: int | None = None) -> list[dict[str, Any]]:
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    answer = api.get(f"{PATH}/{response_id}", query_string=query)
    assert answer.status_code == 200, answer.get_data()
    return read_events(answer.get_data())


def roles(messages: Any) -> list[str]:
    return [one["role"] for one in messages]


def echo(messages: Any) -> Iterator[Delta]:
    content = messages[-1]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    yield TextDelta(f"You said: {text}")
    yield Usage(10, 2, 3)


def think_and_roll(messages: Any) -> Iterator[Delta]:
    yield ReasoningDelta("I think.")
    if messages[-1]["role"] == "user":
        yield TextDelta("Let me roll.")
        yield ToolCallDelta(0, "c", "dice", '{"sides": 6}')
        yield ToolCallDelta(1, "d", "dice", '{"sides": 8}')
    else:
        yield TextDelta("It shows ")
        yield TextDelta("four.")


DICE = Tool("dice", "Roll.", lambda arguments, context: str(arguments["sides"] - 2))


def call_weather(messages: Any) -> Iterator[Delta]:
    if messages[-1]["role"] == "tool":
        yield TextDelta(f"It is {messages[-1]['content']}.")
    else:
        yield TextDelta("Let me look.")
        yield ToolCallDelta(0, "c1", "get_weather", '{"city": "Oslo"}')
        yield ToolCallDelta(1, "c2", "get_weather", '{"city": "Rome"}')


def make_key(api: Api, **rules: Any) -> str:
    made = KeyRules(**rules)
    return api.state.db.write(
        lambda db: keys.create_key(db, "other", ("chat",), created_by="test", rules=made.dump())
    )[1]
