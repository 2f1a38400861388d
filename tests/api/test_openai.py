"""The OpenAI-compatible routes, with OpenAI's own client."""

from __future__ import annotations

import base64
import io
import json
import socket
import string
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx2
import openai
import pytest

from astrbot_api import Tool
from astrbot_api.agent.provider import Delta, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from astrbot_api.chat.watching.watch import Watch
from astrbot_api.errors import StorageError
from astrbot_api.http.openai.rendering import Completion
from astrbot_api.testing import ScriptedModel
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..contract.wire import PNG
from ..waiting import wait_for
from .conftest import Api
from .openai_responses import make_key

Make = Callable[..., tuple[Api, ScriptedModel]]

PATH = "/api/v1/openai/chat/completions"


def connect(api: Api, key: str = "") -> openai.OpenAI:
    transport = httpx2.WSGITransport(app=api.app)
    return openai.OpenAI(
        api_key=key or api.key,
        base_url="http://localhost/api/v1/openai",
        http_client=httpx2.Client(transport=transport),
        max_retries=0,
    )


@pytest.fixture
def client(api: Api) -> Iterator[openai.OpenAI]:
    with connect(api) as made:
        yield made


def ask(client: openai.OpenAI, content: Any, **options: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model="default", messages=messages, **options)  # type: ignore[call-overload]


def post(api: Api, **body: Any) -> Any:
    body = {"model": "default", "messages": [{"role": "user", "content": "Hello"}], **body}
    return api.post(PATH, json=body)


