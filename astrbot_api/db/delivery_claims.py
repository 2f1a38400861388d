"""Claims of deliveries: which worker sends which delivery, at constant cost.

The oldest unfinished delivery of a target is its *head*. Only heads are claimed, and when
one finishes, the next one becomes the head. A target that does not respond therefore
costs nothing while its queue waits.

A claim is valid as long as its worker's lease. Other workers take over the deliveries of
a dead worker. A worker whose lease expired notices it at its next write.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
import peewee

from ..runtime.clock import now_us
from . import counting
from .deliveries import EVENT_PREFIX, FIELDS, UNFINISHED_OF_TARGET, DeliveryRow, to_rows
from .leases import LIVING_WORKERS
from .locks import lock_name
from .models import is_postgres
from .models.deliveries import DELIVERY_DUE, DELIVERY_SENDING, Delivery
from .pages import length_of
from .prepared import Prepared, equals, param, params

#: Claimed by a worker whose lease has expired.
_OF_DEAD = DELIVERY_SENDING & Delivery.claimed_by.not_in(LIVING_WORKERS)

_HAS_DEAD = Prepared(Delivery.select(Delivery.id).where(_OF_DEAD).limit(1))

#: The error of a delivery whose worker died during the last attempt. After two such attempts
#: in a row it fails for good, since the delivery may be the cause.
WORKER_DIED = "The worker stopped while it was sending the delivery."
WORKER_DIED_TWICE = "Two workers stopped while they were sending the delivery; it was given up."

_FREE_DEAD = Prepared(
    Delivery.update(
        status="queued",
        claimed_by=None,
        error=peewee.Case(None, [(Delivery.error == WORKER_DIED, WORKER_DIED_TWICE)], WORKER_DIED),
    ).where(_OF_DEAD)
)

_PROMOTE = Prepared(
    Delivery.update(head=1).where(
        Delivery.id == Delivery.select(peewee.fn.MIN(Delivery.id)).where(UNFINISHED_OF_TARGET)
    )
)


#: Content of a finished delivery. Nobody reads it, and a deleted session must leave no text.
_NO_CONTENT = "[]"

_PAID = Prepared(
    Delivery.select(Delivery.payer, Delivery.size_bytes, length_of(Delivery.content)).where(
        equals(Delivery.id)
    )
)


@cache
def _change_held(names: tuple[str, ...]) -> Prepared:
    held = (Delivery.id == param("id")) & (Delivery.claimed_by == param("holder"))
    return Prepared(Delivery.update(**params(*names)).where(held & DELIVERY_SENDING))


@cache
def _next_due(busy: int) -> Prepared:
    """Return the statement that excludes ``busy`` platforms."""
    return Prepared(Delivery.select(peewee.fn.MIN(Delivery.due_at)).where(_heads(busy)))


@cache
def _claim(busy: int, skip_locked: bool) -> Prepared:
    """Return the statement that excludes ``busy`` platforms.

    :param skip_locked: For PostgreSQL: skip rows that another worker is claiming.
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
        .returning(*FIELDS)
    )


def _heads(busy: int) -> Any:
    if not busy:
        return DELIVERY_DUE
    names = [param(f"busy{number}") for number in range(busy)]
    return DELIVERY_DUE & Delivery.platform_id.not_in(names)


def _name_busy(platforms: Sequence[str]) -> dict[str, str]:
    return {f"busy{number}": name for number, name in enumerate(platforms)}


def next_due(db: peewee.Database, busy: Sequence[str] = (), *, judge: bool = True) -> int | None:
    """Return the due time of the next delivery, in microseconds, or None.

    A dead worker's delivery is due now.

    :param busy: Platforms to exclude.
    :param judge: Whether a worker with an expired lease counts as dead.
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
    """Claim due deliveries, and deliveries that dead workers had claimed.

    :param busy: Platforms to exclude.
    :param judge: Whether a worker with an expired lease counts as dead.
    """
    if judge:
        _FREE_DEAD.execute(db, now=time.time())
    statement = _claim(len(busy), is_postgres(db))
    values = {"worker_id": worker_id, "now": now_us(), "limit": limit, **_name_busy(busy)}
    return sorted(to_rows(statement.execute(db, **values)), key=lambda one: one.id)


def note_progress(
    db: peewee.Database,
    delivery: DeliveryRow,
    worker_id: str,
    *,
    parts: int,
    chars: int,
    platform_ids: Sequence[str],
) -> bool:
    """Store the confirmed progress. False if another worker has the delivery."""
    return _write_held(
        db,
        delivery,
        worker_id,
        error=None,
        sent_parts=parts,
        sent_chars=chars,
        platform_ids=orjson.dumps(list(platform_ids)).decode(),
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
    """Finish a delivery, delete its content, and make the next one of its target the head.

    :param status: ``sent`` or ``failed``.
    :returns: False if another worker has the delivery; then nothing changes.
    """
    lock_name(db, "delivery", delivery.target)
    payer, size, length = _PAID.execute(db, id=delivery.id).fetchone() or (None, 0, 0)
    freed = min(size, length - len(_NO_CONTENT))
    kept = _write_held(
        db,
        delivery,
        worker_id,
        content=_NO_CONTENT,
        size_bytes=size - freed,
        status=status,
        error=error,
        platform_ids=orjson.dumps(list(platform_ids)).decode(),
        finished_at=now_us(),
        claimed_by=None,
        head=0,
    )
    if kept:
        counting.add(db, payer, "deliveries", 0, -freed)
        _PROMOTE.execute(db, target=delivery.target)
    return kept


def requeue(
    db: peewee.Database, delivery: DeliveryRow, worker_id: str, *, error: str, due_at: int
) -> bool:
    """Schedule another attempt. False if another worker has the delivery."""
    return _write_held(
        db, delivery, worker_id, status="queued", error=error, due_at=due_at, claimed_by=None
    )


def _write_held(db: peewee.Database, delivery: DeliveryRow, worker_id: str, **values: Any) -> bool:
    """Update a delivery that this worker has claimed. False if another worker has it."""
    values["updated_at"] = now_us()
    statement = _change_held(tuple(values))
    return bool(statement.execute(db, id=delivery.id, holder=worker_id, **values).rowcount)


def free_own(db: peewee.Database, worker_id: str, sending: Sequence[int]) -> None:
    """Release claimed deliveries that this worker is not sending."""
    own = DELIVERY_SENDING & (Delivery.claimed_by == worker_id)
    if sending:
        own &= Delivery.id.not_in(sending)
    Delivery.update(status="queued", claimed_by=None).where(own).execute(db)


def pull_in(db: peewee.Database, latest_us: int, *, events: bool) -> int:
    """Make deliveries due now that are due after ``latest_us``; return how many.

    No pause is that long: the clock was set back after they were scheduled.

    :param events: Whether to examine the deliveries to webhooks, or those to messengers.
    """
    late = DELIVERY_DUE & (Delivery.due_at > latest_us)
    is_event = Delivery.platform_id.startswith(EVENT_PREFIX)
    late &= is_event if events else ~is_event
    return int(Delivery.update(due_at=now_us()).where(late).execute(db))
