"""The provider of the embedded model, with an endpoint like llama.cpp's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import ModelOptions, TextDelta
from astrbot_api.config.agents import ProviderConfig
from astrbot_api.errors import ProviderError, RunCancelled
from astrbot_api.providers.local import LocalProvider, estimate_tokens, fit_messages

from .raw_endpoint import DONE, PATIENCE_S, Connection, RawEndpoint, event

LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
HELLO = (event({"content": "Hello"}), event({}, "stop"), DONE)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


class Llama:
    """A fake llama.cpp server that records its requests."""

    def __init__(self, loading: int = 0) -> None:
        self.loading = loading
        self.looks = 0
        self.keys: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.looked = threading.Event()

    def handle(self, connection: Connection) -> None:
        for head, body in connection.iter_requests():
            if head.startswith("GET /health "):
                self.looks += 1
                up = self.looks > self.loading
                connection.send_json(200 if up else 503, {} if up else LOADING)
                self.looked.set()
                return
            assert head.startswith("POST /v1/chat/completions ")
            self.keys += [line for line in head.split("\r\n") if line.startswith("Authoriz")]
            self.bodies.append(json.loads(body))
            connection.send_stream(*HELLO)


@contextmanager
def provider_of(llama: Llama, **environ: str) -> Iterator[LocalProvider]:
    with RawEndpoint(llama.handle) as endpoint:
        yield LocalProvider(
            ProviderConfig("local", "local"),
            {
                "ASTRBOT_LOCAL_MODEL_URL": endpoint.base_url,
                "ASTRBOT_LOCAL_MODEL_KEY": "hush",
                **environ,
            },
        )


def ask(provider: LocalProvider, *messages: dict[str, Any], tools: Any = ()) -> str:
    asked = messages or ({"role": "user", "content": "hi"},)
    deltas = list(provider.stream(asked, tools, ModelOptions(Cancellation())))
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def test_it_asks_the_sidecar_with_its_key() -> None:
    llama = Llama()
    with provider_of(llama) as provider:
        assert ask(provider) == "Hello"
    assert llama.keys == ["Authorization: Bearer hush"]


def test_it_waits_while_the_model_is_being_loaded() -> None:
    llama = Llama(loading=3)
    with provider_of(llama) as provider:
        assert ask(provider) == "Hello"
    assert llama.looks == 4
    assert len(llama.bodies) == 1


def test_a_wait_for_the_model_ends_when_the_run_is_stopped() -> None:
    llama = Llama(loading=10**9)
    cancel = Cancellation()
    with provider_of(llama) as provider:

        def stop() -> None:
            assert llama.looked.wait(PATIENCE_S)
            cancel.cancel()

        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(RunCancelled):
            list(provider.stream([{"role": "user", "content": "hi"}], (), ModelOptions(cancel)))
        stopper.join()
    assert llama.bodies == []


def test_a_model_that_never_comes_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrbot_api.providers.local._START_TIMEOUT_S", 0.0)
    with (
        provider_of(Llama(loading=10**9)) as provider,
        pytest.raises(ProviderError, match="did not start within") as caught,
    ):
        ask(provider)
    assert caught.value.retryable


def test_without_a_sidecar_the_text_says_what_to_do() -> None:
    with pytest.raises(ProviderError, match="only under `astrbot-api serve`"):
        LocalProvider(ProviderConfig("local", "local"), {})


def test_the_demonstration_model_gets_no_tools_and_another_does() -> None:
    for flag, expected in (("1", None), ("0", [TOOL])):
        llama = Llama()
        with provider_of(llama, ASTRBOT_LOCAL_MODEL_DEMO=flag) as provider:
            ask(provider, tools=[TOOL])
        assert llama.bodies[0].get("tools") == expected


def test_a_long_conversation_is_cut_to_what_the_model_can_read() -> None:
    turns = [
        message
        for number in range(200)
        for message in (
            {"role": "user", "content": f"question {number} " + "word " * 40},
            {"role": "assistant", "content": f"answer {number}"},
        )
    ]
    system = {"role": "system", "content": "Be kind."}
    last = {"role": "user", "content": "the newest"}
    llama = Llama()
    with provider_of(llama, ASTRBOT_LOCAL_MODEL_DEMO="1") as provider:
        ask(provider, system, *turns, last)
    sent = llama.bodies[0]["messages"]
    assert (sent[0], sent[-1]) == (system, last)
    assert 10 < len(sent) < 100
    assert sent[1]["role"] == "user"
    assert sum(estimate_tokens(one["content"]) for one in sent) < 4096 - 512


def test_a_message_that_is_too_long_alone_is_refused_in_words() -> None:
    llama = Llama()
    with provider_of(llama) as provider, pytest.raises(ProviderError, match="too long"):
        ask(provider, {"role": "user", "content": "word " * 20_000})
    assert llama.bodies == []


@pytest.mark.parametrize(("text", "tokens"), [("", 1), ("abc", 2), ("a" * 300, 101), ("日本", 7)])
def test_tokens_are_estimated_high(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_a_turn_with_its_tool_calls_stays_whole_or_goes() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    old = [
        {"role": "user", "content": "x" * 300},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "y" * 300},
        {"role": "assistant", "content": "z"},
    ]
    new = [{"role": "user", "content": "new"}]
    assert fit_messages([*old, *new], 10_000) == [*old, *new]
    assert fit_messages([*old, *new], 200) == new
