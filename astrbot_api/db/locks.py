"""Locks for what must not happen twice at once.

SQLite has one writer at a time; there these do nothing. On PostgreSQL
several jobs write at once, and each sees what was committed before each of
its statements: two that first look and then write need one of these. A lock
ends with its transaction, after the commit; taking one twice is no fault.

In a job, take the lock before the first look. Where a job needs two, name
them in the order in which they stand here; a deadlock is found by PostgreSQL
and the job run again, but that costs a second.
"""

from __future__ import annotations

import hashlib
from typing import Any

import peewee

from .models import ChatSession, is_postgres
from .prepared import Prepared, equals

# SQL by hand: it names no table, so peewee has nothing to say.
_ADVISORY = "SELECT pg_advisory_xact_lock(%s)"

_SESSION_ROW = Prepared(
    ChatSession.select(ChatSession.id).where(equals(ChatSession.id)).for_update()
)


def lock_name(db: peewee.Database, kind: str, name: str | int) -> None:
    """Wait until nobody else has the lock of this name.

    For what may not have a row yet: the session that is about to be made, the
    total of a key.

    :param kind: What the name is a name of, such as ``session``.
    """
    if _is_new(db, (kind, name)):
        digest = hashlib.blake2b(f"{kind}:{name}".encode("utf-8", "replace"), digest_size=8)
        number = int.from_bytes(digest.digest(), "big", signed=True)
        db.connection().execute(_ADVISORY, (number,))


def lock_session(db: peewee.Database, number: int) -> None:
    """Wait until nobody else adds to a session: its messages, its runs, its end.

    Whatever gets a number within a session (messages, runs) is added under
    this lock: the order of the numbers is then that of the commits, and who
    has read up to a number misses nothing below it.
    """
    if _is_new(db, ("chat_session", number)):
        _SESSION_ROW.execute(db, id=number)


def for_update(db: peewee.Database, query: Any) -> Any:
    """Return a SELECT whose rows nobody else changes until the end of the transaction."""
    return query.for_update() if is_postgres(db) else query


def for_share(db: peewee.Database, query: Any) -> Any:
    """Return a SELECT whose rows must still be there at the commit."""
    return query.for_update("FOR SHARE") if is_postgres(db) else query


def _is_new(db: peewee.Database, lock: tuple[str, Any]) -> bool:
    """Note a lock; return whether this transaction has yet to take it."""
    held: set[tuple[str, Any]] | None = getattr(db, "held_locks", None)
    if held is None or lock in held:
        return False
    held.add(lock)
    return True
