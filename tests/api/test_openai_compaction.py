"""Compaction of conversations, with OpenAI's own client."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from astrbot_api.agent.provider import Finished, TextDelta, Usage
from astrbot_api.errors import ProviderError
from astrbot_api.testing import ScriptedModel
from astrbot_api.testing.fake_openai import FakeOpenAI

from .conftest import Api
from .openai_responses import make_key, post
from .test_openai import connect

Make = Callable[..., tuple[Api, ScriptedModel]]

PATH = "/api/v1/openai/responses/compact"
SUMMARY = "Ann wants 3 tickets to Köln.\n第二天出发。"
SAID = [TextDelta(SUMMARY), Usage(90, 0, 12), Finished("stop")]

CONVERSATION: list[Any] = [
    {"role": "user", "content": "I am Ann. Three tickets to Köln, please."},
    {"role": "assistant", "content": "For which day?"},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "free seats: 12"},
    {"role": "user", "content": [{"type": "input_text", "text": "Tomorrow."}]},
]


@pytest.fixture
def made(make_scripted: Make) -> Iterator[tuple[openai.OpenAI, Api, ScriptedModel]]:
    api, model = make_scripted(SAID)
    with connect(api) as client:
        yield client, api, model


def compact(client: openai.OpenAI, given: Any = CONVERSATION, **options: Any) -> Any:
    return client.responses.compact(model="default", input=given, **options)


def test_a_conversation_becomes_the_users_messages_and_a_summary(
    made: tuple[openai.OpenAI, Api, ScriptedModel],
) -> None:
    client, _, model = made
    found = compact(client)
    assert found.object == "response.compaction"
    assert (found.usage.input_tokens, found.usage.output_tokens) == (90, 12)
    *users, last = found.output
    assert [one.content[0].text for one in users] == [
        "I am Ann. Three tickets to Köln, please.", "Tomorrow.",
    ]  # fmt: skip
    assert last.type == "compaction"
    shown = str(model.seen[0])
    assert "free seats: 12" in shown
    assert "For which day?" in shown
    assert "Summarize this conversation" in model.seen[0][-1]["content"]


def test_the_next_response_continues_from_the_summary(
    made: tuple[openai.OpenAI, Api, ScriptedModel],
) -> None:
    client, _, model = made
    output = [one.model_dump(exclude_none=True, warnings=False) for one in compact(client).output]
    question = {"role": "user", "content": "What did I order?"}
    first = client.responses.create(model="default", input=[*output, question])
    said = model.seen[1]
    assert [one["role"] for one in said] == ["system", "user", "user", "assistant", "user"]
    assert SUMMARY in said[3]["content"]
    assert "free seats" not in str(said)
    # It is a normal item of the response.
    listed = client.responses.input_items.list(first.id, order="asc").data
    assert listed[2].to_dict()["encrypted_content"] == output[2]["encrypted_content"]
    client.responses.create(model="default", input="And?", previous_response_id=first.id)
    assert SUMMARY in model.seen[2][3]["content"]


def test_a_thread_is_compacted_by_its_last_response(
    made: tuple[openai.OpenAI, Api, ScriptedModel],
) -> None:
    client, _, model = made
    first = client.responses.create(model="default", input="My cat is called Mia.")
    found = client.responses.compact(model="default", previous_response_id=first.id)
    assert [one.type for one in found.output] == ["compaction"]
    assert "My cat is called Mia." in str(model.seen[1])


def test_a_compaction_stores_nothing(made: tuple[openai.OpenAI, Api, ScriptedModel]) -> None:
    client, api, _ = made
    found = compact(client, extra_body={"user": "alice"})
    assert [api.count_rows(table) for table in ("chat_session", "message", "response")] == [0] * 3
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(found.id)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "conversation to compact is empty"),
        ({"input": []}, "conversation to compact is empty"),
        ({"model": " ", "input": "x"}, "Missing key: model"),
        ({"input": 7}, "input must be a string or a list"),
        ({"input": [7]}, "input[0] must be an object"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content must be"),
    ],
)
def test_an_invalid_compaction_is_rejected(api: Api, body: dict[str, Any], words: str) -> None:
    answer = post(api, PATH, **{"input": None, **body})
    assert answer.status_code == 400
    assert words in answer.get_json()["error"]["message"]


@pytest.mark.parametrize(
    "content",
    ["gAAAAABo", "abc1.%%", "abc1." + base64.b64encode(b"\xff\xfe").decode(), "abc1.Zm9v\n"],
    ids=["foreign", "no base64", "no text", "a line's end"],
)
def test_a_summary_of_another_service_is_rejected(api: Api, content: str) -> None:
    item = {"type": "compaction", "encrypted_content": content}
    answer = post(api, input=[item, {"role": "user", "content": "Hello"}])
    assert answer.status_code == 400
    message = answer.get_json()["error"]["message"]
    assert message.startswith("input[0].encrypted_content is not from /responses/compact")


def test_a_key_that_is_bound_to_a_session_compacts_nothing(api: Api) -> None:
    secret = make_key(api, session_id="mine", username="alice")
    answer = api.client.post(
        PATH, headers={"X-API-Key": secret}, json={"model": "default", "input": "Hello"}
    )
    assert answer.status_code == 403
    assert "rule session_id" in answer.get_json()["error"]["message"]


def test_a_failed_model_gives_an_error_without_a_summary(make_scripted: Make) -> None:
    api, _ = make_scripted([TextDelta("Ann"), ProviderError("no", reason="provider_rate_limited")])
    with connect(api) as client, pytest.raises(openai.RateLimitError):
        compact(client)
    assert api.count_rows("message") == 0


def test_no_tool_runs_during_a_compaction(
    make_api: Callable[..., Api], fake_model: FakeOpenAI
) -> None:
    fake_model.reset()
    api = make_api(f'[provider]\ntype = "openai"\nbase_url = "{fake_model.base_url}"\nmodel = "m"')
    with connect(api) as client:
        compact(client, "Hello")
    assert fake_model.requests()[-1]["tool_choice"] == "none"


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_counting_of_tokens_is_an_unknown_path_and_no_response(api: Api, method: str) -> None:
    answer = api.client.open(
        "/api/v1/openai/responses/input_tokens", method=method, headers={"X-API-Key": api.key},
        json={"input": "Hello"},
    )  # fmt: skip
    assert answer.status_code == 404
    assert "There is no path" in answer.get_json()["error"]["message"]


def test_the_compaction_path_rejects_get_and_delete(api: Api) -> None:
    assert api.get(PATH).status_code == 405
    assert api.delete(PATH).status_code == 405
