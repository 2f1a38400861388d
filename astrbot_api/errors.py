"""Every error of this package, and the one table that gives it a status.

::

    AstrBotError
    ├── ApiError            told to the HTTP caller, as the JSON envelope
    ├── SettingsError       a setting or a configuration file is wrong
    ├── ProviderError       the model's endpoint failed; told as an event
    ├── ToolError           a tool could not do it; told to the model
    ├── StorageError        the database could not keep what it was given
    │   └── OutcomeUnknown  it may have kept it
    └── RunCancelled        a run was stopped or interrupted

A message says what is wrong and what to do about it, and never holds a
secret: it is shown to the caller as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping

#: ``code`` of the error envelope -> HTTP status. The codes are stable: a
#: client may match them. Adding one here is all that documents it (the
#: OpenAPI document and the errors page read this table).
STATUS_OF_CODE: dict[str, int] = {
    "invalid_request": 400,
    "missing_field": 400,
    "malformed_json": 400,
    "message_empty": 400,
    "config_ambiguous": 400,
    "missing_api_key": 401,
    "invalid_api_key": 401,
    "login_failed": 401,
    "login_required": 401,
    "login_expired": 401,
    "bad_signature": 401,
    "insufficient_scope": 403,
    "csrf_failed": 403,
    "username_reserved": 403,
    "key_restricted": 403,
    "path_not_found": 404,
    "config_not_found": 404,
    "provider_not_found": 404,
    "model_not_found": 404,
    "bot_not_found": 404,
    "run_not_found": 404,
    "attachment_not_found": 404,
    "session_not_found": 404,
    "message_not_found": 404,
    "key_not_found": 404,
    "delivery_not_found": 404,
    "method_not_allowed": 405,
    "session_of_another_user": 409,
    "session_busy": 409,
    "idempotency_mismatch": 409,
    "idempotency_in_flight": 409,
    "message_not_editable": 409,
    "attachment_in_use": 409,
    "body_too_large": 413,
    "quota_exceeded": 413,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "upgrade_required": 426,
    "too_many_turns": 429,
    "too_many_streams": 429,
    "too_many_logins": 429,
    "rate_limited": 429,
    "too_many_keys": 429,
    "budget_exhausted": 429,
    "too_many_deliveries": 429,
    "internal_error": 500,
    "configuration_error": 500,
    "websocket_unsupported": 501,
    "provider_error": 502,
    "delivery_failed": 502,
    "server_busy": 503,
    "shutting_down": 503,
    "storage_error": 503,
    "run_interrupted": 503,
    "turn_timeout": 504,
}

#: Codes that an ``error`` event carries: the stream has begun, so there is no
#: status left to set. A blocking answer has their status of the table above.
EVENT_CODES: dict[str, str] = {
    "provider_error": "The model's endpoint failed, or answered nothing.",
    "run_interrupted": "The server stopped before the turn had ended.",
    "internal_error": "An unforeseen fault of this server.",
    "storage_error": "The answer could not be stored.",
}


class AstrBotError(Exception):
    """Base of every error that this package raises on purpose."""


class ApiError(AstrBotError):
    """An answer to the caller that is not what was asked for.

    :param code: A key of :data:`STATUS_OF_CODE`.
    :param message: What is wrong and what to do, for the caller.
    :param headers: Headers of the answer, for example ``Retry-After``.
    """

    def __init__(
        self, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUS_OF_CODE[code]
        self.headers = dict(headers or {})


class SettingsError(AstrBotError):
    """A setting or a configuration file is wrong; one line says which."""


class ProviderError(AstrBotError):
    """The model's endpoint failed.

    :param message: What happened, in words the caller of the API may see:
        no key, no address and no text of the endpoint that could hold one.
    :param retryable: Whether the same request may succeed a little later.
    :param retry_after_s: What the endpoint asked us to wait, in seconds.
    """

    def __init__(
        self, message: str, *, retryable: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class ToolError(AstrBotError):
    """A tool could not do what it was asked to; the text is told to the model."""


class StorageError(AstrBotError):
    """The database could not keep what it was given (disk full, locked)."""


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
