"""The envelope: the one shape of every JSON answer."""

from __future__ import annotations

import re
from random import getrandbits
from typing import Any

import orjson
from flask import Response, request

from ..errors import ApiError
from .auth import find_caller
from .openai_errors import describe_error, speaks_openai
from .state import get_state

#: Codes that AstrBot 4.25 answers with HTTP 200, for ``legacy_error_status``.
_BUSINESS_STATUSES = frozenset({400, 404, 409, 415})

#: Where the id stays for the length of the request.
_REQUEST_ID_KEY = "astrbot_api.request_id"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def ok(data: Any, status: int = 200, *, message: str | None = None) -> Response:
    """Return ``{"status":"ok","message":null,"data":…}``."""
    body = orjson.dumps({"status": "ok", "message": message, "data": data})
    return Response(body, status, content_type="application/json")


def ok_secret(data: Any) -> Response:
    """Return the same of a secret, which nobody may cache."""
    response = ok(data)
    response.headers["Cache-Control"] = "no-store"
    return response


def fail(error: ApiError) -> Response:
    """Return the error envelope, with ``code`` and ``request_id`` beside the message.

    Below ``/openai`` it has the shape that OpenAI's clients read.
    """
    if speaks_openai(request):
        headers = {**error.headers, "X-Request-ID": get_request_id()}
        body = orjson.dumps({"error": describe_error(error)})
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
    headers = {**error.headers, "X-Request-ID": get_request_id()}
    return Response(body, status, headers, mimetype="application/json")


def _wants_legacy_errors() -> bool:
    """Return whether errors have status 200: for all callers, or for this key."""
    if get_state().settings.legacy_error_status:
        return True
    caller = find_caller(request.environ)
    return caller is not None and caller.rules.legacy_errors is True


def get_request_id() -> str:
    """Return the id of this request: the caller's ``X-Request-ID``, or a new one."""
    return find_request_id(request.environ)


def find_request_id(environ: dict[str, Any]) -> str:
    """Return the id of the request that has this environment."""
    known: str | None = environ.get(_REQUEST_ID_KEY)
    if known is None:
        sent = environ.get("HTTP_X_REQUEST_ID", "")
        known = sent if sent and _REQUEST_ID.match(sent) else f"{getrandbits(96):024x}"
        environ[_REQUEST_ID_KEY] = known
    return known
