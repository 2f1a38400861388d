"""The pushed messages of sessions, which open streams show."""

from __future__ import annotations

from typing import Any

import peewee

from .messages import LENGTH, MAX_HISTORY_CHARS, MESSAGE_FIELDS, OF_SESSION, MessageRow, read_page
from .models.sessions import PUSHED, Message
from .pages import count_fitting
from .prepared import Prepared, param


def _pushed(*columns: Any) -> Prepared:
    inside = OF_SESSION & PUSHED & (Message.id > param("after"))
    return Prepared(
        Message.select(*columns).where(inside).order_by(Message.id).limit(param("limit"))
    )


_PUSHED, _PUSHED_LENGTHS = _pushed(*MESSAGE_FIELDS), _pushed(LENGTH)

_LAST_PUSHED = Prepared(Message.select(peewee.fn.MAX(Message.id)).where(OF_SESSION & PUSHED))

_NEWEST_PUSHED = Prepared(Message.select(peewee.fn.MAX(Message.id)).where(PUSHED))

_PUSHED_SESSIONS = Prepared(
    Message.select(peewee.fn.MAX(Message.id), Message.session)
    .where(PUSHED & (Message.id > param("after")))
    .group_by(Message.session)
)


def list_pushed(
    db: peewee.Database, session: int, after: int, limit: int
) -> tuple[list[MessageRow], bool]:
    """Return the pushed messages of a session with ``id > after``, oldest first.

    :returns: The page, which is shorter if they are long, and whether there may be more.
    """
    span = {"session": session, "after": after}
    limit = count_fitting(db, _PUSHED_LENGTHS, MAX_HISTORY_CHARS, limit=limit, **span)
    return read_page(_PUSHED.execute(db, limit=limit, **span), limit, MAX_HISTORY_CHARS)


def find_last_pushed(db: peewee.Database, session: int) -> int:
    """Return the id of the newest pushed message of a session, or 0."""
    return _LAST_PUSHED.execute(db, session=session).fetchone()[0] or 0


def find_newest_pushed(db: peewee.Database) -> int:
    """Return the id of the newest pushed message of all sessions, or 0."""
    return _NEWEST_PUSHED.execute(db).fetchone()[0] or 0


def list_pushed_sessions(db: peewee.Database, after: int) -> list[tuple[int, int]]:
    """Return the sessions with messages pushed after this one: newest id, session."""
    return [tuple(row) for row in _PUSHED_SESSIONS.execute(db, after=after)]
