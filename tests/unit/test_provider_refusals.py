"""After an error: a retry, another key, or a changed request."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import ModelOptions
from astrbot_api.config.agents import ProviderConfig
from astrbot_api.errors import ProviderError
from astrbot_api.providers import key_ring
from astrbot_api.providers.base_url import BaseUrl, choose_model
from astrbot_api.providers.fixes import find_fixes
from astrbot_api.providers.key_ring import KeyRing
from astrbot_api.providers.openai import OpenAIProvider
from astrbot_api.providers.quirks import may_pass
from astrbot_api.providers.registry import Providers

from ..strict_endpoint import StrictEndpoint, call, say, step
from .openai_asking import ImpatientCancellation, ask, end_of, failure_of, provider_of, text_of
from .raw_endpoint import DONE, PATIENCE_S, Connection, RawEndpoint, event

TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": {}}}
    for name in ("look", "look_up")
]


def refuse(message: str, **error: Any) -> dict[str, Any]:
    return {"error": {"message": message, **error}}


# -- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", [408, 409, 425, 429, 500, 502, 503, 504, 507, 520, 524, 529, 599]
)
def test_a_status_that_may_pass_is_tried_again(status: int) -> None:
    answers: list[Any] = [(status, refuse("later")), say("ok")]
    with StrictEndpoint(lambda number, body: answers[number - 1]) as endpoint:
        assert text_of(ask(provider_of(endpoint))) == "ok"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 422, 501, 505])
def test_another_status_is_not(status: int) -> None:
    assert not may_pass(status)
    with StrictEndpoint(lambda number, body: (status, refuse("no"))) as endpoint:
        failure_of(provider_of(endpoint))
        assert len(endpoint.bodies) == 1


@pytest.mark.parametrize(
    "answer",
    [
        [b'data: {"error":{"code":502,"message":"Provider returned error"}}\n\n', DONE],
        [event({"content": ""}, "error", error={"code": "server_error"}), DONE],
        [event({"role": "assistant"}), event({}, "error")],
        [b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'],
        [b'{"error":"upstream timed out"}'],
        [event({"role": "assistant", "content": ""})],
        [event({"reasoning_content": ""}), event({}, "stop"), DONE],
        [event({"tool_calls": [call(arguments='{"a')]})],
        [b": nothing comes\n\n"],
        [DONE],
        [],
    ],
)
def test_a_broken_200_is_tried_again_before_its_first_token(answer: list[bytes]) -> None:
    answers = [answer, say("ok")]
    with StrictEndpoint(lambda number, body: answers[number - 1]) as endpoint:
        assert text_of(ask(provider_of(endpoint))) == "ok"


def test_nothing_is_tried_again_after_the_first_token() -> None:
    broken = [event({"content": "Half"}), event({}, "error")]
    with StrictEndpoint(lambda number, body: broken) as endpoint:
        failure_of(provider_of(endpoint))
        assert len(endpoint.bodies) == 1


def test_milliseconds_and_the_limit_of_all_tries_are_kept_to() -> None:
    def handle(connection: Connection) -> None:
        while connection.read_request()[0]:
            connection.send_json(429, refuse("slow down"), "retry-after-ms: 1500\r\n")

    with RawEndpoint(handle) as endpoint:
        cancel = ImpatientCancellation()
        failure_of(provider_of(endpoint, max_retries=3), cancel=cancel)
        assert cancel.waits == [1.5, 1.5, 1.5]
        cancel = ImpatientCancellation()
        failure_of(provider_of(endpoint, max_retries=3, retry_limit_s=1.0), cancel=cancel)
        assert cancel.waits == []


# -- another key, another provider ---------------------------------------------------------------


def options(**more: Any) -> ModelOptions:
    return ModelOptions(Cancellation(), **more)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, refuse("bad key")), (403, refuse("no")), (402, refuse("pay")), (429, refuse("slow")),
     (429, refuse("You exceeded your current quota", code="insufficient_quota")),
     (400, refuse("Your credit balance is too low to access the Anthropic API.")),
     (400, refuse("You have reached your specified workspace API usage limits. You will regain …")),
     (429, refuse("Your account is suspended", type="exceeded_current_quota_error")),
     (429, refuse("You exceeded your current token quota: 0, please check your balance")),
     (403, refuse("Your newly created team doesn't have any credits yet.")),
     (200, refuse("You exceeded your current quota", code="insufficient_quota")),
     (200, refuse("Invalid token", code=401))],
)  # fmt: skip
def test_keys_take_turns_and_a_refused_one_rests(status: int, error: Any) -> None:
    used: list[str] = []

    def handle(connection: Connection) -> None:
        for head, _ in connection.iter_requests():
            used.append(head.partition("Bearer ")[2][:5])
            if used[-1] == "key-1":
                connection.send_json(status, error)
            else:
                connection.send_stream(*say("ok"))

    with RawEndpoint(handle) as endpoint:
        config = ProviderConfig(
            "p", "openai", base_url=endpoint.base_url, model="m",
            api_keys=("key-1", "key-2", "key-3"), max_retries=0,
        )  # fmt: skip
        provider = OpenAIProvider(config)
        for _ in range(4):
            said = list(provider.stream([{"role": "user", "content": "hi"}], [], options()))
            assert text_of(said) == "ok"
    assert used == ["key-1", "key-2", "key-3", "key-2", "key-3"]


@pytest.mark.parametrize(
    ("status", "retry_after_s", "spent", "pause_s"),
    [(401, None, False, 600), (402, 5, False, 600), (429, None, True, 600),
     (429, None, False, 30), (429, 5, False, 30), (429, 100, False, 100)],
)  # fmt: skip
def test_a_key_rests_as_long_as_its_error_lasts(
    monkeypatch: pytest.MonkeyPatch, status: int, retry_after_s: float, spent: bool, pause_s: float
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(key_ring.time, "monotonic", lambda: now_s)
    ring = KeyRing(["a", "b"])
    assert ring.pause("a", status, retry_after_s, spent)
    now_s += pause_s - 1
    assert {ring.choose() for _ in range(2)} == {"b"}
    now_s += 1
    assert {ring.choose() for _ in range(2)} == {"a", "b"}


@pytest.mark.parametrize(
    "error",
    [{"error": {"code": 403, "message": "openai/gpt-5 requires moderation on OpenAI. Your input "
      'was flagged for "violence".', "metadata": {"flagged_input": "my key …"}}},
     {"code": "The caller does not have permission to execute the specified operation",
      "error": "Content violates usage guidelines."}],
)  # fmt: skip
def test_flagged_content_costs_no_key_and_is_the_clients_fault(error: Any) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        return 403, error

    with StrictEndpoint(play) as endpoint:
        config = ProviderConfig(
            "p", "openai", base_url=endpoint.base_url, model="m", api_keys=("key-1", "key-2")
        )
        provider = OpenAIProvider(config)
        with pytest.raises(ProviderError, match=r"flagged|violates") as refused:
            list(provider.stream([{"role": "user", "content": "hi"}], [], options()))
        assert refused.value.reason == "provider_refused"
        assert len(endpoint.bodies) == 1


def chain_of(*endpoints: StrictEndpoint, **fields: Any) -> Any:
    configs = {
        f"p{at}": ProviderConfig(
            f"p{at}",
            "openai",
            base_url=one.base_url,
            model=f"m{at}",
            max_retries=0,
            fallback=tuple(f"p{more}" for more in range(at + 1, len(endpoints))),
        )
        for at, one in enumerate(endpoints)
    }
    return Providers().get_chain(configs["p0"], configs)


def test_the_next_provider_answers_where_the_first_one_fails_and_says_so() -> None:
    with (
        StrictEndpoint(lambda number, body: (503, refuse("down"))) as first,
        StrictEndpoint(lambda number, body: (400, refuse("no such model"))) as second,
        StrictEndpoint(lambda number, body: say("ok")) as third,
    ):
        chain = chain_of(first, second, third)
        asked = list(chain.stream([{"role": "user", "content": "x"}], [], options(model="chosen")))
        assert text_of(asked) == "ok"
        assert (asked[-1].provider, asked[-1].model) == ("p2", "m2")
        assert (first.bodies[0]["model"], third.bodies[0]["model"]) == ("chosen", "m2")
        list(chain.stream([{"role": "user", "content": "x"}], [], options()))
        assert len(first.bodies) == 1  # it is paused


def test_no_other_provider_is_asked_after_the_first_token() -> None:
    broken = [event({"content": "Half"}), event({}, "error")]
    with (
        StrictEndpoint(lambda number, body: broken) as first,
        StrictEndpoint(lambda number, body: say("ok")) as second,
    ):
        failure_of(chain_of(first, second))
        assert second.bodies == []


# -- changed requests ----------------------------------------------------------------------------


CURED: list[tuple[int, str, dict[str, Any], str, str]] = [
    (400, "Unrecognized request argument supplied: seed", {"seed": 1}, "field", "seed"),
    (400, "Unknown name \"top_k\": Cannot find field.", {"top_k": 1}, "field", "top_k"),
    (422, '[{"type":"extra_forbidden","loc":["body","user"],"msg":"Extra inputs not allowed"}]',
     {"user": "x"}, "field", "user"),
    (400, "property 'logit_bias' is unsupported", {"logit_bias": {}}, "field", "logit_bias"),
    (400, "Unsupported value: 'temperature' does not support 0.2 with this model.",
     {"temperature": 0.2}, "field", "temperature"),
    (400, 'json: unknown field "min_p"', {"min_p": 0}, "field", "min_p"),
    (400, "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'.",
     {"max_tokens": 5}, "max_completion_tokens", ""),
    (400, "Invalid schema for function 'look': 'x' is not valid", {"tools": TOOLS}, "tool", "look"),
    (400, "tools.1.custom.input_schema: JSON schema is invalid",
     {"tools": TOOLS}, "tool", "look_up"),
    (400, "* GenerateContentRequest.tools[0].function_declarations[1].parameters.properties: empty",
     {"tools": TOOLS}, "tool", "look_up"),
    (400, "gemma:2b does not support tools", {"tools": TOOLS}, "no_tools", ""),
    (400, "Developer instruction is not enabled for models/gemma-3", {}, "no_system", ""),
    (400, "System role not supported", {}, "no_system", ""),
    (400, "After the optional system message, conversation roles must alternate user/assistant",
     {}, "strict_roles", ""),
    (400, "Expected last role User or Tool for serving but got assistant", {}, "strict_roles", ""),
    (400, "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.",
     {}, "short_ids", ""),
    (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in "
     "9000 tokens.", {}, "too_long", ""),
    (400, "the request exceeds the available context size. try increasing the context size",
     {}, "too_long", ""),
    (400, "prompt is too long: 208310 tokens > 200000 maximum", {}, "too_long", ""),
    (400, "The input token count (1150000) exceeds the maximum number of tokens allowed (1048576)",
     {}, "too_long", ""),
    (400, "Range of input length should be [1, 30720]", {}, "too_long", ""),
    (413, "Payload too large", {}, "too_long", ""),
]  # fmt: skip


@pytest.mark.parametrize(("status", "text", "more", "kind", "name"), CURED)
def test_a_refusal_is_understood(
    status: int, text: str, more: dict[str, Any], kind: str, name: str
) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    fix = next(find_fixes(status, text, {"model": "m", "messages": messages, **more}), None)
    assert fix is not None
    assert (fix.kind, fix.name) == (kind, name)


@pytest.mark.parametrize("text", ["no", "invalid api key", "model not found", "content is blocked"])
def test_another_refusal_is_left_alone(text: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    assert list(find_fixes(400, text, body)) == []


def test_a_field_that_is_refused_is_left_out_from_then_on() -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        for name in ("seed", "top_k"):
            if name in body:
                return 400, refuse(f"Unrecognized request argument supplied: {name}")
        return say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, extra={"seed": 1, "top_k": 2, "temperature": 1})
        for _ in range(2):
            assert text_of(ask(provider)) == "ok"
        assert len(endpoint.bodies) == 4
        assert endpoint.bodies[-1]["temperature"] == 1


def test_a_refused_value_does_not_disable_its_field_for_others() -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        if body.get("temperature", 0) > 1:
            return 400, refuse("temperature: range: 0..1")
        return say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint, extra={"temperature": 0.3})
        ask(provider)
        for value in (1.1, 1.2, 1.3, 1.4, 1.1):
            assert text_of(ask(provider, extra={"temperature": value})) == "ok"
        ask(provider)
    sent = [one.get("temperature") for one in endpoint.bodies]
    assert sent == [0.3, 1.1, None, 1.2, None, 1.3, None, 1.4, None, None, 0.3]


def test_an_unknown_field_is_left_out_after_a_few_values() -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        return (400, refuse("Unknown parameter: 'seed'.")) if "seed" in body else say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        for seed in range(6):
            assert text_of(ask(provider, extra={"seed": seed})) == "ok"
    assert [one.get("seed") for one in endpoint.bodies] == [
        0, None, 1, None, 2, None, None, None, None,
    ]  # fmt: skip


def test_a_refused_tool_does_not_disable_another_of_its_name() -> None:
    bad = [
        {"type": "function", "function": {**TOOLS[0]["function"], "parameters": {"x": number}}}
        for number in range(4)
    ]

    def play(number: int, body: dict[str, Any]) -> Any:
        if any(one in bad for one in body.get("tools", ())):
            return 400, refuse("Invalid schema for function 'look': bad")
        return say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        for tool in bad:
            assert text_of(ask(provider, tools=[tool])) == "ok"
        ask(provider, tools=TOOLS)
    assert endpoint.bodies[-1]["tools"] == TOOLS


def test_a_tool_that_is_refused_is_left_out_and_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        if len(body["tools"]) == 2:
            return 400, refuse("Invalid schema for function 'look': bad")
        return say("ok")

    with StrictEndpoint(play) as endpoint:
        assert text_of(ask(provider_of(endpoint), tools=TOOLS)) == "ok"
        assert [one["function"]["name"] for one in endpoint.bodies[1]["tools"]] == ["look_up"]
    assert "the tool look" in caplog.text


PARTS = [
    {"type": "text", "text": "what is it?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
]


@pytest.mark.parametrize(
    "text",
    ["This model does not support image input", "Invalid content type. image_url is not supported",
     "messages[0].content must be a string", "unknown variant `image_url`, expected `text`",
     "You uploaded an unsupported image."],
)  # fmt: skip
def test_a_picture_that_is_not_taken_does_not_cost_the_answer(text: str) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        has_picture = isinstance(body["messages"][0]["content"], list)
        return (400, refuse(text)) if has_picture else say("ok")

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        said = list(provider.stream([{"role": "user", "content": PARTS}], [], options()))
        assert text_of(said) == "ok"
        assert "what is it?" in endpoint.bodies[1]["messages"][0]["content"]


@pytest.mark.parametrize(
    "text",
    ["cannot identify image file <_io.BytesIO object at 0x7f3a>",
     "Unsupported MIME type: image/svg+xml", "The image format is not supported",
     "The image format is illegal and cannot be opened", "illegal base64 data at input byte 4",
     "Expected a base64-encoded data URL with an image MIME type, but got unsupported MIME type "
     "'image/heic'."],
)  # fmt: skip
@pytest.mark.parametrize("good_first", [True, False])
def test_a_bad_picture_costs_no_other_picture(text: str, good_first: bool) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        return (400, refuse(text)) if "AAAA" in json.dumps(body) else say("ok")

    def send(data: str) -> None:
        url = {"url": f"data:image/png;base64,{data}"}
        parts = [PARTS[0], {"type": "image_url", "image_url": url}]
        said = list(provider.stream([{"role": "user", "content": parts}], [], options()))
        assert text_of(said) == "ok"

    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        for data in ("BBBB", "AAAA", "BBBB") if good_first else ("AAAA", "BBBB"):
            send(data)
    assert "BBBB" in json.dumps(endpoint.bodies[-1])


def test_tools_that_were_accepted_are_sent_after_a_refusal() -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        refused = any("pattern" in one["function"]["parameters"] for one in body.get("tools", ()))
        return (400, refuse("A pattern in a tool is not supported.")) if refused else say("ok")

    odd = {"type": "function", "function": {"name": "x", "parameters": {"pattern": "(?=a)"}}}
    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        for tools in (TOOLS, [odd], TOOLS):
            assert text_of(ask(provider, tools=tools)) == "ok"
    assert endpoint.bodies[-1]["tools"] == TOOLS


@pytest.mark.parametrize("words", ["resulted in %d tokens. maximum context length is 600 tokens",
                                   "prompt is too long"])  # fmt: skip
def test_a_conversation_that_is_too_long_loses_its_oldest_turns(words: str) -> None:
    def play(number: int, body: dict[str, Any]) -> Any:
        size = len(json.dumps(body["messages"])) // 4
        message = words % size if "%" in words else words
        return (400, refuse(message)) if size > 600 else say("ok")

    past: list[dict[str, Any]] = [{"role": "system", "content": "Be kind."}]
    for at in range(10):
        past += [
            {"role": "user", "content": f"{at} " + "x" * 300},
            {"role": "assistant", "content": None, "tool_calls": [call(id=f"call_{at}")]},
            {"role": "tool", "tool_call_id": f"call_{at}", "content": "y" * 1000},
            {"role": "assistant", "content": "z" * 300},
        ]
    past.append({"role": "user", "content": "the question"})
    with StrictEndpoint(play) as endpoint:
        provider = provider_of(endpoint)
        assert text_of(list(provider.stream(past, [], options()))) == "ok"
        sent = endpoint.bodies[-1]["messages"]
        assert (sent[0]["content"], sent[-1]["content"]) == ("Be kind.", "the question")
        assert sent[1]["role"] == "user"
        assert sent[1]["content"].startswith(tuple("123456789"))
        asked = len(endpoint.bodies)
        assert text_of(list(provider.stream(past, [], options()))) == "ok"
        assert len(endpoint.bodies) == asked + 1  # the limit is remembered
        assert endpoint.faults == []


def test_a_message_that_is_too_long_by_itself_fails_and_says_so() -> None:
    too_long = (400, refuse("maximum context length is 10 tokens", code="context_length_exceeded"))
    with StrictEndpoint(lambda number, body: too_long) as endpoint:
        error = failure_of(provider_of(endpoint), "x" * 4000)
    assert "exceeds the context window" in error.message
    assert "/reset" in error.message


def test_words_of_the_endpoint_are_shown_without_what_is_private() -> None:
    text = (
        "Model foo failed at https://gpu-3.internal:8000/v1 (10.0.0.7:9000) for org-abc123456, "
        "key sk-verysecret123 in /srv/models/foo"
    )
    with StrictEndpoint(lambda number, body: (422, refuse(text))) as endpoint:
        message = failure_of(provider_of(endpoint)).message
    assert "Model foo failed at" in message
    for secret in ("gpu-3", "10.0.0.7", "abc123456", "verysecret", "/srv/models"):
        assert secret not in message


# -- addresses and lists of models ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        (" http://h/v1/chat/completions ", "http://h/v1/chat/completions"),
        ("http://h/v1/chat/completions/?a=b", "http://h/v1/chat/completions?a=b"),
        ("http://h/v1/models", "http://h/v1/chat/completions"),
        ("http://h/v1#x", "http://h/v1/chat/completions"),
        ("https://h.services.ai.azure.com/models/chat/completions?api-version=1",
         "https://h.services.ai.azure.com/models/chat/completions?api-version=1"),
        ("https://h.services.ai.azure.com/models",
         "https://h.services.ai.azure.com/models/chat/completions"),
        ("http://h/openai/deployments/gpt?api-version=1",
         "http://h/openai/deployments/gpt/chat/completions?api-version=1"),
    ],
)  # fmt: skip
def test_addresses_are_taken_as_people_write_them(written: str, asked: str) -> None:
    assert BaseUrl.parse(written).join("/chat/completions") == asked


@pytest.mark.parametrize(
    "missing",
    [(404, {"detail": "Not Found"}), (405, {}), (200, {"error": "Unexpected endpoint or method."})],
)
def test_a_missing_version_is_added(missing: Any) -> None:
    def handle(connection: Connection) -> None:
        for head, _ in connection.iter_requests():
            if head.startswith("POST /v1/chat/completions "):
                connection.send_stream(*say("ok"))
            else:
                connection.send_json(*missing)

    with RawEndpoint(handle) as endpoint:
        provider = provider_of(endpoint.base_url.removesuffix("/v1"))
        assert text_of(ask(provider)) == "ok"
        assert text_of(ask(provider)) == "ok"
    with RawEndpoint(handle) as endpoint:
        error = failure_of(provider_of(endpoint.base_url.replace("/v1", "/nothing")))
        assert "/v1" in error.message


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("stream_options", "Unrecognized request argument: stream_options"),
        ("tools", "this model does not support tools"),
    ],
)
def test_concurrent_requests_are_changed_after_rejections(field: str, message: str) -> None:
    together = threading.Barrier(2)

    def handle(connection: Connection) -> None:
        while body := connection.read_request()[1]:
            if field in json.loads(body):
                together.wait(PATIENCE_S)
                connection.send_json(400, refuse(message))
            else:
                connection.send_stream(*say("ok"))

    with RawEndpoint(handle) as endpoint, ThreadPoolExecutor(2) as threads:
        provider = provider_of(endpoint)
        answers = [threads.submit(ask, provider, tools=TOOLS) for _ in range(2)]
        assert [text_of(one.result()) for one in answers] == ["ok", "ok"]


def test_a_request_is_changed_although_another_one_stored_the_change_meanwhile() -> None:
    together, stored = threading.Barrier(2), threading.Event()

    def handle(connection: Connection) -> None:
        while body := connection.read_request()[1]:
            if "stream_options" in json.loads(body):
                if together.wait(PATIENCE_S):
                    stored.wait(PATIENCE_S)
                connection.send_json(400, refuse("Unrecognized request argument: stream_options"))
            else:
                connection.send_stream(*say("ok"))

    with RawEndpoint(handle) as endpoint, ThreadPoolExecutor(2) as threads:
        provider = provider_of(endpoint)
        answers = [threads.submit(ask, provider, tools=TOOLS) for _ in range(2)]
        next(as_completed(answers))
        stored.set()
        assert [text_of(one.result()) for one in answers] == ["ok", "ok"]


def test_an_error_that_quotes_a_user_changes_no_later_request() -> None:
    bodies: list[Any] = []

    def handle(connection: Connection) -> None:
        while body := connection.read_request()[1]:
            bodies.append(json.loads(body))
            if "stop" in bodies[-1]:
                quoted = f"this model does not support tools (request 20261129{len(bodies)})"
                connection.send_json(400, refuse(f"Invalid value for stop: {quoted}"))
            else:
                connection.send_stream(*say("ok"))

    with RawEndpoint(handle) as endpoint:
        provider = provider_of(endpoint)
        for extra in ({"stop": [5]}, {}):
            assert text_of(ask(provider, tools=TOOLS, extra=extra)) == "ok"
    assert "tools" not in bodies[-2]
    assert bodies[-1] == {key: one for key, one in bodies[0].items() if key != "stop"}


def test_concurrent_requests_find_the_missing_version() -> None:
    together = threading.Barrier(2)

    def handle(connection: Connection) -> None:
        while head := connection.read_request()[0]:
            if head.startswith("POST /v1/chat/completions "):
                connection.send_stream(*say("ok"))
            else:
                together.wait(PATIENCE_S)
                connection.send_json(404, {"detail": "Not Found"})

    with RawEndpoint(handle) as endpoint, ThreadPoolExecutor(2) as threads:
        provider = provider_of(endpoint.base_url.removesuffix("/v1"))
        answers = [threads.submit(ask, provider) for _ in range(2)]
        assert [text_of(one.result()) for one in answers] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("listed", "chosen"),
    [
        ({"data": [{"id": "text-embedding-3"}, {"id": "bge-reranker"}, {"id": "qwen3"}]}, "qwen3"),
        ({"data": [{"id": "whisper-1"}, {"id": "tts-1"}, {"id": "gpt-5"}]}, "gpt-5"),
        ({"data": [{"id": "a", "type": "embeddings"}, {"id": "b", "type": "llm"}]}, "b"),
        ({"models": [{"name": "embedding-001"}, {"name": "models/gemini"}]}, "models/gemini"),
        (["nomic-embed", "llama3"], "llama3"),
        (["Kwai-Kolors/Kolors", "Wan-AI/Wan2.1-T2V-14B", "mj_imagine", "suno-v3", "kling-v1",
          "cogview-4", "wanx2.1-t2i", "qwen-image-edit", "llama-guard-4", "deepseek-ocr", "veo3",
          "FunAudioLLM/SenseVoiceSmall", "doubao-seedream-4", "m3e-base", "taiwan-chat"],
         "taiwan-chat"),
        ({"data": [{"id": "a", "capabilities": {"completion_chat": False}}, {"id": "b"}]}, "b"),
        ({"data": [{"id": "a", "type": "image"}, {"id": "b", "type": "image-text-to-text"}]}, "b"),
        ({"models": [{"name": "a", "endpoints": ["embed"]}, {"name": "b"}]}, "b"),
        ({"data": [{"id": "a", "architecture": {"output_modalities": ["image"]}},
                   {"id": "b", "architecture": {"output_modalities": ["image", "text"]}}]}, "b"),
        ({"data": [{"id": "a", "supported_endpoint_types": ["image-generation"]},
                   {"id": "b", "supported_endpoint_types": ["openai"]}]}, "b"),
        ({"data": [{"id": "only-embed"}]}, "only-embed"),
        ({"models": [{"name": "own", "endpoints": ["/v2/generate"]}]}, "own"),
        ({"data": None}, ""),
        ("nonsense", ""),
    ],
)  # fmt: skip
def test_the_first_model_that_can_chat_is_chosen(listed: Any, chosen: str) -> None:
    assert choose_model(listed) == chosen


# -- bodies by their bytes -----------------------------------------------------------------------

WHOLE = {"model": "m", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
CHUNK = b'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}'


@pytest.mark.parametrize(
    "kind", ["application/json", "text/event-stream", "text/plain", "text/html"]
)
@pytest.mark.parametrize(
    "body",
    [
        json.dumps(WHOLE).encode(),
        b"\n\n  " + json.dumps(WHOLE, indent=1).encode() + b"\n",
        b"\xef\xbb\xbf" + json.dumps(WHOLE).encode(),
        CHUNK + b"\n\ndata: [DONE]\n\n",
        b"\xef\xbb\xbf" + CHUNK + b"\r\n\r\ndata: [DONE]\r\n\r\n",
        b": hold on\r\n\r\n" + CHUNK + b"\r\rdata:[DONE]  \r\r",
        CHUNK + b"\ndata: [DONE]",
        b"\n" + CHUNK + b"\n\ndata:\n\ndata:  [DONE] \n",
        CHUNK[6:] + b"\n" + b'{"choices":[],"usage":{"prompt_tokens":1}}\n',
    ],
)
def test_a_body_is_read_by_its_bytes(kind: str, body: bytes) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.send(head.encode() + body)

    with RawEndpoint(handle) as endpoint:
        assert text_of(ask(provider_of(endpoint, max_retries=0))) == "Hello"


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"Caf\xc3 au lait", "Caf\ufffd au lait"), (b"a\x01b\tc", "a\x01b\tc"),
     (b"a\\ud800b", "a\ufffdb")],
)  # fmt: skip
def test_odd_bytes_cost_a_character_and_not_the_answer(raw: bytes, text: str) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"' + raw + b'"}}]}\n\n'
    with StrictEndpoint(lambda number, body: [chunk, *say("!")]) as endpoint:
        assert text_of(ask(provider_of(endpoint))) == text + "!"


def test_calls_in_odd_shapes_are_whole_calls() -> None:
    name, arguments = {"name": "look"}, '{"a":1}'
    shapes: list[tuple[list[dict[str, Any]], list[tuple[str, str]]]] = [
        ([call("look", arguments, ""), call("look", '{"a":2}', "")],
         [("look", arguments), ("look", '{"a":2}')]),
        ([call("lo", "", "c"), {"index": 0, "function": {"name": "ok", "arguments": arguments}}],
         [("look", arguments)]),
        ([call("look", '{"a"', "c"),
          {"index": 0, "id": "c", "function": {**name, "arguments": ":1}"}}],
         [("look", arguments)]),
        ([call("look", arguments, "c"), call("look", arguments, "c")], [("look", arguments)]),
        ([call("look", arguments + '{"a":2}', "c")], [("look", arguments), ("look", '{"a":2}')]),
        ([call("look", arguments + arguments, "c")], [("look", arguments)]),
    ]  # fmt: skip
    for pieces, expected in shapes:
        with StrictEndpoint(lambda number, body: step(*pieces)) as endpoint:  # noqa: B023
            found = [one for one in ask(provider_of(endpoint)) if hasattr(one, "arguments")]
        assert [(one.name, one.arguments) for one in found] == expected
        assert len({one.id for one in found}) == len(found)


def test_the_text_so_far_beside_the_delta_is_read_once() -> None:
    def chunk(delta: dict[str, Any], so_far: str, finish: str | None = None) -> bytes:
        choice = {"delta": delta, "message": {"content": so_far}, "finish_reason": finish}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    answer = [chunk({"content": "Hello"}, "Hello"), chunk({"content": " you"}, "Hello you"),
              chunk({}, "Hello you", "stop"), DONE]  # fmt: skip
    with StrictEndpoint(lambda number, body: answer) as endpoint:
        assert text_of(ask(provider_of(endpoint))) == "Hello you"


def test_a_reason_in_every_chunk_does_not_end_the_answer() -> None:
    for word in ("null", "stop", ""):
        answer = [event({"content": one}, word) for one in ("One ", "two ", "three")]
        with StrictEndpoint(lambda number, body: [*answer, *say()]) as endpoint:  # noqa: B023
            provider = provider_of(endpoint)
            assert text_of(ask(provider)) == "One two three"
            assert end_of(provider).reason == "stop"
