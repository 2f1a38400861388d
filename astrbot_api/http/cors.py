"""CORS for the origins that a setting or a ``[widget]`` table names.

Credentials are never allowed: pages send a session key in a header. Therefore ``*`` is
as safe as a program that sends no ``Origin``.
"""

from __future__ import annotations

import re

from flask import Request, Response

from ..config.settings import Settings
from ..state import AppState

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
    "RateLimit-Reset, Content-Disposition, Content-Range, ETag, Allow, X-Should-Retry, "
    "WWW-Authenticate"
)

#: Seconds for which a browser caches the preflight response.
_MAX_AGE_S = "600"


def answer_preflight(now: Request, state: AppState) -> Response | None:
    """Answer a preflight request. Call this before the key is checked: it has none.

    :returns: None for other requests and other origins.
    """
    origin = now.headers.get("Origin", "")
    if not origin or "Access-Control-Request-Method" not in now.headers:
        return None
    if not _find_allowed(origin, _find_origins(state)):
        return None
    return Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _choose_headers(now),
            "Access-Control-Max-Age": _MAX_AGE_S,
        },
    )


def add_cors_headers(now: Request, response: Response, state: AppState) -> None:
    """Let the page that sent a request read the response, if its origin is allowed.

    If no origin is allowed, responses stay unchanged.
    """
    origins = _find_origins(state)
    if not origins:
        return
    origin = now.headers.get("Origin", "")
    allowed = _find_allowed(origin, origins) if origin else ""
    if allowed != "*":
        # Caches must not return one origin's response to another origin.
        response.vary.add("Origin")
    if allowed:
        response.headers["Access-Control-Allow-Origin"] = allowed
        response.headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS


def is_of_host(now: Request) -> bool:
    """Return whether a page of this host sent a request, or no page."""
    origin = now.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == now.host


def is_of_named_origin(now: Request, settings: Settings) -> bool:
    """Return whether a page of an origin in the setting sent a request."""
    return bool(_find_allowed(now.headers.get("Origin", ""), _list_named(settings)))


def _find_origins(state: AppState) -> frozenset[str]:
    return _list_named(state.settings) | state.agents.configs.list_origins()


def _list_named(settings: Settings) -> frozenset[str]:
    return frozenset(one.rstrip("/").lower() for one in settings.cors_origins)


def _find_allowed(origin: str, origins: frozenset[str]) -> str:
    """Return the value of ``Access-Control-Allow-Origin`` for an origin, or ""."""
    if "*" in origins:
        return "*"
    return origin if origin.lower() in origins else ""


def _choose_headers(now: Request) -> str:
    """Return the request headers that a page may send: the ones it requested.

    SDKs send custom headers that no list can enumerate. An allowed origin may send any
    header: a key is still required, and the server trusts no header by its origin.
    """
    asked = [
        name
        for one in now.headers.get("Access-Control-Request-Headers", "").split(",")
        if _HEADER_NAME.fullmatch(name := one.strip())
    ]
    answer = ", ".join(asked)
    return answer if asked and len(answer) <= _MAX_ASKED_CHARS else _REQUEST_HEADERS
