"""Deleting sessions: gone at once for their owners, emptied in short transactions.

A session may have a million messages. Its row goes first, with a note that
its number is to be emptied; the numbers of sessions are never given out
again, so nobody can reach what is left. The note goes last: a crash in
between loses nothing.
"""

from __future__ import annotations

import peewee

from ..runtime.clock import now_us
from .locks import lock_name
from .sessions import SessionRow

_COUNT_ONE_LESS = """
UPDATE session_count SET sessions = sessions - 1 WHERE creator = ? AND platform_id = ?
"""

_NOTE = "INSERT INTO deleted_session (session, since) VALUES (?, ?)"

_FIRST_MESSAGES = "SELECT id FROM message WHERE session = ? ORDER BY id LIMIT ?"

_DELETE_RUNS = """
DELETE FROM run WHERE id IN (
    SELECT id FROM run WHERE session = ? AND status NOT IN ('queued', 'running')
    ORDER BY id LIMIT ?)
"""

_HAS_RUNS = "SELECT 1 FROM run WHERE session = ? LIMIT 1"

_LIST = "SELECT session FROM deleted_session WHERE session > ? ORDER BY session LIMIT ?"


def remove_session(db: peewee.Database, session: SessionRow) -> None:
    """Take a session from its owner, and note that it is to be emptied."""
    db.execute_sql("DELETE FROM chat_session WHERE id = ?", (session.id,))
    db.execute_sql(_COUNT_ONE_LESS, (session.creator, session.platform_id))
    db.execute_sql("DELETE FROM session_summary WHERE session = ?", (session.id,))
    db.execute_sql(_NOTE, (session.id, now_us()))


def empty_session(db: peewee.Database, number: int, limit: int) -> bool:
    """Delete some messages and runs of a removed session.

    A run that still runs stays, and so does the note: its reply will have to
    go as well.

    :param limit: Most messages, and most runs.
    :returns: Whether more is to be deleted at once.
    """
    lock_name(db, "removed_session", number)
    messages = _delete_messages(db, number, limit)
    runs = db.execute_sql(_DELETE_RUNS, (number, limit)).rowcount
    if messages == limit or runs == limit:
        return True
    if db.execute_sql(_HAS_RUNS, (number,)).fetchone() is None:
        # Summed up in a turn that has ended since.
        db.execute_sql("DELETE FROM session_summary WHERE session = ?", (number,))
        db.execute_sql("DELETE FROM deleted_session WHERE session = ?", (number,))
    return False


def _delete_messages(db: peewee.Database, session: int, limit: int) -> int:
    """Delete the first messages of a session and their links. Returns how many."""
    ids = [row[0] for row in db.execute_sql(_FIRST_MESSAGES, (session, limit)).fetchall()]
    if ids:
        # By number: a turn that ends meanwhile adds a message, whose links must go with it.
        marks = ", ".join("?" * len(ids))
        db.execute_sql(f"DELETE FROM message_attachment WHERE message IN ({marks})", ids)
        db.execute_sql(f"DELETE FROM message WHERE id IN ({marks})", ids)
    return len(ids)


def list_removed(db: peewee.Database, after: int, limit: int) -> list[int]:
    """Return the numbers of removed sessions that are not empty, above ``after``."""
    return [row[0] for row in db.execute_sql(_LIST, (after, limit)).fetchall()]
