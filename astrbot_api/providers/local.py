"""The embedded model, and what ``type = "auto"`` stands for.

The model itself runs in a process of its own (:mod:`astrbot_api.providers.local_model`)
that ``astrbot-api serve`` starts; its address reaches the workers through the
environment. Everything that concerns the protocol is the ``openai`` provider's.
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
from ..errors import ProviderError
from .local_model import CONTEXT_TOKENS, DEMO_ANSWER_TOKENS, DEMO_CONTEXT_TOKENS, KEY_VARIABLE
from .openai import OpenAIProvider

#: Variable with the address of the sidecar's endpoint, ``http://…/v1``.
URL_VARIABLE = "ASTRBOT_LOCAL_MODEL_URL"

#: Variable that is ``1`` when the sidecar serves the demonstration model.
DEMO_VARIABLE = "ASTRBOT_LOCAL_MODEL_DEMO"

#: OpenAI's address and the model that is asked there unless one is named.
OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_OPENAI_MODEL = "gpt-5-mini"

#: How long to wait for a model that is still being loaded, in seconds.
_START_TIMEOUT_S = 30.0

#: First and longest pause between two looks whether it is there, in seconds.
_FIRST_LOOK_S = 0.05
_LOOK_S = 0.5

#: How long that look may take, in seconds.
_HEALTH_TIMEOUT_S = 1.0

#: What the chat template adds to a message, in tokens; generous.
_TOKENS_PER_MESSAGE = 8


def resolve_auto(config: ProviderConfig, environ: Mapping[str, str]) -> ProviderConfig:
    """Turn a provider table of the type ``auto`` into one that names its model.

    :param config: The table. What else it says (time-outs, ``extra``, …) stays.
    :param environ: The environment variables.
    :returns: A table of the type ``openai`` or ``local``; one of another type
        than ``auto`` as it is.
    :raises ProviderError: when no variable names a model.
    """
    if config.type != "auto":
        return config
    model = environ.get("ASTRBOT_MODEL") or config.model
    if url := environ.get("ASTRBOT_MODEL_URL"):
        # An address that is set beside the key is what the key is for.
        key_env = config.api_key_env or "OPENAI_API_KEY"
        base_url = url.rstrip("/")
        return replace(config, type="openai", base_url=base_url, model=model, api_key_env=key_env)
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
    """The model that runs beside the workers.

    Waits while the model is being loaded, or loaded again after a crash.
    Its context is small: of a longer conversation it gets the system prompt
    and the newest turns. The demonstration model gets no tools; it is too
    small to call one, and describing them would fill its context.

    :param config: The provider table; ``base_url`` and keys in it are not used.
    :param environ: The environment variables; ``os.environ`` by default.
    :raises ProviderError: when no sidecar was started for this process.
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
            # It serves one model, whatever the request calls it.
            replace(config, type="openai", base_url=url, model=config.model or "local"),
            api_key=environ.get(KEY_VARIABLE, ""),
        )

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        """Ask the model once and yield its answer as it comes.

        :param messages: The conversation, oldest first.
        :param tools: The tools that it may call.
        :param options: Cancellation and further body fields.
        :raises ProviderError: when the model does not come up, breaks off, or
            the newest message alone is too long for it.
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
        """Ask llama.cpp, which answers 503 while it loads the model."""
        try:
            answer = urllib3.request(
                "GET",
                self._health_url,
                headers={"Connection": "close"},
                timeout=_HEALTH_TIMEOUT_S,
                retries=False,
            )
        except urllib3.exceptions.ReadTimeoutError:
            return True  # so many answers at once that none of its threads is free
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        return answer.status != 503


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, rather too many than too few.

    English has four characters a token and more; other scripts go down to a
    token a byte in small vocabularies.
    """
    size_bytes = len(text.encode("utf-8", "replace"))
    ascii_chars = sum(map(str.isascii, text)) if size_bytes > len(text) else len(text)
    return ascii_chars // 3 + (size_bytes - ascii_chars) + 1


def fit_messages(messages: Sequence[ModelMessage], max_tokens: int) -> list[ModelMessage]:
    """Leave out the oldest whole turns until the rest fits.

    :param messages: System messages first, then the turns.
    :param max_tokens: What the prompt may have.
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
    """Estimate one message with all that it holds (text, parts, tool calls)."""
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    rest = {key: value for key, value in message.items() if key != "role" and value != text}
    if rest:
        text += orjson.dumps(rest).decode()
    return estimate_tokens(text) + _TOKENS_PER_MESSAGE
