"""One turn in every response mode: a stream, a JSON object, or only its ids."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from astrbot_api.agent.provider import Delta, TextDelta
from astrbot_api.providers.failures import EndpointRefusal
from astrbot_api.testing import ScriptedModel

from ..waiting import wait_for
from .conftest import Api

Make = Callable[..., tuple[Api, ScriptedModel]]


def post(api: Api, mode: Any, message: str = "Hello", **body: Any) -> Any:
    return api.post_chat(username="alice", message=message, response_mode=mode, **body)


def test_blocking_mode_returns_the_whole_turn(api: Api) -> None:
    answer = post(api, "blocking", "THINK", session_id="s")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    data = answer.get_json()["data"]
    assert answer.headers["X-Run-ID"] == data["run_id"]
    assert data["session_id"] == "s"
    assert data["message"] == "Hello from mock."
    assert data["reasoning"] == "Let me think about it."
    assert [one["type"] for one in data["parts"]] == ["think", "plain"]
    assert data["agent_stats"]["token_usage"]["output"] > 0
    assert data["message_id"] == 2
    assert api.count_rows("message") == 2


def test_a_command_is_answered_in_blocking_mode(api: Api) -> None:
    data = post(api, "blocking", "/sid").get_json()["data"]
    assert data["message"].startswith("UMO")
    assert (data["agent_stats"], data["reasoning"]) == (None, "")
    assert data["parts"] == [{"type": "plain", "text": data["message"]}]


def test_an_answer_longer_than_a_line_is_returned_whole(api: Api, make_scripted: Make) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        for _ in range(30):
            yield TextDelta("é" * 10_000)

    long, _ = make_scripted(answer)
    data = post(long, "blocking").get_json()["data"]
    assert len(data["message"]) == 300_000


def test_a_turn_that_fails_is_a_status_and_is_stored(api: Api) -> None:
    answer = post(api, "blocking", "DROP=2", session_id="s")
    body = answer.get_json()
    assert (answer.status_code, body["code"], body["data"]) == (502, "provider_error", None)
    assert answer.headers["X-Run-ID"]
    assert api.count_rows("message") == 2


@pytest.mark.parametrize(
    ("error", "status", "code", "wait"),
    [
        (EndpointRefusal(429, retry_after_s=76.2),
         429, "provider_rate_limited", "77"),
        (EndpointRefusal(429), 429, "provider_rate_limited", None),
        (EndpointRefusal(400, "the prompt is too long: 9 > 8"),
         400, "context_length_exceeded", None),
        (EndpointRefusal(400, "Unsupported value: 'temperature'"), 400, "provider_refused", None),
        (EndpointRefusal(422, "could not decode the image"), 400, "provider_refused", None),
        (EndpointRefusal(400, "API key not valid. Please pass a valid API key."),
         502, "provider_error", None),
        (EndpointRefusal(400, "Your credit balance is too low"), 502, "provider_error", None),
        (EndpointRefusal(400, "tool_use_failed"), 502, "provider_error", None),
        (EndpointRefusal(404, "no such model"), 502, "provider_error", None),
        (EndpointRefusal(500), 502, "provider_error", None),
        (EndpointRefusal(503, retry_after_s=3), 502, "provider_error", "3"),
    ],
)  # fmt: skip
def test_a_rejection_by_the_endpoint_has_its_own_status(
    make_scripted: Make, error: EndpointRefusal, status: int, code: str, wait: str | None
) -> None:
    def answer(messages: Any) -> Iterator[Delta]:
        raise error
        yield

    api, _ = make_scripted(answer)
    told = post(api, "blocking", session_id="s")
    assert (told.status_code, told.get_json()["code"]) == (status, code)
    assert told.headers.get("Retry-After") == wait
    body = {"model": "default", "messages": [{"role": "user", "content": "x"}]}
    path, headers = "/api/v1/openai/chat/completions", {"X-API-Key": api.key}
    completion = api.client.post(path, headers=headers, json=body)
    assert (completion.status_code, completion.get_json()["error"]["code"]) == (status, code)
    assert completion.headers.get("Retry-After") == wait
    assert completion.headers.get("X-Should-Retry") == ("false" if status == 502 else None)
    chunks = api.client.post(path, headers=headers, json={**body, "stream": True}).get_data()
    assert f'"code":"{code}"'.encode() in chunks
    # The stream has the code that every client knows. The stored message has the reason, too.
    event = api.chat(session_id="s")[-4]
    assert event["code"] == "provider_error"
    assert event.get("reason", "provider_error") == code
    again = api.get(f"/api/v1/chat/runs/{event['message_id']}").get_json()["data"]
    error_kept = again["result"]["error"]
    kept = {"message": event["data"]}
    kept |= {key: event[key] for key in ("code", "reason", "retry_after_s") if key in event}
    assert error_kept == kept


def test_a_turn_beyond_the_timeout_continues(make_scripted: Make) -> None:
    go_on = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        assert go_on.wait(30)
        yield TextDelta("late")

    api, _ = make_scripted(answer, max_blocking_s=0.05, heartbeat_s=0.05)
    answered = post(api, "blocking")
    assert (answered.status_code, answered.get_json()["code"]) == (504, "turn_timeout")
    go_on.set()
    wait_for(lambda: api.count_rows("message") == 2)


def test_background_mode_responds_at_once_and_the_turn_continues(make_scripted: Make) -> None:
    go_on = threading.Event()

    def answer(messages: Any) -> Iterator[Delta]:
        assert go_on.wait(30)
        yield TextDelta("late")

    api, _ = make_scripted(answer)
    answered = post(api, "background")
    data = answered.get_json()["data"]
    assert answered.status_code == 202
    assert len(data["session_id"]) == len(data["run_id"]) == 36
    assert data["user_message"]["id"] == 1
    go_on.set()
    wait_for(lambda: api.count_rows("message") == 2)


@pytest.mark.parametrize("mode", ["blocking", "background"])
def test_session_named_by_an_integer_is_returned_as_text(api: Api, mode: str) -> None:
    assert post(api, mode, session_id=9012).get_json()["data"]["session_id"] == "9012"


@pytest.mark.parametrize("mode", ["blocked", "", 1, True, ["blocking"]])
def test_an_unknown_mode_is_refused(api: Api, mode: Any) -> None:
    answer = post(api, mode)
    assert answer.status_code == 400
    assert "response_mode" in answer.get_json()["message"]
    assert api.count_rows("run") == 0


@pytest.mark.parametrize("mode", ["streaming", None])
def test_streaming_is_the_default(api: Api, mode: Any) -> None:
    assert post(api, mode).content_type == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("mode", ["blocking", "background"])
def test_invalid_requests_are_rejected_in_every_mode(api: Api, mode: str) -> None:
    assert post(api, mode, config_id="no").status_code == 404
    assert post(api, mode, "").status_code == 400
    assert api.count_rows("run") == 0
