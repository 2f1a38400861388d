"""Deletion of sessions: immediate for their owners, then in short transactions.

A session may have a million messages. Its row is deleted first, and a record with its
number is added. Numbers are never reused, so the remaining rows are unreachable.
The record is deleted last, so that a crash in between loses nothing.
"""

from __future__ import annotations

import peewee

from ..runtime.clock import now_us
from . import response_conversations, responses
from .locks import lock_name
from .messages import delete_messages
from .models.runs import Run
from .models.sessions import ChatSession, DeletedSession, Message, SessionSummary
from .sessions import SessionRow, count_session_less, pay_less


def remove_session(db: peewee.Database, session: SessionRow) -> None:
    """Delete a session for its owner, and record that its rows must be deleted."""
    pay_less(db, session)
    ChatSession.delete().where(ChatSession.id == session.id).execute(db)
    count_session_less(db, session)
    SessionSummary.delete().where(SessionSummary.session == session.id).execute(db)
    response_conversations.remove_conversation(db, session.id)
    DeletedSession.insert(session=session.id, since=now_us()).execute(db)


def empty_session(db: peewee.Database, number: int, limit: int) -> bool:
    """Delete some messages, runs and responses of a removed session.

    A run that has not ended stays, and so does the record: its reply, or the calls that it waits
    with, must be deleted later.

    :param limit: Maximum number of messages, of runs and of responses.
    :returns: Whether more rows can be deleted now.
    """
    lock_name(db, "removed_session", number)
    messages = _delete_messages(db, number, limit)
    of_session = Run.session == number
    unended = ("queued", "running", "waiting")
    ended = Run.select(Run.id).where(of_session & Run.status.not_in(unended))
    runs = Run.delete().where(Run.id.in_(ended.order_by(Run.id).limit(limit))).execute(db)
    entries = responses.delete_of_session(db, number, limit)
    if limit in (messages, runs, entries):
        return True
    if not Run.select().where(of_session).exists(db):
        # A turn that ended meanwhile may have stored another summary.
        SessionSummary.delete().where(SessionSummary.session == number).execute(db)
        DeletedSession.delete().where(DeletedSession.session == number).execute(db)
    return False


def _delete_messages(db: peewee.Database, session: int, limit: int) -> int:
    """Delete the oldest messages of a session and their links; return their number."""
    of_session = Message.select(Message.id).where(Message.session == session)
    ids = list(of_session.order_by(Message.id).limit(limit).scalars(db))
    if ids:
        # By id: a turn may add a message meanwhile, and its links must be deleted with it.
        delete_messages(db, ids)
    return len(ids)


def list_removed(db: peewee.Database, after: int, limit: int) -> list[int]:
    """Return the numbers above ``after`` of removed sessions that still have rows."""
    later = DeletedSession.select(DeletedSession.session).where(DeletedSession.session > after)
    return list(later.order_by(DeletedSession.session).limit(limit).scalars(db))
