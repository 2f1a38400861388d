"""Models that OpenAI offers only with Responses, or only so with tools and reasoning."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ..responses_endpoint import (
    ADVICE,
    Change,
    ResponsesEndpoint,
    frame,
    function_call,
    make_events,
    make_response,
    message,
    reasoning,
)
from ..strict_endpoint import StrictEndpoint, say
from ..unit.raw_endpoint import Connection
from .conftest import Api
from .test_media import png, upload
from .test_real_models import last, session_of, text_of

MakeApi = Callable[..., Api]


def config_of(endpoint: ResponsesEndpoint, provider: str = "", path: str = "") -> str:
    return (
        f'[provider]\ntype = "openai"\nbase_url = "{endpoint.base_url}{path}"\nmodel = "m"\n'
        f'api_key = "sk-secret-0123456789"\nmax_retries = 0\n{provider}\n'
        '[agent]\nsystem_prompt = "Be kind."\ntitles = false\n'
    )


def types_of(body: dict[str, Any]) -> list[str]:
    """Return the roles or types of a request's items."""
    return [one.get("role") or one["type"] for one in body["input"]]


def thoughts_of(events: list[dict[str, Any]]) -> str:
    return "".join(one["data"] for one in events if one.get("chain_type") == "reasoning")


def has_output(body: dict[str, Any]) -> bool:
    return body["input"][-1].get("type") == "function_call_output"


def compute(number: int, body: dict[str, Any]) -> Any:
    if has_output(body):
        return [reasoning("Done.", id="rs_2"), message("It is 42.")]
    return [reasoning("I should", "compute."), function_call()]


@pytest.mark.parametrize(
    "advice",
    [
        "Function tools with reasoning_effort are not supported for m in /v1/chat/completions."
        " To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
        "Function tools with reasoning_effort are not supported for m in /v1/chat/completions."
        " Please use /v1/responses instead.",
        "This model is only supported in v1/responses and not in v1/chat/completions.",
        "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
        " Did you mean to use v1/completions?",
    ],
)
def test_a_model_that_needs_responses_gets_them_from_then_on(
    make_api: MakeApi, advice: str
) -> None:
    with ResponsesEndpoint(compute, advice=advice) as endpoint:
        api = make_api(config_of(endpoint))
        events = api.chat("What is 6*7?")
        assert text_of(events) == "It is 42."
        assert text_of(api.chat("Again?", session_id=session_of(events))) == "It is 42."
        paths = [path for path, _ in endpoint.requests]
    assert paths == ["/v1/chat/completions", *["/v1/responses"] * 4]


def test_reasoning_is_shown_and_returned_with_its_calls(make_api: MakeApi) -> None:
    with ResponsesEndpoint(compute) as endpoint:
        api = make_api(
            config_of(endpoint, 'api = "responses"\nextra = {reasoning_effort = "high"}')
        )
        events = api.chat("What is 6*7?")
        again = api.chat("Again?", session_id=session_of(events))
        first, second, third, _ = endpoint.bodies
    assert thoughts_of(events) == "I should\n\ncompute.Done."
    stats = last(events, "agent_stats")["data"]
    assert stats["token_usage"]["input_cached"] == 120
    assert text_of(again) == "It is 42."
    assert first["reasoning"] == {"effort": "high", "summary": "auto"}
    assert first["include"] == ["reasoning.encrypted_content"]
    assert first["store"] is False
    assert first["tools"][0]["type"] == "function"
    assert first["tools"][0]["strict"] is False
    assert types_of(first) == ["system", "user"]
    step = ["reasoning", "function_call", "function_call_output"]
    assert types_of(second) == ["system", "user", *step]
    assert second["input"][2]["encrypted_content"] == "secret rs_1"
    assert second["input"][4]["output"].startswith("42")
    assert types_of(third) == ["system", "user", *step, "reasoning", "assistant", "user"]
    assert "secret" not in json.dumps(events)


