"""OpenAI's Responses and conversations, with OpenAI's own client."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import openai
import peewee
import pytest
from pydantic import BaseModel

from astrbot_api import Tool
from astrbot_api.agent.provider import (
    Delta,
    Finished,
    TextDelta,
    ToolCallDelta,
)
from astrbot_api.chores import prune_journal
from astrbot_api.db import response_conversations, responses, runs, stored
from astrbot_api.errors import ProviderError, StorageError
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..waiting import wait_for
from .conftest import Api
from .openai_responses import (
    DICE,
    PATH,
    WEATHER,
    Make,
    ask,
    call_weather,
    echo,
    make_key,
    post,
    read_events,
    stream_again,
    think_and_roll,
)
from .test_openai import connect
from .test_runs import wait_until_journaled


@pytest.fixture
def client(api: Api) -> Iterator[openai.OpenAI]:
    with connect(api) as made:
        yield made


def test_a_retrieved_response_equals_the_original(api: Api, client: openai.OpenAI) -> None:
    answer = ask(
        client, "Hello", instructions="Be brief.", metadata={"topic": "demo"}, user="alice",
        temperature=0.5, reasoning={"effort": "low"},
    )  # fmt: skip
    assert answer.output_text == "Hello from mock."
    assert (answer.status, answer.object, answer.model) == ("completed", "response", "default")
    assert answer.metadata == {"topic": "demo"}
    assert (answer.instructions, answer.temperature) == ("Be brief.", 0.5)
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0
    assert client.responses.retrieve(answer.id).to_dict() == answer.to_dict()
    (item,) = client.responses.input_items.list(answer.id)
    assert item.content[0].text == "Hello"  # type: ignore[union-attr]
    # It is a normal session of the user.
    messages = api.get(
        f"/api/v1/chat/sessions/{answer.session_id}/messages?username=alice"
    ).get_json()["data"]["messages"]
    assert [one["sender_id"] for one in messages] == ["bot", "alice"]


def test_a_response_has_the_defaults_that_strict_clients_require(client: openai.OpenAI) -> None:
    """The schema of Open Responses allows no null here. Source: https://www.openresponses.org"""
    shown = ask(client, "Hello", temperature=None, service_tier=None).to_dict()
    numbers = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "top_logprobs")
    assert [shown[name] for name in numbers] == [1, 1, 0, 0, 0]
    assert [shown[name] for name in ("service_tier", "truncation")] == ["default", "disabled"]
    assert [shown[name] for name in ("parallel_tool_calls", "store", "background")] == [
        True, True, False,
    ]  # fmt: skip
    named = ("instructions", "user", "conversation", "previous_response_id", "max_output_tokens")
    assert {shown[name] for name in named} == {None}
    given = {
        "temperature": 0, "top_p": 0, "frequency_penalty": -2, "presence_penalty": 2,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    }  # fmt: skip
    shown = ask(client, "Hello", extra_body=given).to_dict()
    assert {name: shown[name] for name in given} == given


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_input_items_are_listed_in_pages(client: openai.OpenAI, order: Any, limit: int) -> None:
    said = ["a", "b", "c", "d"]
    answer = ask(client, [{"role": "user", "content": one} for one in said])
    page, pages = client.responses.input_items.list(answer.id, order=order, limit=limit), 1
    found = [*page.data]
    while page.has_more:
        page, pages = page.get_next_page(), pages + 1
        found += page.data
    texts = [one.content[0].text for one in found]  # type: ignore[union-attr]
    assert texts == (said if order == "asc" else said[::-1])
    assert pages == -(-len(said) // limit)
    with pytest.raises(openai.NotFoundError, match="item not found: msg_1"):
        client.responses.input_items.list(answer.id, after="msg_1")


def test_the_events_of_a_stream_are_numbered_and_end_with_the_whole_response(
    make_scripted: Make,
) -> None:
    api, _ = make_scripted(think_and_roll, tools=[DICE])
    events = read_events(post(api, stream=True).get_data())
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    assert [one["type"] for one in events[:2]] == ["response.created", "response.in_progress"]
    whole = events[-1]["response"]
    assert events[-1]["type"] == "response.completed"
    assert [one["type"] for one in whole["output"]] == [
        "reasoning", "message", "mcp_call", "mcp_call", "reasoning", "message",
    ]  # fmt: skip
    done = [one["item"] for one in events if one["type"] == "response.output_item.done"]
    assert sorted(done, key=lambda one: one["id"][-4:]) == whole["output"]
    added = [one["item"] for one in events if one["type"] == "response.output_item.added"]
    assert {one["status"] for one in added} == {"in_progress"}
    assert {one["status"] for one in done} == {"completed"}
    deltas = [one["delta"] for one in events if one["type"] == "response.output_text.delta"]
    assert deltas == ["Let me roll.", "It shows ", "four."]
    calls = [one for one in whole["output"] if one["type"] == "mcp_call"]
    assert [(one["name"], one["arguments"], one["output"]) for one in calls] == [
        ("dice", '{"sides":6}', "4"), ("dice", '{"sides":8}', "6"),
    ]  # fmt: skip


def test_a_stream_resumes_after_any_of_its_events(make_scripted: Make) -> None:
    api, _ = make_scripted(think_and_roll, tools=[DICE])
    events = read_events(post(api, stream=True).get_data())
    response_id = events[0]["response"]["id"]
    assert stream_again(api, response_id) == events
    for after in range(len(events) - 1):
        assert stream_again(api, response_id, after) == events[after + 1 :]
    last = stream_again(api, response_id, 10_000)
    assert [one["type"] for one in last] == ["response.completed"]


def test_a_stream_without_stored_events_is_built_from_the_response(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = make_scripted(call_weather)
    events = read_events(post(api, stream=True, tools=[WEATHER]).get_data())
    response_id, whole = events[0]["response"]["id"], events[-1]["response"]
    wait_until_journaled(api, str(uuid.UUID(response_id.removeprefix("resp_"))))
    prune_journal(api.state.worker.journal, -60)
    monkeypatch.setattr("astrbot_api.chat.resuming.following._CLOSING_US", 0)
    again = stream_again(api, response_id)
    assert again[-1]["response"] == whole
    assert again[-1]["type"] == "response.completed"


class Place(BaseModel):
    city: str


def test_an_answer_is_parsed_and_an_answer_in_another_format_fails(make_scripted: Make) -> None:
    answers = iter(['{"city": "Oslo"}', '{"town": "Oslo"}', "Oslo", '{"town": 1}'])
    api, _ = make_scripted(lambda messages: iter([TextDelta(next(answers))]))
    with connect(api) as client:
        parsed = client.responses.parse(model="default", input="Where?", text_format=Place)
        assert parsed.output_parsed == Place(city="Oslo")
        with pytest.raises(openai.InternalServerError) as failed:
            client.responses.parse(model="default", input="Where?", text_format=Place)
        assert failed.value.status_code == 502
        assert failed.value.response.headers["X-Should-Retry"] == "false"
    body = {"text": {"format": {"type": "json_object"}}, "stream": True}
    events = read_events(post(api, **body).get_data())
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["code"] == "server_error"
    response_id = events[-1]["response"]["id"]
    again = api.get(f"{PATH}/{response_id}").get_json()
    assert again == events[-1]["response"]
    assert post(api, **{**body, "stream": False}).status_code == 200


def test_the_clients_stream_helper_has_the_final_response(make_scripted: Make) -> None:
    api, _ = make_scripted(call_weather)
    with (
        connect(api) as client,
        client.responses.stream(model="default", input="?", tools=[WEATHER]) as stream,
    ):
        final = stream.get_final_response()
    assert [one.type for one in final.output] == ["message", "function_call", "function_call"]
    with connect(api) as client, client.responses.stream(response_id=final.id) as again:
        assert again.get_final_response().output == final.output


def test_a_background_response_is_retrieved_and_cancelled(make_scripted: Make) -> None:
    begun, released = threading.Event(), threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("Begun")
        begun.set()
        released.wait(30)
        yield TextDelta(" and ended.")

    api, _ = make_scripted(answer)
    with connect(api) as client:
        first = ask(client, "Go.", background=True)
        assert first.status in ("queued", "in_progress")
        assert first.background is True
        assert begun.wait(30)
        wait_for(lambda: client.responses.retrieve(first.id).output_text == "Begun")
        assert client.responses.retrieve(first.id).status == "in_progress"
        cancelled = threading.Thread(target=released.wait, args=(0.2,))
        cancelled.start()
        threading.Thread(target=lambda: (cancelled.join(), released.set())).start()
        stopped = client.responses.cancel(first.id)
        assert (stopped.status, stopped.output_text) == ("cancelled", "Begun")
        assert stopped.output[0].status == "incomplete"
        assert client.responses.cancel(first.id).status == "cancelled"
        events = stream_again(api, first.id)
        assert [one["type"] for one in events[:3]] == [
            "response.created", "response.queued", "response.in_progress",
        ]  # fmt: skip
        assert events[-1]["response"]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("more", "headers", "status"),
    [
        ({}, {}, "cancelled"),
        ({"background": True}, {}, "completed"),
        ({}, {"Idempotency-Key": "k1"}, "completed"),
    ],
)
def test_a_disconnect_stops_a_stream_that_the_client_cannot_resume(
    make_scripted: Make, more: dict[str, Any], headers: dict[str, str], status: str
) -> None:
    """The stop button of chat programs closes the connection."""
    go_on = threading.Event()
    api, _ = make_scripted(["Begun", go_on, " and ended"])
    streamed = api.post(
        PATH, json={"model": "default", "input": "Go.", "stream": True, **more}, headers=headers
    )
    data = b""
    while b"Begun" not in data:
        data += next(iter(streamed.response))
    (first, *_) = read_events(data)
    streamed.close()
    if status == "completed":
        go_on.set()
    assert api.state.chat.runs.wait_until_idle(30)
    found = api.get(f"{PATH}/{first['response']['id']}").get_json()
    text = "Begun" if status == "cancelled" else "Begun and ended"
    assert (found["status"], found["output"][0]["content"][0]["text"]) == (status, text)


def test_a_disconnect_from_a_stopping_worker_stops_no_turn(make_scripted: Make) -> None:
    go_on = threading.Event()
    api, _ = make_scripted(["Begun", go_on, " and ended"])
    streamed = api.post(PATH, json={"model": "default", "input": "Go.", "stream": True})
    data = b""
    while b"Begun" not in data:
        data += next(iter(streamed.response))
    api.state.chat.runs.end_streams()
    streamed.close()
    go_on.set()
    assert api.state.chat.runs.wait_until_idle(30)
    found = api.get(f"{PATH}/{read_events(data)[0]['response']['id']}").get_json()
    assert found["status"] == "completed"


def test_a_key_cancels_and_deletes_while_all_its_streams_are_open(make_scripted: Make) -> None:
    begun, never = threading.Event(), threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        begun.set()
        for _ in range(1000):
            yield TextDelta("x")
            never.wait(0.03)

    api, _ = make_scripted(answer, max_streams_per_key=1)
    for method, path in (("POST", "/cancel"), ("DELETE", "")):
        begun.clear()
        streamed = post(api, model="default", input="Go.", stream=True)
        first = next(iter(streamed.response))
        response_id = json.loads(bytes(first).split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
        assert begun.wait(30)
        headers = {"X-API-Key": api.key}
        done = api.client.open(f"{PATH}/{response_id}{path}", method=method, headers=headers)
        assert done.status_code == 200, done.get_data()
        streamed.close()


def test_a_response_that_cannot_be_read_leaves_no_stream_open(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise StorageError("The database is away.")

    with monkeypatch.context() as patch:
        patch.setattr(responses, "find_entry", fail)
        assert post(api, model="default", input="Hello").status_code == 503
    assert api.state.chat.streams.open_count == 0


@pytest.mark.parametrize("at", ["before its run is read", "before its events are read"])
def test_a_response_is_never_completed_without_its_output(
    at: str, make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    api, _ = make_scripted([TextDelta("Begun"), released, TextDelta(" and ended")])
    with connect(api) as client:
        first = ask(client, "Go.", background=True)
        wait_for(lambda: client.responses.retrieve(first.id).output_text == "Begun")

        def end() -> None:
            released.set()
            assert api.state.chat.runs.wait_until_idle(30)

        find, service = runs.find_run, api.state.chat.service
        read = service.read_so_far

        def find_late(*arguments: Any) -> Any:
            end()
            return find(*arguments)

        def read_late(run: Any) -> Any:
            said = list(read(run))  # the events before the end
            end()
            return said

        with monkeypatch.context() as patch:
            if at == "before its run is read":
                patch.setattr(runs, "find_run", find_late)
            else:
                patch.setattr(type(service), "read_so_far", lambda _, run: read_late(run))
            shown = client.responses.retrieve(first.id)
        assert (shown.status, shown.output_text) in (
            ("completed", "Begun and ended"), ("in_progress", "Begun"),
        )  # fmt: skip
        assert client.responses.retrieve(first.id).output_text == "Begun and ended"


def test_a_response_that_is_not_stored_leaves_nothing(api: Api, client: openai.OpenAI) -> None:
    answer = ask(client, "Hello", store=False)
    assert (answer.output_text, answer.store) == ("Hello from mock.", False)
    events = list(ask(client, "Hello", store=False, stream=True))
    assert events[-1].type == "response.completed"
    with pytest.raises(openai.NotFoundError, match="response not found"):
        client.responses.retrieve(answer.id)
    for table in ("response", "message", "run", "chat_session", "deleted_session"):
        assert api.count_rows(table) == 0, table
    with pytest.raises(openai.BadRequestError, match="background needs store"):
        ask(client, "Hello", store=False, background=True)


def test_an_unstored_response_may_continue_a_stored_one(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    with connect(api) as client:
        first = ask(client, "one")
        second = ask(client, "two", previous_response_id=first.id, store=False)
    assert second.previous_response_id == first.id
    assert [one["content"] for one in model.seen[-1]][1:] == ["one", "You said: one", "two"]
    assert api.count_rows("response") == 1


def test_responses_of_another_key_are_not_found(api: Api, client: openai.OpenAI) -> None:
    answer = ask(client, "Hello", user="alice")
    conversation = client.conversations.create(items=[{"role": "user", "content": "Hi"}])
    (item,) = client.conversations.items.list(conversation.id)
    routes = [
        ("GET", f"/responses/{answer.id}", {}),
        ("GET", f"/responses/{answer.id}?stream=true", {}),
        ("GET", f"/responses/{answer.id}/input_items", {}),
        ("POST", f"/responses/{answer.id}/cancel", {}),
        ("DELETE", f"/responses/{answer.id}", {}),
        ("POST", "/responses", {"previous_response_id": answer.id}),
        ("POST", "/responses", {"conversation": conversation.id}),
        ("POST", "/responses", {"input": [{"type": "item_reference", "id": item.id}]}),
        ("GET", f"/conversations/{conversation.id}", {}),
        ("POST", f"/conversations/{conversation.id}", {"metadata": {}}),
        ("DELETE", f"/conversations/{conversation.id}", {}),
        ("GET", f"/conversations/{conversation.id}/items", {}),
        ("POST", f"/conversations/{conversation.id}/items", {"items": []}),
        ("GET", f"/conversations/{conversation.id}/items/{item.id}", {}),
        ("DELETE", f"/conversations/{conversation.id}/items/{item.id}", {}),
    ]
    others = [make_key(api), make_key(api, username="bob")]
    for key in others:
        for method, path, more in routes:
            body = {"model": "default", "input": "Hello", **more} if method == "POST" else None
            found = api.client.open(
                f"/api/v1/openai{path}", method=method, headers={"X-API-Key": key}, json=body
            )
            assert found.status_code == 404, (method, path, found.get_data())
            assert found.get_json()["error"]["code"].endswith("_not_found")
    assert client.responses.retrieve(answer.id).output_text == "Hello from mock."


def test_a_session_key_reads_only_responses_of_its_username(
    api: Api, client: openai.OpenAI
) -> None:
    answer = ask(client, "Hello", user="alice")
    for username, status in (("alice", 200), ("bob", 404)):
        made = api.post("/api/v1/keys/session", json={"username": username}).get_json()["data"]
        found = api.client.get(f"{PATH}/{answer.id}", headers={"X-API-Key": made["api_key"]})
        assert found.status_code == status, found.get_data()
    with pytest.raises(openai.NotFoundError, match=f"not found for the user bob: {answer.id}"):
        ask(client, "Hello", previous_response_id=answer.id, user="bob")
    conversation = client.conversations.create(extra_body={"user": "alice"}).id
    assert ask(client, "Hello", conversation=conversation).user is None
    with pytest.raises(openai.NotFoundError, match=f"not found for the user bob: {conversation}"):
        ask(client, "Hello", conversation=conversation, user="bob")


def test_a_conversation_is_a_session_with_its_responses(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    with connect(api) as client:
        made = client.conversations.create(
            metadata={"topic": "a"}, items=[{"role": "user", "content": "I am Ann."}]
        )
        ask(client, "one", conversation=made.id)
        second = ask(client, "two", conversation={"id": made.id})
        assert second.conversation.id == made.id
        assert second.previous_response_id is None
        client.conversations.items.create(
            made.id, items=[{"role": "assistant", "content": "By the way."}]
        )
        ask(client, "three", conversation=made.id)
        said = ["I am Ann.", "one", "You said: one", "two", "You said: two", "By the way."]
        assert [one["content"] for one in model.seen[-1]][1:] == [*said, "three"]
        listed = list(client.conversations.items.list(made.id, order="asc", limit=2))
        shown = [one.content[0].text for one in listed]  # type: ignore[union-attr]
        assert shown == [*said, "three", "You said: three"]
        assert [one.id for one in client.conversations.items.list(made.id, limit=3)] == [
            one.id for one in reversed(listed)
        ]
        for at in (1, 2):
            client.conversations.items.delete(listed[at].id or "", conversation_id=made.id)
        ask(client, "four", conversation=made.id)
        assert [one["content"] for one in model.seen[-1]][1:5] == [
            "I am Ann.", "two", "You said: two", "By the way.",
        ]  # fmt: skip
        item = client.conversations.items.retrieve(listed[3].id or "", conversation_id=made.id)
        assert item.content[0].text == "two"  # type: ignore[union-attr]
        item = client.conversations.items.retrieve(listed[4].id or "", conversation_id=made.id)
        assert item.content[0].text == "You said: two"  # type: ignore[union-attr]
        for at in (1, 2):
            with pytest.raises(openai.NotFoundError):
                client.conversations.items.retrieve(listed[at].id or "", conversation_id=made.id)
        changed = client.conversations.update(made.id, metadata={"topic": "b"})
        assert client.conversations.retrieve(made.id) == changed
        assert changed.metadata == {"topic": "b"}
        assert client.conversations.delete(made.id).deleted
        for gone in (
            lambda: client.conversations.retrieve(made.id),
            lambda: client.responses.retrieve(second.id),
        ):
            with pytest.raises(openai.NotFoundError):
                gone()
    wait_for(lambda: api.count_rows("response") == 0)


def test_a_conversation_that_is_deleted_while_it_changes_stays_deleted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/api/v1/openai/conversations"
    path = f"{path}/{api.post(path, json={}).get_json()['id']}"
    change = response_conversations.set_metadata

    def delete_first(db: peewee.Database, row: Any, metadata: dict[str, Any]) -> None:
        response_conversations.remove_conversation(db, row.session)
        change(db, row, metadata)

    monkeypatch.setattr(response_conversations, "set_metadata", delete_first)
    assert api.post(path, json={"metadata": {"topic": "a"}}).status_code == 404
    assert api.count_rows("response_conversation") == 0


def test_responses_of_one_conversation_run_one_after_another(make_scripted: Make) -> None:
    released = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        if messages[-1]["content"] == "one":
            released.wait(30)
        yield from echo(messages)

    api, model = make_scripted(answer)
    with connect(api) as client:
        made = client.conversations.create()
        assert client.conversations.items.list(made.id).data == []
        ask(client, "one", conversation=made.id, background=True)
        second = ask(client, "two", conversation=made.id, background=True)
        assert second.status == "queued"
        released.set()
        wait_for(lambda: client.responses.retrieve(second.id).status == "completed")
    assert [one["content"] for one in model.seen[-1]][1:] == ["one", "You said: one", "two"]


def test_a_response_is_deleted_with_its_messages(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    with connect(api) as client:
        first = ask(client, "one")
        second = ask(client, "two", previous_response_id=first.id)
        third = ask(client, "three", previous_response_id=second.id)
        client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(second.id)
        assert api.count_rows("message") == 4
        ask(client, "four", previous_response_id=third.id)
        assert [one["content"] for one in model.seen[-1]][1:] == [
            "one", "You said: one", "three", "You said: three", "four",
        ]  # fmt: skip
        alone = ask(client, "alone")
        sessions = api.count_rows("chat_session")
        client.responses.delete(alone.id)
        assert api.count_rows("chat_session") == sessions - 1
        conversation = client.conversations.create().id
        client.responses.delete(ask(client, "only", conversation=conversation).id)
        assert client.conversations.items.list(conversation).data == []


def test_old_responses_are_deleted_unless_they_belong_to_a_conversation(
    api: Api, client: openai.OpenAI
) -> None:
    made = client.conversations.create()
    kept = ask(client, "Hello", conversation=made.id)
    old = ask(client, "Hello")
    for entry in (kept, old):
        _age(api, entry.id, days=31)
    young = ask(client, "Hello")
    assert api.state.db.write(lambda db: responses.forget_old(db, 30)) is False
    for entry in (kept, young):
        assert client.responses.retrieve(entry.id).id == entry.id
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(old.id)


def test_a_thread_continues_after_its_beginning_was_deleted_as_old(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    with connect(api) as client:
        first = ask(client, "one")
        second = ask(client, "two", previous_response_id=first.id)
        _age(api, first.id, days=31)
        api.state.db.write(lambda db: responses.forget_old(db, 30))
        assert client.responses.retrieve(second.id).previous_response_id is None
        ask(client, "three", previous_response_id=second.id)
    assert [one["content"] for one in model.seen[-1]][1:] == ["two", "You said: two", "three"]


def test_stored_responses_count_towards_the_quota_until_deleted(make_scripted: Make) -> None:
    api, _ = make_scripted(echo)

    def count() -> int:
        with api.state.db.read() as db:
            return sum(one.total_bytes for one in stored.list_by_key(db).values())

    before = count()
    with connect(api) as client:
        made = client.conversations.create(
            metadata={"topic": "m" * 500}, items=[{"role": "user", "content": "i" * 500}]
        )
        assert count() > before + 1000
        client.conversations.update(made.id, metadata={})
        ask(client, "o" * 1000, conversation=made.id)
        first = ask(client, "f" * 1000)
        old = ask(client, "s" * 1000, previous_response_id=first.id)
        client.responses.delete(first.id)
        assert count() > before + 4000
        _age(api, old.id, days=31)
        _age(api, first.id, days=31)
        api.state.db.write(lambda db: responses.forget_old(db, 30))
        client.conversations.delete(made.id)
    path = f"/api/v1/chat/sessions/{first.session_id}"
    assert api.delete(path).status_code == 200
    wait_for(lambda: count() == before)


def _age(api: Api, response_id: str, *, days: int) -> None:
    entry_id = response_id.removeprefix("resp_")
    api.state.db.write(
        lambda db: db.execute_sql(
            f"UPDATE response SET created_at = created_at - {days * 86_400_000_000}"
            f" WHERE entry_id = '{entry_id}'"
        )
    )


def test_a_repeated_request_returns_the_same_response(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    headers = {"Idempotency-Key": "again-1"}
    with connect(api) as client:
        first = ask(client, "one", extra_headers=headers)
        assert ask(client, "one", extra_headers=headers).to_dict() == first.to_dict()
        with pytest.raises(openai.ConflictError):
            ask(client, "two", extra_headers=headers)
    assert len(model.seen) == 1


def test_an_answer_cut_at_the_token_limit_is_incomplete(make_scripted: Make) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("It is")
        yield Finished("length")

    api, _ = make_scripted(answer)
    with connect(api) as client:
        whole = ask(client, "?")
        assert (whole.status, whole.incomplete_details.reason) == (
            "incomplete", "max_output_tokens",
        )  # fmt: skip
        assert whole.output[0].status == "incomplete"
        assert client.responses.retrieve(whole.id).output[0].status == "incomplete"
        conversation = client.conversations.create().id
        ask(client, "?", conversation=conversation)
        listed = client.conversations.items.list(conversation).data
        assert [one.status for one in listed] == ["incomplete", "completed"]  # type: ignore[union-attr]
        events = list(ask(client, "?", stream=True))
    assert (events[-2].type, events[-2].item.status) == ("response.output_item.done", "incomplete")
    assert events[-1].type == "response.incomplete"


@pytest.mark.parametrize(
    ("reason", "status", "code", "kind"),
    [
        ("provider_rate_limited", 429, "rate_limit_exceeded", "rate_limit_error"),
        ("provider_refused", 400, "invalid_prompt", "invalid_request_error"),
        ("context_length_exceeded", 400, "context_length_exceeded", "invalid_request_error"),
        ("", 502, "server_error", "server_error"),
    ],
)
def test_a_failure_is_a_status_or_the_last_event(
    make_scripted: Make, reason: str, status: int, code: str, kind: str
) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("It is")
        raise ProviderError("no", reason=reason, retry_after_s=7)

    api, _ = make_scripted(answer)
    with connect(api) as client:
        with pytest.raises(openai.APIStatusError) as failed:
            ask(client, "?")
        assert (failed.value.status_code, failed.value.type) == (status, kind)
        assert failed.value.response.headers["Retry-After"] == "7"
        with pytest.raises(openai.APIError) as raised:
            list(ask(client, "?", stream=True))
        assert (raised.value.code, raised.value.type) == (code, kind)
        last = read_events(post(api, stream=True).get_data())[-1]
        assert last["type"] == "response.failed"
        assert last["response"]["error"]["code"] == code
        again = client.responses.retrieve(last["response"]["id"])
        conversation = client.conversations.create().id
        with pytest.raises(openai.APIStatusError):
            ask(client, "?", conversation=conversation)
        listed = client.conversations.items.list(conversation).data
    assert (again.status, again.output[0].status) == ("failed", "incomplete")
    assert again.output_text == "It is"
    assert listed[0].status == "incomplete"  # type: ignore[union-attr]


def test_a_stream_whose_end_cannot_be_read_ends_with_an_error(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise StorageError("The database is away.")

    ends = threading.Event()
    api, _ = make_scripted([TextDelta("It is"), ends, TextDelta(" done")])
    stream = post(api, stream=True).iter_encoded()
    events = []
    while not any("delta" in one for one in events):
        events += read_events(next(stream))
    monkeypatch.setattr(runs, "find_run", fail)
    ends.set()
    events += read_events(b"".join(stream))
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    assert [one.get("delta") for one in events[-2:]] == [" done", None]
    assert (events[-1]["type"], events[-1]["message"]) == ("error", "The database is away.")


#: Request bodies and the text of each error.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": 3}, "input must be a string or a list of items"),
    ({"input": []}, "input must have at least one item"),
    ({"input": ["x"]}, r"input\[0\] must be an object"),
    ({"input": [{"role": "user", "content": "a\0"}]}, r"input\[0\]\.content\[0\]\.text"),
    ({"service_tier": 3}, "service_tier must be a string of at most 512"),
    ({"input": [{"type": "web_search_call"}]}, r"input\[0\]\.type must be one of message"),
    ({"input": [{"role": "robot", "content": "x"}]}, r"input\[0\]\.role must be one of user"),
    ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, r"content\[0\]\.type must"),
    (
        {"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": "http://10.0.0.1/x.png"}]}]},
        "other URLs are not fetched",
    ),
    (
        {"input": [{"role": "user", "content": [
            {"type": "input_file", "file_url": "http://10.0.0.1/x.pdf"}]}]},
        "file_url is not supported",
    ),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
        "input must have a message of the role user",
    ),
    ({"input": [{"role": "user", "content": "x"}] * 2001}, "at most 2000 are allowed"),
    ({"tools": [{"type": "web_search"}]}, r"tools\[0\]\.type must be function: web_search"),
    ({"tools": [{"type": "function", "name": "a b"}]}, r"tools\[0\]\.name must have"),
    ({"tool_choice": "required"}, "tool_choice needs tools"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type must be text"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.name must have letters"),
    ({"metadata": {"a": 1}}, "metadata.a must be a string"),
    ({"metadata": {str(at): "" for at in range(17)}}, "metadata has 17 pairs"),
    ({"include": ["message.output_text.logprobs"]}, r"include\[0\] is not supported"),
    ({"prompt": {"id": "p"}}, "prompt is not supported"),
    ({"max_tool_calls": 3}, "max_tool_calls is not supported"),
    ({"max_output_tokens": 0}, "max_output_tokens must be an integer"),
    ({"truncation": "never"}, "truncation is not supported"),
    ({"conversation": "c", "previous_response_id": "p"}, "exclude each other"),
    ({"conversation": {"id": 3}}, "conversation must be the id"),
]  # fmt: skip


def test_unsupported_parameters_are_rejected_by_name(api: Api, client: openai.OpenAI) -> None:
    for body, message in REFUSED:
        with pytest.raises(openai.BadRequestError, match=message):
            ask(client, **{"given": "Hello", **_as_extra(body)})
    assert api.count_rows("response") == 0


def _as_extra(body: dict[str, Any]) -> dict[str, Any]:
    given = {"given": body["input"]} if "input" in body else {}
    return {**given, "extra_body": {key: one for key, one in body.items() if key != "input"}}


def test_parameters_reach_the_models_endpoint(passing: Api, fake_model: FakeOpenAI) -> None:
    schema = {"type": "object", "properties": {}}
    named = {"type": "function", "name": "get_weather"}
    numbers = {
        "temperature": 0.2, "top_p": 0.5, "frequency_penalty": -0.5, "presence_penalty": 1,
    }  # fmt: skip
    body = {
        **numbers, "max_output_tokens": 17, "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "auto"}, "tools": [WEATHER],
        "tool_choice": named, "truncation": "auto", "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "low", "format": {
            "type": "json_schema", "name": "a", "schema": schema, "strict": False}},
    }  # fmt: skip
    answer = post(passing, **body)
    assert answer.status_code in (200, 502), answer.get_data()
    sent = fake_model.requests()[-1]
    assert {name: sent[name] for name in numbers} == numbers
    assert sent["max_tokens"] == 17
    assert (sent["parallel_tool_calls"], sent["reasoning_effort"]) == (False, "low")
    assert sent["verbosity"] == "low"
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    assert sent["tools"][0]["function"]["parameters"] == WEATHER["parameters"]
    assert sent["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": False},
    }  # fmt: skip
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [named]}
    other = {**WEATHER, "name": "other"}
    post(passing, tools=[WEATHER, other], tool_choice=allowed)
    sent = fake_model.requests()[-1]
    assert [one["function"]["name"] for one in sent["tools"]] == ["get_weather"]
    assert sent["tool_choice"] == "required"


