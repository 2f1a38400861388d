"""The ``Idempotency-Key`` header: a repeated request is executed only once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import orjson
from flask import Response, request

from ..db.idempotency import ClientKey
from ..errors import refuse
from ..idempotency import StoredAnswer
from .auth import get_caller
from .envelope import ok
from .schemas import header_parameter

_HEADER = "Idempotency-Key"

_MAX_CHARS = 255

#: The header in the documentation of a route.
PARAMETER: dict[str, Any] = {
    **header_parameter(
        _HEADER,
        "A unique value that the client chooses for this request. A request with the same value "
        "and body is not executed again within one day.",
    ),
    "schema": {"type": "string", "maxLength": _MAX_CHARS, "pattern": "^[ -~]*$"},
}

#: Additional error codes of routes with the header.
CODES = ("idempotency_mismatch", "idempotency_in_flight")


def read_client_key(kind: str, content: Any = None) -> ClientKey | None:
    """Return the client's idempotency key of this request, or None if it sent none.

    :param kind: The kind of request. Equal keys of different kinds do not collide.
    :param content: The request's JSON content, or None if it is not read yet.
    :raises ApiError: ``invalid_request``.
    """
    word = request.headers.get(_HEADER, "").strip()
    if not word:
        return None
    if len(word) > _MAX_CHARS or not (word.isascii() and word.isprintable()):
        raise refuse(f"{_HEADER} must have at most {_MAX_CHARS} printable ASCII characters")
    caller = get_caller()
    key = ClientKey(caller.key_id, word, f"{kind}:", caller.root_id)
    if content is None:
        return key
    return add_hash(key, orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def add_hash(key: ClientKey, content: bytes) -> ClientKey:
    """Return a copy of a key with the hash of the request's content."""
    digest = hashlib.sha256(content).hexdigest()[:48]
    return replace(key, body_hash=f"{key.kind}:{digest}")


def replay(stored: StoredAnswer) -> Response:
    """Return a stored response."""
    return ok(orjson.Fragment(stored.data), stored.status)
