"""Provider for the embedded model, and the resolution of ``type = "auto"``.

The model runs in a separate process (:mod:`astrbot_api.providers.local_model`), which
``astrbot-api serve`` starts. Workers get its URL from the environment. The ``openai``
provider implements the protocol.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import orjson
import urllib3

from ..agent.cancel import Cancellation
from ..agent.provider import Delta, ModelMessage, ModelOptions, ToolSpec
from ..config.agents import ProviderConfig
from ..config.tables import is_http_url
from ..errors import ProviderError
from .local_model import CONTEXT_TOKENS, DEMO_ANSWER_TOKENS, DEMO_CONTEXT_TOKENS, KEY_VARIABLE
from .openai import OpenAIProvider

#: Environment variable with the base URL of the model process, ``http://…/v1``.
URL_VARIABLE = "ASTRBOT_LOCAL_MODEL_URL"

#: Environment variable that is ``1`` if the process serves the demonstration model.
DEMO_VARIABLE = "ASTRBOT_LOCAL_MODEL_DEMO"

#: OpenAI's base URL and the default model there.
OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_OPENAI_MODEL = "gpt-5-mini"

BAD_MODEL_URL = "ASTRBOT_MODEL_URL must be http://HOST:PORT/PATH or https://…"

#: Seconds to wait while the model is loaded.
_START_TIMEOUT_S = 30.0

#: First and longest pause between two health checks, in seconds.
_FIRST_LOOK_S = 0.05
_LOOK_S = 0.5
_HEALTH_TIMEOUT_S = 1.0

#: Upper estimate of the tokens that the chat template adds to a message.
_TOKENS_PER_MESSAGE = 8


def resolve_auto(config: ProviderConfig, environ: Mapping[str, str]) -> ProviderConfig:
    """Resolve a provider table of type ``auto`` to a concrete type.

    :param config: The provider table. Its other settings are kept.
    :returns: A table of type ``openai`` or ``local``. A table of another type than
        ``auto`` is returned unchanged.
    :raises ProviderError: when no variable names a model, or ``ASTRBOT_MODEL_URL`` is no URL.
    """
    if config.type != "auto":
        return config
    model = environ.get("ASTRBOT_MODEL") or config.model
    if url := environ.get("ASTRBOT_MODEL_URL", "").strip():
        if not is_http_url(url):
            raise ProviderError(BAD_MODEL_URL)
        # The key in OPENAI_API_KEY is for this URL if both variables are set.
        key_env = config.api_key_env or "OPENAI_API_KEY"
        url = url.rstrip("/")
        return replace(config, type="openai", base_url=url, model=model, api_key_env=key_env)
    if environ.get("OPENAI_API_KEY"):
        model = model or DEFAULT_OPENAI_MODEL
        return replace(config, type="openai", base_url=OPENAI_URL, model=model)
    if environ.get(URL_VARIABLE):
        return replace(config, type="local")
    raise ProviderError(
        "No model is configured. The server's owner can set ASTRBOT_MODEL_URL or "
        "OPENAI_API_KEY, or name an endpoint in configs/default.toml."
    )


class LocalProvider:
    """The embedded model.

    Waits while the model process loads the model, or reloads it after a crash.
    The context is small, so a long conversation is reduced to the system prompt
    and the newest turns. The demonstration model gets no tools: it cannot call
    them reliably, and their descriptions would fill its context.

    :param config: The provider table. Its ``base_url`` and keys are not used.
    :param environ: The environment variables, by default ``os.environ``.
    :raises ProviderError: when no model process was started for this server.
    """

    def __init__(self, config: ProviderConfig, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        url = environ.get(URL_VARIABLE, "")
        if not url:
            raise ProviderError(
                "The embedded model runs only under `astrbot-api serve`, if a config asks for it "
                "when that starts; otherwise name an endpoint in configs/default.toml, or set "
                "ASTRBOT_MODEL_URL."
            )
        self._health_url = url.removesuffix("/v1") + "/health"
        self._is_demo = environ.get(DEMO_VARIABLE) == "1"
        self._inner = OpenAIProvider(
            # The process ignores the model's name.
            replace(config, type="openai", base_url=url, model=config.model or "local"),
            api_key=environ.get(KEY_VARIABLE, ""),
        )

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        """Call the model once and stream its answer.

        :param messages: The conversation, oldest first.
        :param options: Cancellation and further body fields.
        :raises ProviderError: when the model does not start, drops the connection, or
            cannot read the newest message because of its length.
        :raises RunCancelled: when ``options.cancel`` fires.
        """
        if self._is_demo:
            tools = ()
        fitting = fit_messages(messages, self._prompt_tokens(tools))
        self._wait_until_up(options.cancel)
        yield from self._inner.stream(fitting, tools, options)

    def _prompt_tokens(self, tools: Sequence[ToolSpec]) -> int:
        context = DEMO_CONTEXT_TOKENS if self._is_demo else CONTEXT_TOKENS
        described = estimate_tokens(orjson.dumps(list(tools)).decode()) if tools else 0
        return context - DEMO_ANSWER_TOKENS - described

    def _wait_until_up(self, cancel: Cancellation) -> None:
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        pause_s = _FIRST_LOOK_S
        while not self._is_up():
            if time.monotonic() > give_up_at:
                raise ProviderError(
                    f"The embedded model did not start within {_START_TIMEOUT_S:g} s; "
                    "the server's log says why.",
                    retryable=True,
                )
            if cancel.wait(pause_s):
                cancel.raise_if_cancelled()
            pause_s = min(2 * pause_s, _LOOK_S)

    def _is_up(self) -> bool:
        """Check llama.cpp's health. It returns 503 while it loads the model."""
        try:
            answer = urllib3.request(
                "GET",
                self._health_url,
                headers={"Connection": "close"},
                timeout=_HEALTH_TIMEOUT_S,
                retries=False,
            )
        except urllib3.exceptions.ReadTimeoutError:
            return True  # all its threads are busy with answers
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        return answer.status != 503


