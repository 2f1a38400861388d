"""Turns with an AstrBot: its events become ours, and no message is sent twice."""

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from astrbot_api.testing import FakeAstrBot
from astrbot_api.testing.fake_astrbot import PICTURE

from ..servers import parse_events
from ..unit.loopback_proxy import LoopbackProxy
from ..waiting import LIMIT_S
from .conftest import Api
from .test_guard_rails import make_key, refusal

#: Events with the number of a stored message.
MESSAGES = ("user_message_saved", "message_saved")


@pytest.fixture(params=["4.25", "4.29"])
def astrbot(request: pytest.FixtureRequest) -> Iterator[FakeAstrBot]:
    """An AstrBot of each generation. The tests apply to both."""
    with FakeAstrBot(request.param) as fake:
        yield fake


@pytest.fixture
def newer() -> Iterator[FakeAstrBot]:
    with FakeAstrBot("4.29") as fake:
        yield fake


@pytest.fixture
def make_gateway(make_api: Callable[..., Api]) -> Callable[..., Api]:
    """Create an application whose default config uses an AstrBot."""

    def make(astrbot: FakeAstrBot, more: str = "", **settings: Any) -> Api:
        table = f'[upstream]\nbase_url = "{astrbot.url}"\napi_key = "{astrbot.key}"\n{more}\n'
        return make_api(f'name = "default"\n{table}', **settings)

    return make


def owner_login(astrbot: FakeAstrBot) -> str:
    name, password = astrbot.owner
    return f'owner_username = "{name}"\nowner_password = "{password}"'


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(
        one["data"] for one in events if one["type"] == "plain" and one["chain_type"] is None
    )


def kinds_of(events: list[dict[str, Any]]) -> list[str]:
    return [one["type"] for one in events]


def test_text_thinking_and_stats_become_events_of_this_server(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot)
    events = api.chat("THINK ECHO hello", session_id="s1")
    assert text_of(events) == "echo: THINK ECHO hello"
    (complete,) = [one for one in events if one["type"] == "complete"]
    assert (complete["data"], complete["reasoning"]) == (
        "echo: THINK ECHO hello", "Let me think about it.",
    )  # fmt: skip
    (stats,) = [one for one in events if one["type"] == "agent_stats"]
    assert stats["data"]["token_usage"] == {"input_other": 20, "input_cached": 0, "output": 2}
    assert kinds_of(events)[-2:] == ["message_saved", "end"]
    assert astrbot.asked == [("alice", "s1", "THINK ECHO hello")]


