"""Error handlers of the API: every error below the prefix is JSON.

They are registered on the API's own blueprint, one for each status. A handler of the
host application for a specific status would take precedence over a general one.
"""

from __future__ import annotations

from flask import Blueprint, Response, current_app, got_request_exception, request
from werkzeug.exceptions import HTTPException, default_exceptions

from ..errors import ApiError, StorageError
from .accesslog import STARTED_KEY
from .auth import FOREIGN_KEY
from .envelope import fail, get_request_id
from .request_body import MESSAGE_REMEDY, describe_limit
from .state import get_state

#: Error codes of the statuses that Werkzeug raises.
_CODE_OF_STATUS = {
    400: "invalid_request",
    404: "path_not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    503: "server_busy",
}

#: The same, for statuses that only the embedding application or a plugin raises.
_FOREIGN_CODES = {401: "missing_api_key", 403: "key_restricted", 429: "rate_limited"}


def register_error_handlers(blueprint: Blueprint) -> None:
    """Return every error of the blueprint and its nested blueprints as an envelope."""
    blueprint.register_error_handler(ApiError, fail)
    blueprint.register_error_handler(
        StorageError, lambda error: fail(ApiError("storage_error", str(error), retry_after_s=2))
    )
    for status in default_exceptions:
        blueprint.register_error_handler(status, fail_http)
    blueprint.register_error_handler(Exception, _handle_unexpected)


def _handle_unexpected(error: Exception) -> Response:
    """Return a 500 for an unexpected exception. Its details are logged but not returned.

    Registered for every exception, because otherwise a host's handler for ``Exception``
    would return its own page. Receivers of Flask's signal still get the exception.
    """
    current_app.logger.error("request %s failed", get_request_id(), exc_info=error)
    got_request_exception.send(current_app._get_current_object(), exception=error)  # type: ignore[attr-defined]
    message = "The server failed; its log has the details under this request_id."
    return fail(ApiError("internal_error", message))


def fail_http(error: HTTPException) -> Response:
    """Return the envelope of an exception that Werkzeug raised."""
    status = error.code or 500
    environ = request.environ
    if FOREIGN_KEY in environ or STARTED_KEY not in environ:  # not started: a hook of the host
        return fail_foreign(error)
    code = _CODE_OF_STATUS.get(status, "invalid_request" if 400 <= status < 500 else None)
    if code is None:
        return _handle_unexpected(error)
    if status == 413:
        limit = get_state().settings.max_json_bytes
        return fail(ApiError("body_too_large", describe_limit(limit, MESSAGE_REMEDY)))
    return fail(ApiError(code, error.description or error.name))


def fail_foreign(error: HTTPException) -> Response:
    """Return the envelope of an exception that the embedding application or a plugin raised.

    It keeps its status and headers, such as ``Retry-After`` and ``WWW-Authenticate``.
    """
    status = error.code or 500
    other = "invalid_request" if status < 500 else "internal_error"
    code = (_CODE_OF_STATUS | _FOREIGN_CODES).get(status, other)
    headers = dict(error.get_headers(request.environ))
    headers.pop("Content-Type", None)
    failure = ApiError(code, error.description or error.name, headers=headers)
    failure.status = status
    return fail(failure)
