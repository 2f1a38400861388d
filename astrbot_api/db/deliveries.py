"""The outbox: what is to be sent, in the order of each target, at a constant cost.

Of the deliveries of one target only the oldest that is not finished is its
*head*, and only heads are claimed; the end of one makes the next one head. So
a target that does not answer costs nothing while its line waits.

A claim holds as long as its worker's lease: a worker that died leaves its
deliveries to the others, and one that was only thought dead notices it by the
first write that it tries.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import orjson
import peewee

from ..runtime.clock import now_us
from . import stored
from .leases import LIVING_WORKERS
from .locks import lock_name
from .models import (
    DELIVERY_DUE,
    DELIVERY_SENDING,
    DELIVERY_UNFINISHED,
    Delivery,
    is_postgres,
)
from .prepared import Prepared, equals, insert, param, params

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


_NAMES = [field.name for field in fields(DeliveryRow)]
_FIELDS = [getattr(Delivery, name) for name in _NAMES]

_UNFINISHED_OF_TARGET = DELIVERY_UNFINISHED & equals(Delivery.target)

_LINE = Prepared(
    peewee.Select(
        [Delivery.select(Delivery.id).where(_UNFINISHED_OF_TARGET).limit(param("limit"))],
        [peewee.fn.COUNT(peewee.SQL("1"))],
    )
)

#: Held by a worker whose lease has run out.
_OF_DEAD = DELIVERY_SENDING & Delivery.claimed_by.not_in(LIVING_WORKERS)

_HAS_DEAD = Prepared(Delivery.select(Delivery.id).where(_OF_DEAD).limit(1))

#: What stands as the error of a delivery whose worker died during its last attempt, and of
#: one with two such attempts in a row: it may be what kills them.
WORKER_DIED = "Its worker ended while it was sent."
WORKER_DIED_TWICE = "It was set aside: two workers ended while it was sent."

_FREE_DEAD = Prepared(
    Delivery.update(
        status="queued",
        claimed_by=None,
        error=peewee.Case(
            None,
            [(Delivery.error == param("died"), param("died_twice"))],
            param("died_first"),
        ),
    ).where(_OF_DEAD)
)

_PROMOTE = Prepared(
    Delivery.update(head=1).where(
        Delivery.id == Delivery.select(peewee.fn.MIN(Delivery.id)).where(_UNFINISHED_OF_TARGET)
    )
)


@cache
def _change_held(names: tuple[str, ...]) -> Prepared:
    held = (Delivery.id == param("id")) & (Delivery.claimed_by == param("holder"))
    return Prepared(Delivery.update(**params(*names)).where(held & DELIVERY_SENDING))


@cache
def _next_due(busy: int) -> Prepared:
    """Return the statement that leaves out as many platforms."""
    return Prepared(Delivery.select(peewee.fn.MIN(Delivery.due_at)).where(_heads(busy)))


@cache
def _claim(busy: int, skip_locked: bool) -> Prepared:
    """Return the statement that leaves out as many platforms.

    :param skip_locked: On PostgreSQL others claim at the same time: each takes what is left.
    """
    due = (
        Delivery.select(Delivery.id)
        .where(_heads(busy) & (Delivery.due_at <= param("now")))
        .order_by(Delivery.due_at, Delivery.id)
        .limit(param("limit"))
        .for_update(skip_locked, skip_locked=skip_locked)
    )
    return Prepared(
        Delivery.update(
            status="sending",
            claimed_by=param("worker_id"),
            attempts=Delivery.attempts + 1,
            updated_at=param("now"),
        )
        .where((Delivery.status == "queued") & Delivery.id.in_(due))
        .returning(*_FIELDS)
    )


def _heads(busy: int) -> Any:
    if not busy:
        return DELIVERY_DUE
    names = [param(f"busy{number}") for number in range(busy)]
    return DELIVERY_DUE & Delivery.platform_id.not_in(names)


def _name_busy(platforms: Sequence[str]) -> dict[str, str]:
    return {f"busy{number}": name for number, name in enumerate(platforms)}


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
    """Put a delivery at the end of its target's line; return its ``delivery_id``.

    :param payer: The key whose quota it counts to; None: nobody's.
    :param ordered: False: it does not wait for others of the same target.
    :param sent_as: Its ids there, if it has arrived already, as in a web chat.
    :param traceparent: What it is a part of, in a trace.
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
    stored.add(db, payer, "deliveries", 1, size)
    return delivery_id


