"""The chat sessions: found by id, listed by creator at a cost that does not grow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import peewee

from ..errors import ApiError
from ..runtime.clock import now_us, to_iso
from .models import ChatSession, SessionCount

#: The platform of every session that is made over HTTP.
WEBCHAT = "webchat"

#: Creator of a session that a pushed message made without naming a user: it
#: is whoever's speaks in it first.
NOBODY = ""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session; ``id`` is its number in the database, ``session_id`` its name."""

    id: int
    session_id: str
    platform_id: str
    creator: str
    display_name: str | None
    config_id: str | None
    context_after: int


_FIND = """
SELECT id, session_id, platform_id, creator, display_name, config_id, context_after
FROM chat_session WHERE session_id = ?
"""

_INSERT = """
INSERT INTO chat_session
    (session_id, platform_id, creator, is_group, config_id, context_after,
     created_at, updated_at)
VALUES (?, ?, ?, ?, ?, 0, ?, ?) RETURNING id
"""

_COUNT_ONE_MORE = """
INSERT INTO session_count (creator, platform_id, sessions) VALUES (?, ?, 1)
ON CONFLICT (creator, platform_id) DO UPDATE SET sessions = session_count.sessions + 1
"""

_DESCRIBE = """
SELECT session_id, platform_id, creator, display_name, is_group, created_at, updated_at
FROM chat_session WHERE id = ?
"""

_RENAME = "UPDATE chat_session SET display_name = ? WHERE id = ?"
_COUNT_ONE_LESS = """
UPDATE session_count SET sessions = sessions - 1 WHERE creator = ? AND platform_id = ?
"""

_CLAIM = "UPDATE chat_session SET creator = ? WHERE id = ?"

_TOUCH = "UPDATE chat_session SET updated_at = ?, config_id = ? WHERE id = ?"


def find_session(db: peewee.Database, session_id: str) -> SessionRow | None:
    """Return the session of this name, whoever owns it."""
    row = db.execute_sql(_FIND, (session_id,)).fetchone()
    return None if row is None else SessionRow(*row)


def get_owned_session(db: peewee.Database, session_id: str, username: str) -> SessionRow:
    """Return a session of a username: the one check of every route that names a session.

    :raises ApiError: ``session_not_found``, or ``session_of_another_user``.
    """
    session = find_session(db, session_id)
    if session is None:
        raise ApiError("session_not_found", f"session not found: {session_id}")
    check_owner(session, username)
    return session


def check_owner(session: SessionRow, username: str) -> None:
    """:raises ApiError: ``session_of_another_user``."""
    if session.creator != username:
        raise ApiError("session_of_another_user", "session_id belongs to another username")


def create_session(
    db: peewee.Database,
    session_id: str,
    creator: str,
    *,
    platform_id: str = WEBCHAT,
    config_id: str | None = None,
    is_group: bool = False,
) -> SessionRow:
    """Make a session; the name must be free."""
    now = now_us()
    values = (session_id, platform_id, creator, int(is_group), config_id, now, now)
    (number,) = db.execute_sql(_INSERT, values).fetchone()
    db.execute_sql(_COUNT_ONE_MORE, (creator, platform_id))
    return SessionRow(number, session_id, platform_id, creator, None, config_id, 0)


def claim_session(db: peewee.Database, session: SessionRow, creator: str) -> SessionRow:
    """Give a session that nobody owns yet to its first user."""
    db.execute_sql(_CLAIM, (creator, session.id))
    db.execute_sql(_COUNT_ONE_LESS, (session.creator, session.platform_id))
    db.execute_sql(_COUNT_ONE_MORE, (creator, session.platform_id))
    return replace(session, creator=creator)


def touch_session(db: peewee.Database, session: SessionRow, config_id: str | None) -> None:
    """Note that a session was used, and with which config it goes on."""
    db.execute_sql(_TOUCH, (now_us(), config_id, session.id))


def name_session(db: peewee.Database, number: int, display_name: str) -> None:
    """Give a session its name unless somebody named it before."""
    (
        ChatSession.update(display_name=display_name)
        .where((ChatSession.id == number) & ChatSession.display_name.is_null())
        .execute(db)
    )


def rename_session(db: peewee.Database, number: int, display_name: str | None) -> None:
    """Give a session the name that its owner chose; None: it has none."""
    db.execute_sql(_RENAME, (display_name, number))


def describe_session(db: peewee.Database, session: SessionRow) -> dict[str, Any]:
    """Return a session as the list of sessions has it, and its config."""
    described = _describe(db.execute_sql(_DESCRIBE, (session.id,)).fetchone())
    return {**described, "config_id": session.config_id}


def forget_context(db: peewee.Database, number: int, last_message: int) -> None:
    """Keep everything up to a message from the model from now on."""
    ChatSession.update(context_after=last_message).where(ChatSession.id == number).execute(db)


def list_sessions(
    db: peewee.Database,
    creator: str,
    *,
    platform_id: str = "",
    order_by: str = "created_at",
    page: int,
    page_size: int,
) -> tuple[list[dict[str, Any]], int]:
    """Return one page of a creator's sessions, newest first, and their total.

    The offset is walked in an index that holds nothing else than this
    creator's entries, from whichever end is nearer; only the page's own rows
    are read.

    :param order_by: ``created_at`` or ``updated_at``.
    """
    total = _count_sessions(db, creator, platform_id)
    offset = (page - 1) * page_size
    size = min(page_size, total - offset)
    if size <= 0:
        return [], total
    where = "creator = ?" + (" AND platform_id = ?" if platform_id else "")
    from_end = offset > total // 2
    direction, skip = ("ASC", total - offset - size) if from_end else ("DESC", offset)
    sql = f"""
        SELECT session_id, platform_id, creator, display_name, is_group, created_at, updated_at
        FROM chat_session WHERE id IN (
            SELECT id FROM chat_session WHERE {where}
            ORDER BY {order_by} {direction}, id {direction} LIMIT ? OFFSET ?)
        ORDER BY {order_by} DESC, id DESC
    """
    names = (creator, platform_id) if platform_id else (creator,)
    rows = db.execute_sql(sql, (*names, size, skip)).fetchall()
    return [_describe(row) for row in rows], total


def _count_sessions(db: peewee.Database, creator: str, platform_id: str) -> int:
    query = SessionCount.select(peewee.fn.SUM(SessionCount.sessions)).where(
        SessionCount.creator == creator
    )
    if platform_id:
        query = query.where(SessionCount.platform_id == platform_id)
    return int(query.scalar(db) or 0)


def _describe(row: tuple[Any, ...]) -> dict[str, Any]:
    session_id, platform_id, creator, display_name, is_group, created_at, updated_at = row
    return {
        "session_id": session_id,
        "platform_id": platform_id,
        "creator": creator,
        "display_name": display_name,
        "is_group": is_group,
        "created_at": to_iso(created_at),
        "updated_at": to_iso(updated_at),
    }
