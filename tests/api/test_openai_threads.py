"""Threads of OpenAI's Responses: earlier items, their files, references to items."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from ..contract.wire import PNG
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
    roles,
    think_and_roll,
)
from .test_openai import connect


def test_a_thread_continues_without_earlier_instructions(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    with connect(api) as client:
        first = ask(client, "one", instructions="Be brief.")
        second = ask(client, "two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.session_id == first.session_id
    earlier = f"You said: {model.seen[0][1]['content']}"
    assert "Be brief." in earlier
    assert [one["content"] for one in model.seen[-1]][1:] == ["one", earlier, "two"]


def test_an_empty_message_continues_a_thread(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    with connect(api) as client:
        ask(client, "", previous_response_id=ask(client, "one").id)
    assert [one["content"] for one in model.seen[-1]][1:] == ["one", "You said: one", "(no text)"]


def test_a_thread_branches_and_each_branch_has_a_session(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    with connect(api) as client:
        root = ask(client, "root")
        left = ask(client, "left", previous_response_id=root.id)
        right = ask(client, "right", previous_response_id=root.id)
        assert [one["content"] for one in model.seen[-1]][1:] == [
            "root", "You said: root", "right",
        ]  # fmt: skip
        ask(client, "more", previous_response_id=left.id)
    assert [one["content"] for one in model.seen[-1]][1:] == [
        "root", "You said: root", "left", "You said: left", "more",
    ]  # fmt: skip
    assert root.session_id == left.session_id != right.session_id


def test_the_oldest_items_of_a_long_thread_are_dropped(make_scripted: Make) -> None:
    api, model = make_scripted(echo, agent="titles = false\nhistory_tokens = 200")
    with connect(api) as client:
        last = None
        for number in range(8):
            last = ask(
                client, f"{number} " + "word " * 40,
                **({"previous_response_id": last.id} if last else {}),
            )  # fmt: skip
    assert 2 < len(model.seen[-1]) < 12
    assert roles(model.seen[-1])[1] == "user"


def test_the_model_still_gets_earlier_pictures_of_a_thread(make_scripted: Make) -> None:
    api, model = make_scripted(echo, provider='modalities = ["text", "image"]')
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    picture = [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
    ]
    with connect(api) as client:
        first = ask(client, [{"role": "user", "content": picture}])
        ask(client, "Which colour?", previous_response_id=first.id)
        (item,) = client.responses.input_items.list(first.id)
    assert [part["type"] for part in model.seen[-1][1]["content"]] == ["text", "image_url"]
    assert item.content[1].file_id  # type: ignore[union-attr]


def test_only_its_users_read_the_file_of_an_item(make_scripted: Make) -> None:
    api, model = make_scripted(echo, provider='modalities = ["text", "image"]')
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(PNG), "a.png")})
    file_id = upload.get_json()["data"]["attachment_id"]
    sent = [
        {"role": "user", "content": [{"type": "input_image", "file_id": file_id}]},
        {"role": "assistant", "content": "A picture."},
        {"role": "user", "content": "Which colour?"},
    ]
    body = {"model": "default", "input": sent}
    assert post(api, **body).status_code == 200
    assert [part["type"] for part in model.seen[-1][1]["content"]] == ["text", "image_url"]
    alone = {"model": "default", "input": sent[:1]}
    assert post(api, **alone).status_code == 200
    assert [part["type"] for part in model.seen[-1][1]["content"]] == ["text", "image_url"]
    bound = {"X-API-Key": make_key(api, username="bob")}
    for one in (body, alone):
        assert api.client.post(PATH, headers=bound, json=one).status_code == 404
    assert len(model.seen) == 2


def show_call(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the call of a client's tool, and its output with these parts."""
    return [
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": list(parts)},
    ]


def test_the_model_gets_the_pictures_of_a_tools_output(make_scripted: Make) -> None:
    api, model = make_scripted(echo, provider='modalities = ["text", "image"]')
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    picture = {"type": "input_image", "image_url": url}
    question = {"role": "user", "content": "Which colour?"}
    for parts, text in (
        ([{"type": "input_text", "text": "done"}, picture], "done"),
        ([picture], "(files: see below)"),
    ):
        first = post(api, input=[question, *show_call(*parts)])
        assert first.status_code == 200
        *_, asked, called, result, shown = model.seen[-1]
        assert (asked["content"], called["role"]) == ("Which colour?", "assistant")
        assert (result["role"], result["content"]) == ("tool", text)
        assert shown["role"] == "user"
        assert [part["type"] for part in shown["content"]] == ["text", "image_url"]
        # The pictures stay in the thread, and the items can be listed.
        response_id = first.get_json()["id"]
        assert post(api, input="And now?", previous_response_id=response_id).status_code == 200
        assert shown in model.seen[-1]
        with connect(api) as client:
            output = client.responses.input_items.list(response_id).data[0]
        assert output.output[-1].file_id  # type: ignore[union-attr]
    assert api.count_rows("attachment") == 1


