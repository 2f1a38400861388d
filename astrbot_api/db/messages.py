"""The messages of the sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from ..clock import now_us

#: ``sender_id`` of every message that is not the user's.
BOT = "bot"


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message; ``content`` as the contract has it: ``{"type", "message", …}``.

    The messages of one turn have the same ``llm_checkpoint_id``; one that was
    pushed has none.
    """

    id: int
    sender_name: str
    content: dict[str, Any]
    llm_checkpoint_id: str | None
    created_at: int


_INSERT = """
INSERT INTO message
    (session, platform_id, sender_id, sender_name, content, llm_checkpoint_id, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_BEFORE = """
SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM message
WHERE session = ? AND id > ? AND id < ? ORDER BY id DESC LIMIT ?
"""

_FIND = """
SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM message
WHERE session = ? AND id = ?
"""


def add_message(
    db: peewee.Database,
    session: int,
    platform_id: str,
    sender: str,
    content: dict[str, Any],
    llm_checkpoint_id: str | None,
) -> tuple[int, int]:
    """Store a message.

    :param sender: The username, or :data:`BOT`.
    :returns: Its id and its time in microseconds.
    """
    now = now_us()
    text = orjson.dumps(content).decode()
    cursor = db.execute_sql(
        _INSERT, (session, platform_id, sender, sender, text, llm_checkpoint_id, now)
    )
    return cursor.lastrowid, now


def list_messages_before(
    db: peewee.Database, session: int, *, before: int, after: int = 0, limit: int
) -> list[MessageRow]:
    """Return the newest messages with ``after < id < before``, newest first."""
    rows = db.execute_sql(_BEFORE, (session, after, before, limit)).fetchall()
    return [row_to_message(row) for row in rows]


def find_message(db: peewee.Database, session: int, message_id: int) -> MessageRow | None:
    """Return a message of this session, never of another's."""
    row = db.execute_sql(_FIND, (session, message_id)).fetchone()
    return None if row is None else row_to_message(row)


def row_to_message(row: tuple[Any, ...]) -> MessageRow:
    """Return a row of id, sender_name, content, llm_checkpoint_id and created_at."""
    number, sender_name, content, checkpoint, created_at = row
    return MessageRow(number, sender_name, orjson.loads(content), checkpoint, created_at)