def said(*contents: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": one, **more} for one in contents]}


def nothing_is_left(api: Api) -> bool:
    tables = ("message", "run", "chat_session", "deleted_session")
    return all(api.count_rows(table) == 0 for table in tables)


def test_a_completion_is_returned_whole(api: Api, client: openai.OpenAI) -> None:
    answer = ask(client, "THINK")
    assert answer.object == "chat.completion"
    assert answer.model == "default"
    (choice,) = answer.choices
    assert choice.message.content == "Hello from mock."
    assert choice.message.model_extra == {"reasoning_content": "Let me think about it."}
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert nothing_is_left(api)


def test_a_completion_is_streamed_in_chunks(api: Api, client: openai.OpenAI) -> None:
    chunks = list(ask(client, "THINK", stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [one.choices[0].delta.content or "" for one in chunks if one.choices]
    assert "".join(texts) == "Hello from mock."
    assert len([text for text in texts if text]) == 4, "piece by piece"
    thoughts = [one.choices[0].delta.model_extra for one in chunks if one.choices]
    assert "".join(one.get("reasoning_content", "") for one in thoughts if one) == (
        "Let me think about it."
    )
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens > 0
    assert not chunks[-1].choices
    assert nothing_is_left(api)
    assert not any(one.usage for one in ask(client, "Hello", stream=True))


def test_a_stream_has_no_frame_for_hidden_events(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, show = threading.Event(), Completion.show

    def answer(messages: Any) -> Iterator[Delta]:
        assert hidden.wait(30)
        yield TextDelta("ok")

    def show_and_note(self: Completion, event: Any) -> Any:
        if event["type"] == "run_started":
            hidden.set()
        return show(self, event)

    monkeypatch.setattr(Completion, "show", show_and_note)
    api, _ = make_scripted(answer, heartbeat_s=60)
    role, text, *_ = post(api, stream=True).get_data(as_text=True).split("\n\n")
    assert '"role":"assistant"' in role
    assert '"content":"ok"' in text


def test_silence_of_a_stream_is_chunks_without_changes(make_scripted: Make) -> None:
    """Some clients give a comment to the application, which expects JSON."""
    silent = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("one")
        assert silent.wait(30)
        yield TextDelta("two")

    api, _ = make_scripted(answer, heartbeat_s=0.05)
    lines = []
    for piece in post(api, stream=True).response:
        lines += piece.decode().split("\n\n")[:-1]
        if "one" in "".join(lines[:-1]):
            silent.set()
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(one.removeprefix("data: ")) for one in lines[:-1]]
    deltas = [one["choices"][0]["delta"] for one in chunks]
    first, second = deltas.index({"content": "one"}), deltas.index({"content": "two"})
    assert {} in deltas[first:second]


def test_tools_run_on_the_server(make_scripted: Make) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        if messages[-1]["role"] == "user":
            yield ReasoningDelta("hm")
            yield ToolCallDelta(0, "c", "dice", '{"sides": 6}')
            yield Usage(10, 0, 2)
        else:
            yield TextDelta(f"It shows {messages[-1]['content']}")
            yield Usage(20, 5, 3)

    dice = Tool("dice", "Roll.", lambda arguments, context: str(arguments["sides"] - 2))
    api, _ = make_scripted(answer, tools=[dice])
    with connect(api) as client:
        whole = ask(client, "roll")
        assert whole.choices[0].message.content == "It shows 4"
        assert whole.choices[0].message.model_extra == {"reasoning_content": "hm"}
        assert whole.choices[0].message.tool_calls is None
        assert whole.usage.model_dump(include={"prompt_tokens", "completion_tokens"}) == {
            "prompt_tokens": 35, "completion_tokens": 5,
        }  # fmt: skip
        deltas = [one.choices[0].delta for one in ask(client, "roll", stream=True)]
        assert "".join(one.content or "" for one in deltas) == "It shows 4"
        assert [one.model_extra for one in deltas if one.model_extra] == [
            {"reasoning_content": "hm"}
        ]


def test_an_answer_without_a_model_used_no_tokens(api: Api) -> None:
    answer = post(api, **said("/help")).get_json()
    assert "/help" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["total_tokens"] == 0


def test_files_of_the_servers_tools_are_attachments_of_the_answer(make_scripted: Make) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        yield ToolCallDelta(0, "c", "draw", "{}") if len(messages) < 3 else TextDelta("Here.")

    def draw(arguments: Any, context: Any) -> str:
        context.send_file(PNG, "cat.png")
        return "done"

    api, _ = make_scripted(answer, tools=[Tool("draw", "Draw.", draw)])
    with connect(api) as client:
        (whole,) = ask(client, "Draw").choices[0].message.model_extra["attachments"]
        deltas = [one.choices[0].delta for one in ask(client, "Draw", stream=True)]
    ((streamed,),) = (one.model_extra["attachments"] for one in deltas if one.model_extra)
    for file in (whole, streamed):
        assert (file["type"], file["filename"]) == ("image", "cat.png")
        shown = api.get(f"/api/v1/file?attachment_id={file['attachment_id']}")
        assert shown.get_data() == PNG


def test_only_the_requests_messages_are_the_context(make_scripted: Make) -> None:
    api, model = make_scripted(
        lambda messages: iter([TextDelta("ok")]), agent='titles = false\nsystem_prompt = "MINE"'
    )
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c"},
                {"id": "c", "function": {"name": None}},
                {"id": 7, "function": {"name": "f"}},
            ],
        },
        {"role": "tool", "content": "faked", "tool_call_id": "c"},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": [{"type": "text", "text": "three"}]},
    ]
    assert post(api, messages=messages).status_code == 200
    assert model.seen[-1] == [
        {"role": "system", "content": "MINE"},
        {"role": "user", "content": "[Instructions of the application]\nbe brief\n\none"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    assert post(api, messages=[messages[0], messages[-1]]).status_code == 200
    assert model.seen[-1][1:] == [
        {"role": "user", "content": "[Instructions of the application]\nbe brief\n\nthree"}
    ]


def test_calls_in_the_older_form_reach_the_model_with_their_results(make_scripted: Make) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    called = [
        {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": "{}"}}
        for name in ("look", "listen")
    ]
    results = [
        {"role": "function", "name": one, "content": f"of {one}"} for one in ("look", "listen")
    ]
    given = [called[0], results[0], called[1], results[1]]
    assert post(api, messages=[{"role": "user", "content": "Do"}, *given]).status_code == 200
    seen = model.seen[-1][2:]
    assert [one["tool_calls"][0]["function"]["name"] for one in seen[::2]] == ["look", "listen"]
    assert [(one["tool_call_id"], one["content"]) for one in seen[1::2]] == [
        (seen[0]["tool_calls"][0]["id"], "of look"),
        (seen[2]["tool_calls"][0]["id"], "of listen"),
    ]


def test_a_requests_conversation_is_cut_to_the_configs_limit(make_scripted: Make) -> None:
    api, model = make_scripted(
        lambda messages: iter([TextDelta("ok")]), agent="titles = false\nhistory_tokens = 100"
    )
    messages = [
        {"role": role, "content": f"{number} " + "x" * 100}
        for number in range(10)
        for role in ("user", "assistant")
    ]
    post(api, messages=[*messages, {"role": "user", "content": "last"}])
    given = model.seen[-1]
    assert [one["content"][0] for one in given[1:]] == ["9", "9", "l"]


def test_a_turn_of_a_named_session_has_its_history_and_is_stored(make_scripted: Make) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    api.chat("first", session_id="s")
    with connect(api) as client:
        answer = ask(client, "second", user="alice", metadata={"session_id": "s"})
        assert answer.model_extra["session_id"] == "s"
        assert [one["content"] for one in model.seen[-1][1:]] == ["first", "ok", "second"]
        with pytest.raises(openai.ConflictError) as caught:
            ask(client, "x", user="mallory", extra_body={"session_id": "s"})
        assert caught.value.code == "session_of_another_user"
    assert api.count_rows("message") == 4


def test_a_session_cannot_continue_with_other_messages_than_the_users(make_scripted: Make) -> None:
    api, model = make_scripted("ok")
    begun = [*said("x")["messages"], {"role": "assistant", "content": "The answer"}]
    answer = post(api, messages=begun, session_id="s")
    assert answer.get_json()["error"]["message"].startswith("messages must end with the user's")
    assert post(api, messages=begun).status_code == 200
    assert model.seen[-1][-1] == {"role": "assistant", "content": "The answer"}


@pytest.mark.parametrize("metadata", [None, {}, {"session_id": None}, {"session_id": ""}])
def test_metadata_without_a_session_is_accepted(api: Api, metadata: Any) -> None:
    assert "session_id" not in post(api, metadata=metadata).get_json()


def test_a_stored_turn_creates_a_session_of_its_user(api: Api, client: openai.OpenAI) -> None:
    session_id = ask(client, "Hello", user="alice", store=True).model_extra["session_id"]
    assert api.get(f"/api/v1/chat/sessions/{session_id}?username=alice").status_code == 200
    session_id = ask(client, "Hello", store=True).model_extra["session_id"]
    user = f"openai:{api.key[:12]}"
    assert api.get(f"/api/v1/chat/sessions/{session_id}?username={user}").status_code == 200


def test_a_completion_without_a_user_is_of_the_default_username_of_its_key(api: Api) -> None:
    key = make_key(api, username_prefix="web:", default_username="web:guest")
    with connect(api, key) as client:
        session_id = ask(client, "Hello", store=True).model_extra["session_id"]
    assert api.get(f"/api/v1/chat/sessions/{session_id}?username=web:guest").status_code == 200


def look_at(*pictures: bytes, text: str = "what is it?") -> dict[str, Any]:
    """Return a user's message with pictures before its text."""
    parts: list[dict[str, Any]] = [
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{base64.b64encode(one).decode()}"},
        }
        for one in pictures
    ]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def count_pictures(message: dict[str, Any]) -> int:
    content = message["content"]
    return 0 if isinstance(content, str) else len(content) - 1


def test_pictures_of_all_messages_reach_the_model(make_scripted: Make) -> None:
    """They are stored once, although the client sends them with each request."""
    api, model = make_scripted(
        lambda messages: iter([TextDelta("ok")]), provider='modalities = ["text", "image"]'
    )
    messages = [
        look_at(PNG),
        {"role": "assistant", "content": "a dot"},
        {"role": "user", "content": "which colour?"},
        {"role": "assistant", "content": "red"},
        look_at(PNG, text="sure?"),
    ]
    for count in (1, 3, 3):
        assert post(api, messages=messages[:count]).status_code == 200
        asked = [one for one in model.seen[-1] if one["role"] == "user"]
        assert count_pictures(asked[0]) == 1
        assert asked[0]["content"][0]["text"].startswith("what is it?\n[Image Attachment")
    assert api.count_rows("attachment") == 1
    assert post(api, messages=messages).status_code == 200
    assert [count_pictures(one) for one in model.seen[-1] if one["role"] == "user"] == [1, 0, 1]


def test_an_earlier_file_that_cannot_be_read_is_a_placeholder(make_scripted: Make) -> None:
    """Otherwise the conversation could not continue, since clients keep their history."""
    api, model = make_scripted(
        lambda messages: iter([TextDelta("ok")]),
        provider='modalities = ["text", "image"]', max_segments=5, max_file_bytes=2 * len(PNG),
    )  # fmt: skip
    far = {"type": "image_url", "image_url": {"url": "https://10.0.0.1/a.png"}}
    messages = [
        look_at(PNG, PNG + b"0"),
        {"role": "user", "content": [far, {"type": "video_url"}]},
        look_at(PNG + b"0" * 2 * len(PNG)),
        look_at(PNG, PNG + b"0"),
        {"role": "user", "content": "which colour?"},
    ]
    assert post(api, messages=messages).status_code == 200
    asked = model.seen[-1]
    assert [count_pictures(one) for one in asked if one["role"] == "user"] == [1, 0, 0, 2, 0]
    assert asked[-5]["content"][0]["text"].startswith("[image]\nwhat is it?")
    assert [one["content"] for one in asked[-4:-2]] == ["[image]\n[video]", "[image]\nwhat is it?"]


def test_only_its_users_read_the_file_of_an_earlier_message(make_scripted: Make) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(PNG), "a.png")})
    file = {"type": "file", "file": {"file_id": upload.get_json()["data"]["attachment_id"]}}
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": [file]}, {"role": "user", "content": "x"}],
    }
    assert post(api, **body).status_code == 200
    assert "[Image Attachment: name a.png" in model.seen[-1][-2]["content"]
    refused = api.client.post(PATH, headers={"X-API-Key": make_key(api, username="bob")}, json=body)
    assert refused.get_json()["error"]["code"] == "attachment_not_found"


