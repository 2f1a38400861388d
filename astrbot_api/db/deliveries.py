"""The outbox: queued deliveries, ordered per target.

:mod:`astrbot_api.db.delivery_claims` gives them to the workers that send them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import orjson
import peewee

from ..runtime.clock import now_us
from . import counting, stored
from .locks import lock_name
from .models.deliveries import DELIVERY_UNFINISHED, Delivery
from .prepared import Prepared, equals, insert, param

#: States of an unfinished delivery.
OPEN = ("queued", "sending")

#: Prefix of the platform id and the target of a delivery to a webhook.
EVENT_PREFIX = "event:"


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery; ``content`` holds the segments of a message or the object of an event.

    :param sent_parts: Number of segments that the platform has confirmed.
    :param sent_chars: Number of confirmed characters of the next segment, a text.
    :param traceparent: The trace context that it belongs to.
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
        """Whether it was sent or has failed permanently."""
        return self.status not in OPEN


_NAMES = [field.name for field in fields(DeliveryRow)]
#: The columns of a :class:`DeliveryRow`, see :func:`to_rows`.
FIELDS = [getattr(Delivery, name) for name in _NAMES]

UNFINISHED_OF_TARGET = DELIVERY_UNFINISHED & equals(Delivery.target)

_LINE = Prepared(
    peewee.Select(
        [Delivery.select(Delivery.id).where(UNFINISHED_OF_TARGET).limit(param("limit"))],
        [peewee.fn.COUNT(peewee.SQL("1"))],
    )
)


def add_delivery(
    db: peewee.Database,
    *,
    platform_id: str,
    target: str,
    content: Any,
    key_id: str | None = None,
    payer: str | None = None,
    reply_to: str | None = None,
    ordered: bool = True,
    sent_as: Sequence[str] | None = None,
    traceparent: str | None = None,
) -> str:
    """Append a delivery to its target's queue, and return its ``delivery_id``.

    :param payer: The key whose quota counts it, or None.
    :param ordered: False if it need not wait for others of the same target.
    :param sent_as: Its ids on the platform if it is already delivered, as in a web chat.
    :param traceparent: The trace context that it belongs to.
    """
    delivery_id, now, queued = str(uuid.uuid4()), now_us(), sent_as is None
    if queued and ordered:
        lock_name(db, "delivery", target)
    payer, text = payer or stored.NOBODY, _dump(content)
    size = stored.size_of(text, target, traceparent)
    insert(
        db,
        Delivery,
        delivery_id=delivery_id,
        platform_id=platform_id,
        target=target,
        key_id=key_id,
        content=text,
        reply_to=reply_to,
        status="queued" if queued else "sent",
        head=int(queued and (not ordered or count_line(db, target, 1) == 0)),
        platform_ids=_dump(list(sent_as or ())),
        due_at=now,
        created_at=now,
        updated_at=now,
        finished_at=None if queued else now,
        traceparent=traceparent,
        payer=payer,
        size_bytes=size,
    )
    counting.add(db, payer, "deliveries", 1, size)
    return delivery_id


def count_line(db: peewee.Database, target: str, limit: int) -> int:
    """Count the unfinished deliveries of a target, up to a limit."""
    return int(_LINE.execute(db, target=target, limit=limit).fetchone()[0])


def find_delivery(db: peewee.Database, delivery_id: str) -> DeliveryRow | None:
    return find_deliveries(db, [delivery_id]).get(delivery_id)


def find_deliveries(db: peewee.Database, ids: Sequence[str]) -> dict[str, DeliveryRow]:
    """Return the existing deliveries among these ids, by id."""
    query = Delivery.select(*FIELDS).where(Delivery.delivery_id.in_(ids))
    return {row.delivery_id: row for row in to_rows(query.tuples().execute(db))}


def list_newest(db: peewee.Database, platform_id: str, limit: int) -> list[DeliveryRow]:
    """Return the newest deliveries of one bot, newest first."""
    query = Delivery.select(*FIELDS).where(Delivery.platform_id == platform_id)
    return to_rows(query.order_by(Delivery.id.desc()).limit(limit).tuples().execute(db))


def prune(db: peewee.Database, *, keep_us: int, limit: int = 500) -> int:
    """Delete at most ``limit`` old finished deliveries; return their number."""
    old = Delivery.select(Delivery.id).where(Delivery.finished_at < now_us() - keep_us)
    old = old.order_by(Delivery.finished_at).limit(limit)
    query = Delivery.delete().where(Delivery.id.in_(old))
    gone = query.returning(Delivery.payer, Delivery.size_bytes).tuples().execute(db)
    return counting.give_back(db, "deliveries", gone)


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def to_rows(rows: Iterable[Sequence[Any]]) -> list[DeliveryRow]:
    """Return rows of :data:`FIELDS` as objects."""
    found = []
    for row in rows:
        values = dict(zip(_NAMES, row, strict=True))
        for name in ("content", "platform_ids"):
            values[name] = orjson.loads(values[name])
        found.append(DeliveryRow(**values))
    return found
