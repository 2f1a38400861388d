"""Search in one session's messages."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import orjson
import peewee

from ..messages import plain_text
from .messages import BOT
from .models.sessions import Message
from .sessions import SessionRow

#: Maximum number of characters of each message that a search reads.
_MAX_SCANNED_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class SearchedMessage:
    """The beginning of a message.

    :param text: The text in its first :data:`_MAX_SCANNED_CHARS` characters, in one line.
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
    peewee.fn.SUBSTR(Message.content, 1, _MAX_SCANNED_CHARS + 1),
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
    if len(beginning) <= _MAX_SCANNED_CHARS:
        return plain_text(orjson.loads(beginning).get("message", []))
    # A cut within an escape sequence leaves a part of it.
    found = (re.sub(r"\\u[0-9a-fA-F]{0,3}$", "", one) for one in _TEXT.findall(beginning))
    return "".join(json.loads(f'"{one}"', strict=False) for one in found)