def test_a_conversation_of_a_session_stores_only_the_files_of_its_last_message(api: Api) -> None:
    messages = [look_at(PNG), {"role": "user", "content": "x"}]
    assert post(api, messages=messages, session_id="s1").status_code == 200
    assert api.count_rows("attachment") == 0


@pytest.mark.parametrize(
    ("second", "seen"),
    [
        ("Bob", ["Ann: hi", "hello", "Bob: and\nme?"]),
        ("B\nob", ["Ann: hi", "hello", "B ob: and\nme?"]),
        ("Ann", ["hi", "hello", "and\nme?"]),
        (None, ["hi", "hello", "and\nme?"]),
    ],
)
def test_the_model_is_informed_who_speaks_among_several(
    make_scripted: Make, second: str | None, seen: list[str]
) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    parts = [{"type": "text", "text": text} for text in ("", "and", "me?")]
    messages = [
        {"role": "user", "name": "Ann", "content": "hi"},
        {"role": "assistant", "name": "bot", "content": "hello"},
        {"role": "user", "name": second, "content": parts},
    ]
    assert post(api, messages=messages).status_code == 200
    assert [one["content"] for one in model.seen[-1] if one["role"] != "system"] == seen


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_text_parts_are_separate_lines_for_the_model(make_scripted: Make, path: str) -> None:
    api, model = make_scripted(lambda messages: iter([TextDelta("ok")]))
    kind = "text" if path == "chat/completions" else "input_text"
    said = [{"role": "user", "content": [{"type": kind, "text": one} for one in ("a", "", "b")]}]
    body = {"model": "default", "messages": said, "input": said, "store": True}
    assert api.post(f"/api/v1/openai/{path}", json=body).status_code == 200
    assert model.seen[-1][-1]["content"] == "a\nb"


