"""Search in one session's messages, and the list of all sessions for the owner."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from ..messages import plain_text
from ..runtime.clock import to_iso
from .messages import BOT
from .models.sessions import ChatSession, Message
from .sessions import SessionRow

#: Maximum number of characters of each message that a search reads.
MAX_SCANNED_CHARS = 20_000

#: Maximum number of the newest sessions that a search reads.
_MAX_SESSIONS_SCANNED = 20_000


@dataclass(frozen=True, slots=True)
class SearchedMessage:
    """The beginning of a message.

    :param text: The text in its first :data:`MAX_SCANNED_CHARS` characters, in one line.
    :param scanned_chars: Number of characters that were read.
    """

    id: int
    sender_name: str
    created_at: int
    text: str
    scanned_chars: int


_SEARCHED = (
    Message.id,
    Message.sender_name,
    Message.created_at,
    peewee.fn.SUBSTR(Message.content, 1, MAX_SCANNED_CHARS + 1),
)


@dataclass(frozen=True, slots=True)
class SearchedPage:
    """The search results of one page of messages.

    :param found: Matching messages, newest first.
    :param last: Number of the page's oldest message, the cursor of the next page. None on the
        last page.
    :param messages: Number of messages in the page; ``chars`` is the number of read characters.
    """

    found: list[SearchedMessage]
    last: int | None
    messages: int
    chars: int


def search_page(
    db: peewee.Database, session: SessionRow, words: str, *, before: int | None, limit: int
) -> SearchedPage:
    """Search a page of a session's messages, newest first, ignoring case.

    There is no full-text index. A trigram index (it supports Chinese) made a database of
    60,000 messages 2.5 times as large, and inserts 2.5 times as slow. It also covers all
    sessions together, so the cost of a search would depend on other users' messages.

    Messages before ``/reset`` are skipped. So are messages without an answer yet, because the
    request for the search would match itself.

    :param before: ``last`` of the previous page, or None for the first page.
    """
    page = _list_searchable(db, session, before=before, limit=limit)
    folded = words.casefold()
    return SearchedPage(
        found=[one for one in page if folded in one.text.casefold()],
        last=page[-1].id if len(page) == limit else None,
        messages=len(page),
        chars=sum(one.scanned_chars for one in page),
    )


def _list_searchable(
    db: peewee.Database, session: SessionRow, *, before: int | None, limit: int
) -> list[SearchedMessage]:
    answered = Message.select(peewee.fn.MAX(Message.id)).where(
        (Message.session == session.id) & (Message.sender_id == BOT)
    )
    query = Message.select(*_SEARCHED).where(
        (Message.session == session.id)
        & (Message.id > session.context_after)
        & (Message.id <= answered if before is None else Message.id < before)
    )
    rows = query.order_by(Message.id.desc()).limit(limit).tuples().execute(db)
    return [
        SearchedMessage(
            number, name, created_at, " ".join(_read_text(beginning).split()), len(beginning)
        )
        for number, name, created_at, beginning in rows
    ]


#: A text in a message's JSON, which may be truncated.
_TEXT = re.compile(r'(?<!\\)"text":"((?:[^"\\]|\\.)*+)', re.DOTALL)


def _read_text(beginning: str) -> str:
    """Return the texts of a message's JSON, which may be truncated."""
    if len(beginning) <= MAX_SCANNED_CHARS:
        return plain_text(orjson.loads(beginning).get("message", []))
    # A cut within an escape sequence leaves a part of it.
    found = (re.sub(r"\\u[0-9a-fA-F]{0,3}$", "", one) for one in _TEXT.findall(beginning))
    return "".join(json.loads(f'"{one}"', strict=False) for one in found)


def list_all_sessions(
    db: peewee.Database, *, words: str = "", before: int | None = None, limit: int = 30
) -> tuple[list[dict[str, Any]], int | None]:
    """Return a page of sessions, newest first.

    :param words: Text that the title, the username or the session id must contain.
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
