"""Errors of the client, one class per kind of status."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .types import Reply


class ClientError(Exception):
    """Base class of all errors of this package.

    :ivar upload_id: Id of an interrupted chunked upload. Pass it to ``files.upload`` to resume.
    """

    upload_id: str = ""


class ConnectionLost(ClientError):
    """The server could not be reached within the retry time."""


class StreamLost(ConnectionLost):
    """A stream broke off and cannot be resumed.

    :ivar reply: The received part.
    """

    def __init__(self, message: str, reply: Reply) -> None:
        super().__init__(message)
        self.reply = reply


class TurnFailed(ClientError):
    """The turn ended with an ``error`` event.

    :ivar code: A stable code, such as ``provider_error``.
    :ivar message: The text of the error, for people.
    :ivar reply: The part before the error.
    """

    def __init__(self, code: str, message: str, reply: Reply) -> None:
        super().__init__(message)
        self.code, self.message, self.reply = code, message, reply


class ApiError(ClientError):
    """The server rejected a request.

    :ivar status: HTTP status.
    :ivar code: The server's code, or "" from AstrBot, which sends no codes.
    :ivar message: The server's message.
    :ivar request_id: Id of the request in the server's log.
    :ivar retry_after_s: Seconds of ``Retry-After``, or None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{message} (HTTP {status}{', ' + code if code else ''})")
        self.status, self.code, self.message = status, code, message
        self.request_id, self.retry_after_s = request_id, retry_after_s

    @property
    def temporary(self) -> bool:
        """Whether the same request can succeed later."""
        return self.status in (429, 502, 503, 504) and self.code not in _FINAL


class BadRequestError(ApiError):
    """400, 411, 413, 415, 422: the request is invalid."""


class AuthenticationError(ApiError):
    """401: the key is missing or invalid."""


class PermissionDeniedError(ApiError):
    """403: the key may not do this."""


class NotFoundError(ApiError):
    """404: the session, run, file, config or bot does not exist."""


class ConflictError(ApiError):
    """409: the resource belongs to another user, or is in use."""


class RateLimitedError(ApiError):
    """429: too many requests, turns, streams or tokens."""


class ServerError(ApiError):
    """5xx: the server or its model failed."""


class UnsupportedError(ApiError):
    """The server does not have this route. It is AstrBot or an older version."""


#: Codes with status 429 or 502 for which a retry does not help soon.
_FINAL = frozenset({"quota_exceeded", "budget_exhausted", "provider_error"})

_CLASSES = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitedError,
}

#: AstrBot's errors have no code, so clients match these texts.
_CODES_BY_TEXT = {
    "Missing API key": "missing_api_key",
    "Invalid API key": "invalid_api_key",
    "Insufficient API key scope": "insufficient_scope",
}


def read_error(
    status: int, headers: Mapping[str, str], body: bytes, request: str
) -> ApiError | None:
    """Return the error of a response, or None if it succeeded.

    :param request: Method and path, for the message.
    """
    envelope: Any = None
    with contextlib.suppress(ValueError):
        envelope = json.loads(body)
    is_envelope = isinstance(envelope, dict) and "status" in envelope
    if status < 400 and not (is_envelope and envelope["status"] == "error"):
        return None
    code = str(envelope.get("code") or "") if is_envelope else ""
    message = str(envelope.get("message") or "") if is_envelope else ""
    code = code or _CODES_BY_TEXT.get(message, "")
    kind: type[ApiError]
    if status in (404, 405) and (not code or code in ("path_not_found", "method_not_allowed")):
        kind = UnsupportedError
        message = f"this server does not have {request}"
    elif status < 400:  # AstrBot sends errors with status 200
        kind = BadRequestError
    else:
        kind = _CLASSES.get(status, ServerError if status >= 500 else BadRequestError)
    return kind(
        status,
        code,
        message or f"the server answered {request} with HTTP {status}",
        headers.get("x-request-id", ""),
        read_retry_after(headers),
    )


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of ``Retry-After``; a date counts as 5 seconds."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        return 5.0