def test_a_background_response_waits_for_a_decision_and_continues(
    make_scripted: Make,
) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield TextDelta("I will pay.")
            yield ToolCallDelta(0, "p", "pay", "{}")
        else:
            yield TextDelta(f"Done: {messages[-1]['content']}")

    pay = Tool("pay", "Pay.", lambda arguments, context: "paid", needs_approval=True)
    api, _ = make_scripted(answer, tools=[pay])
    events = read_events(post(api, stream=True, background=True).get_data())
    response_id, last = events[0]["response"]["id"], events[-1]["sequence_number"]
    assert events[-1]["type"] not in ("response.completed", "response.incomplete")
    run_id = str(uuid.UUID(response_id.removeprefix("resp_")))
    got = api.get(f"{PATH}/{response_id}").get_json()
    assert got["status"] == "in_progress"
    run = f"/api/v1/chat/runs/{run_id}"
    (asked,) = wait_for(lambda: api.get(run).get_json()["data"]["approvals"])
    decided = api.post(f"{run}/approvals/{asked['id']}", json={"decision": "approve"})
    assert decided.status_code == 200, decided.get_data()
    rest: list[dict[str, Any]] = []
    while not rest or rest[-1]["type"] != "response.completed":
        rest += stream_again(api, response_id, rest[-1]["sequence_number"] if rest else last)
    assert [one["sequence_number"] for one in events + rest] == list(range(len(events + rest)))
    kinds = [one["type"] for one in rest[-1]["response"]["output"]]
    assert kinds == ["message", "mcp_call", "message"]
    (_, call, _) = post(api).get_json()["output"]
    assert "rejected" in call["output"], "a client that waits for the end is not held up"