@pytest.mark.parametrize("begin", ["", "a", "ab"])
@pytest.mark.parametrize("coding", ["", ";base64"])
def test_a_long_file_with_escapes_is_read_whole(api: Api, begin: str, coding: str) -> None:
    whole = (begin + "\0é%").encode() * 40_000
    plain = quote(base64.b64encode(whole) if coding else whole, safe=string.digits)
    part = {"type": "file", "file": {"file_data": f"data:{coding},{plain}", "filename": "a"}}
    answer = post(api, messages=[{"role": "user", "content": [part]}], store=True)
    session = f"/api/v1/chat/sessions/{answer.get_json()['session_id']}"
    stored = api.get(f"{session}/messages").get_json()["data"]["messages"][-1]["content"]
    attachment_id = stored["message"][0]["attachment_id"]
    assert api.get(f"/api/v1/file?attachment_id={attachment_id}").get_data() == whole


def test_any_form_of_a_data_url_is_read(make_scripted: Make) -> None:
    api, model = make_scripted(
        lambda messages: iter([TextDelta("ok")]), provider='modalities = ["text", "image"]'
    )
    data = base64.b64encode(PNG).decode()
    forms = [
        f"DATA:Image/PNG;BASE64,{data}",
        f"data:image/png;base64,{quote(data, safe='')}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(PNG).decode()}",
        f"data:image/png,{quote(PNG)}",
    ]
    content: list[Any] = [{"type": "image_url", "image_url": {"url": one}} for one in forms]
    content.append({"type": "image_url", "image_url": forms[0]})
    assert post(api, messages=[{"role": "user", "content": content}]).status_code == 200
    parts = [one for one in model.seen[-1][-1]["content"] if one["type"] == "image_url"]
    given = [one["image_url"]["url"] for one in parts]
    assert len(given) == len(content)
    assert len(set(given)) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x.png", "file:///etc/passwd", "data:image/png;base64,$$", "", None]
)
def test_no_other_url_is_opened(api: Api, url: Any) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    answer = post(api, messages=[{"role": "user", "content": [part]}])
    assert answer.status_code == 400
    assert answer.get_json()["error"]["code"] == "invalid_request"


