"""All exceptions of this package. :mod:`astrbot_api.error_codes` has the codes.

::

    AstrBotError
    ├── ApiError            a refusal with a code; HTTP maps the code to a status
    ├── SettingsError       a setting or a configuration file is wrong
    ├── ProviderError       the model's endpoint failed; reported as an event
    ├── ToolError           a tool failed; reported to the model
    ├── Unreadable          a file cannot be read
    ├── StorageError        the database could not store something
    │   └── OutcomeUnknown  the database may have stored it
    └── RunCancelled        a run was stopped or interrupted

A message says what is wrong and what to do about it. It never contains a secret, since callers see
it unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

from .error_codes import ERROR_CODES

STATUS_OF_CODE = {code: one.status for code, one in ERROR_CODES.items()}

#: Messages of ``error`` events by code.
EVENT_CODES = {code: one.event for code, one in ERROR_CODES.items() if one.event}


class AstrBotError(Exception):
    """Base class of all exceptions that this package raises on purpose.

    The message is for callers of the API. If ``operator_text`` is not empty, it names the cause
    for the operator, with paths.
    """

    operator_text = ""


class ApiError(AstrBotError):
    """A refusal with a code. The HTTP response has the status of the code.

    :param code: A code of :data:`~astrbot_api.error_codes.ERROR_CODES`.
    :param message: What is wrong and what to do, for the caller.
    :param headers: Headers of the response.
    :param retry_after_s: Seconds until the same request may succeed, sent as ``Retry-After``.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUS_OF_CODE[code]
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)


def refuse(message: str) -> ApiError:
    """Return the error for an invalid request: ``invalid_request``."""
    return ApiError("invalid_request", message)


class SettingsError(AstrBotError):
    """Raised if a setting or a configuration file is wrong, with a message of one line."""


class ProviderError(AstrBotError):
    """Raised if the model's endpoint failed.

    :param message: What happened, for the API's caller. It must contain no key, no address and no
        text of the endpoint that could contain one.
    :param retryable: Whether the same request may succeed later.
    :param retry_after_s: Seconds to wait, as requested by the endpoint.
    :param reason: Error code of a blocking response, or empty for ``provider_error``.
    """

    #: Code of the ``error`` event.
    code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class ToolError(AstrBotError):
    """Raised if a tool fails. The model gets the message."""


class Unreadable(AstrBotError):
    """Raised if a file cannot be read. The message completes "It could not be read: …"."""


class StorageError(AstrBotError):
    """Raised if the database could not store something (disk full, locked)."""


class StoreClosed(StorageError):
    """Raised after the application was closed. Callers end and do not retry."""


class OutcomeUnknown(StorageError):
    """Raised if the connection to the database broke during a commit. The data may be stored."""


class RunCancelled(AstrBotError):
    """Raised if a run was cancelled.

    :param reason: ``stopped`` (by a caller) or ``interrupted`` (the server is shutting down).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
