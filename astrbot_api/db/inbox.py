"""The newest messages of all sessions, by username."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, reduce
from operator import or_
from typing import Any, NamedTuple

import peewee

from ..event_lines import MAX_LINE_BYTES
from .message_pages import SHOWN_FIELDS, describe_message
from .models.sessions import ChatSession, Message
from .pages import length_of
from .prepared import Prepared, param


class NewMessage(NamedTuple):
    """A stored message: its number and the username of its session."""

    number: int
    creator: str


_NEWEST = Prepared(Message.select(peewee.fn.MAX(Message.id)))

# Without the content column, so that long texts are not read.
_LIST_NEW = Prepared(
    Message.select(Message.id, ChatSession.creator)
    .join(ChatSession, on=(ChatSession.id == Message.session))
    .where((Message.id > param("after")) & (Message.id <= param("until")))
    .order_by(Message.id)
)


_CONTENT_AT = [field.name for field in SHOWN_FIELDS].index("content")


class FoundMessage(NamedTuple):
    """A message as clients see it, its session, and its size for its payer's quota."""

    session_id: str
    message: dict[str, Any]
    size_bytes: int


def _make_content(count: int) -> Any:
    """Return the content column, or NULL for a message that exceeds the line limit.

    The size of most messages is known from ``size_bytes``. Measuring a content on SQLite
    reads it, so a message that was too long before is not measured again.
    """
    known = reduce(
        or_,
        (
            (Message.id == param(f"number{place}")) & (Message.size_bytes == param(f"long{place}"))
            for place in range(count)
        ),
    )
    short = (Message.size_bytes > 0) & (Message.size_bytes <= MAX_LINE_BYTES)
    fits = length_of(Message.content) <= MAX_LINE_BYTES
    cases = [(short, Message.content), (known, peewee.SQL("NULL")), (fits, Message.content)]
    return peewee.Case(None, cases)


@cache
def _read(count: int) -> Prepared:
    """Return the statement that reads ``count`` messages."""
    content = _make_content(count)
    fields = [content if field.name == "content" else field for field in SHOWN_FIELDS]
    return Prepared(
        Message.select(ChatSession.session_id, Message.size_bytes, *fields)
        .join(ChatSession, on=(ChatSession.id == Message.session))
        .where(
            Message.id.in_([param(f"number{place}") for place in range(count)])
            & (ChatSession.creator == param("creator"))
        )
        .order_by(Message.id)
    )


def find_newest(db: peewee.Database) -> int:
    """Return the number of the newest message, or 0."""
    return _NEWEST.execute(db).fetchone()[0] or 0


def list_new(db: peewee.Database, after: int, until: int) -> list[NewMessage]:
    """Return the messages with ``after < number <= until``, in order."""
    return [NewMessage(*row) for row in _LIST_NEW.execute(db, after=after, until=until)]


def read_messages(
    db: peewee.Database, numbers: list[int], creator: str, *, long: Mapping[int, int]
) -> list[FoundMessage]:
    """Return the existing messages of one username.

    The content of a message that exceeds a line
    (:data:`~astrbot_api.event_lines.MAX_LINE_BYTES`) is None.

    :param long: Messages that exceeded it before: number -> ``size_bytes``.
    """
    values = {f"number{place}": number for place, number in enumerate(numbers)}
    sizes = {f"long{place}": long.get(number, -1) for place, number in enumerate(numbers)}
    rows = _read(len(numbers)).execute(db, creator=creator, **values, **sizes)
    return [FoundMessage(row[0], _describe(row[2:]) | {"user_id": row[0]}, row[1]) for row in rows]


def _describe(row: tuple[Any, ...]) -> dict[str, Any]:
    content = row[_CONTENT_AT]
    if content is not None:
        return describe_message(row)
    shown = describe_message((*row[:_CONTENT_AT], "null", *row[_CONTENT_AT + 1 :]))
    return {**shown, "content": None}
