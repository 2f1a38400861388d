"""Calls of pages from other origins (CORS), for those that a setting or a ``[widget]`` names.

Credentials are never allowed: a page authorises itself with a session key in
a header. So ``*`` is as safe as a program that sends no ``Origin`` at all.
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

#: What a client may send beside what every page may, where its browser does not ask.
_REQUEST_HEADERS = (
    "Authorization, X-API-Key, Content-Type, Last-Event-ID, Idempotency-Key, X-Request-ID, "
    "Range, If-None-Match, If-Range"
)

#: Longest list of headers that is answered as it was asked for, in characters.
_MAX_ASKED_CHARS = 4096

#: What a page may read beside what every page may.
_RESPONSE_HEADERS = (
    "X-Request-ID, X-Run-ID, X-Delivery-ID, Retry-After, RateLimit-Limit, RateLimit-Remaining, "
    "RateLimit-Reset, Content-Disposition, Content-Range, ETag, Allow, X-Should-Retry"
)

#: How long a browser keeps the answer to its question, in seconds.
_MAX_AGE_S = "600"


def add_cors(blueprint: Blueprint, settings: Settings) -> None:
    """Answer browsers' questions, and mark answers that pages may read.

    To be called before the key is asked for: a browser sends none with its
    question. Where no origin is named, nothing is added to any request.
    """
    named = frozenset(one.rstrip("/").lower() for one in settings.cors_origins)

    def find_origins() -> frozenset[str]:
        of_widgets = get_state().agents.configs.list_origins()
        return named | of_widgets if of_widgets else named

    blueprint.before_request(lambda: _answer_preflight(find_origins))
    blueprint.after_request(lambda response: _mark(response, find_origins()))


def _choose_allowed(origin: str, origins: frozenset[str]) -> str:
    """Return what allows an origin, or ""."""
    if "*" in origins:
        return "*"
    return origin if origin.lower() in origins else ""


def _answer_preflight(find_origins: Callable[[], frozenset[str]]) -> Response | None:
    if request.method != "OPTIONS":
        return None
    origin = request.headers.get("Origin", "")
    if not origin or "Access-Control-Request-Method" not in request.headers:
        return None
    if not _choose_allowed(origin, find_origins()):
        return None
    # A preflight has no key: the hooks that come next are left out.
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
    """Return the headers that a page may send: those it asks for.

    SDKs send headers of their own, which no list can know. An allowed origin may send any:
    a key is needed all the same, and no header of ours trusts its sender.
    """
    asked = [
        name
        for one in request.headers.get("Access-Control-Request-Headers", "").split(",")
        if _HEADER_NAME.fullmatch(name := one.strip())
    ]
    answer = ", ".join(asked)
    return answer if asked and len(answer) <= _MAX_ASKED_CHARS else _REQUEST_HEADERS


def _mark(response: Response, origins: frozenset[str]) -> Response:
    if not origins:
        return response
    origin = request.headers.get("Origin", "")
    allowed = _choose_allowed(origin, origins) if origin else ""
    if allowed != "*":
        # A cache must not give one origin's answer to another.
        response.vary.add("Origin")
    if allowed:
        response.headers["Access-Control-Allow-Origin"] = allowed
        response.headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
    return response
