"""The header ``Idempotency-Key``: a request that is sent again is not done again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import orjson
import peewee
from flask import Response, request

from ..db.idempotency import ClientKey
from ..errors import ApiError
from ..idempotency import StoredAnswer
from .auth import get_caller
from .state import get_state

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
    "example": "2b1f9a7e-send-1",
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
        raise ApiError(
            "invalid_request",
            f"{HEADER} must have at most {_MAX_CHARS} printable ASCII characters",
        )
    key = ClientKey(get_caller().key_id, word, f"{kind}:")
    if content is None:
        return key
    return add_hash(key, orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def add_hash(key: ClientKey, content: bytes) -> ClientKey:
    """Return a key with the hash of what was sent."""
    digest = hashlib.sha256(content).hexdigest()[:48]
    return ClientKey(key.key_id, key.word, f"{key.kind}:{digest}")


#: Keeps an answer in the transaction that does what was asked for: a worker that
#: dies after it has done it once.
Remember = Callable[[peewee.Database, Response], None]


def answer_once(kind: str, content: Any, answer: Callable[[Remember | None], Response]) -> Response:
    """Answer a request, or give the answer that it had before.

    :param content: What it asks for, as JSON values.
    :param answer: Does it; what it is given it calls in its transaction, where it
        is given anything.
    :raises ApiError: ``idempotency_mismatch`` or ``idempotency_in_flight``.
    """
    key = read_client_key(kind, content)
    if key is None:
        return answer(None)
    idempotency = get_state().worker.idempotency
    stored = idempotency.begin(key)
    if stored is not None:
        return replay(stored)
    try:
        answered = answer(remember_as(key))
    except ApiError:
        idempotency.release(key)
        raise
    except BaseException:
        # It may have been done: of a commit whose answer was lost nobody knows.
        idempotency.release(key, even_if_answered=False)
        raise
    keep(key, answered)
    return answered


def remember_as(key: ClientKey) -> Remember:
    """Return what keeps an answer to the request of this key."""
    finish = get_state().worker.idempotency.finish_within(key)

    def remember(db: peewee.Database, answered: Response) -> None:
        finish(db, StoredAnswer(answered.status_code, answered.get_data(as_text=True)))

    return remember


def keep(key: ClientKey, answered: Response) -> None:
    """Keep an answer that did something; forget one that did not."""
    idempotency = get_state().worker.idempotency
    if answered.status_code < 300:
        body = answered.get_data(as_text=True)
        idempotency.finish(key, StoredAnswer(answered.status_code, body))
    else:
        idempotency.release(key)


def replay(stored: StoredAnswer) -> Response:
    """Return a stored answer."""
    return Response(stored.body, stored.status, mimetype="application/json")
