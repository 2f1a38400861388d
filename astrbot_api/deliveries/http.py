"""HTTP client for messengers: bounded in time and size, without retries."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ..errors import AstrBotError
from ..runtime.bounded_json import load_json, load_with_halves
from ..runtime.outbound import Answer, Call, Outbound, OutboundError
from ..runtime.pauses import read_retry_after

_MAX_ANSWER_BYTES = 4 * 1024 * 1024

#: Maximum number of members of all lists and objects of a response, such as a long thread.
_MAX_MEMBERS = 200_000

#: Maximum duration of a request, which may upload a large file, and of a download.
_MAX_REQUEST_S = 3600.0
_MAX_DOWNLOAD_S = 300.0

#: Maximum duration of reading a body that is ignored, so that its connection can be reused.
_DRAIN_S = 1.0

#: Statuses below 500 that allow a retry.
_PASSING = frozenset({408, 425, 429})


class PlatformError(AstrBotError):
    """A request to a messenger failed.

    :param message: The cause, for the sender of the delivery. It never contains a
        token, nor a URL with a token.
    :param retryable: Whether the same request may succeed later.
    :param retry_after_s: The pause that the platform requests, in seconds.
    """

    def __init__(
        self, message: str, *, retryable: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response with any status. The names in ``headers`` are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON.

        :raises PlatformError: when the body is not JSON; retryable after a 5xx or 429.
        """
        try:
            return load_json(self.body, max_members=_MAX_MEMBERS, parse=load_with_halves)
        except ValueError as error:
            raise self.to_error(f"The platform answered {self.status} without JSON.") from error

    def to_error(self, message: str) -> PlatformError:
        """Return an error with this message. The status decides whether it is retryable."""
        passing = self.status >= 500 or self.status in _PASSING
        return PlatformError(message, retryable=passing, retry_after_s=self.retry_after_s)

    @property
    def retry_after_s(self) -> float | None:
        """The pause of the header ``Retry-After`` in seconds, or None."""
        return read_retry_after(self.headers.get("retry-after"))


class PlatformHttp:
    """The HTTP client that the adapters of one application share.

    It follows no redirects and retries nothing: an adapter gets one response,
    and the outbox decides about retries.

    :param proxy: See :class:`~astrbot_api.runtime.outbound.Outbound`.
    """

    def __init__(self, proxy: str | None = None) -> None:
        self._outbound = Outbound(proxy=proxy)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        timeout_s: float = 30.0,
        max_bytes: int = _MAX_ANSWER_BYTES,
        status_only: bool = False,
        limit_s: float = _MAX_REQUEST_S,
    ) -> HttpResponse:
        """Send one request and read the whole response.

        :param json: The body as JSON; also sets the content type.
        :param body: Bytes, or an iterable that is read while it is sent. An iterable needs
            a ``Content-Length`` in the headers.
        :param timeout_s: Limit for connecting, for each pause between bytes, and
            for the response body.
        :param status_only: Drop a body that is too slow or incomplete, and the rest of one that is
            too long.
        :param limit_s: Maximum duration of the whole request.
        :raises PlatformError: when there is no response (retryable), or when it is larger
            than ``max_bytes``.
        """
        with Call(limit_s=limit_s) as call:
            answer = self._send(method, url, headers, json, body, timeout_s, call)
            try:
                data, more = answer.read_all(max_bytes, _DRAIN_S if status_only else timeout_s)
            except OutboundError as error:
                if not status_only:
                    message = "The platform broke off its response."
                    raise PlatformError(message, retryable=True) from error
                data, more = b"", False
            finally:
                answer.close()
        response = _describe(answer, data)
        if more and not status_only:
            raise response.to_error(f"The platform's response has more than {max_bytes} bytes.")
        return response

    def open(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        limit_s: float = _MAX_DOWNLOAD_S,
    ) -> PlatformReader:
        """Start a download. The caller enforces its own size limit.

        :param limit_s: Maximum duration, because the download occupies its thread.
        :raises PlatformError: when there is no response, or its status is not 200.
        """
        with ExitStack() as ending:
            call = ending.enter_context(Call(limit_s=limit_s))
            answer = self._send("GET", url, headers, None, None, timeout_s, call)
            ending.callback(answer.close)
            if answer.status != 200:
                message = f"The platform answered {answer.status} to the download of a file."
                raise _describe(answer).to_error(message)
            return PlatformReader(answer, ending.pop_all().close)

    def close(self) -> None:
        """Close the kept connections."""
        self._outbound.close()

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        json: Any,
        body: bytes | Iterable[bytes] | None,
        timeout_s: float,
        call: Call,
    ) -> Answer:
        sent = {"User-Agent": "astrbot-api", **(headers or {})}
        if json is not None:
            # Not orjson: platforms use integers beyond 64 bits.
            body = json_text.dumps(json, ensure_ascii=False).encode()
            sent["Content-Type"] = "application/json"
        try:
            return self._outbound.send(
                method, url, headers=sent, body=body, call=call,
                connect_timeout_s=timeout_s, read_timeout_s=timeout_s,
            )  # fmt: skip
        except OutboundError as error:
            # Not the exception's text: the URL may contain a token.
            message = f"The platform {error.words}."
            lasting = error.reason in ("address", "header")
            raise PlatformError(message, retryable=not lasting) from error


def _describe(answer: Answer, body: bytes = b"") -> HttpResponse:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return HttpResponse(answer.status, headers, body)


class PlatformReader:
    """A file that is being downloaded."""

    def __init__(self, answer: Answer, close: Callable[[], None]) -> None:
        self._answer = answer
        self.close = close

    def read(self, size_bytes: int, /) -> bytes:
        """Return at most ``size_bytes`` bytes, or an empty value at the end.

        :raises PlatformError: when the connection breaks or the platform is too slow.
        """
        try:
            return self._answer.read(size_bytes)
        except OutboundError as error:
            message = f"The download of a file failed: the platform {error.words}."
            raise PlatformError(message, retryable=True) from error
