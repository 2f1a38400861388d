"""The sessions of all users, in pages, for the owner and for callers with access to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import peewee

from ..runtime.clock import to_iso
from .models.sessions import ChatSession
from .sessions import NOBODY

#: Maximum number of the newest sessions that a search of the owner reads.
_MAX_SESSIONS_SCANNED = 20_000


def list_conversations(
    db: peewee.Database,
    *,
    words: str = "",
    username: str | None = None,
    prefix: str | None = None,
    hidden: Collection[str] = (),
    session_id: str = "",
    platforms: Collection[str] = (),
    limit: int,
    offset: int,
) -> tuple[list[dict[str, Any]], int]:
    """Return a page of sessions, most recently used first, and their total.

    :param words: Text that the title, the username or the session id must contain.
    :param prefix: Only sessions of users with this prefix.
    :param hidden: Exclude sessions of these users.
    """
    query = ChatSession.select(ChatSession.id)
    if words:
        query = query.where(_contains(words))
    if username is not None:
        query = query.where(ChatSession.creator == username)
    if prefix is not None:
        query = query.where(ChatSession.creator.startswith(prefix))
    if session_id:
        query = query.where(ChatSession.session_id == session_id)
    if platforms:
        query = query.where(ChatSession.platform_id.in_(list(platforms)))
    # Exclude sessions that have no owner yet.
    query = query.where(ChatSession.creator.not_in([*hidden, NOBODY]))
    newest = (ChatSession.updated_at.desc(), ChatSession.id.desc())
    # Sorting whole rows takes four times as long as sorting their numbers.
    numbers = query.order_by(*newest).limit(limit).offset(offset)
    page = ChatSession.select().where(ChatSession.id.in_(numbers)).order_by(*newest)
    return list(page.dicts().execute(db)), int(query.count(db))


def list_all_sessions(
    db: peewee.Database, *, words: str, before: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Return a page of sessions, newest first.

    :param words: As in :func:`list_conversations`.
    :param before: The cursor from the previous page.
    :returns: The page, and the cursor of the next page, or None on the last page.
    """
    # By number: the primary key is an index, and the newest rows are at its end.
    query = ChatSession.select(
        ChatSession.id,
        ChatSession.session_id,
        ChatSession.platform_id,
        ChatSession.creator,
        ChatSession.display_name,
        ChatSession.config_id,
        ChatSession.created_at,
        ChatSession.updated_at,
    ).order_by(ChatSession.id.desc())
    if before is not None:
        query = query.where(ChatSession.id < before)
    if words:
        recent = ChatSession.alias()
        newest = recent.select(recent.id).order_by(recent.id.desc()).limit(_MAX_SESSIONS_SCANNED)
        query = query.where(ChatSession.id.in_(newest), _contains(words))
    rows = list(query.limit(limit + 1).dicts().execute(db))
    page = [
        {**row, "created_at": to_iso(row["created_at"]), "updated_at": to_iso(row["updated_at"])}
        for row in rows[:limit]
    ]
    numbers = [row.pop("id") for row in page]
    return page, numbers[-1] if len(rows) > limit else None


def _contains(words: str) -> peewee.Expression:
    fields = (ChatSession.display_name, ChatSession.creator, ChatSession.session_id)
    title, username, session_id = (one.contains(words) for one in fields)
    return title | username | session_id
