"""The header ``Idempotency-Key``: a request that is sent again is not done again."""

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

HEADER = "Idempotency-Key"

_MAX_CHARS = 255

#: The header in the documentation of a route.
PARAMETER: dict[str, Any] = {
    "in": "header",
    "name": HEADER,
    "schema": {"type": "string", "maxLength": _MAX_CHARS, "pattern": "^[ -~]*$"},
    "description": (
        "A word of the client's own for this request. Sent again within a day, with the same "
        "body, it is not done again."
    ),
    # None: documentation pages send an example along, and a second try would do nothing.
    "example": "",
}

#: What a route with the header can answer besides.
CODES = ("idempotency_mismatch", "idempotency_in_flight")


def read_client_key(kind: str, content: Any = None) -> ClientKey | None:
    """Return what the client calls this request; None when it does not.

    :param kind: Which sort of request it is.
    :param content: What it asks for, as JSON values; None: still to be read.
    :raises ApiError: ``invalid_request``.
    """
    word = request.headers.get(HEADER, "").strip()
    if not word:
        return None
    if len(word) > _MAX_CHARS or not (word.isascii() and word.isprintable()):
        raise refuse(f"{HEADER} must have at most {_MAX_CHARS} printable ASCII characters")
    caller = get_caller()
    key = ClientKey(caller.key_id, word, f"{kind}:", caller.root_id)
    if content is None:
        return key
    return add_hash(key, orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def add_hash(key: ClientKey, content: bytes) -> ClientKey:
    """Return a key with the hash of what was sent."""
    digest = hashlib.sha256(content).hexdigest()[:48]
    return replace(key, body_hash=f"{key.kind}:{digest}")


def replay(stored: StoredAnswer) -> Response:
    """Return a stored answer."""
    return ok(orjson.Fragment(stored.data), stored.status)
