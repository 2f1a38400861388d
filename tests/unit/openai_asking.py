"""Calls the provider for OpenAI-compatible endpoints like a turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from astrbot_api.agent.cancel import Cancellation
from astrbot_api.agent.provider import Delta, Finished, ModelOptions, TextDelta
from astrbot_api.config.agents import ProviderConfig
from astrbot_api.errors import ProviderError
from astrbot_api.providers.openai import OpenAIProvider
from astrbot_api.testing.fake_openai import FakeOpenAI

from .raw_endpoint import DONE, RawEndpoint, answering, event

KEY = "very-secret-1234567890"
HELLO = (event({"content": "Hello"}), event({}, "stop"), DONE)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


class ImpatientCancellation(Cancellation):
    """Records each wait and returns from it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        return self.cancelled


def provider_of(endpoint: FakeOpenAI | RawEndpoint | str, **fields: Any) -> OpenAIProvider:
    base_url = endpoint if isinstance(endpoint, str) else endpoint.base_url
    values = {"model": "some-model", **fields}
    return OpenAIProvider(
        ProviderConfig("test", "openai", base_url=base_url, **values), api_key=KEY
    )


def begin(
    provider: OpenAIProvider,
    message: str = "hi",
    *,
    tools: tuple[Any, ...] = (),
    cancel: Cancellation | None = None,
    **options: Any,
) -> Iterator[Delta]:
    asked = ModelOptions(cancel or ImpatientCancellation(), **options)
    return provider.stream([{"role": "user", "content": message}], tools, asked)


def ask(provider: OpenAIProvider, message: str = "hi", **more: Any) -> list[Delta]:
    """Return the answer without its final delta; see :func:`end_of`."""
    return [one for one in begin(provider, message, **more) if not isinstance(one, Finished)]


def end_of(provider: OpenAIProvider, message: str = "hi", **more: Any) -> Finished:
    """Return the final delta of an answer."""
    (last,) = [one for one in begin(provider, message, **more) if isinstance(one, Finished)]
    return last


def answer_to(*events: bytes) -> list[Delta]:
    """Return the provider's result for an answer of these events."""
    with RawEndpoint(answering(*events)) as endpoint:
        return ask(provider_of(endpoint))


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def failure_of(provider: OpenAIProvider, message: str = "hi", **more: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(provider, message, **more)
    return caught.value
