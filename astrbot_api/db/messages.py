"""The messages of the sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from ..runtime.clock import now_us, to_iso
from .locks import lock_session

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
    (session, platform_id, sender_id, sender_name, content, llm_checkpoint_id, created_at, pushed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
RETURNING id
"""

_BEFORE = """
SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM message
WHERE session = ? AND id > ? AND id < ? ORDER BY id DESC LIMIT ?
"""

_FIND = """
SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM message
WHERE session = ? AND id = ?
"""

_PUSHED = """
SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM message
WHERE session = ? AND pushed = 1 AND id > ? ORDER BY id LIMIT ?
"""

_LAST_PUSHED = "SELECT MAX(id) FROM message WHERE session = ? AND pushed = 1"

_NEWEST_PUSHED = "SELECT MAX(id) FROM message WHERE pushed = 1"

_PUSHED_SESSIONS = """
SELECT MAX(id), session FROM message WHERE pushed = 1 AND id > ? GROUP BY session
"""


# How the stored JSON of a user's message begins: ``type`` is written first.
_LATER_USER_MESSAGE = """
SELECT 1 FROM message
WHERE session = ? AND id > ? AND substr(content, 1, 14) = '{"type":"user"' LIMIT 1
"""

#: How far a message may be from another one of its turn.
_TURN_SPAN = 1000

_EARLIER_OF_TURN = """
SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM (
    SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM message
    WHERE session = ? AND id < ? ORDER BY id DESC LIMIT ?) AS near
WHERE llm_checkpoint_id = ? ORDER BY id LIMIT 1
"""

_LATER_OF_TURN = """
SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM (
    SELECT id, sender_name, content, llm_checkpoint_id, created_at FROM message
    WHERE session = ? AND id > ? ORDER BY id LIMIT ?) AS near
WHERE llm_checkpoint_id = ? ORDER BY id DESC LIMIT 1
"""

_PAGE_OF = "SELECT id, sender_id, sender_name, content, llm_checkpoint_id, created_at FROM message"

_NEWEST_FIRST = f"{_PAGE_OF} WHERE session = ? AND id < ? ORDER BY id DESC LIMIT ?"

_OLDEST_FIRST = f"{_PAGE_OF} WHERE session = ? AND id > ? ORDER BY id LIMIT ?"

#: Beyond this a page of messages ends, so that no answer is ever huge.
_MAX_PAGE_CHARS = 4_000_000


def add_message(
    db: peewee.Database,
    session: int,
    platform_id: str,
    sender: str,
    content: dict[str, Any],
    llm_checkpoint_id: str | None,
    *,
    sender_name: str = "",
    pushed: bool = False,
) -> tuple[int, int]:
    """Store a message; its number is above that of every message of the session before it.

    :param sender: The username, or :data:`BOT`.
    :param sender_name: How the sender is called, where that is another name.
    :param pushed: Whether it was pushed: open streams of the session show it.
    :returns: Its id and its time in microseconds.
    """
    lock_session(db, session)
    now = now_us()
    text = orjson.dumps(content).decode()
    name = sender_name or sender
    values = (session, platform_id, sender, name, text, llm_checkpoint_id, now, int(pushed))
    return db.execute_sql(_INSERT, values).fetchone()[0], now


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


def list_page(
    db: peewee.Database, session: int, *, cursor: int | None, limit: int, newest_first: bool
) -> tuple[list[dict[str, Any]], int | None]:
    """Return the messages that come after a cursor, as clients are shown them.

    A page costs the same wherever in the session it is. It ends early where
    its messages are long; it always has one.

    :param cursor: What the page before returned; None: the first page.
    :returns: The page, and the cursor of the next one; None: this is the last.
    """
    if cursor is None:
        cursor = 2**63 - 1 if newest_first else 0
    sql = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
    rows = db.execute_sql(sql, (session, cursor, limit + 1))
    page: list[dict[str, Any]] = []
    chars = 0
    for row in rows:
        chars += len(row[3])
        if page and (len(page) == limit or chars > _MAX_PAGE_CHARS):
            rows.close()
            return page, page[-1]["id"]
        page.append(describe_message(row))
    return page, None


