"""Messages of messengers whose files are being fetched, and by which worker."""

from __future__ import annotations

import time
from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us
from .inbound import to_key


@dataclass(frozen=True, slots=True)
class PendingRow:
    """A message that has no turn yet.

    :param event_key: Its event's id as it is stored.
    :param message: As JSON.
    :param received_at: In microseconds.
    """

    bot_id: str
    event_key: str
    worker_id: str
    message: str
    received_at: int


_INSERT = """
INSERT INTO inbound_pending (bot_id, event_id, worker_id, message, received_at)
VALUES (?, ?, ?, ?, ?) ON CONFLICT (bot_id, event_id) DO NOTHING
"""

_LIST = """
SELECT bot_id, event_id, worker_id, message, received_at FROM inbound_pending
WHERE worker_id = ? OR worker_id NOT IN (SELECT worker_id FROM worker WHERE lease_until > ?)
ORDER BY received_at LIMIT ?
"""

_CLAIM = """
UPDATE inbound_pending SET worker_id = ? WHERE bot_id = ? AND event_id = ? AND worker_id = ?
"""


def add_pending(
    db: peewee.Database, bot_id: str, event_id: str, worker_id: str, message: str
) -> bool:
    """Store a message. False: it is stored already."""
    values = (bot_id, to_key(event_id), worker_id, message, now_us())
    return bool(db.execute_sql(_INSERT, values).rowcount)


def list_pending(db: peewee.Database, worker_id: str, limit: int) -> list[PendingRow]:
    """Return the oldest messages of a worker, and of those that have died."""
    rows = db.execute_sql(_LIST, (worker_id, time.time(), limit)).fetchall()
    return [PendingRow(*row) for row in rows]


def claim_pending(db: peewee.Database, row: PendingRow, worker_id: str) -> bool:
    """Make a message a worker's. False: another one was first."""
    values = (worker_id, row.bot_id, row.event_key, row.worker_id)
    return bool(db.execute_sql(_CLAIM, values).rowcount)


def drop_pending(db: peewee.Database, bot_id: str, event_key: str) -> None:
    """Forget a message: it has its turn, or never will."""
    sql = "DELETE FROM inbound_pending WHERE bot_id = ? AND event_id = ?"
    db.execute_sql(sql, (bot_id, event_key))
