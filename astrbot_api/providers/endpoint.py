"""HTTP client of one model endpoint: keys, base URL, retries and error texts."""

from __future__ import annotations

import json
import logging
import random
import re
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from urllib3.util import make_headers

from ..config.agents import ProviderConfig
from ..errors import ProviderError
from ..runtime.outbound import Answer, Call, Outbound, OutboundError
from ..runtime.pauses import read_pause
from . import error_texts, failures
from .base_url import BaseUrl
from .key_ring import KeyRing
from .quirks import is_flagged
from .sse import NotAnAnswer

log = logging.getLogger(__name__)

_MAX_COMPLETION_BYTES = 64 * 1024 * 1024

#: Maximum size of an error that is searched for its cause. An endpoint may repeat the request.
MAX_ERROR_BYTES = 16_384

#: Maximum number of idle connections. More connections may be open.
_POOL_SIZE = 1000

#: Retries on closed idle connections, which do not count as attempts.
_STALE_TRIES = 5

#: Pause before the first retry, which doubles up to the maximum, in seconds.
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 8.0

#: Maximum number of other base URLs of one request. Concurrent requests may change the base URL.
_MAX_SWITCHES = 3

#: If an endpoint asks for a longer delay, the request is not retried. In seconds.
_MAX_RETRY_AFTER_S = 30.0

#: Headers of each request. A config's headers replace them.
_HEADERS = {
    "Accept": "text/event-stream, application/json",
    "Content-Type": "application/json",
    "User-Agent": "astrbot-api",
}

#: Length from which a word of a config's header may be a secret, in characters.
_MIN_SECRET_CHARS = 12

#: Errors for an unknown path. Source: LM Studio, Express, FastAPI, OpenAI.
_NO_PATH = re.compile(
    r"unexpected endpoint|not found|cannot (post|get) /|unknown (url|path|route)|invalid url"
    r"|no (such )?route|method not allowed",
    re.IGNORECASE,
)


#: Words about a missing model, not about a missing path.
_MODEL = re.compile(r"(?<![/\w])(model|deployment)\b|模型", re.IGNORECASE)


class Attempts:
    """Retry budget of one request.

    :param max_retries: Maximum number of attempts after the first one.
    :param limit_s: Maximum time of all attempts and pauses, in seconds.
    """

    def __init__(self, max_retries: int, limit_s: float) -> None:
        self._left = max_retries
        self._switches_left = _MAX_SWITCHES
        self._made = 0
        self._began_at = time.monotonic()
        self._limit_s = limit_s

    def wait(self, error: ProviderError, call: Call) -> None:
        """Sleep before the next attempt.

        :raises ProviderError: the given error, when the request is not to be retried.
        :raises RunCancelled: when the run is cancelled during the pause.
        """
        if not error.retryable or self._made >= self._left:
            raise error
        if (error.retry_after_s or 0.0) > _MAX_RETRY_AFTER_S:
            raise error
        pause_s = _choose_pause(error, self._made)
        if time.monotonic() - self._began_at + pause_s > self._limit_s:
            raise error
        self._made += 1
        call.sleep(pause_s)

    def may_switch(self) -> bool:
        """Return whether the request may still be sent to another base URL."""
        self._switches_left -= 1
        return self._switches_left >= 0


