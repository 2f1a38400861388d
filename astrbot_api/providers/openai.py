"""Any endpoint that speaks OpenAI's chat completions.

The endpoint answers with a stream of chunks; each becomes deltas as soon as
its bytes are here. What can fail before the first delta is tried again;
afterwards nothing is, because the caller has already seen a part.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from ..agent.provider import Delta, ModelMessage, ModelOptions, ToolSpec
from ..config.agents import ProviderConfig
from ..errors import ProviderError
from ..runtime.outbound import Answer, Call, OutboundError
from . import failures
from .chunks import ChunkReader
from .endpoint import Endpoint
from .sse import SSEParser

log = logging.getLogger(__name__)

_READ_BYTES = 16_384

#: How long to wait for what may still come when the answer is whole: the
#: usage and the end mark, then only the end of the HTTP body. In seconds.
_LATE_USAGE_S = 5.0
_LATE_END_S = 0.2

#: After how many chunks other greenlets get their turn: a fast endpoint
#: always has more bytes ready, so that reading alone never waits.
_CHUNKS_PER_TURN = 32


class OpenAIProvider:
    """A model behind an OpenAI-compatible endpoint.

    Thread-safe: one instance serves any number of streams at a time, each
    over a connection of its own.

    :param config: Address, model, time-outs and further body fields.
    :param api_key: Sent as a bearer token; None: what the config says.
    """

    def __init__(self, config: ProviderConfig, *, api_key: str | None = None) -> None:
        self._config = config
        key = config.resolve_api_key() if api_key is None else api_key
        self._endpoint = Endpoint(config, key.strip())
        self._asks_usage = True
        self._without_tools: set[str] = set()
        self._default_model = ""
        self._default_model_lock = threading.Lock()

    def stream(
        self,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolSpec],
        options: ModelOptions,
    ) -> Iterator[Delta]:
        """Ask the model once and yield its answer as it comes.

        :param messages: The conversation, oldest first.
        :param tools: The tools that it may call; may be empty.
        :param options: Model, cancellation and further body fields.
        :returns: Deltas; at most one :class:`Usage`, the last one.
        :raises ProviderError: when the endpoint cannot be reached, refuses,
            breaks off or answers nothing.
        :raises RunCancelled: when ``options.cancel`` fires.
        """
        with Call(options.cancel, headers=options.headers) as call:
            model = options.model or self._config.model or self._get_default_model(call)
            body = {**self._config.extra, **options.extra, "model": model, "stream": True}
            body["messages"] = list(messages)
            if tools:
                body["tools"] = list(tools)
            answer = self._complete(body, call)
            try:
                yield from self._read_answer(answer, call)
            finally:
                # Closes what was not read to its end; a connection whose
                # answer was is back in the pool and no longer the answer's.
                answer.close()

    def _complete(self, body: dict[str, Any], call: Call) -> Answer:
        """Post the request, without the fields that endpoint or model do not know."""
        for _ in ("stream_options", "tools"):
            try:
                return self._endpoint.exchange("POST", "/chat/completions", self._trim(body), call)
            except failures.EndpointRefusal as refusal:
                if not self._learn(refusal, body):
                    raise
        return self._endpoint.exchange("POST", "/chat/completions", self._trim(body), call)

    def _trim(self, body: dict[str, Any]) -> dict[str, Any]:
        trimmed = {"stream_options": {"include_usage": True}, **body} if self._asks_usage else body
        if body["model"] in self._without_tools:
            trimmed = {key: value for key, value in trimmed.items() if key != "tools"}
        return trimmed

    def _learn(self, refusal: failures.EndpointRefusal, body: dict[str, Any]) -> bool:
        """Note what must be left out from now on. False: the refusal is about something else."""
        model = body["model"]
        if refusal.unknown_field == "stream_options" and self._asks_usage:
            self._asks_usage = False
            return True
        if (
            refusal.unknown_field == "tools"
            and "tools" in body
            and model not in self._without_tools
        ):
            log.warning("model %s takes no tools; it is asked without them from now on", model)
            self._without_tools.add(model)
            return True
        return False

    def _read_answer(self, answer: Answer, call: Call) -> Iterator[Delta]:
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html":
            raise ProviderError(failures.NOT_A_MODEL)
        reader = ChunkReader(self._endpoint.redact)
        if kind == "application/json":
            # The endpoint ignores "stream".
            yield from reader.read(self._endpoint.read_whole(answer))
            yield from reader.finish()
        else:
            yield from self._read_chunks(answer, call, reader)
        reader.check_answered()

    def _read_chunks(self, answer: Answer, call: Call, reader: ChunkReader) -> Iterator[Delta]:
        parser, read = SSEParser(), answer.read
        done = hurried = False
        chunks = 0
        while not done:
            try:
                data = read(_READ_BYTES)
            except OutboundError as error:
                if not reader.finished:
                    raise self._endpoint.explain_break(error) from error
                data = b""  # only the end is missing
            payloads = parser.feed(data) if data else parser.finish()
            for payload in payloads:
                if payload == b"[DONE]":
                    done = True
                    break
                if payload:
                    yield from reader.read(payload)
            if not data:
                break
            if reader.finished and not hurried:
                hurried = True
                call.limit_wait(min(_LATE_USAGE_S, self._config.read_timeout_s))
            chunks += len(payloads)
            if chunks >= _CHUNKS_PER_TURN:
                chunks = 0
                time.sleep(0)
        if done:
            self._read_end(answer, call)
        elif not reader.finished:
            # A cut connection may look like an ordinary end of the body.
            self._endpoint.log_failure("broke off")
            raise ProviderError(failures.BROKE_OFF)
        yield from reader.finish()

    def _read_end(self, answer: Answer, call: Call) -> None:
        """Read the end of the body after ``[DONE]``, to keep the connection.

        It is mostly here already. An endpoint that never ends the body only
        costs the connection.
        """
        call.limit_wait(_LATE_END_S)
        with suppress(OutboundError):
            if answer.read(_READ_BYTES):
                answer.close()

    def _get_default_model(self, call: Call) -> str:
        """Return the first model that the endpoint has, asked for once.

        :raises ProviderError: when it does not say.
        """
        while not self._default_model_lock.acquire(timeout=0.1):
            call.check()
        try:
            if not self._default_model:
                self._default_model = self._ask_first_model(call)
            return self._default_model
        finally:
            self._default_model_lock.release()

    def _ask_first_model(self, call: Call) -> str:
        hint = "The config names no model"
        try:
            answer = self._endpoint.exchange("GET", "/models", None, call)
            content = self._endpoint.read_whole(answer)
        except ProviderError as error:
            raise ProviderError(
                f"{hint}, and its endpoint's list of models could not be read: {error.message}",
                retryable=error.retryable,
                retry_after_s=error.retry_after_s,
            ) from error
        try:
            model = json.loads(content)["data"][0]["id"]
        except (ValueError, LookupError, TypeError) as error:
            raise ProviderError(f"{hint}, and its endpoint lists none.") from error
        if not isinstance(model, str) or not model:
            raise ProviderError(f"{hint}, and its endpoint lists none.")
        return model
