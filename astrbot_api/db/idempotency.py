"""The ``Idempotency-Key`` of requests: which were sent before, and what they came to."""

from __future__ import annotations

import time
from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us

#: How long a request is remembered, in microseconds: a day.
KEPT_US = 24 * 3600 * 1_000_000

_FORGET_OLD = "DELETE FROM idempotency WHERE key_id = ? AND client_key = ? AND created_at < ?"

_CLAIM = """
INSERT INTO idempotency (key_id, client_key, body_hash, worker_id, run_id, created_at)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key_id, client_key) DO NOTHING
"""

_FIND = """
SELECT body_hash, run_id, status, answer, worker_id,
    (SELECT lease_until FROM worker WHERE worker.worker_id = idempotency.worker_id)
FROM idempotency WHERE key_id = ? AND client_key = ?
"""

_FINISH = """
UPDATE idempotency SET body_hash = ?, status = ?, answer = ? WHERE key_id = ? AND client_key = ?
"""

_FINISH_FIRST = """
UPDATE idempotency SET body_hash = ?, status = ?, answer = ?
WHERE key_id = ? AND client_key = ? AND worker_id = ? AND status IS NULL
"""

_RELEASE = "DELETE FROM idempotency WHERE key_id = ? AND client_key = ? AND worker_id = ?"

_RELEASE_UNANSWERED = f"{_RELEASE} AND status IS NULL"

_PRUNE = """
DELETE FROM idempotency WHERE (key_id, client_key) IN (
    SELECT key_id, client_key FROM idempotency WHERE created_at < ? ORDER BY created_at LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What a client calls a request: its API key, its word, and a hash of what it sends.

    :param body_hash: The kind of request, a colon, and the hash where it is known.
    """

    key_id: str
    word: str
    body_hash: str

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
    db.execute_sql(_FORGET_OLD, (key.key_id, key.word, now - KEPT_US))
    values = (key.key_id, key.word, key.body_hash, worker_id, run_id, now)
    for _ in range(2):
        if db.execute_sql(_CLAIM, values).rowcount:
            return None
        earlier, worker = _find(db, key)
        if earlier is None:
            continue
        if earlier.run_id is not None or earlier.status is not None or earlier.in_flight:
            return earlier
        db.execute_sql(_RELEASE_UNANSWERED, (key.key_id, key.word, worker))
    return EarlierRequest(key.body_hash, None, None, None, in_flight=True)


def find(db: peewee.Database, key: ClientKey) -> EarlierRequest | None:
    """Return the request that was sent under a key."""
    return _find(db, key)[0]


def _find(db: peewee.Database, key: ClientKey) -> tuple[EarlierRequest | None, str]:
    row = db.execute_sql(_FIND, (key.key_id, key.word)).fetchone()
    if row is None:
        return None, ""
    body_hash, run_id, status, answer, worker, lease_until = row
    in_flight = lease_until is not None and lease_until > time.time()
    return EarlierRequest(body_hash, run_id, status, answer, in_flight), worker


def finish(db: peewee.Database, key: ClientKey, status: int, answer: str) -> None:
    """Keep the answer to a request, and the hash of what it was asked with."""
    db.execute_sql(_FINISH, (key.body_hash, status, answer, key.key_id, key.word))


def finish_first(
    db: peewee.Database, key: ClientKey, worker_id: str, status: int, answer: str
) -> bool:
    """Keep the answer to a request in the transaction that does what was asked for.

    :returns: False when the request is no longer this worker's: another took it over.
    """
    values = (key.body_hash, status, answer, key.key_id, key.word, worker_id)
    return bool(db.execute_sql(_FINISH_FIRST, values).rowcount)


def release(
    db: peewee.Database, key: ClientKey, worker_id: str, *, even_if_answered: bool = True
) -> None:
    """Forget a request that was refused, or whose run is gone: it may be sent anew.

    :param even_if_answered: False: not where its answer is kept, as what it
        asked for was done.
    """
    sql = _RELEASE if even_if_answered else _RELEASE_UNANSWERED
    db.execute_sql(sql, (key.key_id, key.word, worker_id))


def forget(db: peewee.Database, key: ClientKey) -> None:
    """Forget a request whose run is gone with its session."""
    db.execute_sql(
        "DELETE FROM idempotency WHERE key_id = ? AND client_key = ?", (key.key_id, key.word)
    )


def prune(db: peewee.Database, limit: int) -> int:
    """Forget what is older than a day, ``limit`` requests at most; return how many."""
    return int(db.execute_sql(_PRUNE, (now_us() - KEPT_US, limit)).rowcount)
