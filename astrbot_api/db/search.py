"""Search the messages of one session; list and search all sessions for the server's owner."""

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
from .models import ChatSession, Message
from .sessions import SessionRow

#: How far into each message a search looks.
MAX_SCANNED_CHARS = 20_000

#: How many of the newest sessions a search looks at.
_MAX_SESSIONS_SCANNED = 20_000


@dataclass(frozen=True, slots=True)
class SearchedMessage:
    """The beginning of a message.

    :param text: What was said in its first :data:`MAX_SCANNED_CHARS` characters, in one line.
    :param scanned_chars: How much was read for it.
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
    """What a search found in a page of messages.

    :param found: Newest first.
    :param last: Number of the page's oldest message, at which the next page begins; None:
        this is the last page.
    :param messages: How many it has; ``chars``: how much of them was read.
    """

    found: list[SearchedMessage]
    last: int | None
    messages: int
    chars: int


def search_page(
    db: peewee.Database, session: SessionRow, words: str, *, before: int | None, limit: int
) -> SearchedPage:
    """Search a page of a session's messages, newest first, without regard to case.

    An index of words would not serve. A trigram index (the one that knows Chinese) made a
    database of 60,000 messages 2.5 times as large and its inserts 2.5 times as slow, and its
    lists are of all sessions together: a search would cost what others have written.

    What was forgotten by ``/reset`` is not looked at, and neither is a message that waits
    for its answer: what asks for the search would find itself.

    :param before: ``last`` of the page before; None: this is the first.
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


#: A text of a message's JSON; its end may be missing.
_TEXT = re.compile(r'(?<!\\)"text":"((?:[^"\\]|\\.)*+)', re.DOTALL)


def _read_text(beginning: str) -> str:
    """Return the text of a message's JSON, which may be cut."""
    if len(beginning) <= MAX_SCANNED_CHARS:
        return plain_text(orjson.loads(beginning).get("message", []))
    # A cut within an escape leaves a piece of it.
    found = (re.sub(r"\\u[0-9a-fA-F]{0,3}$", "", one) for one in _TEXT.findall(beginning))
    return "".join(json.loads(f'"{one}"', strict=False) for one in found)


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