def test_only_the_newest_files_of_a_long_history_are_read(make_scripted: Make) -> None:
    """An agent that looks at the screen after each step sends all its pictures again."""
    api, model = make_scripted(echo, provider='modalities = ["text", "image"]', max_segments=2)
    urls = [
        "data:image/png;base64," + base64.b64encode(one).decode()
        for one in (PNG, PNG + b"1", PNG + b"2", PNG + b"3")
    ]
    pictures = [{"type": "input_image", "image_url": url} for url in urls]
    given = [
        {"role": "user", "content": pictures[:1]},
        {"role": "assistant", "content": pictures[:1]},  # is not read
        *(item for picture in pictures[1:] for item in show_call(picture)),
        {"role": "user", "content": [{"type": "input_text", "text": "And?"}, pictures[0]]},
    ]
    assert post(api, input=given).status_code == 200
    contents = [one["content"] for one in model.seen[-1][1:]]
    read = [len(one) - 1 if isinstance(one, list) else one for one in contents]
    assert read == [
        "[image]", "[image]", "[image]", None, "(files: see below)", 1, None, "(files: see below)",
        1, 1,
    ]  # fmt: skip
    assert api.count_rows("attachment") == 3


def test_parts_are_counted_before_their_files_are_read(api: Api) -> None:
    """Storing thousands of files takes seconds."""
    broken = {"type": "input_image", "image_url": "data:image/png;base64,?"}
    refused = post(api, input=[{"role": "user", "content": [broken] * 101}])
    assert refused.status_code == 400
    assert "101 parts; at most 100" in refused.text


def test_the_newest_of_too_many_pictures_are_shown(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.chat.turns.conversation.MAX_SUPPLIED_CHARS", 150)
    api, model = make_scripted(echo, provider='modalities = ["text", "image"]')
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(PNG), "a.png")})
    named = {"type": "input_image", "file_id": upload.get_json()["data"]["attachment_id"]}
    question = {"role": "user", "content": "Hi"}
    assert post(api, input=[question, *3 * show_call(named)]).status_code == 200
    shown = [one["content"] for one in model.seen[-1] if one["role"] == "user"]
    assert [isinstance(one, list) for one in shown] == [False, False, True, True]
    assert "not shown" in shown[1]


def test_a_tools_output_cannot_name_a_file_of_others(make_scripted: Make) -> None:
    api, model = make_scripted(echo, provider='modalities = ["text", "image"]')
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(PNG), "a.png")})
    named = {"type": "input_image", "file_id": upload.get_json()["data"]["attachment_id"]}
    body = {"model": "default", "input": [{"role": "user", "content": "Hi"}, *show_call(named)]}
    bound = {"X-API-Key": make_key(api, username="bob")}
    assert api.client.post(PATH, headers=bound, json=body).status_code == 404
    assert not model.seen


def test_an_added_tools_output_cannot_name_a_file_of_others(make_scripted: Make) -> None:
    api, _ = make_scripted(echo)
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(PNG), "a.png")})
    named = {"type": "input_image", "file_id": upload.get_json()["data"]["attachment_id"]}
    added = {"items": show_call(named)}
    bound = {"X-API-Key": make_key(api, username="bob")}
    path = "/api/v1/openai/conversations"
    assert api.client.post(path, headers=bound, json=added).status_code == 404
    made = api.client.post(path, headers=bound, json={}).get_json()
    path = f"{path}/{made['id']}/items"
    assert api.client.post(path, headers=bound, json=added).status_code == 404


def make_talk_of(picture: bytes) -> list[dict[str, Any]]:
    """Return a whole conversation with a picture in an earlier message."""
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    return [
        {"role": "user", "content": [{"type": "input_image", "image_url": url}]},
        {"role": "assistant", "content": "A picture."},
        {"role": "user", "content": "Which colour?"},
    ]


def test_data_of_earlier_items_is_used_and_stored_once_per_user(make_scripted: Make) -> None:
    api, model = make_scripted(echo, provider='modalities = ["text", "image"]')
    talk = make_talk_of(PNG)
    assert post(api, input=talk[:1]).status_code == 200
    for _ in range(3):
        assert post(api, input=talk).status_code == 200
        content = model.seen[-1][1]["content"]
        assert [part["type"] for part in content] == ["text", "image_url"]
    assert api.count_rows("attachment") == 1
    assert post(api, input=talk, user="bob").status_code == 200
    assert api.count_rows("attachment") == 2
    for rules in ({}, {"username": "alice"}):
        headers = {"X-API-Key": make_key(api, **rules)}
        before = api.count_rows("attachment")
        for _ in range(2):
            body = {"model": "default", "input": talk}
            assert api.client.post(PATH, headers=headers, json=body).status_code == 200
            assert [part["type"] for part in model.seen[-1][1]["content"]] == ["text", "image_url"]
        assert api.count_rows("attachment") == before + 1