def test_several_calls_keep_the_reasoning_before_each(make_api: MakeApi) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        if has_output(body):
            return [message("Both are done.")]
        return [
            reasoning("One."), function_call("call_1"),
            reasoning("Two.", id="rs_2"), function_call("call_2", "1+1"),
        ]  # fmt: skip

    with ResponsesEndpoint(play) as endpoint:
        assert text_of(make_api(config_of(endpoint)).chat("Go")) == "Both are done."
        body = endpoint.bodies[-1]
    assert types_of(body)[2:] == [
        "reasoning", "function_call", "reasoning", "function_call",
        "function_call_output", "function_call_output",
    ]  # fmt: skip


def test_the_configs_kind_of_summary_is_asked_for(make_api: MakeApi) -> None:
    with ResponsesEndpoint(lambda number, body: [message("Hello.")]) as endpoint:
        extra = 'extra = {reasoning_summary = "detailed"}'
        make_api(config_of(endpoint, f'api = "responses"\n{extra}')).chat("Hi")
        assert endpoint.bodies[0]["reasoning"] == {"summary": "detailed"}


def test_a_base_url_with_the_path_of_responses_selects_them(make_api: MakeApi) -> None:
    with ResponsesEndpoint(lambda number, body: [message("Hello.")]) as endpoint:
        api = make_api(config_of(endpoint, path="/responses/"))
        assert text_of(api.chat("Hi")) == "Hello."
        assert [path for path, _ in endpoint.requests] == ["/v1/responses"]


def test_a_whole_response_is_read_without_events(make_api: MakeApi) -> None:
    with ResponsesEndpoint(compute, whole=True) as endpoint:
        events = make_api(config_of(endpoint)).chat("What is 6*7?")
    assert text_of(events) == "It is 42."
    assert thoughts_of(events) == "I should\n\ncompute.Done."


def is_piece(event: dict[str, Any]) -> bool:
    return event["type"].endswith(".delta")


def of_message(event: dict[str, Any]) -> bool:
    return event.get("output_index") == 1


def without(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: one for key, one in event.items() if key not in names}


@pytest.mark.parametrize(
    "change",
    [
        lambda events: [one for one in events if not of_message(one)],
        lambda events: [one for one in events if not (is_piece(one) and of_message(one))],
        lambda events: [one for one in events if not is_piece(one)],
        lambda events: [without(one, "output_index") for one in events],
        lambda events: [without(one, "output_index") for one in events if not is_piece(one)],
        lambda events: [without(one, "item_id", "item") for one in events],
        lambda events: [without(one, "output_index", "item_id", "item") for one in events],
        lambda events: [
            {**one, "output_index": 0} for one in events if not (is_piece(one) and of_message(one))
        ],
    ],
)
def test_each_text_of_a_gateway_is_shown_once(make_api: MakeApi, change: Change) -> None:
    said = [reasoning("Hm."), message("Hello.")]
    with ResponsesEndpoint(lambda number, body: said, change=change) as endpoint:
        events = make_api(config_of(endpoint, 'api = "responses"')).chat("Hi")
    assert (thoughts_of(events), text_of(events)) == ("Hm.", "Hello.")