class Endpoint:
    """A base URL, for example ``http://host:1/v1``, and its keys."""

    def __init__(self, config: ProviderConfig, keys: KeyRing) -> None:
        self._config = config
        self._keys = keys
        #: The base URL of new requests.
        self.base = BaseUrl.parse(config.base_url)
        self._wrong_address: ProviderError | None = None
        given = {name.lower() for name in config.headers}
        usual = {name: one for name, one in _HEADERS.items() if name.lower() not in given}
        self._headers = {**usual, **config.headers}
        self._sends_key = "authorization" not in given
        login = unquote(urlsplit(self.base.address).netloc.rpartition("@")[0])
        if login and self._sends_key and not any(keys.keys):
            self._headers |= make_headers(basic_auth=login)
        words = " ".join(config.headers.values()).split()
        long = (one for one in words if len(one) >= _MIN_SECRET_CHARS)
        self._secrets = (*keys.keys, *long, login.partition(":")[2])
        self._outbound = Outbound(pool_size=_POOL_SIZE, proxy=config.proxy)

    def begin_attempts(self) -> Attempts:
        """Return a new retry budget for one request."""
        return Attempts(self._config.max_retries, self._config.retry_limit_s)

    def fetch(self, path: str, call: Call) -> bytes:
        """Send a GET with retries and return the response body.

        :raises ProviderError: when the last attempt fails.
        :raises RunCancelled: when the run is cancelled meanwhile.
        """
        attempts = self.begin_attempts()
        while True:
            base = self.base
            try:
                return self._read_whole(self.send("GET", path, None, call)[0])
            except ProviderError as error:
                self.prepare_retry(error, base, attempts, call)

    def send(
        self, method: str, path: str, body: dict[str, Any] | None, call: Call
    ) -> tuple[Answer, str]:
        """Send a request, with each key in turn until the endpoint accepts one.

        :returns: A successful response with an unread body, and the key.
        :raises ProviderError: when the request fails.
        """
        content = None if body is None else _dump(body)
        left = len(self._keys.keys)
        while True:
            key, left = self._keys.choose(), left - 1
            try:
                return self._send(method, path, content, call, key), key
            except failures.EndpointRefusal as error:
                if not self.pause_key(key, error) or not left:
                    raise

    def pause_key(self, key: str, error: failures.EndpointRefusal) -> bool:
        """Pause a key if an error concerns it, and return whether another one is available."""
        if is_flagged(error.status, error.text):
            return False
        return self._keys.pause(key, error.status, error.retry_after_s, error.spent)

    def prepare_retry(
        self, error: ProviderError, base: BaseUrl, attempts: Attempts, call: Call
    ) -> None:
        """Wait until a failed request can be sent again, maybe to another base URL.

        :raises ProviderError: when the request is not to be sent again.
        :raises RunCancelled: when the run is cancelled meanwhile.
        """
        if not (
            _is_wrong_address(error) and attempts.may_switch() and self._try_version(error, base)
        ):
            attempts.wait(self._hint(error), call)

    def _try_version(self, error: ProviderError, base: BaseUrl) -> bool:
        """Add ``/v1`` to the base URL, and return whether it differs from that of the request."""
        if self.base != base:  # a concurrent request has changed it
            return True
        other = None if self._wrong_address else base.with_version()
        if other is None:
            return False
        self._wrong_address, self.base = error, other
        return True

    def _hint(self, error: ProviderError) -> ProviderError:
        """Return the error, with a hint about ``base_url`` if that may be wrong."""
        first = self._wrong_address
        if isinstance(error, NotAnAnswer) and first is None:
            return error  # it names the address itself
        if not _is_wrong_address(error):
            return error
        if first is None:
            if (said := error_texts.find_words(_quoted(error))) and not _NO_PATH.search(said):
                return error  # OpenRouter: no provider fits the account's privacy settings
            names = "base_url and api" if self._config.api == "responses" else "base_url"
            words = f"{error.message.rstrip('.')}. Check {names} in the config."
            return ProviderError(words, retryable=error.retryable)
        # Restore the configured URL: the cause may be fixed at the endpoint.
        self.base, self._wrong_address = BaseUrl.parse(self._config.base_url), None
        words = "Neither base_url nor base_url with /v1 has the path of the request"
        return ProviderError(f"{first.message.rstrip('.')}. {words}: correct it in the config.")

    def confirm(self) -> None:
        """Keep the current base URL, because it has responded."""
        if self._wrong_address is not None:
            log.warning(
                "provider %s responds at base_url with /v1: add it in the config", self._config.id
            )
            self._wrong_address = None

    def explain_break(self, error: OutboundError) -> ProviderError:
        """Log a broken response and return its error."""
        self.log_failure("broke off", str(error))
        if error.reason == "silent":
            return ProviderError(failures.silent_for(self._config.read_timeout_s))
        return ProviderError(failures.BROKE_OFF, retryable=True)

    def log_failure(self, what: str, words: str = "") -> None:
        """Log a failure with the endpoint's own text, without keys."""
        shown = f": {error_texts.redact(words, self._secrets)}" if words else ""
        log.warning("the endpoint of provider %s %s%s", self._config.id, what, shown)

    def hide(self, text: str) -> str:
        """Return an endpoint's text without the keys and the config's headers."""
        return error_texts.hide_keys(text, self._secrets)

    def _send(self, method: str, path: str, content: bytes | None, call: Call, key: str) -> Answer:
        headers = self._headers
        if key and self._sends_key:
            headers = {**headers, "Authorization": f"Bearer {key}"}
        if key and self.base.is_azure:
            headers = {**headers, "api-key": key}
        try:
            answer = self._outbound.send(
                method, self.base.join(path), headers=headers, body=content, call=call,
                connect_timeout_s=self._config.connect_timeout_s,
                read_timeout_s=self._config.read_timeout_s, stale_tries=_STALE_TRIES,
            )  # fmt: skip
        except OutboundError as error:
            raise self._explain_silence(error) from error
        if 200 <= answer.status < 300:
            return answer
        raise self._read_refusal(answer)

    def _explain_silence(self, error: OutboundError) -> ProviderError:
        if error.reason == "silent":
            # Do not retry: the endpoint may still be processing the request.
            return ProviderError(failures.silent_for(self._config.read_timeout_s))
        self.log_failure("gave no answer", str(error))
        return failures.explain_no_answer(error)

    def _read_whole(self, answer: Answer) -> bytes:
        """Read the whole body of a response and close it."""
        try:
            content, more = answer.read_all(_MAX_COMPLETION_BYTES)
        except OutboundError as error:
            raise self.explain_break(error) from error
        finally:
            answer.close()
        if more:
            raise ProviderError("The model's endpoint sent an overlong answer.")
        if content.lstrip()[:1] == b"<":
            raise NotAnAnswer(failures.NOT_A_MODEL)
        return content

    def _read_refusal(self, answer: Answer) -> failures.EndpointRefusal:
        try:
            content, _ = answer.read_all(MAX_ERROR_BYTES)
        except OutboundError:
            content = b""
        finally:
            answer.close()
        text = self.hide(error_texts.decode(content))
        self.log_failure(f"answered HTTP {answer.status}", text)
        pause_s = read_pause(answer.headers, text)
        return failures.EndpointRefusal(answer.status, text, retry_after_s=pause_s)


def _is_wrong_address(error: ProviderError) -> bool:
    """Return whether an error suggests that the path does not exist."""
    if isinstance(error, NotAnAnswer):
        return True
    said = _quoted(error)
    if _MODEL.search(said):
        return False
    if isinstance(error, failures.EndpointRefusal):
        return error.status in (404, 405)
    return bool(_NO_PATH.search(said))


def _quoted(error: ProviderError) -> str:
    """Return the endpoint's own text in an error, or an empty string."""
    return getattr(error, "text", "") or error.message.partition(": ")[2]


def _choose_pause(error: ProviderError, attempt: int) -> float:
    """Return the pause before the next attempt, in seconds."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    pause_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * (1 << attempt))
    # Jitter, so that streams that failed together do not retry together.
    return min(_MAX_PAUSE_S, pause_s * random.uniform(1.0, 1.25))


def _dump(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        pass
    # orjson rejects lone surrogates and huge integers, which are valid here.
    try:
        return json.dumps(body).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProviderError("The request for the model cannot be written as JSON.") from error