def test_a_response_with_an_empty_answer_format_can_be_retrieved(api: Api) -> None:
    created = post(api, text={"format": {}}).get_json()
    path = f"{PATH}/{created['id']}"
    found = api.get(path).get_json()
    assert found["text"] == created["text"] == {"format": {"type": "text"}}


@pytest.mark.parametrize("items", [3, "x", [{"role": "user", "content": "x"}] * 21])
def test_a_conversation_gets_a_list_of_at_most_20_items(api: Api, items: Any) -> None:
    refused = post(api, "/api/v1/openai/conversations", items=items)
    assert refused.status_code == 400
    assert refused.get_json()["error"]["message"] == "items must be a list of at most 20 items"
    assert api.count_rows("chat_session") == 0


def test_an_error_names_the_field_of_an_added_item(api: Api) -> None:
    made = post(api, "/api/v1/openai/conversations").get_json()["id"]
    for path in ("", f"/{made}/items"):
        refused = post(api, f"/api/v1/openai/conversations{path}", items=[{"role": "user"}, 5])
        assert refused.status_code == 400
        assert refused.get_json()["error"]["message"].startswith("items[0].content must be")


def test_malformed_ids_are_not_found(client: openai.OpenAI) -> None:
    for response_id in ("resp_x", "resp_" + "0" * 32, "x" * 500, "resp_" + "F" * 32):
        with pytest.raises(openai.NotFoundError, match="response not found"):
            client.responses.retrieve(response_id)
    with pytest.raises(openai.NotFoundError, match="conversation not found"):
        client.conversations.retrieve("conv_1")


