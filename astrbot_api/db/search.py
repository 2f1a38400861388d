"""Search the messages of one session; list and search all sessions for the server's owner."""

from __future__ import annotations

from typing import Any

import orjson
import peewee

from ..runtime.clock import to_iso
from .messages import BOT, MESSAGE_FIELDS, MessageRow, row_to_message
from .models import ChatSession, Message
from .sessions import SessionRow

#: How many of a session's newest messages are looked at, how far into each,
#: and how many are returned: the search holds its worker while it lasts.
MAX_SCANNED = 5000
MAX_SCANNED_CHARS = 20_000
_MAX_RETURNED = 100

#: How many of the newest sessions a search looks at.
_MAX_SESSIONS_SCANNED = 20_000


def search_messages(db: peewee.Database, session: SessionRow, words: str) -> list[MessageRow]:
    """Return messages whose JSON has these words, newest first.

    What was forgotten by ``/reset`` is not found. The words may stand in a
    part that is no text: look again at what is returned.
    """
    # A message that waits for its answer is not history yet: what asks for the
    # search would find itself.
    answered = Message.select(peewee.fn.MAX(Message.id)).where(
        (Message.session == session.id) & (Message.sender_id == BOT)
    )
    newest = (
        Message.select(*MESSAGE_FIELDS)
        .where(
            (Message.session == session.id)
            & (Message.id > session.context_after)
            & (Message.id <= answered)
        )
        .order_by(Message.id.desc())
        .limit(MAX_SCANNED)
    ).alias("newest")
    text = peewee.fn.SUBSTR(newest.c.content, 1, MAX_SCANNED_CHARS)
    found = (
        peewee.Select([newest], [peewee.SQL("*")])
        # As the words stand in JSON.
        .where(text.contains(orjson.dumps(words).decode()[1:-1]))
        .order_by(newest.c.id.desc())
        .limit(_MAX_RETURNED)
    )
    return [row_to_message(row) for row in found.tuples().execute(db)]


def list_all_sessions(
    db: peewee.Database, *, words: str = "", before: int | None = None, limit: int = 30
) -> tuple[list[dict[str, Any]], int | None]:
    """Return sessions, newest first.

    :param words: What stands in the title, the username or the id.
    :param before: What the page before returned.
    :returns: The page, and what the next one begins with; None: this is the last.
    """
    # By number: an index that is there, and the newest are its end.
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
        query = query.where(
            ChatSession.id.in_(newest),
            ChatSession.display_name.contains(words)
            | ChatSession.creator.contains(words)
            | ChatSession.session_id.contains(words),
        )
    rows = list(query.limit(limit + 1).dicts().execute(db))
    page = [
        {**row, "created_at": to_iso(row["created_at"]), "updated_at": to_iso(row["updated_at"])}
        for row in rows[:limit]
    ]
    numbers = [row.pop("id") for row in page]
    return page, numbers[-1] if len(rows) > limit else None
