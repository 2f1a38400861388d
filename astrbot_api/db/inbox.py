"""The newest messages of all sessions, by whose they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import peewee

from .messages import describe_message


class NewMessage(NamedTuple):
    """A message that was stored: its number and the username of its session."""

    number: int
    creator: str


_NEWEST = "SELECT MAX(id) FROM message"

# Neither names the content: a row's long texts are not read.
_LIST_NEW = """
SELECT message.id, chat_session.creator FROM message
JOIN chat_session ON chat_session.id = message.session
WHERE message.id > ? AND message.id <= ? ORDER BY message.id
"""

_READ = """
SELECT chat_session.session_id, message.id, message.sender_id, message.sender_name,
    message.content, message.llm_checkpoint_id, message.created_at
FROM message JOIN chat_session ON chat_session.id = message.session
WHERE message.id IN ({marks}) AND chat_session.creator = ? ORDER BY message.id
"""


def find_newest(db: peewee.Database) -> int:
    """Return the number of the newest message; 0: there is none."""
    row = db.execute_sql(_NEWEST).fetchone()
    return row[0] or 0


def list_new(db: peewee.Database, after: int, until: int) -> list[NewMessage]:
    """Return the messages with ``after < number <= until``, in their order."""
    return [NewMessage(*row) for row in db.execute_sql(_LIST_NEW, (after, until)).fetchall()]


def read_messages(
    db: peewee.Database, numbers: list[int], creator: str
) -> list[tuple[str, dict[str, Any]]]:
    """Return messages of one username: session and message as clients see it."""
    marks = ", ".join("?" * len(numbers))
    rows = db.execute_sql(_READ.format(marks=marks), (*numbers, creator)).fetchall()
    return [(row[0], describe_message(row[1:])) for row in rows]
