"""HTTP to messengers: bounded in time and size, one attempt each."""

from __future__ import annotations

import json as json_text
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from ..errors import AstrBotError

#: Most connections that are kept to one host.
_POOL_SIZE = 20

#: Longest answer that is read, in bytes.
MAX_ANSWER_BYTES = 4 * 1024 * 1024


#: Longest time that a download may take, in seconds.
MAX_DOWNLOAD_S = 300.0


class PlatformError(AstrBotError):
    """A messenger could not, or would not.

    :param message: What happened, for whoever asked for the delivery: never a
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
            raise PlatformError(
                f"The platform answered {self.status} without JSON.",
                retryable=self.status >= 500 or self.status == 429,
                retry_after_s=self.retry_after_s,
            ) from error

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
    """

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(
            num_pools=50, maxsize=_POOL_SIZE, block=False, retries=False
        )

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
        response = self._open(method, url, headers, json, body, timeout_s)
        try:
            data = _read_bounded(response, max_bytes, timeout_s)
        except HTTPError as error:
            raise PlatformError("The platform broke its answer off.", retryable=True) from error
        finally:
            _close(response)
        if len(data) > max_bytes:
            raise PlatformError(f"The platform answered more than {max_bytes} bytes.")
        found = {name.lower(): value for name, value in response.headers.items()}
        return HttpAnswer(response.status, found, data)

    def open(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> PlatformReader:
        """Begin a download; the caller stops reading where it is too much.

        :returns: What :attr:`InFile.fetch` returns.
        :raises PlatformError: for no answer and for any status but 200.
        """
        response = self._open("GET", url, headers, None, None, timeout_s)
        if response.status != 200:
            status = response.status
            _close(response)
            raise PlatformError(
                f"The platform answered {status} to the download of a file.",
                retryable=status >= 500 or status == 429,
            )
        return PlatformReader(response)

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.clear()

    def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        json: Any,
        body: bytes | Iterable[bytes] | None,
        timeout_s: float,
    ) -> urllib3.BaseHTTPResponse:
        if urlsplit(url).scheme not in ("http", "https"):
            raise PlatformError("The platform's address must begin with http:// or https://.")
        sent = {"User-Agent": "astrbot-api", **(headers or {})}
        if json is not None:
            # Not orjson: platforms give integers beyond 64 bits.
            body = json_text.dumps(json, ensure_ascii=False).encode()
            sent["Content-Type"] = "application/json"
        try:
            return self._pool.urlopen(
                method, url, headers=sent, body=body, timeout=urllib3.Timeout(timeout_s),
                redirect=False, preload_content=False,
            )  # fmt: skip
        except HTTPError as error:
            raise _as_platform_error(error) from error


class PlatformReader:
    """A file that is being downloaded.

    :param limit_s: For all of it: whoever waits for it does nothing else.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, limit_s: float = MAX_DOWNLOAD_S) -> None:
        self._response = response
        self._deadline = time.monotonic() + limit_s

    def read(self, size_bytes: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end.

        :raises PlatformError: when the platform broke off, or is too slow.
        """
        if time.monotonic() > self._deadline:
            raise PlatformError("The download of a file took too long.", retryable=True)
        try:
            return self._response.read1(size_bytes)
        except HTTPError as error:
            raise PlatformError("The platform broke a download off.", retryable=True) from error

    def close(self) -> None:
        """Let go of it."""
        _close(self._response)


def _close(response: urllib3.BaseHTTPResponse) -> None:
    """End an answer. One that was read whole has given its connection back already."""
    with suppress(HTTPError, OSError):
        response.close()


def _read_bounded(response: urllib3.BaseHTTPResponse, max_bytes: int, timeout_s: float) -> bytes:
    """Read an answer, and no more of it than one byte too many.

    :param timeout_s: For all of it: one that comes in drops is given up too.
    """
    pieces, size, deadline = [], 0, time.monotonic() + timeout_s
    while size <= max_bytes:
        piece = response.read1(max_bytes + 1 - size)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if time.monotonic() > deadline:
            raise ProtocolError("the answer took too long")
    return b"".join(pieces)


def _as_platform_error(error: HTTPError) -> PlatformError:
    """Say what happened, without the address: a token may be part of it."""
    if isinstance(error, (NewConnectionError, ConnectTimeoutError)):
        return PlatformError("The platform cannot be reached.", retryable=True)
    if isinstance(error, ReadTimeoutError):
        return PlatformError("The platform did not answer in time.", retryable=True)
    if isinstance(error, SSLError):
        return PlatformError("The platform's TLS certificate is not accepted.", retryable=True)
    return PlatformError("The connection to the platform broke.", retryable=True)
