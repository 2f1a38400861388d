"""One model's endpoint: requests until one succeeds, and failures as sentences."""

from __future__ import annotations

import itertools
import json
import logging
import random
from typing import Any

import orjson

from ..config.agents import ProviderConfig
from ..errors import ProviderError
from ..runtime.outbound import Answer, Call, Outbound, OutboundError
from . import failures

log = logging.getLogger(__name__)

_MAX_COMPLETION_BYTES = 64 * 1024 * 1024
_MAX_ERROR_BYTES = 16_384

#: Idle connections that are kept. More may be open at a time.
_POOL_SIZE = 1000

#: How often a kept connection may turn out to be closed before it counts.
_STALE_TRIES = 5

#: The pause before the second try; it doubles up to the cap. In seconds.
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 8.0

#: An endpoint that asks for a longer pause is not waited for, in seconds.
_MAX_RETRY_AFTER_S = 30.0


class Endpoint:
    """An address of the API, for example ``http://host:1/v1``, and its key."""

    def __init__(self, config: ProviderConfig, api_key: str) -> None:
        self._config = config
        self._api_key = api_key
        self._base_url = config.base_url.rstrip("/")
        self._headers = {
            "Accept": "text/event-stream, application/json",
            "Content-Type": "application/json",
            "User-Agent": "astrbot-api",
        }
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._outbound = Outbound(pool_size=_POOL_SIZE)

    def exchange(self, method: str, path: str, body: dict[str, Any] | None, call: Call) -> Answer:
        """Send a request until it succeeds or is not worth another try.

        :returns: An answer with a status of success, its body unread.
        :raises ProviderError: when there is none.
        :raises RunCancelled: when the run ends meanwhile.
        """
        content = None if body is None else _dump(body)
        for attempt in itertools.count():
            try:
                answer = self._send(method, path, content, call)
                if 200 <= answer.status < 300:
                    return answer
                raise self._read_refusal(answer)
            except ProviderError as error:
                if attempt >= self._config.max_retries or not error.retryable:
                    raise
                if (error.retry_after_s or 0.0) > _MAX_RETRY_AFTER_S:
                    raise
                pause_s = _choose_pause(error, attempt)
            call.sleep(pause_s)
        raise AssertionError("unreachable")

    def read_whole(self, answer: Answer) -> bytes:
        """Return the body of an answer that is no stream, and close it."""
        try:
            content, more = answer.read_all(_MAX_COMPLETION_BYTES)
        except OutboundError as error:
            raise self.explain_break(error) from error
        finally:
            answer.close()
        if more:
            raise ProviderError("The model's endpoint sent an overlong answer.")
        return content

    def explain_break(self, error: OutboundError) -> ProviderError:
        """Return what an answer that broke off is called, and log it."""
        self.log_failure("broke off", str(error))
        if error.reason == "silent":
            return ProviderError(failures.silent_for(self._config.read_timeout_s))
        return ProviderError(failures.BROKE_OFF)

    def log_failure(self, what: str, words: str = "") -> None:
        """Log what the endpoint did, with its own words without keys."""
        shown = f": {self.redact(words)}" if words else ""
        log.warning("the endpoint of provider %s %s%s", self._config.id, what, shown)

    def redact(self, text: str) -> str:
        """Prepare an endpoint's text for the log."""
        return failures.redact(text, self._api_key)

    def _send(self, method: str, path: str, content: bytes | None, call: Call) -> Answer:
        try:
            return self._outbound.send(
                method, self._base_url + path, headers=self._headers, body=content, call=call,
                connect_timeout_s=self._config.connect_timeout_s,
                read_timeout_s=self._config.read_timeout_s, stale_tries=_STALE_TRIES,
            )  # fmt: skip
        except OutboundError as error:
            if error.reason == "silent":
                # Not to be sent again: the endpoint may still be at work on it.
                message = failures.silent_for(self._config.read_timeout_s)
                raise ProviderError(message) from error
            self.log_failure("gave no answer", str(error))
            if error.reason == "untrusted":
                raise ProviderError(failures.UNTRUSTED) from error
            if error.reason == "broken":
                raise ProviderError(failures.HUNG_UP, retryable=True) from error
            retryable = error.reason == "unreachable"
            raise ProviderError(failures.UNREACHABLE, retryable=retryable) from error

    def _read_refusal(self, answer: Answer) -> failures.EndpointRefusal:
        try:
            content, _ = answer.read_all(_MAX_ERROR_BYTES)
        except OutboundError:
            content = b""
        finally:
            answer.close()
        text = content.decode("utf-8", "replace")
        self.log_failure(f"answered HTTP {answer.status}", text)
        return failures.EndpointRefusal(
            answer.status,
            retry_after_s=failures.read_retry_after(answer.headers.get("Retry-After")),
            unknown_field=failures.find_unknown_field(answer.status, text),
            reason=failures.find_reason(answer.status, text),
        )


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
