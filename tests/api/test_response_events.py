"""The events of a response, and the types that OpenAI's own client has for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydantic
from openai.types.responses import Response, ResponseStreamEvent

from astrbot_api.agent.provider import Delta, ReasoningDelta, TextDelta, ToolCallDelta, Usage

from .openai_responses import DICE, PATH, WEATHER, Make, post, read_events

#: Members beyond OpenAI's types: of the Open Responses schema, of older types, and our own.
ADDED = {"frequency_penalty", "presence_penalty", "store", "session_id", "name"}

#: Events between the beginning and the end of an item, by its type.
BETWEEN = {
    "reasoning": [
        "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done",
    ],
    "message": [
        "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
    ],
    "mcp_call": [
        "mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done",
        "mcp_call.completed",
    ],
    "function_call": ["function_call_arguments.delta", "function_call_arguments.done"],
}  # fmt: skip


def answer(messages: Any) -> Iterator[Delta]:
    if messages[-1]["role"] == "user":
        yield ReasoningDelta("I think.")
        yield TextDelta("I roll.")
        yield ToolCallDelta(0, "c", "dice", '{"sides": 6}')
    else:
        yield TextDelta("I look.")
        yield ToolCallDelta(0, "d", "get_weather", '{"city": "Oslo"}')
    yield Usage(10, 2, 3)


def find_additions(value: Any) -> set[str]:
    """Return the members of a parsed object that its types do not have."""
    if isinstance(value, list):
        return set[str]().union(*map(find_additions, value))
    if not isinstance(value, pydantic.BaseModel):
        return set()
    inner = [getattr(value, name) for name in value.model_fields_set]
    return set(value.model_extra or ()) | find_additions(inner)


def test_events_and_objects_have_the_types_of_openais_client(make_scripted: Make) -> None:
    api, _ = make_scripted(answer, tools=[DICE])
    events = read_events(post(api, stream=True, tools=[WEATHER]).get_data())
    parsed: Any = pydantic.TypeAdapter(list[ResponseStreamEvent]).validate_python(events)
    whole = api.get(f"{PATH}/{parsed[-1].response.id}").get_json()
    assert events[-1]["response"] == whole
    assert find_additions([*parsed, Response.model_validate(whole)]) <= ADDED


def test_each_item_has_its_events_with_one_id_and_one_index(make_scripted: Make) -> None:
    api, _ = make_scripted(answer, tools=[DICE])
    events = read_events(post(api, stream=True, tools=[WEATHER]).get_data())
    whole = events[-1]["response"]
    kinds = ["reasoning", "message", "mcp_call", "message", "function_call"]
    assert [item["type"] for item in whole["output"]] == kinds
    assert whole["output"][0]["summary"] == [{"type": "summary_text", "text": "I think."}]
    added = {
        one["item"]["type"]: one["item"] for one in events if "output_item.added" in one["type"]
    }
    assert (added["message"]["content"], added["function_call"]["arguments"]) == ([], "")
    expected = [
        (f"response.{name}", index, item["id"])
        for index, item in enumerate(whole["output"])
        for name in ("output_item.added", *BETWEEN[item["type"]], "output_item.done")
    ]
    assert [
        (one["type"], one["output_index"], one.get("item_id") or one["item"]["id"])
        for one in events[2:-1]
    ] == expected