def at_end_of_call(event: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the event with other fields of its item, if it ends the call."""
    ends = event["type"] == "response.output_item.done" and event["output_index"] == 1
    return {**event, "item": {**event["item"], **fields}} if ends else event


def without_output(event: dict[str, Any]) -> dict[str, Any]:
    response = event.get("response")
    return {**event, "response": {**response, "output": []}} if response else event


@pytest.mark.parametrize(
    "change",
    [
        # SGLang's router, LiteLLM, CLIProxyAPI, and a gateway with the pieces alone.
        lambda events: [
            without_output(one)
            for one in events
            if one["type"] != "response.output_item.done" or not of_message(one)
        ],
        lambda events: [one for one in events if not of_message(one)],
        lambda events: [at_end_of_call(one, name="") for one in events],
        lambda events: [without_output(at_end_of_call(one, arguments="")) for one in events],
        # An end without an id, so that the call could be read twice.
        lambda events: [
            without_output({**one, "item": without(one["item"], "call_id")})
            if "item" in one
            else without_output(one)
            for one in events
        ],
    ],
)
def test_a_call_without_its_end_is_read(make_api: MakeApi, change: Change) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        return [message("It is 42.")] if has_output(body) else [message("I see."), function_call()]

    with ResponsesEndpoint(play, change=change) as endpoint:
        events = make_api(config_of(endpoint, 'api = "responses"')).chat("What is 6*7?")
        *_, call, result = endpoint.bodies[-1]["input"]
    assert text_of(events) == "I see.It is 42."
    assert call["arguments"] == function_call()["arguments"]
    assert result["output"].startswith("42")


@pytest.mark.parametrize(("limit", "blanks"), [(180, 0), (500, 1000)])
def test_what_is_kept_of_a_call_without_its_end_has_a_limit(
    make_api: MakeApi, monkeypatch: pytest.MonkeyPatch, limit: int, blanks: int
) -> None:
    monkeypatch.setattr("astrbot_api.providers.responses_reader.MAX_CHARS", limit)
    long = {**function_call(), "arguments": function_call()["arguments"] + " " * blanks}

    def play(number: int, body: dict[str, Any]) -> Any:
        return [message("Done.")] if has_output(body) else [message("I see."), long]

    def cut(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        left = [one for one in events if one["type"] != "response.output_item.done"]
        return [without_output(one) for one in left]

    with ResponsesEndpoint(play, change=cut) as endpoint:
        make_api(config_of(endpoint, 'api = "responses"')).chat("What is 6*7?")
        assert '"output": "42' not in json.dumps(endpoint.bodies)


def test_encrypted_reasoning_that_comes_only_at_the_end_is_returned(make_api: MakeApi) -> None:
    def change(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**one, "item": without(one["item"], "encrypted_content")} if "item" in one else one
            for one in events
        ]

    with ResponsesEndpoint(compute, change=change) as endpoint:
        api = make_api(config_of(endpoint))
        events = api.chat("What is 6*7?")
        api.chat("Again?", session_id=session_of(events))
        second, third = endpoint.bodies[1:3]
    step = ["reasoning", "function_call", "function_call_output"]
    assert types_of(second)[2:] == step
    assert second["input"][2]["encrypted_content"] == "secret rs_1"
    assert types_of(third)[2:] == [*step, "reasoning", "assistant", "user"]


def test_encrypted_reasoning_has_a_limit(
    make_api: MakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.providers.responses_reader.MAX_CHARS", 500)
    many = [reasoning("One.", id=f"rs_{at}") for at in range(100)]

    def play(number: int, body: dict[str, Any]) -> Any:
        return [*many, message("Hello.")]

    with ResponsesEndpoint(play) as endpoint:
        api = make_api(config_of(endpoint))
        api.chat("Again?", session_id=session_of(api.chat("Hi")))
        kept = max(types_of(one).count("reasoning") for one in endpoint.bodies)
    assert 0 < kept < 10


def test_the_configured_api_is_kept_while_the_version_is_added(make_api: MakeApi) -> None:
    class Versioned(ResponsesEndpoint):
        def _serve(self, connection: Connection) -> None:
            while head := connection.read_request()[0]:
                path = head.split()[1]
                self.requests.append((path, {}))
                if path == "/v1/responses":
                    connection.send_stream(*map(frame, make_events([message("Hello.")])))
                else:
                    words = f"Invalid URL (POST {path})"
                    connection.send_json(404, {"error": {"message": words}})

    with Versioned(lambda number, body: []) as endpoint:
        config = config_of(endpoint, 'api = "responses"').replace("/v1", "")
        assert text_of(make_api(config).chat("Hi")) == "Hello."
        assert [path for path, _ in endpoint.requests] == ["/responses", "/v1/responses"]


REFUSALS = [
    ("reasoning", "summary",
     "Your organization must be verified to generate reasoning summaries. Please go to:"
     " https://platform.openai.com/settings and click on Verify Organization.",
     "reasoning.summary"),
    ("include", None, "Encrypted content is not supported with this model.", "include"),
    ("include", None, ': Unrecognized key: "include"', ""),
    ("max_output_tokens", None,
     "Unsupported parameter: 'max_output_tokens' is not supported with this model.",
     "max_output_tokens"),
    ("store", None, "Unsupported parameter: 'store' is not supported with this model.", "store"),
    ("store", None, "store: Extra inputs are not permitted", ""),
    ("temperature", None,
     "Unsupported parameter: 'temperature' is not supported with this model.", "temperature"),
    ("reasoning", "effort",
     "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
     "reasoning.effort"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "inner", "words", "param"), REFUSALS)
def test_a_rejected_field_is_omitted(
    make_api: MakeApi, field: str, inner: str | None, words: str, param: str
) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        if inner in body.get(field, ()) if inner else field in body:
            return 400, {"error": {"message": words, "param": param, "code": "unsupported_value"}}
        return [message("Hello.")]

    extra = 'extra = {temperature = 0.5, max_tokens = 99, reasoning_effort = "low"}'
    with ResponsesEndpoint(play) as endpoint:
        api = make_api(config_of(endpoint, extra))
        assert text_of(api.chat("Hi")) == "Hello."
        assert text_of(api.chat("Hi")) == "Hello."
        assert len(endpoint.bodies) == 3


def test_a_model_without_reasoning_is_asked_for_none(make_api: MakeApi) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        words = "Unsupported parameter: 'reasoning' is not supported with this model."
        return (400, {"error": {"message": words}}) if "reasoning" in body else [message("Hello.")]

    with ResponsesEndpoint(play) as endpoint:
        api = make_api(config_of(endpoint, 'extra = {reasoning_effort = "low"}'))
        assert text_of(api.chat("Hi")) == "Hello."


def test_reasoning_that_cannot_be_read_any_more_is_omitted_once(make_api: MakeApi) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        if number >= 3 and "secret rs_1" in json.dumps(body):
            words = "The encrypted content for item rs_1 could not be verified."
            return 400, {"error": {"message": words, "code": "invalid_encrypted_content"}}
        return compute(number, body)

    with ResponsesEndpoint(play) as endpoint:
        api = make_api(config_of(endpoint))
        events = api.chat("What is 6*7?")
        assert text_of(api.chat("Again?", session_id=session_of(events))) == "It is 42."


def test_a_gateway_without_responses_gets_chat_completions_without_reasoning(
    make_api: MakeApi,
) -> None:
    class Gateway(StrictEndpoint):
        def _serve(self, connection: Connection) -> None:
            head, raw = connection.read_request()
            self.heads.append(head.split()[1])
            body = json.loads(raw)
            if self.heads[-1] != "/v1/chat/completions":
                words = f"Invalid URL (POST {self.heads[-1]})"
                connection.send_json(404, {"error": {"message": words}}, "Connection: close\r\n")
            elif body.get("reasoning_effort") != "none":
                connection.send_json(400, {"error": {"message": ADVICE}}, "Connection: close\r\n")
            else:
                connection.send_stream(*say("Hello."))

    with Gateway(lambda number, body: []) as endpoint:
        api = make_api(config_of(endpoint))  # type: ignore[arg-type]
        assert text_of(api.chat("Hi")) == "Hello."
        assert text_of(api.chat("Hi")) == "Hello."
        assert endpoint.heads == [
            "/v1/chat/completions", "/v1/responses", "/v1/chat/completions",
            "/v1/chat/completions", "/v1/chat/completions",
        ]  # fmt: skip


def test_odd_values_in_events_and_settings_do_not_fail_the_turn(make_api: MakeApi) -> None:
    class Odd(ResponsesEndpoint):
        def _serve(self, connection: Connection) -> None:
            connection.read_request()
            found = make_events([message("Hello.")])
            for one in found:
                one.update(output_index=[], response="x", item_id=None)
            odd = [{"type": "response.output_item.done", "item": []}, {"type": "response.done"}]
            connection.send_stream(*map(frame, [*found[:-1], *odd]))

    with Odd(lambda number, body: []) as endpoint:
        extra = 'extra = {reasoning = "high", text = 1, verbosity = "low", include = 1}'
        api = make_api(config_of(endpoint, f'api = "responses"\n{extra}'))
        assert text_of(api.chat("Hi")) == "Hello."


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"Caf\xc3"], "Caf\ufffd"), ([b"a\tb"], "a\tb"), ([b'a","logprobs":[NaN],"x":"'], "a"),
        ([b"a\\ud83d", b"\\ude00"], "a\U0001f600"), ([b"a\\ud83d"], "a\ufffd"),
    ],
)  # fmt: skip
def test_events_that_are_no_strict_json_are_read(
    make_api: MakeApi, pieces: list[bytes], text: str
) -> None:
    class Lax(ResponsesEndpoint):
        def _serve(self, connection: Connection) -> None:
            connection.read_request()
            end = {"type": "response.completed", "response": make_response([])}
            said = [
                b'data: {"type":"response.%s.delta","delta":"%s"}\n\n' % (kind, piece)
                for kind in (b"reasoning_text", b"output_text")
                for piece in pieces
            ]
            connection.send_stream(*said, frame(end))

    with Lax(lambda number, body: []) as endpoint:
        events = make_api(config_of(endpoint, 'api = "responses"')).chat("Hi")
    assert (thoughts_of(events), text_of(events)) == (text, text)


def test_a_response_that_reached_its_limit_is_shown_so_far(make_api: MakeApi) -> None:
    ending = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    with ResponsesEndpoint(lambda number, body: [message("It is")], **ending) as endpoint:
        api = make_api(config_of(endpoint))
        body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
        answer = api.post("/api/v1/openai/chat/completions", json=body).get_json()
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == "It is"
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("SAFETY", "content_filter"),
        ("max_tokens", "length"),
        ("max_messages", "length"),
        (7, "length"),
    ],
)
def test_the_reason_of_an_incomplete_response_is_one_of_openai(
    make_api: MakeApi, reason: Any, told: str
) -> None:
    def change(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        events[-1]["response"]["incomplete_details"] = {"reason": reason}
        return events

    said, ending = [message("It")], {"status": "incomplete"}
    with ResponsesEndpoint(lambda number, body: said, change=change, **ending) as endpoint:
        events = make_api(config_of(endpoint)).chat("Hi")
    assert last(events, "agent_stats")["data"]["finish_reason"] == told


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "It broke."}},
         "It broke."),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "filter"),
    ],
)  # fmt: skip
def test_a_response_that_failed_names_the_cause(
    make_api: MakeApi, ending: dict[str, Any], words: str
) -> None:
    with ResponsesEndpoint(lambda number, body: [], **ending) as endpoint:
        events = make_api(config_of(endpoint)).chat("Hi")
    assert words in last(events, "error")["data"]


def test_pictures_and_json_schemas_are_sent_in_the_forms_of_responses(make_api: MakeApi) -> None:
    with ResponsesEndpoint(lambda number, body: [message("{}")]) as endpoint:
        api = make_api(config_of(endpoint, 'api = "responses"\nmodalities = ["text", "image"]'))
        picture = upload(api, png(), "a.png")
        api.chat([{"type": "plain", "text": "See"}, {"type": "image", "attachment_id": picture}])
        schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
        asked = {"type": "json_schema", "json_schema": schema}
        body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}],
                "response_format": asked}  # fmt: skip
        assert api.post("/api/v1/openai/chat/completions", json=body).status_code == 200
        seen, formatted = endpoint.bodies
    (part,) = [one for one in seen["input"][-1]["content"] if one["type"] == "input_image"]
    assert part["image_url"].startswith("data:image/png;base64,")
    assert formatted["text"] == {"format": {"type": "json_schema", **schema}}
