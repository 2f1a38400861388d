"""The ``Idempotency-Key`` of requests: which were sent before, and what they came to."""

from __future__ import annotations

import time
from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us
from . import stored
from .models import IdempotentRequest as Request
from .models import Worker
from .prepared import Prepared, equals, param, params

#: How long a request is remembered, in microseconds: a day.
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
        Worker.lease_until,
    )
    .join(Worker, peewee.JOIN.LEFT_OUTER, on=(Worker.worker_id == Request.worker_id))
    .where(_OF_KEY)
)

#: What a worker has claimed and not answered.
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
    """What a client calls a request: its API key, its word, and a hash of what it sends.

    :param body_hash: The kind of request, a colon, and the hash where it is known.
    :param payer: The key whose quota its row counts to.
    """

    key_id: str
    word: str
    body_hash: str
    payer: str = stored.NOBODY

    @property
    def kind(self) -> str:
        """What kind of request it is."""
        return self.body_hash.partition(":")[0]


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """A request that was sent under the same key.

    :param run_id: The run that it began, if it was one that does.
    :param status: Of the stored answer; None: there is none.
    :param in_flight: Whether a worker that lives is still at it.
    """

    body_hash: str
    run_id: str | None
    status: int | None
    answer: str | None
    in_flight: bool

    def is_same(self, key: ClientKey) -> bool:
        """Return whether the same was sent; of what is still to be read, whether it may be."""
        if key.body_hash.endswith(":") or self.body_hash.endswith(":"):
            return self.body_hash.partition(":")[0] == key.kind
        return self.body_hash == key.body_hash


def claim(
    db: peewee.Database, key: ClientKey, *, worker_id: str, run_id: str | None = None
) -> EarlierRequest | None:
    """Note a request that is about to be answered.

    One that was left behind by a worker that died is taken over.

    :param run_id: The run that it begins, in this transaction.
    :returns: None when it is the first; else what the earlier one came to.
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
            stored.add(db, key.payer, "requests", 1, size)
            return None
        earlier, worker = _find(db, key)
        if earlier is None:
            continue
        if earlier.run_id is not None or earlier.status is not None or earlier.in_flight:
            return earlier
        _delete(db, _RELEASE_UNANSWERED, **names, worker_id=worker)
    return EarlierRequest(key.body_hash, None, None, None, in_flight=True)


def find(db: peewee.Database, key: ClientKey) -> EarlierRequest | None:
    """Return the request that was sent under a key."""
    return _find(db, key)[0]


def _find(db: peewee.Database, key: ClientKey) -> tuple[EarlierRequest | None, str]:
    row = _FIND.execute(db, **_name(key)).fetchone()
    if row is None:
        return None, ""
    body_hash, run_id, status, answer, worker, lease_until = row
    in_flight = lease_until is not None and lease_until > time.time()
    return EarlierRequest(body_hash, run_id, status, answer, in_flight), worker


def finish(db: peewee.Database, key: ClientKey, status: int, answer: str) -> None:
    """Keep the answer to a request, and the hash of what it was asked with."""
    _finish(db, _FINISH, key, status, answer)


def finish_first(
    db: peewee.Database, key: ClientKey, worker_id: str, status: int, answer: str
) -> bool:
    """Keep the answer to a request in the transaction that does what was asked for.

    :returns: False when the request is no longer this worker's: another took it over.
    """
    return _finish(db, _FINISH_FIRST, key, status, answer, worker_id=worker_id)


def _finish(
    db: peewee.Database, statement: Prepared, key: ClientKey, status: int, answer: str, **more: str
) -> bool:
    """Keep an answer, and count its bytes. Returns whether the request is there."""
    names = _name(key)
    payer, before = _FIND_ANSWER.execute(db, **names).fetchone() or (None, None)
    grown = len(answer.encode()) - len((before or "").encode())
    done = statement.execute(
        db, **names, **more, body_hash=key.body_hash, status=status, answer=answer,
        more_bytes=grown,
    ).rowcount  # fmt: skip
    if done:
        stored.add(db, payer, "requests", 0, grown)
    return bool(done)


def release(
    db: peewee.Database, key: ClientKey, worker_id: str, *, even_if_answered: bool = True
) -> None:
    """Forget a request that was refused, or whose run is gone: it may be sent again.

    :param even_if_answered: False: not where its answer is kept, as what it
        asked for was done.
    """
    statement = _RELEASE if even_if_answered else _RELEASE_UNANSWERED
    _delete(db, statement, **_name(key), worker_id=worker_id)


def forget(db: peewee.Database, key: ClientKey) -> None:
    """Forget a request whose run is gone with its session."""
    _delete(db, _FORGET, **_name(key))


def _delete(db: peewee.Database, statement: Prepared, **values: object) -> None:
    gone = statement.execute(db, **values).fetchall()
    stored.give_back(db, "requests", [(payer, 1, size) for payer, size in gone])


def prune(db: peewee.Database, limit: int) -> int:
    """Forget what is older than a day, ``limit`` requests at most; return how many."""
    name = peewee.Tuple(Request.key_id, Request.client_key)
    old = Request.select(Request.key_id, Request.client_key)
    old = old.where(Request.created_at < now_us() - KEPT_US)
    old = old.order_by(Request.created_at).limit(limit)
    query = Request.delete().where(name.in_(old)).returning(*_PAID)
    gone = list(query.tuples().execute(db))
    stored.give_back(db, "requests", [(payer, 1, size) for payer, size in gone])
    return len(gone)


def _name(key: ClientKey) -> dict[str, str]:
    return {"key_id": key.key_id, "client_key": key.word}