def test_the_api_is_also_below_v1(make_api: Callable[..., Api]) -> None:
    plain, rooted = make_api(), make_api(ASTRBOT_OPENAI_AT_ROOT=True)
    for api, base, status in [
        (plain, "/api/v1/openai/v1", 200), (plain, "/v1", 404), (rooted, "/v1", 200),
        (rooted, "/api/v1/openai", 200),
    ]:  # fmt: skip
        assert post(api, f"{base}/responses").status_code == status, base
        models = api.get(f"{base}/models")
        assert models.status_code == status
    error = rooted.client.get("/v1/models").get_json()["error"]
    assert error["code"] == "missing_api_key"


@pytest.mark.parametrize("base", ["/v1", "/api/v1/openai", "/api/v1/openai/v1"])
def test_unsupported_paths_and_methods_are_errors_in_openais_format(
    make_api: Callable[..., Api], base: str
) -> None:
    api = make_api(ASTRBOT_OPENAI_AT_ROOT=True)
    missing = post(api, f"{base}/embeddings")
    assert (missing.status_code, missing.get_json()["error"]["code"]) == (404, "path_not_found")
    assert "use responses" in missing.get_json()["error"]["message"]
    wrong = api.get(f"{base}/chat/completions")
    assert (wrong.status_code, wrong.get_json()["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["Allow"]
    assert api.client.get(f"{base}/files").get_json()["error"]["code"] == "missing_api_key"
