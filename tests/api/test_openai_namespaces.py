"""Namespaces of a client's functions in OpenAI's Responses, as Codex sends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from astrbot_api.agent.provider import Delta, TextDelta, ToolCallDelta
from astrbot_api.testing.fake_openai import FakeOpenAI

from .conftest import Api
from .openai_responses import PATH, WEATHER, Make, post
from .test_openai import connect

CRM: Any = {
    "type": "namespace", "name": "crm", "description": "The customers.",
    "tools": [{**WEATHER, "name": "find"}, {**WEATHER, "name": "delete"}],
}  # fmt: skip
TOOLS: Any = [WEATHER, CRM, {**CRM, "name": "shop"}]


def find_customer(messages: Any) -> Iterator[Delta]:
    if messages[-1]["role"] == "tool":
        yield TextDelta(f"Found {messages[-1]['content']}.")
    else:
        yield ToolCallDelta(0, "c1", "crm_-_find", "{}")
        yield ToolCallDelta(1, "c2", "get_weather", "{}")


def test_a_call_names_its_namespace_and_gets_its_result(make_scripted: Make) -> None:
    api, model = make_scripted(find_customer)
    results: Any = [
        {"type": "function_call_output", "call_id": one, "output": "Ann"} for one in ("c1", "c2")
    ]
    with connect(api) as client:
        options: Any = {"model": "default", "tools": TOOLS}
        with client.responses.stream(input="Who?", **options) as stream:
            streamed: Any = stream.get_final_response()
        called: Any = client.responses.retrieve(streamed.id)
        for response in (streamed, called):
            names = [(one.namespace, one.name) for one in response.output]
            assert names == [("crm", "find"), (None, "get_weather")]
        assert [one.name for one in called.tools[1].tools] == ["find", "delete"]
        going_on = client.responses.create(input=results, previous_response_id=called.id, **options)
        assert going_on.output_text == "Found Ann."
        assert set(model.offered[-1]) >= {
            "get_weather", "crm_-_find", "crm_-_delete", "shop_-_find", "shop_-_delete",
        }  # fmt: skip
        by_thread = model.seen[-1][-3:]
        whole: Any = [{"role": "user", "content": "Who?"}, *called.output, *results]
        repeated = client.responses.create(input=whole, **options)
        assert repeated.output_text == "Found Ann."
        by_items = model.seen[-1][-3:]
        (shown,) = [
            one
            for one in client.responses.input_items.list(repeated.id, order="asc")
            if one.type == "function_call" and one.namespace
        ]
        assert (shown.namespace, shown.name) == ("crm", "find")
        referred: Any = [
            {"role": "user", "content": "Who?"},
            *({"type": "item_reference", "id": one.id} for one in called.output),
            *results,
        ]
        assert client.responses.create(input=referred, **options).output_text == "Found Ann."
        by_references = model.seen[-1][-3:]
    assert by_thread == by_items == by_references
    assert [one["function"]["name"] for one in by_thread[0]["tool_calls"]] == [
        "crm_-_find", "get_weather",
    ]  # fmt: skip


def test_the_first_function_of_a_namespace_has_its_description(
    passing: Api, fake_model: FakeOpenAI
) -> None:
    described = {**WEATHER, "name": "find", "description": "Find one."}
    tools = [{**CRM, "tools": [described, *CRM["tools"][1:]]}, {**CRM, "name": "shop"}]
    assert post(passing, tools=tools).status_code == 200
    functions = [one["function"] for one in fake_model.requests()[-1]["tools"]]
    assert [one["description"] for one in functions if "_-_" in one["name"]] == [
        "The customers.\n\nFind one.", "", "The customers.", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("namespace", "named"),
    [
        ({"name": 7}, "tools[1] must have a name of"),
        ({"tools": None}, "tools[1] must have a name of"),
        ({"name": "a b", "tools": []}, "tools[1] must have a name of"),
        ({"description": 7}, "tools[1].description must be a string"),
        ({"tools": [7]}, "tools[1].tools[0] must be an object"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[1].tools[0].type must be function"),
        ({"tools": [{**WEATHER, "name": "x" * 64}]}, "tools[1].tools[0].name must have 1 to 64"),
        ({"tools": [{**WEATHER, "description": {}}]}, "tools[1].tools[0].description must"),
        ({"tools": [{**WEATHER, "name": ""}]}, "tools[1].tools[0].name must have 1 to 64"),
        ({"tools": [WEATHER, WEATHER]}, "tools has the name crm_-_get_weather twice"),
    ],
)
def test_a_wrong_namespace_is_rejected_by_name(
    api: Api, namespace: dict[str, Any], named: str
) -> None:
    refused = post(api, PATH, tools=[WEATHER, {**CRM, **namespace}])
    assert refused.status_code == 400
    assert refused.get_json()["error"]["message"].startswith(named)
