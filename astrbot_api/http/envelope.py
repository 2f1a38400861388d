"""The envelope, the common format of all JSON responses."""

from __future__ import annotations

import re
from random import getrandbits
from typing import Any

import orjson
from flask import Response, request

from ..errors import ApiError
from .auth import find_caller
from .openai_errors import describe_error, expects_openai_errors
from .state import get_state

#: Statuses that ``legacy_error_status`` replaces by HTTP 200, like AstrBot 4.25.
_BUSINESS_STATUSES = frozenset({400, 404, 409, 415})

#: How to authenticate, sent with each 401. Clients may require it: Java's fails without it.
#: Browsers show no login dialog for this scheme. Source: RFC 9110, 11.6.1; RFC 6750, 3.
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="AstrBot"'}

#: Environ key of the request id.
_REQUEST_ID_KEY = "astrbot_api.request_id"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def ok(data: Any, status: int = 200, *, message: str | None = None) -> Response:
    """Return ``{"status":"ok","message":null,"data":…}``."""
    body = orjson.dumps({"status": "ok", "message": message, "data": data})
    return Response(body, status, content_type="application/json")


def fail(error: ApiError) -> Response:
    """Return the error envelope with ``message``, ``code`` and ``request_id``.

    Below ``/openai`` the error has OpenAI's format.
    """
    headers = {**error.headers, "X-Request-ID": get_request_id()}
    if error.status == 401:
        headers = {**CHALLENGE, **headers}
    if expects_openai_errors(request):
        body = orjson.dumps({"error": describe_error(error.code, error.message, error.status)})
        return Response(body, error.status, headers, mimetype="application/json")
    body = orjson.dumps(
        {
            "status": "error",
            "message": error.message.encode("utf-8", "replace").decode(),
            "data": None,
            "code": error.code,
            "request_id": get_request_id(),
        }
    )
    status = error.status
    if status in _BUSINESS_STATUSES and error.code != "path_not_found" and _wants_legacy_errors():
        status = 200
    return Response(body, status, headers, mimetype="application/json")


def _wants_legacy_errors() -> bool:
    """Return whether the settings or the key's rules require status 200 for errors."""
    if get_state().settings.legacy_error_status:
        return True
    caller = find_caller(request.environ)
    return caller is not None and caller.rules.legacy_errors is True


def get_request_id() -> str:
    """Return the id of the current request: the caller's ``X-Request-ID``, or a new one."""
    return find_request_id(request.environ)


def find_request_id(environ: dict[str, Any]) -> str:
    """Return the id of the request with this WSGI environ."""
    known: str | None = environ.get(_REQUEST_ID_KEY)
    if known is None:
        sent = environ.get("HTTP_X_REQUEST_ID", "")
        known = sent if sent and _REQUEST_ID.match(sent) else f"{getrandbits(96):024x}"
        environ[_REQUEST_ID_KEY] = known
    return known