def estimate_tokens(text: str) -> int:
    """Return an upper estimate of a text's tokens.

    English has four or more characters per token. With a small vocabulary, other
    scripts can have one token per byte.
    """
    size_bytes = len(text.encode("utf-8", "replace"))
    ascii_chars = sum(map(str.isascii, text)) if size_bytes > len(text) else len(text)
    return ascii_chars // 3 + (size_bytes - ascii_chars) + 1


def fit_messages(messages: Sequence[ModelMessage], max_tokens: int) -> list[ModelMessage]:
    """Drop the oldest turns until the rest fits.

    :param messages: System messages first, then the turns.
    :param max_tokens: Maximum size of the prompt.
    :returns: The system messages and the newest turns.
    :raises ProviderError: when the newest turn does not fit.
    """
    first = next((i for i, one in enumerate(messages) if one["role"] != "system"), len(messages))
    kept = list(messages[:first])
    left = max_tokens - sum(map(_message_tokens, kept))
    turn_starts = [i for i in range(first, len(messages)) if messages[i]["role"] == "user"]
    end = start = len(messages)
    for turn_start in reversed(turn_starts or [first]):
        left -= sum(map(_message_tokens, messages[turn_start:start]))
        if left < 0:
            break
        start = turn_start
    if start == end and first < end:
        raise ProviderError(
            "The message is too long for the embedded model: it reads about "
            f"{max_tokens} tokens at most."
        )
    return kept + list(messages[start:])


def _message_tokens(message: ModelMessage) -> int:
    """Estimate the tokens of a message with its parts and tool calls."""
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    rest = {key: value for key, value in message.items() if key != "role" and value != text}
    if rest:
        text += orjson.dumps(rest).decode()
    return estimate_tokens(text) + _TOKENS_PER_MESSAGE
