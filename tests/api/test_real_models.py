"""Conversations with real endpoints' behaviour: returned fields, repairs, finish reasons."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from ..strict_endpoint import (
    StrictEndpoint,
    call,
    has_result,
    say,
    since_user,
    step,
)
from ..unit.raw_endpoint import DONE, event
from .conftest import Api

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

MakeApi = Callable[..., Api]


def config_of(endpoint: StrictEndpoint, provider: str = "", more: str = "") -> str:
    return (
        f'[provider]\ntype = "openai"\nbase_url = "{endpoint.base_url}"\nmodel = "m"\n'
        f'api_key = "sk-secret-0123456789"\nmax_retries = 0\n{provider}\n'
        f'[agent]\nsystem_prompt = ""\ntitles = false\n{more}'
    )


def last(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(one for one in reversed(events) if one["type"] == kind)


def text_of(events: list[dict[str, Any]]) -> str:
    return str(last(events, "complete")["data"])


def session_of(events: list[dict[str, Any]]) -> str:
    return str(events[0]["session_id"])


# -- fields attached by an endpoint are sent back to it ------------------------------------------

DETAILS = [
    {"type": "reasoning.text", "text": "I should ", "index": 0, "format": "x", "signature": None},
    {"type": "reasoning.text", "text": "compute.", "index": 0, "signature": "SIG=="},
]

ATTACHED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"reasoning_content": "I should compute."}, {}),
    ({"reasoning": "I should compute."}, {}),
    ({"extra_content": {"google": {"thought_signature": "SIG=="}}}, {}),
    ({"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "S"}]}, {}),
    ({"provider_specific_fields": {"signature": "S"}}, {}),
    ({}, {"extra_content": {"google": {"thought_signature": "SIG=="}}}),
    ({}, {"thought_signature": "SIG==", "signature": "S"}),
]


def test_opaque_fields_of_a_step_are_returned_in_this_and_later_turns(
    make_api: MakeApi,
) -> None:
    for of_message, of_call in ATTACHED:

        def play(number: int, body: dict[str, Any]) -> Any:
            if number == 1:
                return step(call(**of_call), **of_message)  # noqa: B023
            (asked,) = [one for one in body["messages"] if one.get("tool_calls")]
            assert of_message.items() <= asked.items()  # noqa: B023
            assert of_call.items() <= asked["tool_calls"][0].items()  # noqa: B023
            return say("It is 42.")

        with StrictEndpoint(play) as endpoint:
            api = make_api(config_of(endpoint))
            first = api.chat("first")
            assert text_of(first) == "It is 42."
            assert text_of(api.chat("second", session_id=session_of(first))) == "It is 42."
            shown = api.get(f"/api/v1/chat/sessions/{session_of(first)}/messages?username=alice")
        text = json.dumps(first) + shown.get_data(as_text=True)
        assert "SIG==" not in text
        assert "thinking_blocks" not in text


def test_pieces_of_opaque_fields_are_joined(make_api: MakeApi) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        if number == 1:
            pieces = [event({"reasoning_details": [one]}) for one in DETAILS]
            thought = [event({"reasoning_content": one}) for one in ("I should ", "compute.")]
            return [*pieces, *thought, *say("Done.")]
        return say("ok")

    with StrictEndpoint(play) as endpoint:
        api = make_api(config_of(endpoint))
        api.chat("second", session_id=session_of(api.chat("first")))
        answer = endpoint.bodies[1]["messages"][1]
    assert answer["content"] == "Done."
    assert answer["reasoning_content"] == "I should compute."
    assert answer["reasoning_details"] == [
        {"type": "reasoning.text", "text": "I should compute.", "index": 0, "format": "x",
         "signature": "SIG=="}
    ]  # fmt: skip


def test_opaque_fields_of_one_provider_are_never_sent_to_another(make_api: MakeApi) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        extra = {"extra_content": {"google": {"thought_signature": "SIG=="}}}
        return say("ok") if has_result(body) else step(call(**extra), reasoning_content="hm")

    with StrictEndpoint(play) as one, StrictEndpoint(lambda number, body: say("ok")) as other:
        table = f'[providers.b]\ntype = "openai"\nbase_url = "{other.base_url}"\nmodel = "n"\n'
        api = make_api(config_of(one, more=table))
        first = api.chat("first")
        api.chat("second", session_id=session_of(first), selected_provider="b")
        assert "SIG==" not in json.dumps(other.bodies)
        assert "reasoning_content" not in json.dumps(other.bodies)
        assert other.faults == []


# -- wrong output of a model does not break the next request -------------------------------------

WRONG: list[Any] = [
    step(call(arguments='{"expression": "6*'), finish="length"),
    step(call(arguments="[1, 2]")),
    step(call(arguments='"text"')),
    step(call(arguments="")),
    step(call(arguments="null")),
    step(call(name="no such tool!")),
    step(call(name="")),
    step(call(id="")),
    step(call(id="same"), call(id="same", arguments='{"expression": "1+1"}')),
    step(call(id="x" * 300)),
    step(call(), call(arguments='{"expression": "1+1"}', id="")),
    step(call(arguments='{"expression": "1+1"}{"expression": "2+2"}')),
    step(call(), content="Let me see. "),
]


@pytest.mark.parametrize("alternating", [False, True])
def test_a_turn_with_a_model_fault_and_the_next_turn_are_answered(
    make_api: MakeApi, alternating: bool
) -> None:
    wrong = iter(WRONG)

    def play(number: int, body: dict[str, Any]) -> Any:
        return say("ok") if number % 3 != 1 else next(wrong)

    with StrictEndpoint(play, alternating=alternating) as endpoint:
        api = make_api(config_of(endpoint, "strict_roles = true" if alternating else ""))
        for _ in WRONG:
            first = api.chat("first")
            assert text_of(first).endswith("ok")
            assert text_of(api.chat("second", session_id=session_of(first))) == "ok"
        assert endpoint.faults == []


@pytest.mark.parametrize("makes_leaked", [False, True])
def test_a_call_in_the_text_is_made_only_if_the_config_says_so(
    make_api: MakeApi, caplog: pytest.LogCaptureFixture, makes_leaked: bool
) -> None:
    text = '<tool_call>{"name": "calculate", "arguments": {"expression": "1+1"}}</tool_call>'

    def play(number: int, body: dict[str, Any]) -> Any:
        return say("ok") if has_result(body) else say(text)

    with StrictEndpoint(play) as endpoint:
        setting = "calls_in_text = true" if makes_leaked else ""
        events = make_api(config_of(endpoint, setting)).chat("What does this page say?")
    assert text_of(events) == ("ok" if makes_leaked else text)
    assert ("calls_in_text = true" in caplog.text) != makes_leaked


def test_one_session_survives_every_faulty_step(make_api: MakeApi) -> None:
    wrong = iter([*WRONG, *([say("")] * 3)])

    def play(number: int, body: dict[str, Any]) -> Any:
        return say("ok") if has_result(body) else next(wrong, say("done"))

    with StrictEndpoint(play) as endpoint:
        api = make_api(config_of(endpoint, more="history_tokens = 100000"))
        events = api.chat("go on")
        for _ in range(len(WRONG) + 4):
            events = api.chat("go on", session_id=session_of(events))
        assert text_of(events) == "done"
        assert endpoint.faults == []


def test_roles_alternate_after_the_endpoint_required_it(make_api: MakeApi) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        return step(call(), content="Let me see. ") if number == 1 else (500, {"error": "broken"})

    with StrictEndpoint(play, alternating=True) as endpoint:
        api = make_api(config_of(endpoint))
        first = api.chat("first")  # ends with the result of a tool
        endpoint._script = lambda number, body: say("ok")
        assert text_of(api.chat("second", session_id=session_of(first))) == "ok"
        assert text_of(api.chat("third", session_id=session_of(first))) == "ok"
        assert len(endpoint.faults) == 1


def test_doubly_encoded_arguments_are_decoded(make_api: MakeApi) -> None:
    arguments = json.dumps('{"expression":\n "6*7"}')

    def play(number: int, body: dict[str, Any]) -> Any:
        if not has_result(body):
            return step(call(arguments=arguments))
        return say(since_user(body)[-1]["content"])

    with StrictEndpoint(play) as endpoint:
        assert text_of(make_api(config_of(endpoint)).chat("how much?")) == "42"


# -- finish reasons ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "reason"),
    [("length", "length"), ("MAX_TOKENS", "length"), ("stop", "stop"), ("end_turn", "stop"),
     ("content_filter", "content_filter"), ("SAFETY", "content_filter")],
)  # fmt: skip
def test_the_finish_reason_is_forwarded(make_api: MakeApi, word: str, reason: str) -> None:
    with StrictEndpoint(lambda number, body: say("A half", finish=word)) as endpoint:
        api = make_api(config_of(endpoint))
        events = api.chat("go")
        whole = api.post(
            "/api/v1/openai/chat/completions",
            json={"model": "default", "messages": [{"role": "user", "content": "go"}]},
        ).json
        stored = api.get(
            f"/api/v1/chat/sessions/{session_of(events)}/messages?username=alice"
        ).get_data(as_text=True)
    stats = last(events, "agent_stats")["data"]
    assert (stats["finish_reason"], stats["provider"], stats["model"]) == (reason, "openai", "m")
    assert last(events, "complete")["finish_reason"] == reason
    assert whole["choices"][0]["finish_reason"] == reason
    assert f'"finish_reason":"{reason}"' in stored.replace(" ", "")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (say(finish="content_filter"), "content filter"),
        (say(finish="length", reasoning_content="hm"), "max_tokens"),
        (say(finish="stop", reasoning_content="hm"), "gave no answer"),
        (say("\n", finish="stop", reasoning="hm"), "gave no answer"),
        (say(finish="length"), "out of tokens"),
        (say("Half of", finish="error"), "answered with an error"),
        ([event({"content": "Half"}), event({}, "network_error"), DONE], "with an error"),
        ([event({"content": "Half"}),
          b'data: {"choices":[{"delta":{},"error":{"code":502,"message":"lost it"}}]}\n\n', DONE],
         "HTTP 502): lost it"),
    ],
)  # fmt: skip
def test_an_incomplete_answer_is_not_reported_as_complete(
    make_api: MakeApi, answer: Any, words: str
) -> None:
    with StrictEndpoint(lambda number, body: answer) as endpoint:
        api = make_api(config_of(endpoint))
        events = api.chat("go")
        assert words in last(events, "error")["data"]
        endpoint._script = lambda number, body: say("ok")
        assert text_of(api.chat("next", session_id=session_of(events))) == "ok"
        assert endpoint.faults == []


def test_reasoning_without_an_opening_tag_is_removed_from_the_answer(make_api: MakeApi) -> None:
    answer = say("I gre", "et.\n</thi", "nk>\n\n", "Hello", "!")
    with StrictEndpoint(lambda number, body: answer) as endpoint:
        api = make_api(config_of(endpoint))
        events = api.chat("hi")
        blocking = api.post_chat(username="alice", message="hi", enable_streaming=False)
    complete = last(events, "complete")
    assert (complete["data"], complete["reasoning"]) == ("Hello!", "I greet.")
    shown = ""
    for one in events:
        if one["type"] == "plain" and one["chain_type"] is None:
            shown += one["data"]
        elif one["type"] == "rewind":
            shown = shown[: -one["data"]["chars"]]
    assert shown == "Hello!"
    (at,) = [number for number, one in enumerate(events, 1) if one["type"] == "rewind"]
    taken_back = events[events[at - 1]["data"]["to"] : at - 1]
    assert all(one["type"] == "plain" and one["chain_type"] is None for one in taken_back)
    assert sum(len(one["data"]) for one in taken_back) == events[at - 1]["data"]["chars"]
    assert "I greet" not in "".join(
        line for line in blocking.get_data(as_text=True).splitlines() if '"chain_type":null' in line
    )


def test_pictures_and_sounds_of_the_model_are_files_of_the_turn(make_api: MakeApi) -> None:
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    sound = base64.b64encode(bytes(4800)).decode()
    answers: list[Any] = [
        say("Here.", images=[{"type": "image_url", "image_url": {"url": url}}]),
        [event({"content": [{"type": "image_url", "image_url": {"url": url}}]}),
         event({}, "stop"), DONE],
        [event({"audio": {"id": "a", "data": sound[:3200]}}),
         event({"audio": {"data": sound[3200:], "transcript": "Hello"}}), event({}, "stop"), DONE],
    ]  # fmt: skip
    with StrictEndpoint(lambda number, body: answers[number - 1]) as endpoint:
        api = make_api(config_of(endpoint, 'extra = { audio = { format = "pcm16" } }'))
        kinds = []
        for _ in answers:
            events = api.chat("draw")
            saved = last(events, "attachment_saved")["data"]
            kinds.append(saved["type"])
            file = api.get(f"/api/v1/file?attachment_id={saved['id']}").get_data()
            assert file[:4] in (b"\x89PNG", b"RIFF")
    assert kinds == ["image", "image", "record"]
    assert text_of(events) == "Hello"
