"""Deleting sessions: gone at once for their owners, emptied in short transactions.

A session may have a million messages. Its row goes first, with a note that
its number is to be emptied; the numbers of sessions are never given out
again, so nobody can reach what is left. The note goes last: a crash in
between loses nothing.
"""

from __future__ import annotations

import peewee

from ..runtime.clock import now_us
from . import response_conversations, responses
from .locks import lock_name
from .messages import delete_messages
from .models import (
    ChatSession,
    DeletedSession,
    Message,
    Run,
    SessionSummary,
)
from .sessions import SessionRow, count_session_less, pay_less


def remove_session(db: peewee.Database, session: SessionRow) -> None:
    """Take a session from its owner, and note that it is to be emptied."""
    pay_less(db, session)
    ChatSession.delete().where(ChatSession.id == session.id).execute(db)
    count_session_less(db, session)
    SessionSummary.delete().where(SessionSummary.session == session.id).execute(db)
    response_conversations.remove_conversation(db, session.id)
    DeletedSession.insert(session=session.id, since=now_us()).execute(db)


def empty_session(db: peewee.Database, number: int, limit: int) -> bool:
    """Delete some messages, runs and responses of a removed session.

    A run that still runs stays, and so does the note: its reply will have to
    go as well.

    :param limit: Most messages, most runs, and most responses.
    :returns: Whether more is to be deleted at once.
    """
    lock_name(db, "removed_session", number)
    messages = _delete_messages(db, number, limit)
    of_session = Run.session == number
    ended = Run.select(Run.id).where(of_session & Run.status.not_in(("queued", "running")))
    runs = Run.delete().where(Run.id.in_(ended.order_by(Run.id).limit(limit))).execute(db)
    entries = responses.delete_of_session(db, number, limit)
    if limit in (messages, runs, entries):
        return True
    if not Run.select().where(of_session).exists(db):
        # Summed up in a turn that has ended since.
        SessionSummary.delete().where(SessionSummary.session == number).execute(db)
        DeletedSession.delete().where(DeletedSession.session == number).execute(db)
    return False


def _delete_messages(db: peewee.Database, session: int, limit: int) -> int:
    """Delete the first messages of a session and their links. Returns how many."""
    of_session = Message.select(Message.id).where(Message.session == session)
    ids = list(of_session.order_by(Message.id).limit(limit).scalars(db))
    if ids:
        # By number: a turn that ends meanwhile adds a message, whose links must go with it.
        delete_messages(db, ids)
    return len(ids)


def list_removed(db: peewee.Database, after: int, limit: int) -> list[int]:
    """Return the numbers of removed sessions that are not empty, above ``after``."""
    later = DeletedSession.select(DeletedSession.session).where(DeletedSession.session > after)
    return list(later.order_by(DeletedSession.session).limit(limit).scalars(db))
