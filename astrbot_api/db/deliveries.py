"""The outbox: what is to be sent, in the order of each target, at a constant cost.

Of the deliveries of one target only the oldest that is not finished is its
*head*, and only heads are claimed; the end of one makes the next one head. So
a target that does not answer costs nothing while its line waits.

A claim holds as long as its worker's lease: a worker that died leaves its
deliveries to the others, and one that was only thought dead is told so by the
first write that it tries.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from ..runtime.clock import now_us
from .dialect import is_postgres
from .locks import lock_name

#: States of a delivery that is not finished.
OPEN = ("queued", "sending")

#: What a delivery to another system than a messenger has before its name.
EVENT_PREFIX = "event:"


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery; ``content`` is what is sent: segments, or an event's object.

    :param sent_parts: How many segments the platform has confirmed.
    :param sent_chars: How many characters of the next one, a text.
    :param traceparent: What it is a part of, in a trace.
    """

    id: int
    delivery_id: str
    platform_id: str
    target: str
    content: Any
    reply_to: str | None
    status: str
    attempts: int
    sent_parts: int
    sent_chars: int
    platform_ids: list[str]
    error: str | None
    due_at: int
    created_at: int
    updated_at: int
    finished_at: int | None
    traceparent: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it is sent, or failed for good."""
        return self.status not in OPEN


_COLUMNS = (
    "id, delivery_id, platform_id, target, content, reply_to, status, attempts, sent_parts, "
    "sent_chars, platform_ids, error, due_at, created_at, updated_at, finished_at, traceparent"
)

_INSERT = """
INSERT INTO delivery
    (delivery_id, platform_id, target, key_id, content, reply_to, status, head, platform_ids,
     due_at, created_at, updated_at, finished_at, traceparent)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_LINE = """
SELECT COUNT(*) FROM (
    SELECT 1 FROM delivery WHERE target = ? AND status IN ('queued', 'sending') LIMIT ?
) AS line
"""

_FREE_DEAD = """
UPDATE delivery SET status = 'queued', claimed_by = NULL
WHERE status = 'sending'
  AND claimed_by NOT IN (SELECT worker_id FROM worker WHERE lease_until > ?)
"""

_CLAIM = f"""
UPDATE delivery SET status = 'sending', claimed_by = ?, attempts = attempts + 1, updated_at = ?
WHERE status = 'queued' AND id IN (
    SELECT id FROM delivery
    WHERE status = 'queued' AND head = 1 AND due_at <= ? {{but_not}}
    ORDER BY due_at, id LIMIT ?{{skip}})
RETURNING {_COLUMNS}
"""

_NEXT_DUE = "SELECT MIN(due_at) FROM delivery WHERE status = 'queued' AND head = 1 {but_not}"

_HAS_DEAD = """
SELECT 1 FROM delivery WHERE status = 'sending'
  AND claimed_by NOT IN (SELECT worker_id FROM worker WHERE lease_until > ?) LIMIT 1
"""

_PROGRESS = """
UPDATE delivery SET sent_parts = ?, sent_chars = ?, platform_ids = ?, updated_at = ?
WHERE id = ? AND claimed_by = ? AND status = 'sending'
"""

_FINISH = """
UPDATE delivery SET status = ?, error = ?, platform_ids = ?, updated_at = ?, finished_at = ?,
    claimed_by = NULL, head = 0
WHERE id = ? AND claimed_by = ? AND status = 'sending'
"""

_REQUEUE = """
UPDATE delivery SET status = 'queued', error = ?, due_at = ?, updated_at = ?, claimed_by = NULL
WHERE id = ? AND claimed_by = ? AND status = 'sending'
"""

_FREE_OWN = """
UPDATE delivery SET status = 'queued', claimed_by = NULL
WHERE status = 'sending' AND claimed_by = ?
"""

_PROMOTE = """
UPDATE delivery SET head = 1 WHERE id = (
    SELECT MIN(id) FROM delivery WHERE target = ? AND status IN ('queued', 'sending'))
"""

_PRUNE = """
DELETE FROM delivery WHERE id IN (
    SELECT id FROM delivery WHERE finished_at < ? ORDER BY finished_at LIMIT ?)
"""

_OF_PLATFORM = f"""
SELECT {_COLUMNS} FROM delivery WHERE platform_id = ? ORDER BY id DESC LIMIT ?
"""


def add_delivery(
    db: peewee.Database,
    *,
    platform_id: str,
    target: str,
    content: Any,
    key_id: str | None = None,
    reply_to: str | None = None,
    ordered: bool = True,
    traceparent: str | None = None,
) -> str:
    """Put a delivery at the end of its target's line; return its ``delivery_id``.

    :param ordered: False: it does not wait for others of the same target.
    :param traceparent: What it is a part of, in a trace.
    """
    if ordered:
        lock_name(db, "delivery", target)
    delivery_id, now = str(uuid.uuid4()), now_us()
    head = not ordered or count_line(db, target, 1) == 0
    values = (
        delivery_id, platform_id, target, key_id, orjson.dumps(content).decode(), reply_to,
        "queued", int(head), "[]", now, now, now, None, traceparent,
    )  # fmt: skip
    db.execute_sql(_INSERT, values)
    return delivery_id


def add_sent(
    db: peewee.Database,
    *,
    platform_id: str,
    target: str,
    content: Any,
    key_id: str | None,
    platform_ids: Sequence[str],
) -> str:
    """Note what has arrived already, as in a web chat; return its ``delivery_id``."""
    delivery_id, now = str(uuid.uuid4()), now_us()
    values = (
        delivery_id, platform_id, target, key_id, orjson.dumps(content).decode(), None,
        "sent", 0, orjson.dumps(list(platform_ids)).decode(), now, now, now, now, None,
    )  # fmt: skip
    db.execute_sql(_INSERT, values)
    return delivery_id


