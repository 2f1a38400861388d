"""Visits: the session keys that visitors of pages got, and the turns that each may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import peewee

from ..runtime.clock import now_us
from .keyuse import today
from .models import RUN_ACTIVE, ApiKey, KeyUse, Run, Visit


@dataclass(frozen=True, slots=True)
class Granted:
    """What was granted on this day: to a visitor, and to an address."""

    visitor_turns: int
    address_turns: int
    address_visits: int


def _used() -> Any:
    """Return what a visit's key has used: turns that ended, and those that run or wait."""
    ended = KeyUse.select(peewee.fn.SUM(KeyUse.turns)).where(KeyUse.key_id == Visit.key_id)
    active = Run.select(peewee.fn.COUNT(Run.id)).where(RUN_ACTIVE & (Run.key_id == Visit.key_id))
    # As arguments: the sum of two selections is a UNION.
    return peewee.fn.COALESCE(ended, 0) + peewee.fn.COALESCE(active, 0)


def settle_ended(db: peewee.Database, whose: Any = None) -> None:
    """Keep of visits whose keys have ended only what those have used.

    :param whose: Which visits; None: all. Their rows must still be there, and of the keys.
    """
    ended = ApiKey.select(ApiKey.key_id).where(
        (ApiKey.expires_at <= now_us()) | ApiKey.revoked_at.is_null(False)
    )
    which = (Visit.settled == 0) & Visit.key_id.in_(ended)
    Visit.update(turns=_used(), settled=1).where(which if whose is None else which & whose).execute(
        db
    )


def read_granted(db: peewee.Database, visitor: str, address: str) -> Granted:
    """Return what counts today. What a key that has ended did not use counts no more."""
    settle_ended(db, (Visit.visitor == visitor) | (Visit.address == address))

    def add_up(subject: Any) -> tuple[int, int]:
        query = Visit.select(
            peewee.fn.COALESCE(peewee.fn.SUM(Visit.turns), 0), peewee.fn.COUNT(Visit.key_id)
        ).where(subject & (Visit.day == today()))
        turns, visits = query.tuples().execute(db)[0]
        return int(turns), int(visits)

    address_turns, address_visits = add_up(Visit.address == address)
    return Granted(add_up(Visit.visitor == visitor)[0], address_turns, address_visits)


def add_visit(
    db: peewee.Database, key_id: str, *, root_id: str, visitor: str, address: str, turns: int
) -> None:
    """Note what a visitor was granted."""
    Visit.insert(
        key_id=key_id, root_id=root_id, visitor=visitor, address=address, day=today(),
        turns=turns, settled=0,
    ).execute(db)  # fmt: skip


def purge_visits(db: peewee.Database, limit: int = 1000) -> int:
    """Remove the visits of earlier days, some at a time. Returns how many there were."""
    old = Visit.select(Visit.key_id).where(Visit.day < today() - 1).limit(limit)
    return int(Visit.delete().where(Visit.key_id.in_(old)).execute(db))