def count_line(db: peewee.Database, target: str, limit: int) -> int:
    """Count the unfinished deliveries of a target, up to a limit."""
    return int(_LINE.execute(db, target=target, limit=limit).fetchone()[0])


def find_delivery(db: peewee.Database, delivery_id: str) -> DeliveryRow | None:
    """Return the delivery of this id."""
    return find_deliveries(db, [delivery_id]).get(delivery_id)


def find_deliveries(db: peewee.Database, ids: Sequence[str]) -> dict[str, DeliveryRow]:
    """Return those of these deliveries that there are, by their ids."""
    query = Delivery.select(*_FIELDS).where(Delivery.delivery_id.in_(ids))
    return {row.delivery_id: row for row in _to_rows(query.tuples().execute(db))}


def list_newest(db: peewee.Database, platform_id: str, limit: int) -> list[DeliveryRow]:
    """Return the newest deliveries of one bot, newest first."""
    query = Delivery.select(*_FIELDS).where(Delivery.platform_id == platform_id)
    return _to_rows(query.order_by(Delivery.id.desc()).limit(limit).tuples().execute(db))


def next_due(db: peewee.Database, busy: Sequence[str] = (), *, judge: bool = True) -> int | None:
    """Return when the next delivery is due, in microseconds; now for a dead worker's.

    :param busy: Platforms that do not count.
    :param judge: Whether a lease that has run out means that its worker is dead.
    """
    if judge and _HAS_DEAD.execute(db, now=time.time()).fetchone() is not None:
        return now_us()
    (due,) = _next_due(len(busy)).execute(db, **_name_busy(busy)).fetchone()
    return None if due is None else int(due)


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
    if judge:
        _FREE_DEAD.execute(
            db, now=time.time(), died=WORKER_DIED, died_first=WORKER_DIED,
            died_twice=WORKER_DIED_TWICE,
        )  # fmt: skip
    statement = _claim(len(busy), is_postgres(db))
    values = {"worker_id": worker_id, "now": now_us(), "limit": limit, **_name_busy(busy)}
    return sorted(_to_rows(statement.execute(db, **values)), key=lambda one: one.id)


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
    return _write_held(
        db,
        delivery,
        worker_id,
        error=None,
        sent_parts=parts,
        sent_chars=chars,
        platform_ids=_dump(list(platform_ids)),
    )


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
    kept = _write_held(
        db,
        delivery,
        worker_id,
        status=status,
        error=error,
        platform_ids=_dump(list(platform_ids)),
        finished_at=now_us(),
        claimed_by=None,
        head=0,
    )
    if kept:
        _PROMOTE.execute(db, target=delivery.target)
    return kept


def requeue(
    db: peewee.Database, delivery: DeliveryRow, worker_id: str, *, error: str, due_at: int
) -> bool:
    """Have a delivery tried again later. False: the claim is lost."""
    return _write_held(
        db, delivery, worker_id, status="queued", error=error, due_at=due_at, claimed_by=None
    )


def _write_held(db: peewee.Database, delivery: DeliveryRow, worker_id: str, **values: Any) -> bool:
    """Change a delivery that a worker holds. False: the claim is lost."""
    values["updated_at"] = now_us()
    statement = _change_held(tuple(values))
    return bool(statement.execute(db, id=delivery.id, holder=worker_id, **values).rowcount)


def free_own(db: peewee.Database, worker_id: str, sending: Sequence[int]) -> int:
    """Give back what this worker has claimed and is not sending; return how many."""
    own = DELIVERY_SENDING & (Delivery.claimed_by == worker_id)
    if sending:
        own &= Delivery.id.not_in(sending)
    return int(Delivery.update(status="queued", claimed_by=None).where(own).execute(db))


def prune(db: peewee.Database, *, keep_us: int, limit: int = 500) -> int:
    """Delete old finished deliveries, some at a time; return how many."""
    old = Delivery.select(Delivery.id).where(Delivery.finished_at < now_us() - keep_us)
    old = old.order_by(Delivery.finished_at).limit(limit)
    query = Delivery.delete().where(Delivery.id.in_(old))
    gone = list(query.returning(Delivery.payer, Delivery.size_bytes).tuples().execute(db))
    stored.give_back(db, "deliveries", [(payer, 1, size) for payer, size in gone])
    return len(gone)


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _to_rows(rows: Iterable[Sequence[Any]]) -> list[DeliveryRow]:
    found = []
    for row in rows:
        values = dict(zip(_NAMES, row, strict=True))
        for name in ("content", "platform_ids"):
            values[name] = orjson.loads(values[name])
        found.append(DeliveryRow(**values))
    return found
