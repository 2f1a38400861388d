"""The error of a turn names its cause and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from ..strict_endpoint import StrictEndpoint, say
from .openai_asking import ask, failure_of, provider_of, text_of
from .raw_endpoint import DONE, Connection, RawEndpoint, answering, event

#: Gemini's error if the requests of a minute are used up.
OF_A_MINUTE = [{"error": {
    "code": 429, "status": "RESOURCE_EXHAUSTED",
    "message": "You exceeded your current quota, please check your plan and billing details.\n"
               "* Quota exceeded for metric: generate_content_free_tier_requests, limit: 10\n"
               "Please retry in 6.4s.",
    "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "6s"}],
}}]  # fmt: skip


def refuse(message: str, **more: Any) -> Any:
    return {"error": {"message": message, **more}}


def send(connection: Connection, status: int, body: Any) -> None:
    """Send a response: JSON, or a page."""
    if not isinstance(body, str):
        return connection.send_json(status, body)
    head = f"HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"
    return connection.send(f"{head}\r\n{body}".encode())


def message_of(status: int, body: Any, **config: Any) -> tuple[str, int]:
    """Return the error of a turn, and the number of requests."""
    requests = 0

    def handle(connection: Connection) -> None:
        nonlocal requests
        while connection.read_request()[0]:
            requests += 1
            send(connection, status, body)

    with RawEndpoint(handle) as endpoint:
        return failure_of(provider_of(endpoint, **config)).message, requests


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, refuse("You exceeded your current quota, please check your plan and billing "
                     "details.", code="insufficient_quota")),
        (402, refuse("Insufficient Balance")),
        (400, refuse("Your credit balance is too low to access the Anthropic API.")),
        (429, refuse("您的账户已欠费，请充值后重试。", code="1113")),
        (403, refuse("用户额度不足, 剩余额度: ＄0.000000", code="insufficient_user_quota")),
        (401, refuse("该令牌额度已用尽")),
        (403, refuse("预扣费额度失败, 用户剩余额度: ＄0.539534, 需要预扣费额度: ＄2.906176")),
        (403, refuse("token quota is not enough, token remain quota: ＄0.1, need quota: ＄0.2")),
        (400, refuse("资源包余量已用尽，请购买资源包或开通后付费")),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (403, refuse("The request failed because your account has an overdue balance.")),
        (403, {"error": "Your team has either used all available credits or reached its limit."}),
    ],
)  # fmt: skip
def test_an_empty_account_is_named_and_not_asked_again(status: int, body: Any) -> None:
    message, requests = message_of(status, body)
    assert "has no balance left" in message
    assert requests == 1


def test_a_limit_per_minute_is_waited_for_even_if_it_is_called_a_quota() -> None:
    message, requests = message_of(429, OF_A_MINUTE)
    assert "rate limited (HTTP 429); try again in 7 s" in message
    assert requests == 3


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, refuse("Country, region, or territory not supported"), "Country, region, or"),
        (403, refuse("Your input was flagged for violence"), "flagged for violence"),
        (403, "<html><head><title>Just a moment...</title>", "denied access (HTTP 403): Just a"),
        (400, "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title>",
         "plain HTTP request was sent to HTTPS port"),
        (504, "<html><head><title>504 Gateway Time-out</title></head>", "504 Gateway Time-out"),
        (400, refuse("litellm.BadRequestError: AnthropicException - b'{\"error\": {\"message\": "
                     "\"This model\\'s name is odd\"}}' No fallback."),
         "AnthropicException - This model's name is odd No fallback."),
        (404, "", "(HTTP 404). Check base_url in the config."),
        (404, {"detail": "Not Found"}, "Not Found. Check base_url in the config."),
        (404, refuse("No endpoints found matching your data policy."), "data policy."),
        (404, refuse("The model `x` does not exist"), "(HTTP 404): The model `x` does not exist"),
        (422, {"detail": [{"loc": ["body", "messages", 0, "content"],
                           "msg": "Input should be a valid string"}]},
         "body.messages.0.content: Input should be a valid string"),
        (400, refuse("Failed to call a function.", code="tool_use_failed"),
         "wrote a tool call that its endpoint could not read"),
    ],
)  # fmt: skip
def test_the_cause_of_a_refusal_is_named(status: int, body: Any, said: str) -> None:
    message, _ = message_of(status, body, max_retries=0)
    assert said in message
    assert ("base_url" in message) == ("base_url" in said)


def test_a_refused_key_is_not_quoted() -> None:
    for status in (401, 403):
        message, _ = message_of(status, refuse("Incorrect API key provided: abc***"))
        assert "abc" not in message


def test_a_missing_model_is_not_a_wrong_address() -> None:
    def handle(connection: Connection) -> None:
        while head := connection.read_request()[0]:
            at_v1 = head.startswith("POST /v1/")
            missing = refuse('model "llama9" not found, try pulling it first')
            send(connection, 404, missing if at_v1 else "404 page not found")

    with RawEndpoint(handle) as endpoint:
        error = failure_of(provider_of(endpoint.base_url.removesuffix("/v1")))
    assert "llama9" in error.message
    assert "base_url" not in error.message


def test_https_at_a_port_without_tls_names_the_remedy() -> None:
    def handle(connection: Connection) -> None:
        connection.sock.recv(1000)
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with RawEndpoint(handle) as endpoint:
        secure = endpoint.base_url.replace("http:", "https:")
        assert "Write http://" in failure_of(provider_of(secure, max_retries=0)).message


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "could not read"),
        ("malformed_function_call", "could not read"),
        ("content_filter: PROHIBITED_CONTENT", "content filter"),
        ("OTHER", "other"),
        ("insufficient_system_resource", "insufficient_system_resource"),
    ],
)
def test_an_empty_answer_names_the_reason_for_its_end(reason: str, said: str) -> None:
    with RawEndpoint(answering(event({"role": "assistant"}, reason), DONE)) as endpoint:
        assert said in failure_of(provider_of(endpoint, max_retries=0)).message


def test_a_malformed_call_is_asked_for_again() -> None:
    answers = [[event({}, "malformed_function_call"), DONE], say("ok")]
    with StrictEndpoint(lambda number, body: answers[number - 1]) as endpoint:
        assert text_of(ask(provider_of(endpoint))) == "ok"
