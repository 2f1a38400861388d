"""Requests with an ``Idempotency-Key``, and their stored responses."""

from __future__ import annotations

import time
from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us
from . import counting, stored
from .leases import IS_ALIVE
from .models.runs import IdempotentRequest as Request
from .models.runs import Worker
from .prepared import Prepared, equals, param, params

#: Retention of a request, in microseconds: one day.
KEPT_US = 24 * 3600 * 1_000_000

_OF_KEY = equals(Request.key_id, Request.client_key)

_PAID = (Request.payer, Request.size_bytes)

_FORGET_OLD = Prepared(
    Request.delete().where(_OF_KEY & (Request.created_at < param("before"))).returning(*_PAID)
)

_CLAIM = Prepared(
    Request.insert(
        **params(
            "key_id",
            "client_key",
            "body_hash",
            "worker_id",
            "run_id",
            "created_at",
            "payer",
            "size_bytes",
        )
    ).on_conflict_ignore()
)

_FIND = Prepared(
    Request.select(
        Request.body_hash,
        Request.run_id,
        Request.status,
        Request.answer,
        Request.worker_id,
        IS_ALIVE,
    )
    .join(Worker, peewee.JOIN.LEFT_OUTER, on=(Worker.worker_id == Request.worker_id))
    .where(_OF_KEY)
)

#: A request that the worker has claimed and not yet answered.
_CLAIMED = _OF_KEY & equals(Request.worker_id) & Request.status.is_null()

_ANSWER = {
    **params("body_hash", "status", "answer"),
    "size_bytes": Request.size_bytes + param("more_bytes"),
}

_FIND_ANSWER = Prepared(Request.select(Request.payer, Request.answer).where(_OF_KEY))

_FINISH = Prepared(Request.update(**_ANSWER).where(_OF_KEY))

_FINISH_FIRST = Prepared(Request.update(**_ANSWER).where(_CLAIMED))

_FORGET = Prepared(Request.delete().where(_OF_KEY).returning(*_PAID))

_RELEASE = Prepared(Request.delete().where(_OF_KEY & equals(Request.worker_id)).returning(*_PAID))

_RELEASE_UNANSWERED = Prepared(Request.delete().where(_CLAIMED).returning(*_PAID))


@dataclass(frozen=True, slots=True)
class ClientKey:
    """Identifies a client's request: API key, idempotency key, and hash of the request.

    :param body_hash: The kind of request, a colon, and the hash if it is known.
    :param payer: The key whose quota counts the row.
    """

    key_id: str
    word: str
    body_hash: str
    payer: str = stored.NOBODY

    @property
    def kind(self) -> str:
        return self.body_hash.partition(":")[0]


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """An earlier request with the same key.

    :param run_id: The run that it started, if any.
    :param status: Status of the stored response, or None if there is no response yet.
    :param in_flight: Whether a live worker is handling it.
    """

    body_hash: str
    run_id: str | None
    status: int | None
    answer: str | None
    in_flight: bool

    def is_same(self, key: ClientKey) -> bool:
        """Return whether both requests are equal. If the new hash is unknown, compare the kind."""
        if key.body_hash.endswith(":"):
            return self.body_hash.partition(":")[0] == key.kind
        return self.body_hash == key.body_hash


def claim(
    db: peewee.Database, key: ClientKey, *, worker_id: str, run_id: str | None = None
) -> EarlierRequest | None:
    """Store a request that is about to be handled.

    Replaces a request that a dead worker left without a response.

    :param run_id: The run that it starts in this transaction.
    :returns: None for the first request, or the earlier request.
    """
    now = now_us()
    names = _name(key)
    _delete(db, _FORGET_OLD, **names, before=now - KEPT_US)
    size = stored.size_of(key.word, key.word, key.body_hash)
    values = {
        "body_hash": key.body_hash, "worker_id": worker_id, "run_id": run_id, "payer": key.payer,
        "size_bytes": size,
    }  # fmt: skip
    for _ in range(2):
        if _CLAIM.execute(db, **names, **values, created_at=now).rowcount:
            counting.add(db, key.payer, "requests", 1, size)
            return None
        earlier, worker = _find(db, key)
        if earlier is None:
            continue
        if earlier.run_id is not None or earlier.status is not None or earlier.in_flight:
            return earlier
        _delete(db, _RELEASE_UNANSWERED, **names, worker_id=worker)
    return EarlierRequest(key.body_hash, None, None, None, in_flight=True)


def find(db: peewee.Database, key: ClientKey) -> EarlierRequest | None:
    """Return the request with this key, or None."""
    return _find(db, key)[0]


def _find(db: peewee.Database, key: ClientKey) -> tuple[EarlierRequest | None, str]:
    row = _FIND.execute(db, now=time.time(), **_name(key)).fetchone()
    if row is None:
        return None, ""
    body_hash, run_id, status, answer, worker, is_alive = row
    return EarlierRequest(body_hash, run_id, status, answer, bool(is_alive)), worker


def finish(db: peewee.Database, key: ClientKey, status: int, answer: str) -> None:
    """Store the response to a request, and the hash of its body."""
    _finish(db, _FINISH, key, status, answer)


def finish_first(
    db: peewee.Database, key: ClientKey, worker_id: str, status: int, answer: str
) -> bool:
    """Store a response in the same transaction as the effects of its request.

    :returns: False if another worker has taken over the request.
    """
    return _finish(db, _FINISH_FIRST, key, status, answer, worker_id=worker_id)


def _finish(
    db: peewee.Database, statement: Prepared, key: ClientKey, status: int, answer: str, **more: str
) -> bool:
    """Store a response and count its bytes. Return whether the request exists."""
    names = _name(key)
    payer, before = _FIND_ANSWER.execute(db, **names).fetchone() or (None, None)
    grown = len(answer.encode()) - len((before or "").encode())
    done = statement.execute(
        db, **names, **more, body_hash=key.body_hash, status=status, answer=answer,
        more_bytes=grown,
    ).rowcount  # fmt: skip
    if done:
        counting.add(db, payer, "requests", 0, grown)
    return bool(done)


def release(
    db: peewee.Database, key: ClientKey, worker_id: str, *, even_if_answered: bool = True
) -> None:
    """Delete a request that was rejected or whose run is gone, so that it can be sent again.

    :param even_if_answered: False to keep a request with a stored response, because its
        effects are committed.
    """
    statement = _RELEASE if even_if_answered else _RELEASE_UNANSWERED
    _delete(db, statement, **_name(key), worker_id=worker_id)


def forget(db: peewee.Database, key: ClientKey) -> None:
    """Delete a request whose run was deleted with its session."""
    _delete(db, _FORGET, **_name(key))


def _delete(db: peewee.Database, statement: Prepared, **values: object) -> None:
    counting.give_back(db, "requests", statement.execute(db, **values))


def prune(db: peewee.Database, limit: int) -> int:
    """Delete at most ``limit`` requests older than a day; return their number."""
    name = peewee.Tuple(Request.key_id, Request.client_key)
    old = Request.select(Request.key_id, Request.client_key)
    old = old.where(Request.created_at < now_us() - KEPT_US)
    old = old.order_by(Request.created_at).limit(limit)
    query = Request.delete().where(name.in_(old)).returning(*_PAID)
    return counting.give_back(db, "requests", query.tuples().execute(db))


def _name(key: ClientKey) -> dict[str, str]:
    return {"key_id": key.key_id, "client_key": key.word}
