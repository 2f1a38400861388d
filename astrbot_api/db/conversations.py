"""The sessions of all users, in pages, for callers with access to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import peewee

from .models.sessions import ChatSession
from .sessions import NOBODY


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
    query = ChatSession.select()
    if words:
        shown = (ChatSession.display_name, ChatSession.creator, ChatSession.session_id)
        found = [field.contains(words) for field in shown]
        query = query.where(found[0] | found[1] | found[2])
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
    page = query.order_by(*newest).limit(limit).offset(offset)
    return list(page.dicts().execute(db)), int(query.count(db))