def describe_message(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return a row of :data:`_PAGE_OF` for :mod:`orjson`; its content stays JSON text."""
    number, sender_id, sender_name, content, checkpoint, created_at = row
    return {
        "id": number,
        "sender_id": sender_id,
        "sender_name": sender_name,
        "content": orjson.Fragment(content),
        "llm_checkpoint_id": checkpoint,
        "created_at": to_iso(created_at),
    }


def get_described(db: peewee.Database, number: int) -> dict[str, Any]:
    """Return one message as :func:`list_page` does; it must exist."""
    return describe_message(db.execute_sql(f"{_PAGE_OF} WHERE id = ?", (number,)).fetchone())


def find_content(db: peewee.Database, number: int) -> dict[str, Any] | None:
    """Return the content of a message, whosever it is."""
    row = db.execute_sql("SELECT content FROM message WHERE id = ?", (number,)).fetchone()
    return None if row is None else orjson.loads(row[0])


def has_later_user_message(db: peewee.Database, session: int, number: int) -> bool:
    """Return whether the user said something after this message."""
    return db.execute_sql(_LATER_USER_MESSAGE, (session, number)).fetchone() is not None


def find_of_turn(
    db: peewee.Database, session: int, message: MessageRow, *, later: bool
) -> MessageRow | None:
    """Return the first message of a message's turn before it, or the last one after it."""
    if message.llm_checkpoint_id is None:
        return None
    sql = _LATER_OF_TURN if later else _EARLIER_OF_TURN
    values = (session, message.id, _TURN_SPAN, message.llm_checkpoint_id)
    row = db.execute_sql(sql, values).fetchone()
    return None if row is None else row_to_message(row)


def replace_content(db: peewee.Database, number: int, content: dict[str, Any]) -> None:
    """Put another content in the place of a message's; its links to attachments go."""
    sql = "UPDATE message SET content = ? WHERE id = ?"
    db.execute_sql(sql, (orjson.dumps(content).decode(), number))
    db.execute_sql("DELETE FROM message_attachment WHERE message = ?", (number,))


def delete_message(db: peewee.Database, number: int) -> None:
    """Remove a message and its links to attachments."""
    db.execute_sql("DELETE FROM message_attachment WHERE message = ?", (number,))
    db.execute_sql("DELETE FROM message WHERE id = ?", (number,))


def list_pushed(db: peewee.Database, session: int, after: int, limit: int) -> list[MessageRow]:
    """Return the pushed messages of a session with ``id > after``, oldest first."""
    rows = db.execute_sql(_PUSHED, (session, after, limit)).fetchall()
    return [row_to_message(row) for row in rows]


def find_last_pushed(db: peewee.Database, session: int) -> int:
    """Return the id of the newest pushed message of a session; 0: there is none."""
    return db.execute_sql(_LAST_PUSHED, (session,)).fetchone()[0] or 0


def find_newest_pushed(db: peewee.Database) -> int:
    """Return the id of the newest pushed message of all; 0: there is none."""
    return db.execute_sql(_NEWEST_PUSHED).fetchone()[0] or 0


def list_pushed_sessions(db: peewee.Database, after: int) -> list[tuple[int, int]]:
    """Return the newest id and the session of what was pushed after a message."""
    return [tuple(row) for row in db.execute_sql(_PUSHED_SESSIONS, (after,)).fetchall()]


def row_to_message(row: tuple[Any, ...]) -> MessageRow:
    """Return a row of id, sender_name, content, llm_checkpoint_id and created_at."""
    number, sender_name, content, checkpoint, created_at = row
    return MessageRow(number, sender_name, orjson.loads(content), checkpoint, created_at)