_CONTENT = "messages[0].content"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"messages": []}, "messages must be a list with at least one"),
        ({"messages": "Hello"}, "messages must be a list with at least one"),
        ({"messages": [7]}, "messages[0] must be an object"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role must be one of"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "Message content is empty"),
        (said(""), "Message content is empty"),
        (said(7), f"{_CONTENT} must be a string or a list"),
        (said(7, "x"), f"{_CONTENT} must be a string or a list"),
        (said([7]), f"{_CONTENT}[0].type must be text, image_url"),
        (said([7], "x"), f"{_CONTENT}[0].type must be a string"),
        (said([{"type": "video_url"}]), f"{_CONTENT}[0].type must be text, image_url"),
        (said([{"type": "file"}]), f"{_CONTENT}[0].file must be an object"),
        (said([{"type": "file", "file": {"file_id": "a\0"}}]), f"{_CONTENT}[0].file.file_id must"),
        (said([{"type": "text", "text": 1}]), f"{_CONTENT}[0].text must be a string"),
        (said("a\0"), f"{_CONTENT} must not contain"),
        (said(*["x"] * 2001), "messages has 2001 messages; at most 2000"),
        (said("x", name={}), "messages[0].name must be a string"),
        (said("x", tool_calls={}), "messages[0].tool_calls must be a list"),
        (said("x", tool_calls=[7]), "messages[0].tool_calls must be a list"),
        (said("x", tool_call_id=7), "messages[0].tool_call_id must be a string"),
        ({"tools": [{"type": "function"}]}, "tools[0] must have"),
        ({"tools": [7]}, "tools[0] must have"),
        ({"tools": {}}, "tools must be a list of at most 128"),
        ({"tools": [{}] * 129}, "tools must be a list of at most 128"),
        ({"n": True}, "n is not supported"),
        ({"functions": [{}]}, "functions is not supported: send tools"),
        ({"n": 2}, "n is not supported"),
        ({"stream": "yes"}, "stream must be true or false"),
        ({"user": ["x"]}, "user must be a string"),
        ({"metadata": {"session_id": 1}}, "metadata.session_id must be a string"),
        ({"metadata": {"session_id": "x" * 256}}, "metadata.session_id must be a string"),
        ({"model": None}, "Missing key: model"),
    ],
)
def test_an_unsupported_request_is_a_400_in_openais_shape(
    api: Api, body: dict[str, Any], words: str
) -> None:
    answer = post(api, **body)
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(words)
    assert nothing_is_left(api)


def test_the_size_of_the_message_to_answer_is_limited(make_scripted: Make) -> None:
    api, _ = make_scripted("ok", max_message_chars=10, max_segments=3)
    part = {"type": "text", "text": "four"}
    for content, words in (
        ("x" * 11, "11 characters"),
        ([part] * 3, "14"),
        ([part] * 4, "4 parts"),
    ):
        answer = post(api, **said(content))
        assert (answer.status_code, words in answer.get_data(as_text=True)) == (400, True)
        assert post(api, **said(content, "and?")).status_code == 200, "as context"
    assert post(api, **said([part] * 2)).status_code == 200


