"""HTTP to messengers: bounded in time and size, one attempt each."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ..errors import AstrBotError
from ..runtime.outbound import Answer, Call, Outbound, OutboundError

#: Longest answer that is read, in bytes.
MAX_ANSWER_BYTES = 4 * 1024 * 1024

#: Longest time that a download may take, in seconds.
MAX_DOWNLOAD_S = 300.0

#: Statuses below 500 that say "not now".
_PASSING = frozenset({408, 425, 429})


class PlatformError(AstrBotError):
    """A messenger could not, or would not.

    :param message: What happened, for the sender of the delivery: never a
        token, nor an address that holds one.
    :param retryable: Whether the same request may succeed later.
    :param retry_after_s: What the platform asked us to wait, in seconds.
    """

    def __init__(
        self, message: str, *, retryable: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer of any status. ``headers`` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON.

        :raises PlatformError: when it is none; retryable after a 5xx or 429.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise self.refuse(f"The platform answered {self.status} without JSON.") from error

    def refuse(self, message: str) -> PlatformError:
        """Return an error with the message; the status says whether it is retryable."""
        passing = self.status >= 500 or self.status in _PASSING
        return PlatformError(message, retryable=passing, retry_after_s=self.retry_after_s)

    @property
    def retry_after_s(self) -> float | None:
        """The header ``Retry-After``, where it is a number of seconds."""
        try:
            return max(0.0, float(self.headers["retry-after"]))
        except (KeyError, ValueError):
            return None


class PlatformHttp:
    """The client that the adapters of one application share.

    It follows no redirect and retries nothing: an adapter is given one
    answer, and the outbox decides what is sent again.

    :param proxy: As :class:`~astrbot_api.runtime.outbound.Outbound` takes it.
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
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> HttpAnswer:
        """Send one request and read its whole answer.

        :param json: Becomes the body, with its content type.
        :param body: Bytes, or pieces that are read while they are sent (name
            the ``Content-Length`` in the headers).
        :param timeout_s: For the connection, for each silence after it, and
            for the body of the answer.
        :raises PlatformError: when no answer came (retryable), or one of more
            than ``max_bytes``.
        """
        answer = self._send(method, url, headers, json, body, timeout_s)
        try:
            data, more = answer.read_all(max_bytes, timeout_s)
        except OutboundError as error:
            raise PlatformError("The platform broke its answer off.", retryable=True) from error
        finally:
            answer.close()
        if more:
            raise PlatformError(f"The platform answered more than {max_bytes} bytes.")
        found = {name.lower(): value for name, value in answer.headers.items()}
        return HttpAnswer(answer.status, found, data)

    def open(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        limit_s: float = MAX_DOWNLOAD_S,
    ) -> PlatformReader:
        """Begin a download; the caller stops reading where it is too much.

        :param limit_s: For all of it: the thread that waits does nothing else.
        :raises PlatformError: for no answer and for any status but 200.
        """
        answer = self._send("GET", url, headers, None, None, timeout_s, Call(limit_s=limit_s))
        if answer.status != 200:
            answer.close()
            raise PlatformError(
                f"The platform answered {answer.status} to the download of a file.",
                retryable=answer.status >= 500 or answer.status in _PASSING,
            )
        return PlatformReader(answer)

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
        call: Call | None = None,
    ) -> Answer:
        sent = {"User-Agent": "astrbot-api", **(headers or {})}
        if json is not None:
            # Not orjson: platforms give integers beyond 64 bits.
            body = json_text.dumps(json, ensure_ascii=False).encode()
            sent["Content-Type"] = "application/json"
        try:
            return self._outbound.send(
                method, url, headers=sent, body=body, call=call,
                connect_timeout_s=timeout_s, read_timeout_s=timeout_s,
            )  # fmt: skip
        except OutboundError as error:
            # Not the error's text: a token may be part of the address.
            message = f"The platform {error.words}."
            raise PlatformError(message, retryable=error.reason != "address") from error


class PlatformReader:
    """A file that is being downloaded."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def read(self, size_bytes: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end.

        :raises PlatformError: when the platform broke off, or is too slow.
        """
        try:
            return self._answer.read(size_bytes)
        except OutboundError as error:
            message = f"The download of a file failed: the platform {error.words}."
            raise PlatformError(message, retryable=True) from error

    def close(self) -> None:
        """Let go of it."""
        self._answer.close()