def test_tool_calls_and_results_become_events_of_this_server(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    events = make_gateway(astrbot).chat("TOOL please")
    calls = [json.loads(one["data"]) for one in events if one.get("chain_type") == "tool_call"]
    results = [
        json.loads(one["data"]) for one in events if one.get("chain_type") == "tool_call_result"
    ]
    assert [(one["id"], one["name"], one["args"]) for one in calls] == [
        ("call_mock_1", "future_task", {})
    ]
    assert results[0]["result"].startswith("error: action must be")
    assert text_of(events).startswith("tool said: error: action must be")


def test_a_picture_of_the_answer_is_stored_locally(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot)
    events = api.chat("ECHO IMAGE please")
    (saved,) = [one for one in events if one["type"] == "attachment_saved"]
    assert saved["data"]["type"] == "image"
    answer = api.get("/api/v1/file", query_string={"attachment_id": saved["data"]["id"]})
    assert answer.get_data() == PICTURE


def test_a_command_is_answered_by_astrbot(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    events = make_gateway(astrbot).chat("/help")
    assert text_of(events).startswith("AstrBot v4.")


@pytest.mark.parametrize("message", ["FAIL=401 x", "EMPTY x"])
def test_a_failure_sent_as_an_answer_is_an_error(
    message: str, astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    events = make_gateway(astrbot).chat(message)
    (error,) = [one for one in events if one["type"] == "error"]
    assert error["code"] == "provider_error"
    assert "LLM" not in text_of(events)


def test_an_overloaded_astrbot_is_an_error(make_gateway: Callable[..., Api]) -> None:
    with FakeAstrBot("4.25", max_chats=0) as overloaded:
        events = make_gateway(overloaded).chat("Hello")
    assert [one["code"] for one in events if one["type"] == "error"] == ["provider_error"]


def test_an_answer_that_begins_like_a_failure_is_an_answer(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    # A model's answer, for which tokens were counted.
    events = make_gateway(newer).chat("N=3 LLM")
    assert text_of(events) == "tok0 tok1 tok2"


def test_a_rejection_by_astrbot_is_reported_with_its_reason(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot)
    events = api.chat("Hello", config_id="default:none")
    (error,) = [one for one in events if one["type"] == "error"]
    assert error["data"] == "AstrBot refused the request: config_id not found: none"


def test_astrbots_configs_are_listed_and_selectable(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer)
    found = api.get("/api/v1/configs").get_json()["data"]["configs"]
    assert [one["id"] for one in found] == ["default:default", "default:7f", "default"]
    assert text_of(api.chat("Hello", config_id="default:7f")) == "Hello from mock."
    body = json.loads(newer.requests[-1].data)
    assert body["config_id"] == "7f"


def test_an_unknown_config_of_a_caller_is_not_stored(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer)
    upstream = api.state.agents.configs.get_default().upstream
    assert upstream is not None
    client = api.state.agents.upstreams.get_client(upstream)
    plugins = api.state.agents.plugins
    chosen_plugins = plugins.choose(api.state.agents.configs.get_default())
    for number in range(3):
        api.chat("Hello", config_id=f"default:none{number}")
        chosen = api.state.agents.configs.find_config(f"default:none{number}")
        assert chosen is not None
        assert chosen.upstream is not None
        assert api.state.agents.upstreams.get_client(chosen.upstream) is client
        assert plugins.choose(chosen) is chosen_plugins


def test_the_upload_limit_applies_to_files_of_the_answer(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer, ASTRBOT_MAX_FILE_BYTES=str(len(PICTURE) - 1))
    events = api.chat("ECHO IMAGE please")
    assert "attachment_saved" not in kinds_of(events)
    assert kinds_of(events)[-2:] == ["message_saved", "end"]


def test_files_that_cannot_be_fetched_are_not_requested_without_end(
    newer: FakeAstrBot, make_gateway: Callable[..., Api], caplog: pytest.LogCaptureFixture
) -> None:
    files = [{"type": "attachment_saved", "data": {"id": str(number)}} for number in range(30)]
    replay(newer, *files, said("Done"))
    assert text_of(make_gateway(newer).chat("/report")) == "Done"
    assert caplog.text.count("could not be fetched") == 10


def test_the_same_bytes_are_uploaded_once(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot)
    for _ in range(2):
        upload = api.post(
            "/api/v1/file", data={"file": (io.BytesIO("résumé".encode()), "résumé 1.txt")}
        )
        part = {"type": "file", "attachment_id": upload.get_json()["data"]["attachment_id"]}
        api.chat([{"type": "plain", "text": "ECHO read"}, part])
    assert astrbot.list_files() == [("e9f7b5b696661e93_résumé 1.txt", "résumé".encode())]


def test_files_of_one_name_do_not_replace_each_other_in_astrbot(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    """AstrBot 4.25 stores all files under their names."""
    api = make_gateway(astrbot)
    for content in (b"of Ada", b"of Bob"):
        upload = api.post("/api/v1/file", data={"file": (io.BytesIO(content), "image.txt")})
        api.chat([{"type": "file", "attachment_id": upload.get_json()["data"]["attachment_id"]}])
    assert len(dict(astrbot.list_files())) == 2


def test_a_picture_arrives_as_a_picture(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot)
    upload = api.post(
        "/api/v1/file",
        data={"file": (io.BytesIO(PICTURE), "报" * 100 + ".png", "application/octet-stream")},
    )
    part = {"type": "image", "attachment_id": upload.get_json()["data"]["attachment_id"]}
    api.chat([{"type": "plain", "text": "ECHO look"}, part])
    ((name, kind),) = astrbot.uploaded
    assert kind == "image"
    assert name.endswith("_" + "报" * 59 + ".png"), "AstrBot stores names of at most 255 bytes"


def test_a_title_with_a_dot_is_shortened_like_any_name(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot)
    upload = api.post("/api/v1/file", data={"file": (io.BytesIO(b"text"), "1." + "报" * 100)})
    part = {"type": "file", "attachment_id": upload.get_json()["data"]["attachment_id"]}
    api.chat([{"type": "plain", "text": "ECHO look"}, part])
    ((name, _),) = astrbot.uploaded
    assert name.partition("_")[2] == "1." + "报" * 60


def quote(number: int, selected: str = "") -> list[dict[str, Any]]:
    reply = {"type": "reply", "message_id": number, "selected_text": selected}
    return [{"type": "plain", "text": "ECHO this"}, reply]


def test_a_quote_names_the_text_and_not_a_message_number_of_astrbot(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot)
    first = api.chat("ECHO first", session_id="s")
    mine = [one["data"]["id"] for one in first if one["type"] in MESSAGES]
    of_others = _chat_directly(astrbot, "the secret of Bob")
    for number, quoted in [
        (mine[0], "(alice): ECHO first"), (mine[1], "(bot): echo: ECHO first"),
        (of_others, "[Empty Text]"),
    ]:  # fmt: skip
        said = text_of(api.chat(quote(number), session_id="s"))
        assert said == f"echo: ECHO this\n<Quoted Message>\n{quoted}\n</Quoted Message>"
    assert "\nsome words\n" in text_of(api.chat(quote(mine[0], "some words"), session_id="s"))


def _chat_directly(astrbot: FakeAstrBot, text: str) -> int:
    """Let another user chat with AstrBot; return the number of the message."""
    body = {"username": "bob", "message": text, "session_id": "of-bob"}
    answer = urllib3.request(
        "POST", f"{astrbot.url}/api/v1/chat", headers={"X-API-Key": astrbot.key}, json=body
    )
    events = parse_events(answer.data)
    return int(next(one["data"]["id"] for one in events if one["type"] in MESSAGES))


def test_a_failure_in_mid_answer_is_an_error_after_the_text(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    events = make_gateway(newer).chat("DROP=2 x")
    assert text_of(events) == "Hello from"
    (error,) = [one for one in events if one["type"] == "error"]
    assert error["code"] == "provider_error"
    (complete,) = [one for one in events if one["type"] == "complete"]
    assert complete["data"] == "Hello from"


def replay(astrbot: FakeAstrBot, *events: dict[str, Any], ended: bool = True) -> None:
    """Let AstrBot answer with recorded events."""
    sent = [*events, {"type": "end", "data": ""}] if ended else events
    astrbot.replay("/api/v1/chat", "".join(f"data: {json.dumps(one)}\n\n" for one in sent))


def said(text: str) -> dict[str, Any]:
    return {"type": "plain", "data": text, "streaming": False, "chain_type": None}


def used(*counts: int) -> dict[str, Any]:
    usage = dict(zip(("input_other", "input_cached", "output"), counts, strict=True))
    return {"type": "agent_stats", "data": {"token_usage": usage}}


#: Recorded from 4.29.3.
_ASKED = {"type": "user_message_saved", "data": {"id": 8, "llm_checkpoint_id": "c"}}
_SAVED = {"type": "message_saved", "data": {"id": 9, "llm_checkpoint_id": "c"}}
_TOOL_CALL = [
    {"type": "plain", "chain_type": "tool_call", "streaming": False,
     "data": '{"id": "call_1", "name": "lab_pic", "args": {}, "ts": 1.0}'},
    {"type": "plain", "chain_type": "tool_call_result", "streaming": False,
     "data": '{"id": "call_1", "ts": 1.0, "result": "sent"}'},
]  # fmt: skip


def test_several_messages_of_a_command_are_separated(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    replay(newer, said("Searching"), _SAVED, said("Found it."), _SAVED)
    events = make_gateway(newer).chat("/search")
    assert text_of(events) == "Searching\n\nFound it."


def test_an_event_that_is_nested_without_end_is_skipped(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    deep = "[" * 100_000
    call = {"type": "plain", "data": deep, "streaming": False, "chain_type": "tool_call"}
    lines = [json.dumps(call), f'{{"type": "odd", "data": {deep}', json.dumps(said("Found\ud83d"))]
    events = [*lines, json.dumps({"type": "end", "data": ""})]
    newer.replay("/api/v1/chat", "".join(f"data: {one}\n\n" for one in events))
    assert text_of(make_gateway(newer).chat("/search")) == "Found\N{REPLACEMENT CHARACTER}"


def test_a_call_with_half_a_character_or_no_number_is_shown(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    call = {"id": "c", "name": "draw", "args": {"text": "a cat \ud83d", "size": float("nan")}}
    replay(newer, {**_TOOL_CALL[0], "data": json.dumps(call)}, said("Done."), _SAVED)
    events = make_gateway(newer).chat("draw")
    assert text_of(events) == "Done."
    (shown,) = [json.loads(one["data"]) for one in events if one.get("chain_type") == "tool_call"]
    assert shown["args"] == {"text": "a cat \N{REPLACEMENT CHARACTER}", "size": None}


def test_a_file_has_the_name_that_its_plugin_chose(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    there = newer.keep("doc.txt", b"words")
    named = {"type": "file", "data": "[FILE]20261129231623737_51f1.txt|doc.txt"}
    replay(newer, named, {"type": "attachment_saved", "data": {"id": there, "type": "file"}})
    events = make_gateway(newer).chat("/report")
    assert [one["data"] for one in events if one["type"] == "file"] == ["[FILE]doc.txt"]


def test_tokens_of_all_model_calls_are_counted_once(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    # AstrBot sends the sum so far after each call.
    complete = {"type": "complete", "data": "done", "reasoning": "", "streaming": True}
    replay(newer, used(20, 0, 4), *_TOOL_CALL, said("done"), used(60, 0, 7), complete, _SAVED)
    (stats,) = [one for one in make_gateway(newer).chat("x") if one["type"] == "agent_stats"]
    assert stats["data"]["token_usage"] == {"input_other": 60, "input_cached": 0, "output": 7}


def test_a_failure_after_a_tool_call_is_an_error(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    failure = "LLM 响应错误: All chat models failed: InternalServerError: Error code: 500 - x"
    replay(newer, used(20, 0, 4), *_TOOL_CALL, used(20, 0, 4), said(failure), _SAVED)
    events = make_gateway(newer).chat("x")
    assert [one["code"] for one in events if one["type"] == "error"] == ["provider_error"]
    assert "LLM" not in text_of(events)


@pytest.mark.parametrize(
    ("said_there", "status", "code"),
    [
        ("RateLimitError: Error code: 429 - slow down", 429, "provider_rate_limited"),
        (
            "BadRequestError: Error code: 400 - maximum context length is 512 tokens",
            400, "context_length_exceeded",
        ),
        ("InternalServerError: Error code: 500 - x", 502, "provider_error"),
    ],
)  # fmt: skip
def test_a_blocking_response_has_the_status_of_the_models_failure(
    newer: FakeAstrBot,
    make_gateway: Callable[..., Api],
    said_there: str,
    status: int,
    code: str,
) -> None:
    replay(newer, said(f"LLM 响应错误: All chat models failed: {said_there}"), _SAVED)
    body = {"username": "alice", "message": "x", "response_mode": "blocking"}
    answer = make_gateway(newer).post("/api/v1/chat", json=body)
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)


def test_an_answer_about_failures_is_an_answer(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    replay(newer, said("LLM 响应错误 means that the model failed."), used(20, 0, 9), _SAVED)
    assert text_of(make_gateway(newer).chat("x")).endswith("the model failed.")


@pytest.mark.parametrize("after", range(1, 12))
@pytest.mark.parametrize("message", ["N=4 x", "THINK TOOL x", "ECHO IMAGE x"])
def test_an_interrupted_answer_is_fetched_and_not_requested_again(
    after: int, message: str, newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer, f'username = "api_key:{newer.key_id}"')
    whole = api.chat(message)
    newer.break_next(after)
    broken = api.chat(message)
    assert text_of(broken) == text_of(whole)
    assert [k for k in kinds_of(broken) if k != "plain"] == [
        k for k in kinds_of(whole) if k != "plain"
    ]
    assert len(newer.asked) == 2


@pytest.mark.parametrize("login", [True, False])
@pytest.mark.parametrize("after", [2, 3, 5, 7, 9])
@pytest.mark.parametrize("message", ["N=4 x", "THINK TOOL x"])
def test_the_answer_to_any_user_is_found_in_the_context_of_the_model(
    message: str, after: int, login: bool, make_gateway: Callable[..., Api]
) -> None:
    scopes = ("chat",) if login else ("chat", "data")
    with FakeAstrBot("4.29", scopes=scopes) as astrbot:
        api = make_gateway(astrbot, owner_login(astrbot) if login else "")
        whole = api.chat(message)
        astrbot.break_next(after)
        broken = api.chat(message)
        assert len(astrbot.asked) == 2
    assert text_of(broken) == text_of(whole)
    calls = [
        json.loads(one["data"])["id"] for one in broken if one.get("chain_type") == "tool_call"
    ]
    assert calls == (["call_mock_1"] if "TOOL" in message else [])
    assert kinds_of(broken)[-3:] == ["complete", "message_saved", "end"]


def test_an_interrupted_command_ends_at_once(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    newer.scopes += ("data",)
    replay(newer, _ASKED, said("Searching"), ended=False)
    events = make_gateway(newer).chat("/search")
    # Otherwise it would be looked up in the context of the model, where it never arrives.
    assert [one["code"] for one in events if one["type"] == "error"] == ["upstream_outcome_unknown"]


def test_a_turn_that_a_restarted_astrbot_lost_ends_at_once(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    newer.scopes += ("data",)
    api = make_gateway(newer)
    newer.break_next(4)
    newer.started_at = time.time() + 60
    # Otherwise it would wait for the end of this turn.
    (error,) = [one for one in api.chat("SLOW N=500 x") if one["type"] == "error"]
    assert error["code"] == "upstream_outcome_unknown"


@pytest.mark.parametrize("session", [None, [], {"history": 5, "active_runs": 5}])
def test_an_unreadable_session_is_an_unknown_outcome(
    session: Any, newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer)
    replay(newer, _ASKED, said("Hel"), ended=False)
    newer.replay("/api/v1/chat/sessions/s", json.dumps({"status": "ok", "data": session}))
    newer.started_at = time.time() + 60  # nothing more is waited for
    (error,) = [one for one in api.chat("x", session_id="s") if one["type"] == "error"]
    assert error["code"] == "upstream_outcome_unknown"


def test_an_unknown_outcome_is_reported_and_the_message_not_resent(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot)
    astrbot.break_next(4)
    events = api.chat("N=6 x")
    (error,) = [one for one in events if one["type"] == "error"]
    assert error["code"] == "upstream_outcome_unknown"
    assert len(astrbot.asked) == 1
    # The text so far is kept, and the session continues.
    assert text_of(api.chat("N=2 x")) == "tok0 tok1"


def test_a_turn_that_has_only_heartbeats_ends(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.upstream.transport._EMPTY_TIMES", 0.1)
    events = make_gateway(astrbot, "timeout_s = 5").chat("FIRST=60000 x")
    (error,) = [one for one in events if one["type"] == "error"]
    assert error["code"] == "upstream_outcome_unknown"


def test_a_message_that_never_arrived_is_sent_again(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer)
    newer.refuse()
    again = threading.Timer(0.2, newer.listen)
    again.start()
    assert text_of(api.chat("Hello")) == "Hello from mock."
    again.join(LIMIT_S)
    assert len(newer.asked) == 1


def test_an_unreachable_astrbot_is_an_error(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer)
    newer.refuse()
    (error,) = [one for one in api.chat("Hello") if one["type"] == "error"]
    assert error["code"] == "provider_error"
    assert newer.url not in error["data"]


def test_a_stop_also_stops_the_turn_in_astrbot(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot, owner_login(astrbot))
    answer = api.post_chat(username="alice", session_id="s1", message="SLOW N=500 x")
    stream = iter(answer.response)
    said = b""
    while b"tok1" not in said:
        said += next(stream)
    api.post("/api/v1/chat/sessions/s1/stop", json={"username": "alice"})
    rest = b"".join(stream)
    assert b'"type":"end"' in rest.replace(b" ", b"")
    assert astrbot.stopped == ["s1"]
    # The next message does not join the ending run.
    assert text_of(api.chat("ECHO on", session_id="s1")) == "echo: ECHO on"
    # A real AstrBot takes seconds to check a password.
    assert "/api/auth/login" not in {one.path for one in astrbot.requests}


def test_a_stopped_turn_costs_its_message_and_the_text_so_far(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    """AstrBot reports the tokens of a model call at its end."""
    api = make_gateway(newer)
    limited, words = Api(api.app, key=make_key(api, tokens_per_day=100)), "word " * 100
    answer = limited.post_chat(username="alice", session_id="s1", message=f"SLOW N=500 {words}")
    stream = iter(answer.response)
    said = b""
    while b"tok1" not in said:
        said += next(stream)
    limited.post("/api/v1/chat/sessions/s1/stop", json={"username": "alice"})
    assert list(stream)
    refused = limited.post_chat(username="alice", session_id="s2", message="Hello")
    assert refusal(refused) == (429, "budget_exhausted")


def test_turns_wait_for_a_slot_and_report_their_position(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer, "max_concurrent = 2")
    found: list[list[dict[str, Any]]] = []

    def chat(number: int) -> None:
        message = f"DELAY=40 N=4 {number}"
        found.append(api.chat(message, username=f"u{number}", session_id=f"s{number}"))

    threads = [threading.Thread(target=chat, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert [text_of(one) for one in found] == ["tok0 tok1 tok2 tok3"] * 8
    assert newer.max_seen == 2
    positions = [e["data"]["position"] for one in found for e in one
                 if e["type"] == "queue_position"]  # fmt: skip
    assert positions
    assert min(positions) == 1


def test_a_command_gets_the_next_message_that_it_waits_for(
    astrbot: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(astrbot, "max_concurrent = 1")
    asking = api.post_chat(username="alice", session_id="s1", message="/ask")
    assert text_of(api.chat("ECHO Bob", session_id="s1")) == "echo: ECHO Bob"
    asked = parse_events(asking.get_data())
    assert (text_of(asked), kinds_of(asked)[-1]) == ("Your name?", "end")


def test_the_username_in_astrbot_follows_the_setting(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    make_gateway(newer, 'username = "web-{username}"').chat("Hello", username="bob")
    assert newer.asked[0][0] == "web-bob"


def test_blocking_and_openai_responses_come_from_astrbot(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer)
    blocking = api.post_chat(username="alice", message="Hello", response_mode="blocking")
    assert blocking.get_json()["data"]["message"] == "Hello from mock."
    answer = api.client.post(
        "/api/v1/openai/chat/completions",
        headers={"Authorization": f"Bearer {api.key}"},
        json={"model": "default", "messages": [
            {"role": "user", "content": "My name is Ann."},
            {"role": "assistant", "content": "Hello Ann."},
            {"role": "user", "content": "Who am I?"},
        ]},
    )  # fmt: skip
    assert answer.get_json()["choices"][0]["message"]["content"] == "Hello from mock."
    # AstrBot keeps no history of such a call, so it is sent with the message.
    assert newer.asked[-1][2] == (
        "[user]\nMy name is Ann.\n\n[assistant]\nHello Ann.\n\n[user]\nWho am I?"
    )


def test_a_repeated_request_is_sent_to_astrbot_once(
    newer: FakeAstrBot, make_gateway: Callable[..., Api]
) -> None:
    api = make_gateway(newer)
    headers = {"X-API-Key": api.key, "Idempotency-Key": "k1"}
    body = {"username": "alice", "message": "Hello"}
    said = [
        api.client.post("/api/v1/chat", headers=headers, json=body).get_data() for _ in range(2)
    ]
    assert said[0].count(b'"complete"') == said[1].count(b'"complete"') == 1
    assert len(newer.asked) == 1


def push_to_bot(api: Api, astrbot: FakeAstrBot, data_dir: Path, more: str = "") -> None:
    """Push a message to a bot of an AstrBot, and wait until that has it."""
    api.state.im.outbox.start()
    bots = f'[[bot]]\nid = "tg1"\ntype = "astrbot"\nbase_url = "{astrbot.url}"\n{more}\n'
    (data_dir / "bots.toml").write_text(f'{bots}api_key = "{astrbot.key}"\n')
    api.state.im.bots.file.load()
    answer = api.post("/api/v1/im/message", json={"umo": "tg1:FriendMessage:42", "message": "Hi"})
    assert answer.status_code == 200, answer.get_data()
    (message,) = astrbot.wait_for_messages(1)
    assert message == {
        "umo": "tg1:FriendMessage:42", "message": [{"type": "plain", "text": "Hi"}],
    }  # fmt: skip


def test_astrbots_messengers_are_reached_through_the_outbox(
    newer: FakeAstrBot, make_gateway: Callable[..., Api], tmp_path: Path
) -> None:
    push_to_bot(make_gateway(newer), newer, tmp_path / "app0")


def test_chats_and_messages_for_astrbot_go_through_the_configured_proxy(
    newer: FakeAstrBot, make_gateway: Callable[..., Api], tmp_path: Path
) -> None:
    port = urlsplit(newer.url).port or 0
    with LoopbackProxy(port) as chats, LoopbackProxy(port) as messages:
        api = make_gateway(newer, f'proxy = "{chats.url}"')
        assert text_of(api.chat("ECHO hello")) == "echo: ECHO hello"
        push_to_bot(api, newer, tmp_path / "app0", f'proxy = "{messages.url}"')
    assert [one.partition("/api/")[2] for one in chats.asked] == ["v1/chat"]
    assert [one.partition("/api/")[2] for one in messages.asked] == ["v1/im/message"]


def test_an_empty_proxy_disables_that_of_the_environment(
    newer: FakeAstrBot, make_gateway: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    # Otherwise no proxy of the environment applies to loopback.
    monkeypatch.setattr("astrbot_api.runtime.addresses._is_exempt", lambda *_: False)
    assert text_of(make_gateway(newer, 'proxy = ""').chat("ECHO hello")) == "echo: ECHO hello"


def test_a_config_uses_either_astrbot_or_a_model(make_api: Callable[..., Api]) -> None:
    config = '[upstream]\nbase_url = "http://127.0.0.1:1"\napi_key = "abk_x"\n[provider]\n'
    with pytest.raises(Exception, match=r"upstream: an AstrBot answers instead of a model"):
        make_api(config + 'type = "mock"\n')