def test_a_whole_answer_that_takes_too_long_is_a_timeout(make_scripted: Make) -> None:
    never = threading.Event()
    api, _ = make_scripted([never, "late"], max_blocking_s=0.05, heartbeat_s=0.05)
    answer = post(api)
    never.set()
    assert (answer.status_code, answer.headers["X-Should-Retry"]) == (504, "false")
    error = answer.get_json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "turn_timeout")
    assert error["message"].endswith("; set stream to true")
    wait_for(lambda: nothing_is_left(api))


@pytest.mark.parametrize("content", [7, [7], [{"type": "text", "text": 7}]])
def test_an_unsupported_message_among_several_speakers_is_a_400(api: Api, content: Any) -> None:
    (first,), (second,) = (said("x", name="Ann")["messages"], said(content, name="Bob")["messages"])
    answer = post(api, messages=[first, second])
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"].startswith("messages[1].content")


def test_errors_have_the_classes_of_openais_client(api: Api, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no", messages=[{"role": "user", "content": "x"}])
    assert missing.value.code == "model_not_found"
    with connect(api, "abk_wrong") as wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()
    key = api.create_key("file")
    with connect(api, key) as other, pytest.raises(openai.PermissionDeniedError):
        other.models.list()
    with pytest.raises(openai.PermissionDeniedError):
        ask(client, "x", user="astrbot")
    with pytest.raises(openai.InternalServerError) as failed:
        ask(client, "FAIL=401")
    assert (failed.value.status_code, failed.value.code) == (502, "provider_error")
    with pytest.raises(openai.APIError) as broken:
        list(ask(client, "DROP=2", stream=True))
    assert broken.value.code == "provider_error"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="default", input="x")
    assert nothing_is_left(api)