def count_line(db: peewee.Database, target: str, limit: int) -> int:
    """Count the unfinished deliveries of a target, up to a limit."""
    return int(db.execute_sql(_LINE, (target, limit)).fetchone()[0])


def find_delivery(db: peewee.Database, delivery_id: str) -> DeliveryRow | None:
    """Return the delivery of this id."""
    sql = f"SELECT {_COLUMNS} FROM delivery WHERE delivery_id = ?"
    row = db.execute_sql(sql, (delivery_id,)).fetchone()
    return None if row is None else _to_row(row)


def find_deliveries(db: peewee.Database, ids: Sequence[str]) -> dict[str, DeliveryRow]:
    """Return those of these deliveries that there are, by their ids."""
    marks = ", ".join("?" * len(ids))
    sql = f"SELECT {_COLUMNS} FROM delivery WHERE delivery_id IN ({marks})"
    rows = [_to_row(row) for row in db.execute_sql(sql, list(ids)).fetchall()]
    return {row.delivery_id: row for row in rows}


def list_newest(db: peewee.Database, platform_id: str, limit: int) -> list[DeliveryRow]:
    """Return the newest deliveries of one bot, newest first."""
    return [_to_row(row) for row in db.execute_sql(_OF_PLATFORM, (platform_id, limit)).fetchall()]


def next_due(db: peewee.Database, busy: Sequence[str] = (), *, judge: bool = True) -> int | None:
    """Return when the next delivery is due, in microseconds; now for a dead worker's.

    :param busy: Platforms that do not count.
    :param judge: Whether a lease that has run out means that its worker is dead.
    """
    if judge and db.execute_sql(_HAS_DEAD, (time.time(),)).fetchone() is not None:
        return now_us()
    sql = _NEXT_DUE.format(but_not=_but_not(busy))
    due: int | None = db.execute_sql(sql, list(busy)).fetchone()[0]
    return due


def claim(
    db: peewee.Database,
    worker_id: str,
    limit: int,
    busy: Sequence[str] = (),
    *,
    judge: bool = True,
) -> list[DeliveryRow]:
    """Take the deliveries that are due, and those of workers that died.

    :param busy: Platforms of which none is taken.
    :param judge: Whether a lease that has run out means that its worker is dead.
    """
    now = now_us()
    if judge:
        db.execute_sql(_FREE_DEAD, (time.time(),))
    # On PostgreSQL others claim at the same time: each takes what is left.
    skip = " FOR UPDATE SKIP LOCKED" if is_postgres(db) else ""
    sql = _CLAIM.format(but_not=_but_not(busy), skip=skip)
    rows = db.execute_sql(sql, (worker_id, now, now, *busy, limit)).fetchall()
    return sorted((_to_row(row) for row in rows), key=lambda one: one.id)


def _but_not(platforms: Sequence[str]) -> str:
    return f"AND platform_id NOT IN ({', '.join('?' * len(platforms))})" if platforms else ""


def note_progress(
    db: peewee.Database,
    delivery: DeliveryRow,
    worker_id: str,
    *,
    parts: int,
    chars: int,
    platform_ids: Sequence[str],
) -> bool:
    """Note what the platform has confirmed so far. False: the claim is lost."""
    ids = orjson.dumps(list(platform_ids)).decode()
    values = (parts, chars, ids, now_us(), delivery.id, worker_id)
    return bool(db.execute_sql(_PROGRESS, values).rowcount)


def finish(
    db: peewee.Database,
    delivery: DeliveryRow,
    worker_id: str,
    status: str,
    *,
    error: str | None,
    platform_ids: Sequence[str],
) -> bool:
    """End a delivery and let the next one of its target have its turn.

    :param status: ``sent`` or ``failed``.
    :returns: False: the claim is lost, and nothing is changed.
    """
    lock_name(db, "delivery", delivery.target)
    now = now_us()
    ids = orjson.dumps(list(platform_ids)).decode()
    values = (status, error, ids, now, now, delivery.id, worker_id)
    if not db.execute_sql(_FINISH, values).rowcount:
        return False
    db.execute_sql(_PROMOTE, (delivery.target,))
    return True


def requeue(
    db: peewee.Database, delivery: DeliveryRow, worker_id: str, *, error: str, due_at: int
) -> bool:
    """Have a delivery tried again later. False: the claim is lost."""
    values = (error, due_at, now_us(), delivery.id, worker_id)
    return bool(db.execute_sql(_REQUEUE, values).rowcount)


def free_own(db: peewee.Database, worker_id: str, sending: Sequence[int]) -> int:
    """Give back what this worker has claimed and is not sending; return how many."""
    marks = ", ".join("?" * len(sending))
    sql = _FREE_OWN + (f" AND id NOT IN ({marks})" if sending else "")
    return int(db.execute_sql(sql, (worker_id, *sending)).rowcount)


def prune(db: peewee.Database, *, keep_us: int, limit: int = 500) -> int:
    """Delete old finished deliveries, some at a time; return how many."""
    return int(db.execute_sql(_PRUNE, (now_us() - keep_us, limit)).rowcount)


def _to_row(row: Sequence[Any]) -> DeliveryRow:
    values = list(row)
    values[4] = orjson.loads(values[4])
    values[10] = orjson.loads(values[10])
    return DeliveryRow(*values)
