"""Locks against concurrent changes.

SQLite has one writer at a time, so these functions do nothing there. On PostgreSQL
several jobs write at once, and each statement sees what was committed before it. A job
that reads and then writes needs one of these locks. A lock ends with its transaction,
after the commit. Taking a lock twice has no effect.

In a job, take the lock before the first read. A job that needs two locks takes them in
the order in which they are defined here. PostgreSQL detects a deadlock and the job is
run again, but that costs a second.
"""

from __future__ import annotations

import hashlib
from typing import Any

import peewee

from .models import is_postgres
from .models.sessions import ChatSession
from .prepared import Prepared, equals

# Raw SQL: the statement has no table, so peewee cannot build it.
_ADVISORY = "SELECT pg_advisory_xact_lock(%s)"

_SESSION_ROW = Prepared(
    ChatSession.select(ChatSession.id).where(equals(ChatSession.id)).for_update()
)


def lock_name(db: peewee.Database, kind: str, name: str | int) -> None:
    """Acquire the lock with this name; wait while another transaction holds it.

    For objects that may not have a row yet: a session that is about to be created, the
    total of a key.

    :param kind: The kind of object, such as ``session``.
    """
    if _is_new(db, (kind, name)):
        digest = hashlib.blake2b(f"{kind}:{name}".encode("utf-8", "replace"), digest_size=8)
        number = int.from_bytes(digest.digest(), "big", signed=True)
        db.connection().execute(_ADVISORY, (number,))


def lock_session(db: peewee.Database, number: int) -> None:
    """Lock a session against other additions: messages, runs, deletion.

    Rows that are numbered within a session (messages, runs) are added under this
    lock. The order of the numbers is then the order of the commits. A reader that
    has read up to a number misses nothing below it.
    """
    if _is_new(db, ("chat_session", number)):
        _SESSION_ROW.execute(db, id=number)


def for_update(db: peewee.Database, query: Any) -> Any:
    """Return a SELECT that locks its rows against changes until the end of the transaction."""
    return query.for_update() if is_postgres(db) else query


def for_share(db: peewee.Database, query: Any) -> Any:
    """Return a SELECT that locks its rows against deletion until the end of the transaction."""
    return query.for_update("FOR SHARE") if is_postgres(db) else query


def _is_new(db: peewee.Database, lock: tuple[str, Any]) -> bool:
    """Record a lock, and return whether this transaction has not yet acquired it."""
    held: set[tuple[str, Any]] | None = getattr(db, "held_locks", None)
    if held is None or lock in held:
        return False
    held.add(lock)
    return True
