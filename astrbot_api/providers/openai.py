"""Any endpoint that speaks OpenAI's chat completions.

The endpoint answers with a stream of chunks; each becomes deltas as soon as
its bytes are here. What can fail before the first delta is tried again;
afterwards nothing is, because the caller has already seen a part.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ..agent.cancel import Cancellation
from ..agent.provider import Delta, ModelMessage, ModelOptions, ToolSpec
from ..config.agents import ProviderConfig
from ..errors import ProviderError
from . import failures
from .chunks import ChunkReader
from .sse import SSEParser
from .transport import Call, Transport

log = logging.getLogger(__name__)

_READ_BYTES = 16_384
_MAX_COMPLETION_BYTES = 64 * 1024 * 1024
_MAX_ERROR_BYTES = 16_384

#: The pause before the second try; it doubles up to the cap. In seconds.
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 8.0

#: An endpoint that asks for a longer pause is not waited for, in seconds.
_MAX_RETRY_AFTER_S = 30.0

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
        self._api_key = (config.resolve_api_key() if api_key is None else api_key).strip()
        headers = {
            "Accept": "text/event-stream, application/json",
            "Content-Type": "application/json",
            "User-Agent": "astrbot-api",
        }
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        self._transport = Transport(
            config.base_url,
            headers,
            config.connect_timeout_s,
            config.read_timeout_s,
            self._redact,
        )
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
        call = Call(options.cancel, options.headers)
        with options.cancel.on_cancel(call.break_off):
            model = options.model or self._config.model or self._get_default_model(call)
            body = {**self._config.extra, **options.extra, "model": model, "stream": True}
            body["messages"] = list(messages)
            if tools:
                body["tools"] = list(tools)
            response = self._complete(body, call)
            try:
                yield from self._read_answer(response, call)
            finally:
                # Closes what was not read to its end; a connection whose
                # answer was is back in the pool and no longer the response's.
                response.close()

    def _complete(self, body: dict[str, Any], call: Call) -> urllib3.BaseHTTPResponse:
        """Post the request, without the fields that endpoint or model do not know."""
        for _ in ("stream_options", "tools"):
            try:
                return self._exchange("POST", "/chat/completions", self._trim(body), call)
            except failures.EndpointRefusal as refusal:
                if not self._learn(refusal, body):
                    raise
        return self._exchange("POST", "/chat/completions", self._trim(body), call)

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

    def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None, call: Call
    ) -> urllib3.BaseHTTPResponse:
        """Send a request until it succeeds or is not worth another try.

        :returns: An answer with a status of success, its body unread.
        """
        content = None if body is None else _dump(body)
        for attempt in itertools.count():
            try:
                response = self._transport.send(method, path, content, call)
                if 200 <= response.status < 300:
                    return response
                raise self._read_refusal(response, call.cancel)
            except ProviderError as error:
                if attempt >= self._config.max_retries or not error.retryable:
                    raise
                if (error.retry_after_s or 0.0) > _MAX_RETRY_AFTER_S:
                    raise
                pause_s = _choose_pause(error, attempt)
            if call.cancel.wait(pause_s):
                call.cancel.raise_if_cancelled()
        raise AssertionError("unreachable")

    def _read_refusal(
        self, response: urllib3.BaseHTTPResponse, cancel: Cancellation
    ) -> failures.EndpointRefusal:
        try:
            content = response.read(_MAX_ERROR_BYTES)
        except (HTTPError, OSError, ValueError):
            content = b""
        response.close()
        cancel.raise_if_cancelled()
        text = content.decode("utf-8", "replace")
        log.warning(
            "the endpoint of provider %s answered HTTP %d: %s",
            self._config.id,
            response.status,
            self._redact(text),
        )
        return failures.EndpointRefusal(
            response.status,
            retry_after_s=failures.read_retry_after(response.headers.get("Retry-After")),
            unknown_field=failures.find_unknown_field(response.status, text),
        )

    def _read_answer(self, response: urllib3.BaseHTTPResponse, call: Call) -> Iterator[Delta]:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html":
            raise ProviderError(failures.NOT_A_MODEL)
        reader = ChunkReader(self._redact)
        if kind == "application/json":
            # The endpoint ignores "stream".
            yield from reader.read(self._read_whole(response, call))
            yield from reader.finish()
        else:
            yield from self._read_chunks(response, call, reader)
        reader.check_answered()

    def _read_chunks(
        self, response: urllib3.BaseHTTPResponse, call: Call, reader: ChunkReader
    ) -> Iterator[Delta]:
        parser = SSEParser()
        done = hurried = False
        chunks = 0
        while not done:
            data = self._receive(response, call, reader.finished)
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
            self._read_end(response, call)
        elif not reader.finished:
            # A cut connection may look like an ordinary end of the body.
            log.warning("the endpoint of provider %s broke off", self._config.id)
            raise ProviderError(failures.BROKE_OFF)
        yield from reader.finish()

    def _receive(self, response: urllib3.BaseHTTPResponse, call: Call, finished: bool) -> bytes:
        """Wait for the next bytes of the answer.

        :param finished: Whether nothing is missing but the end, so that a
            failure is none.
        :returns: Bytes; empty when no more come.
        """
        try:
            data = response.read1(_READ_BYTES)
        except (HTTPError, OSError, ValueError) as error:
            call.cancel.raise_if_cancelled()
            if finished:
                return b""
            log.warning(
                "the endpoint of provider %s broke off: %s",
                self._config.id,
                self._redact(str(error)),
            )
            if isinstance(error, ReadTimeoutError):
                message = failures.silent_for(self._config.read_timeout_s)
                raise ProviderError(message) from error
            raise ProviderError(failures.BROKE_OFF) from error
        call.cancel.raise_if_cancelled()
        return data

    def _read_end(self, response: urllib3.BaseHTTPResponse, call: Call) -> None:
        """Read the end of the body after ``[DONE]``, to keep the connection.

        It is mostly here already. An endpoint that never ends the body only
        costs the connection.
        """
        call.limit_wait(_LATE_END_S)
        if self._receive(response, call, finished=True):
            response.close()

    def _read_whole(self, response: urllib3.BaseHTTPResponse, call: Call) -> bytes:
        content = bytearray()
        while data := self._receive(response, call, finished=False):
            content += data
            if len(content) > _MAX_COMPLETION_BYTES:
                raise ProviderError("The model's endpoint sent an overlong answer.")
        return bytes(content)

    def _get_default_model(self, call: Call) -> str:
        """Return the first model that the endpoint has, asked for once.

        :raises ProviderError: when it does not say.
        """
        while not self._default_model_lock.acquire(timeout=0.1):
            call.cancel.raise_if_cancelled()
        try:
            if not self._default_model:
                self._default_model = self._ask_first_model(call)
            return self._default_model
        finally:
            self._default_model_lock.release()

    def _ask_first_model(self, call: Call) -> str:
        hint = "The config names no model"
        try:
            response = self._exchange("GET", "/models", None, call)
            try:
                content = self._read_whole(response, call)
            finally:
                response.close()
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

    def _redact(self, text: str) -> str:
        return failures.redact(text, self._api_key)


def _choose_pause(error: ProviderError, attempt: int) -> float:
    """Return how long to wait before the next try, in seconds."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    pause_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * (1 << attempt))
    # Streams that failed together must not come back together.
    return min(_MAX_PAUSE_S, pause_s * random.uniform(1.0, 1.25))


def _dump(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        pass
    # orjson refuses half a character and huge integers; neither is a reason
    # not to ask.
    try:
        return json.dumps(body).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProviderError("The request for the model cannot be written as JSON.") from error