def test_unreadable_events_are_a_status_before_the_first_output_and_an_error_after_it(
    make_scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise StorageError("The database is away.")

    begun = threading.Event()
    api, _ = make_scripted([TextDelta("It is"), begun, TextDelta(" done")])
    with connect(api) as client:
        stream = ask(client, "?", stream=True)
        while not next(stream).choices[0].delta.content:
            pass
        monkeypatch.setattr(Watch, "take", fail)
        begun.set()
        with pytest.raises(openai.APIError, match="The database is away") as late:
            list(stream)
        assert late.value.code == "storage_error"
        with pytest.raises(openai.InternalServerError, match="The database is away") as early:
            ask(client, "?", stream=True)
    assert (early.value.status_code, early.value.code) == (503, "storage_error")
    assert api.state.chat.streams.open_count == 0
    assert api.state.chat.runs.wait_until_idle(30)
    api.state.chat.remover.empty_removed()
    wait_for(lambda: nothing_is_left(api))


def test_clients_of_azure_name_a_config_as_their_deployment(api: Api) -> None:
    with openai.AzureOpenAI(
        azure_endpoint="http://localhost/api/v1", api_key=api.key, api_version="2025-04-01-preview",
        http_client=httpx2.Client(transport=httpx2.WSGITransport(app=api.app)), max_retries=0,
    ) as client:  # fmt: skip
        assert ask(client, "Hello").choices[0].message.content == "Hello from mock."
        chunks = list(ask(client, "ECHO a", stream=True))
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == "echo: ECHO a"
        response = client.responses.create(model="default", input="ECHO b")
        assert response.output_text == "echo: ECHO b"
        assert [one.id for one in client.models.list()] == ["default"]
        with pytest.raises(openai.NotFoundError, match="model"):
            client.chat.completions.create(model="no", messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("model", [{}, {"model": None}, {"model": "gpt-4o"}])
def test_a_deployment_in_the_path_is_the_model(api: Api, model: dict[str, Any]) -> None:
    path = "/api/v1/openai/deployments/default/chat/completions?api-version=2024-10-21"
    answer = api.post(path, json={**model, "messages": [{"role": "user", "content": "Hello"}]})
    assert (answer.status_code, answer.get_json()["model"]) == (200, "default")
    assert api.post(path, json=[]).get_json()["error"]["type"] == "invalid_request_error"


def test_configs_are_models(api: Api, client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["default"]
    assert client.models.retrieve("default").owned_by == "astrbot-api"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no")


def test_a_disconnected_client_stops_its_unstored_turn(make_scripted: Make) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        yield TextDelta("one")
        begun.set()
        assert stopped.wait(30)
        yield TextDelta("two")

    api, _ = make_scripted(answer)
    stream = api.post(
        PATH,
        json={"model": "default", "messages": [{"role": "user", "content": "x"}], "stream": True},
    )
    assert begun.wait(30)
    assert api.get("/api/v1/chat/sessions?username=" + f"openai:{api.key[:12]}").get_json()[
        "data"
    ] == {"sessions": [], "page": 1, "page_size": 20, "total": 0}
    stream.close()
    (turn,) = api.state.chat.runs._active.values()
    assert turn.cancel.reason == "stopped"
    stopped.set()
    assert api.state.chat.runs.wait_until_idle(30)
    api.state.chat.remover.empty_removed()
    wait_for(lambda: nothing_is_left(api))


def test_a_client_that_disconnects_before_its_whole_answer_stops_its_unstored_turn(
    make_scripted: Make,
) -> None:
    begun, never = threading.Event(), threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        begun.set()
        yield TextDelta("one")
        never.wait(30)

    api, _ = make_scripted(answer, heartbeat_s=0.05)
    client, connection = socket.socketpair()
    body = {"model": "default", "messages": [{"role": "user", "content": "x"}]}
    with ThreadPoolExecutor() as pool, connection:
        posted = pool.submit(
            api.post, PATH, json=body, environ_overrides={"gunicorn.socket": connection}
        )
        assert begun.wait(30)
        (turn,) = api.state.chat.runs._active.values()
        client.close()
        assert posted.result(30).status_code == 400
    assert turn.cancel.reason == "stopped"
    never.set()
    assert api.state.chat.runs.wait_until_idle(30)
    api.state.chat.remover.empty_removed()
    wait_for(lambda: nothing_is_left(api))


def test_a_whole_number_is_forwarded_without_a_decimal_point(
    passing: Api, fake_model: FakeOpenAI
) -> None:
    with connect(passing) as client:
        ask(client, "Hello", extra_body={"max_tokens": 20.0, "seed": 7.0})
    sent = fake_model.requests()[-1]
    assert (repr(sent["max_tokens"]), repr(sent["seed"])) == ("20", "7")


@pytest.mark.parametrize("long", ["conversation", "tools", "schema"])
def test_running_turns_cannot_fill_the_memory_with_their_requests(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
    monkeypatch: pytest.MonkeyPatch,
    long: str,
) -> None:
    go_on = threading.Event()
    api, model = make_scripted(["{", go_on, "}"])
    monkeypatch.setattr(api.state.chat.runs._memory, "_max_bytes_of_one", 1_000_000)

    def complete(size: int) -> Any:
        text, asked = "x" * size, {"role": "user", "content": "Hi"}
        body: dict[str, Any] = {"model": "default", "messages": [asked]}
        if long == "conversation":
            said = [{"role": "user", "content": text}, {"role": "assistant", "content": "y"}]
            body["messages"] = [*said, asked]
        elif long == "tools":
            tool = {"name": "look", "description": text, "parameters": {"type": "object"}}
            body["tools"] = [{"type": "function", "function": tool}]
        else:
            schema = {"name": "answer", "schema": {"type": "object", "description": text}}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return api.post("/api/v1/openai/chat/completions", json=body)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(complete, 700_000)
        wait_for(lambda: model.seen)
        refused = complete(700_000)
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (503, "server_busy")
        go_on.set()
        assert running.result(30).status_code == 200
    assert complete(700_000).status_code == 200


def test_a_refused_turn_holds_no_memory(
    make_scripted: Callable[..., tuple[Api, ScriptedModel]],
) -> None:
    api, _ = make_scripted(["Hi"])
    body = {"message": "x" * 700_000, "username": "alice", "selected_provider": "unknown"}
    assert api.post("/api/v1/chat", json=body).get_json()["code"] == "provider_not_found"
    assert not api.state.chat.runs._memory._bytes
