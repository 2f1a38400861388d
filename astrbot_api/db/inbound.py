"""Messages from messengers: each event once, its turn, and files to download."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us
from .leases import LIVING_WORKERS
from .locks import lock_name
from .models.deliveries import BotLease, InboundEvent, InboundPending
from .prepared import Prepared, equals, param, params

#: Maximum length of a stored event id; a longer one is replaced by its digest.
_MAX_ID_CHARS = 200


@dataclass(frozen=True, slots=True)
class EventOrigin:
    """The messenger's message that started a turn.

    :param reply_to: The platform's id of the message, for the reply.
    """

    bot_id: str
    umo: str
    reply_to: str | None


@dataclass(frozen=True, slots=True)
class PendingRow:
    """A message without a turn yet: a row of its table.

    :param event_key: The stored form of its event id.
    :param umo: Its conversation, whose messages are processed in order, by one worker.
    """

    bot_id: str
    event_key: str
    worker_id: str
    message: str
    received_at: int
    umo: str


_ADD = Prepared(
    InboundEvent.insert(
        **params("bot_id", "event_id", "run_id", "umo", "reply_to", "received_at")
    ).on_conflict(
        # Only for the event: a run that answers two events is an error.
        action="NOTHING",
        conflict_target=[InboundEvent.bot_id, InboundEvent.event_id],
    )
)

_OF_RUN = Prepared(
    InboundEvent.select(InboundEvent.bot_id, InboundEvent.umo, InboundEvent.reply_to).where(
        equals(InboundEvent.run_id)
    )
)

_KNOWN = Prepared(
    InboundEvent.select(InboundEvent.bot_id).where(
        equals(InboundEvent.bot_id, InboundEvent.event_id)
    )
)

_TAKE_LEASE = Prepared(
    BotLease.insert(**params("bot_id", "worker_id")).on_conflict(
        conflict_target=[BotLease.bot_id],
        preserve=[BotLease.worker_id],
        where=(BotLease.worker_id == peewee.EXCLUDED.worker_id)
        | BotLease.worker_id.not_in(LIVING_WORKERS),
    )
)

_LIST_WAITING = Prepared(
    InboundPending.select()
    .where(equals(InboundPending.umo))
    .order_by(InboundPending.received_at)
    .limit(param("limit"))
)

_LIST_CONVERSATIONS = Prepared(
    InboundPending.select(InboundPending.umo, InboundPending.worker_id)
    .where(equals(InboundPending.worker_id) | InboundPending.worker_id.not_in(LIVING_WORKERS))
    .group_by(InboundPending.umo, InboundPending.worker_id)
    .order_by(peewee.fn.MIN(InboundPending.received_at))
    .limit(param("limit"))
)


def add_event(
    db: peewee.Database,
    bot_id: str,
    event_id: str,
    *,
    run_id: str | None,
    umo: str,
    reply_to: str | None,
) -> bool:
    """Record an event. False if it is already recorded.

    :param run_id: The turn that answers it, or None.
    """
    values = {"run_id": run_id, "umo": umo, "reply_to": reply_to, "received_at": now_us()}
    return bool(_ADD.execute(db, bot_id=bot_id, event_id=_to_key(event_id), **values).rowcount)


def is_known(db: peewee.Database, bot_id: str, event_id: str) -> bool:
    """Return whether an event was received before."""
    found = _KNOWN.execute(db, bot_id=bot_id, event_id=_to_key(event_id)).fetchone()
    return found is not None


def find_event_of_run(db: peewee.Database, run_id: str) -> EventOrigin | None:
    """Return the event that a turn answers, or None for a turn of the API."""
    row = _OF_RUN.execute(db, run_id=run_id).fetchone()
    return None if row is None else EventOrigin(*row)


def prune_events(db: peewee.Database, keep_us: int) -> int:
    """Delete at most 500 old events; return their number."""
    name = peewee.Tuple(InboundEvent.bot_id, InboundEvent.event_id)
    old = InboundEvent.select(InboundEvent.bot_id, InboundEvent.event_id)
    old = old.where(InboundEvent.received_at < now_us() - keep_us)
    old = old.order_by(InboundEvent.received_at).limit(500)
    return int(InboundEvent.delete().where(name.in_(old)).execute(db))


def take_bot_lease(db: peewee.Database, bot_id: str, worker_id: str) -> bool:
    """Acquire or keep the lease for polling a bot's platform.

    :returns: False if another live worker holds it.
    """
    taken = _TAKE_LEASE.execute(db, bot_id=bot_id, worker_id=worker_id, now=time.time())
    return bool(taken.rowcount)


def drop_bot_lease(db: peewee.Database, bot_id: str, worker_id: str) -> None:
    """Release the lease for polling a bot's platform."""
    own = (BotLease.bot_id == bot_id) & (BotLease.worker_id == worker_id)
    BotLease.delete().where(own).execute(db)


def add_pending(
    db: peewee.Database, bot_id: str, event_id: str, *, umo: str, worker_id: str, message: str
) -> None:
    """Append a message to its conversation, unless it is already stored.

    :param worker_id: The worker that processes the conversation if no message is waiting.
    """
    lock_name(db, "pending", umo)
    waiting = list_waiting(db, umo, 1)
    query = InboundPending.insert(
        bot_id=bot_id,
        event_id=_to_key(event_id),
        worker_id=waiting[0].worker_id if waiting else worker_id,
        message=message,
        received_at=now_us(),
        umo=umo,
    )
    query.on_conflict_ignore().execute(db)


def list_waiting(db: peewee.Database, umo: str, limit: int) -> list[PendingRow]:
    """Return the oldest messages of a conversation."""
    return [PendingRow(*row) for row in _LIST_WAITING.execute(db, umo=umo, limit=limit)]


def list_conversations(db: peewee.Database, worker_id: str, limit: int) -> list[tuple[str, str]]:
    """Return the oldest conversations of a worker and of dead workers, with the worker."""
    rows = _LIST_CONVERSATIONS.execute(db, worker_id=worker_id, now=time.time(), limit=limit)
    return [(umo, holder) for umo, holder in rows]


def claim_conversation(db: peewee.Database, umo: str, holder: str, worker_id: str) -> bool:
    """Claim a dead worker's messages. False if another worker was first."""
    held = (InboundPending.umo == umo) & (InboundPending.worker_id == holder)
    return bool(InboundPending.update(worker_id=worker_id).where(held).execute(db))


def drop_pending(db: peewee.Database, rows: Sequence[PendingRow]) -> None:
    """Delete a message that has its turn, or will never have one.

    :param rows: The message, or the parts of an album. Its turn records only the first part.
    """
    first = rows[0]
    lock_name(db, "pending", first.umo)
    keys = [one.event_key for one in rows]
    dropped = (InboundPending.bot_id == first.bot_id) & InboundPending.event_id.in_(keys)
    InboundPending.delete().where(dropped).execute(db)
    for key in keys if len(keys) > 1 else ():
        add_event(db, first.bot_id, key, run_id=None, umo=first.umo, reply_to=None)


def _to_key(event_id: str) -> str:
    """Return the stored form of an event id."""
    if len(event_id) <= _MAX_ID_CHARS:
        return event_id
    return hashlib.sha256(event_id.encode("utf-8", "replace")).hexdigest()
