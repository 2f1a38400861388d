"""Every error that this package raises; :mod:`astrbot_api.error_codes` has the codes.

::

    AstrBotError
    ├── ApiError            a refusal with a code; HTTP maps the code to a status
    ├── SettingsError       a setting or a configuration file is wrong
    ├── ProviderError       the model's endpoint failed; reported as an event
    ├── ToolError           a tool could not do it; reported to the model
    ├── Unreadable          a file cannot be read; its text says why
    ├── StorageError        the database could not keep what it was given
    │   └── OutcomeUnknown  it may have kept it
    └── RunCancelled        a run was stopped or interrupted

A message says what is wrong and what to do about it, and never holds a
secret: it is shown to the caller as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping

from .error_codes import ERROR_CODES

#: Code -> HTTP status.
STATUS_OF_CODE = {code: one.status for code, one in ERROR_CODES.items()}

#: Codes that an ``error`` event carries -> its message.
EVENT_CODES = {code: one.event for code, one in ERROR_CODES.items() if one.event}


class AstrBotError(Exception):
    """Base of every error that this package raises on purpose."""


class ApiError(AstrBotError):
    """A refusal with a code. HTTP answers it with the status of the code.

    :param code: A code of :data:`~astrbot_api.error_codes.ERROR_CODES`.
    :param message: What is wrong and what to do, for the caller.
    :param headers: Headers of the answer.
    :param retry_after_s: When the same request may succeed, in seconds: ``Retry-After``.
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
    """Return the error of a request that is wrong in itself: ``invalid_request``."""
    return ApiError("invalid_request", message)


class SettingsError(AstrBotError):
    """A setting or a configuration file is wrong; one line says which."""


class ProviderError(AstrBotError):
    """The model's endpoint failed.

    :param message: What happened, in words the caller of the API may see:
        no key, no address and no text of the endpoint that could hold one.
    :param retryable: Whether the same request may succeed a little later.
    :param retry_after_s: What the endpoint asked us to wait, in seconds.
    :param reason: The code of an answer in one piece; empty: ``provider_error``.
    """

    #: Of the event that reports it.
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
    """A tool could not do what it was asked to; the model gets the text."""


class Unreadable(AstrBotError):
    """A file cannot be read. The text completes "It could not be read: …"."""


class StorageError(AstrBotError):
    """The database could not keep what it was given (disk full, locked)."""


class StoreClosed(StorageError):
    """The application was closed: what still runs of it ends, and nothing is tried again."""


class OutcomeUnknown(StorageError):
    """The database went away while it committed: what was given is kept, or it is not."""


class RunCancelled(AstrBotError):
    """A run was asked to end.

    :param reason: ``stopped`` (by a caller) or ``interrupted`` (the server
        is going down).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
