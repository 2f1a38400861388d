"""CORS for the origins that a setting or a ``[widget]`` table names.

Credentials are never allowed: pages send a session key in a header. Therefore ``*`` is
as safe as a program that sends no ``Origin``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from flask import Blueprint, Response, request

from ..config.settings import Settings
from .accesslog import STARTED_KEY
from .envelope import get_request_id
from .state import get_state

#: Source: RFC 9110, 5.6.2, ``token``.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"

#: Request headers that are allowed beyond the CORS-safelisted ones, if the browser names none.
_REQUEST_HEADERS = (
    "Authorization, X-API-Key, Content-Type, Last-Event-ID, Idempotency-Key, X-Request-ID, "
    "Range, If-None-Match, If-Range"
)

#: Maximum length of a requested header list that is allowed as sent, in characters.
_MAX_ASKED_CHARS = 4096

#: Response headers that pages may read beyond the CORS-safelisted ones.
_RESPONSE_HEADERS = (
    "X-Request-ID, X-Run-ID, X-Delivery-ID, Retry-After, RateLimit-Limit, RateLimit-Remaining, "
    "RateLimit-Reset, Content-Disposition, Content-Range, ETag, Allow, X-Should-Retry"
)

#: Seconds for which a browser caches the preflight response.
_MAX_AGE_S = "600"


def add_cors(blueprint: Blueprint, settings: Settings) -> None:
    """Answer preflight requests and add the CORS headers to responses.

    Call this before the hook that checks the key is added: preflight requests have no
    key. If no origin is allowed, requests and responses stay unchanged.
    """
    named = frozenset(one.rstrip("/").lower() for one in settings.cors_origins)

    def find_origins() -> frozenset[str]:
        of_widgets = get_state().agents.configs.list_origins()
        return named | of_widgets if of_widgets else named

    blueprint.before_request(lambda: _answer_preflight(find_origins))
    blueprint.after_request(lambda response: _add_headers(response, find_origins()))


def _find_allowed(origin: str, origins: frozenset[str]) -> str:
    """Return the value of ``Access-Control-Allow-Origin`` for an origin, or ""."""
    if "*" in origins:
        return "*"
    return origin if origin.lower() in origins else ""


def _answer_preflight(find_origins: Callable[[], frozenset[str]]) -> Response | None:
    if request.method != "OPTIONS":
        return None
    origin = request.headers.get("Origin", "")
    if not origin or "Access-Control-Request-Method" not in request.headers:
        return None
    if not _find_allowed(origin, find_origins()):
        return None
    # Returning a response skips the later hooks, which would check the key.
    request.environ[STARTED_KEY] = time.perf_counter()
    return Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _choose_headers(),
            "Access-Control-Max-Age": _MAX_AGE_S,
            "X-Request-ID": get_request_id(),
        },
    )


def _choose_headers() -> str:
    """Return the request headers that a page may send: the ones it requested.

    SDKs send custom headers that no list can enumerate. An allowed origin may send any
    header: a key is still required, and the server trusts no header by its origin.
    """
    asked = [
        name
        for one in request.headers.get("Access-Control-Request-Headers", "").split(",")
        if _HEADER_NAME.fullmatch(name := one.strip())
    ]
    answer = ", ".join(asked)
    return answer if asked and len(answer) <= _MAX_ASKED_CHARS else _REQUEST_HEADERS


def _add_headers(response: Response, origins: frozenset[str]) -> Response:
    if not origins:
        return response
    origin = request.headers.get("Origin", "")
    allowed = _find_allowed(origin, origins) if origin else ""
    if allowed != "*":
        # Caches must not return one origin's response to another origin.
        response.vary.add("Origin")
    if allowed:
        response.headers["Access-Control-Allow-Origin"] = allowed
        response.headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
    return response