def test_rejected_data_of_earlier_items_names_its_field(make_scripted: Make) -> None:
    api, model = make_scripted(echo, max_all_file_bytes=2 * len(PNG))
    broken = make_talk_of(PNG)
    broken[0]["content"][0]["image_url"] += "!"
    big = make_talk_of(PNG + b"0" * 2 * len(PNG))
    for talk, status, where in (
        (broken, 400, "input[0].content[0].image_url"),
        (big, 413, "input[0].content[0]"),
    ):
        refused = post(api, input=talk)
        assert refused.status_code == status
        assert where in refused.get_json()["error"]["message"]
    assert model.seen == []
    # The model gets only the URL, which is never opened.
    far = make_talk_of(PNG)
    far[0]["content"][0]["image_url"] = "https://10.0.0.1/a.png"
    assert post(api, input=far).status_code == 200
    assert model.seen[-1][1]["content"] == "[image]"


def test_files_of_added_items_are_checked_against_the_key(make_scripted: Make) -> None:
    api, model = make_scripted(echo, provider='modalities = ["text", "image"]')
    talk = make_talk_of(PNG)
    added = post(api, "/api/v1/openai/conversations", items=talk[:2]).get_json()
    answer = post(api, input="Which colour?", conversation=added["id"])
    assert answer.status_code == 200
    assert [part["type"] for part in model.seen[-1][1]["content"]] == ["text", "image_url"]
    items = api.get(f"/api/v1/openai/conversations/{added['id']}/items?order=asc").get_json()
    file_id = items["data"][0]["content"][0]["file_id"]
    foreign = [{"role": "user", "content": [{"type": "input_image", "file_id": file_id}]}]
    bound = {"X-API-Key": make_key(api, username="bob")}
    refused = api.client.post(
        "/api/v1/openai/conversations", headers=bound, json={"items": foreign}
    )
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (
        404, "attachment_not_found",
    )  # fmt: skip


def test_results_of_client_tools_continue_the_response(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    with connect(api) as client:
        first = ask(client, "Weather?", tools=[WEATHER])
        calls = [one for one in first.output if one.type == "function_call"]
        assert [json.loads(one.arguments)["city"] for one in calls] == ["Oslo", "Rome"]
        assert first.status == "completed"
        results = [
            {"type": "function_call_output", "call_id": one.call_id, "output": "sunny"}
            for one in calls
        ]
        second = ask(client, results, tools=[WEATHER], previous_response_id=first.id)
    assert second.output_text == "It is sunny."
    assert roles(model.seen[-1]) == ["system", "user", "assistant", "tool", "tool"]
    assert [one["content"] for one in model.seen[-1][-2:]] == ["sunny", "sunny"]


def test_an_empty_message_before_results_is_ignored(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    with connect(api) as client:
        first = ask(client, "Weather?", tools=[WEATHER])
        results = [
            {"type": "function_call_output", "call_id": one, "output": "sunny"}
            for one in ("c1", "c2")
        ]
        empty = {"role": "user", "content": ""}
        ask(client, [empty, *results], tools=[WEATHER], previous_response_id=first.id)
    assert roles(model.seen[-1]) == ["system", "user", "assistant", "tool", "tool"]


def test_tool_results_work_in_a_whole_conversation_from_the_client(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    with connect(api) as client:
        first = ask(client, "Weather?", tools=[WEATHER], store=False)
        given: list[Any] = [{"role": "user", "content": "Weather?"}]
        given += [one.to_dict() for one in first.output]
        given += [
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            {"type": "function_call_output", "call_id": "c2",
             "output": [{"type": "input_text", "text": "rainy"}]},
        ]  # fmt: skip
        second = ask(client, given, tools=[WEATHER], store=False)
    assert second.output_text == "It is rainy."
    assert roles(model.seen[-1]) == ["system", "user", "assistant", "tool", "tool"]
    assert model.seen[-1][2]["content"] == "Let me look."


def test_a_refusal_may_be_sent_back(make_scripted: Make) -> None:
    api, model = make_scripted(echo)
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    said = [{"role": "user", "content": "Please."}, refused, {"role": "user", "content": "Why?"}]
    first = post(api, input=said).get_json()
    post(api, input="Hm.", previous_response_id=first["id"])
    assert [one["content"] for one in model.seen[-1]][1:4] == ["Please.", "No.", "Why?"]


def test_items_can_be_referenced_by_their_ids(make_scripted: Make) -> None:
    api, model = make_scripted(call_weather)
    with connect(api) as client:
        first = ask(client, "Weather?", tools=[WEATHER])
        given = [
            {"role": "user", "content": "Weather?"},
            *({"type": "item_reference", "id": one.id} for one in first.output),
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            {"type": "function_call_output", "call_id": "c2", "output": "rainy"},
        ]
        ask(client, given, tools=[WEATHER])
        assert roles(model.seen[-1]) == ["system", "user", "assistant", "tool", "tool"]
        # Text that was taken back has numbers in the stream, but not in the stored response.
        later = f"{first.output[0].id[:-4]}8005"
        ask(client, [given[0], {"type": "item_reference", "id": later}, given[0]])
        assert model.seen[-1][2]["content"] == "Let me look."
        entry = first.output[0].id.removeprefix("msg_")[:-4]
        for unknown in ("msg_" + "0" * 36, f"msg_{entry}0005", f"rs_{entry}8005"):
            with pytest.raises(openai.NotFoundError, match=f"item not found: {unknown}"):
                ask(client, [{"type": "item_reference", "id": unknown}])


def test_a_deleted_item_cannot_be_referenced(make_scripted: Make) -> None:
    api, _ = make_scripted(think_and_roll, tools=[DICE])
    with connect(api) as client:
        made = client.conversations.create()
        first = ask(client, "Roll.", conversation=made.id)
        deleted = first.output[-1].id or ""
        client.conversations.items.delete(deleted, conversation_id=made.id)
        # Another text precedes it. The second number is one from before a rewind.
        for item_id in (deleted, f"{deleted[:-4]}8009"):
            with pytest.raises(openai.NotFoundError, match=f"item not found: {item_id}"):
                ask(client, [{"type": "item_reference", "id": item_id}])


def test_references_copy_at_most_the_size_of_a_body(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_MAX_JSON_BYTES=50_000)
    items = [{"role": "user", "content": "x" * 10_000}, {"role": "user", "content": "short"}]
    made = post(api, "/api/v1/openai/conversations", items=items).get_json()["id"]
    path = f"/api/v1/openai/conversations/{made}/items"
    short, long = (one["id"] for one in api.get(path).get_json()["data"])

    def refer(*ids: str) -> tuple[int, str]:
        given = [{"type": "item_reference", "id": one} for one in ids]
        answer = post(api, path, items=given)
        return answer.status_code, answer.get_data(as_text=True)

    assert refer(*[long] * 4)[0] == 200
    assert refer(*[short] * 20)[0] == 200
    for ids in ([long] * 5, [long] * 20):
        status, said = refer(*ids)
        assert status == 400
        assert "items of more than 50000 bytes in total" in said


def test_references_read_at_most_the_entries_of_a_body(
    make_api: Callable[..., Api],
) -> None:
    api = make_api(ASTRBOT_MAX_JSON_BYTES=50_000)
    found = []
    for _ in range(3):
        items = [{"role": "user", "content": "x" * 20_000}, {"role": "user", "content": "short"}]
        made = post(api, "/api/v1/openai/conversations", items=items).get_json()["id"]
        path = f"/api/v1/openai/conversations/{made}/items"
        found.append(api.get(path).get_json()["data"][0]["id"])
    for count, status in ((2, 200), (3, 400)):
        given = [{"type": "item_reference", "id": one} for one in found[:count]]
        answer = post(api, path, items=given)
        assert answer.status_code == status
    assert "items of more than 50000 bytes" in answer.get_data(as_text=True)


def test_the_size_of_repeated_fields_is_limited(api: Api) -> None:
    answer = post(api, instructions="x" * 600_000)
    assert answer.status_code == 400
    assert "have more than 524288 bytes as JSON" in answer.get_json()["error"]["message"]
    assert post(api, instructions="x" * 500_000).status_code == 200


def test_calls_of_the_servers_tools_may_be_sent_back(make_scripted: Make) -> None:
    api, model = make_scripted(think_and_roll, tools=[DICE])
    with connect(api) as client:
        first = ask(client, "Roll.", store=False)
        given: Any = [{"role": "user", "content": "Roll."}]
        given += [one.to_dict() for one in first.output]
        ask(client, [*given, {"role": "user", "content": "Again."}], store=False)
    seen = model.seen[-2]
    assert roles(seen) == [
        "system", "user", "assistant", "assistant", "tool", "assistant", "tool", "assistant",
        "user",
    ]  # fmt: skip
    assert [one["content"] for one in seen if one["role"] == "tool"] == ["4", "6"]
