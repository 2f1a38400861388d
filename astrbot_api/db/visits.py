"""Visits: the session keys of page visitors, and their allowed turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from ..runtime.clock import now_us
from .key_usage import RUN_UNCOUNTED, today
from .models.keys import ApiKey, KeyUse, Visit
from .models.runs import Run


@dataclass(frozen=True, slots=True)
class Granted:
    """Turns and visits granted today, to a visitor and to an address."""

    visitor_turns: int
    address_turns: int
    address_visits: int


def _used() -> Any:
    """Return the used turns of a visit's key: ended, running and waiting ones."""
    ended = KeyUse.select(peewee.fn.SUM(KeyUse.turns)).where(KeyUse.key_id == Visit.key_id)
    active = Run.select(peewee.fn.COUNT(Run.id)).where(RUN_UNCOUNTED & (Run.key_id == Visit.key_id))
    # As function arguments: adding two SELECTs would make a UNION.
    return peewee.fn.COALESCE(ended, 0) + peewee.fn.COALESCE(active, 0)


def settle_ended(db: peewee.Database, whose: Any = None) -> None:
    """Reduce the turns of visits whose keys have ended to the used turns.

    :param whose: A condition on visits, or None for all. Their rows and keys must still exist.
    """
    # Starts from the visits: there are many more keys that have ended.
    ended = ApiKey.select(ApiKey.key_id).where(
        (ApiKey.key_id == Visit.key_id)
        & ((ApiKey.expires_at <= now_us()) | ApiKey.revoked_at.is_null(False))
    )
    which = (Visit.settled == 0) & peewee.fn.EXISTS(ended)
    Visit.update(turns=_used(), settled=1).where(which if whose is None else which & whose).execute(
        db
    )


def read_granted(db: peewee.Database, visitor: str, address: str) -> Granted:
    """Return today's granted turns. Unused turns of ended keys no longer count."""
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
    """Store the turns that a visitor was granted."""
    Visit.insert(
        key_id=key_id, root_id=root_id, visitor=visitor, address=address, day=today(),
        turns=turns, settled=0,
    ).execute(db)  # fmt: skip


def release(db: peewee.Database, key_ids: Sequence[str]) -> None:
    """Release the turns of keys that were deleted unused. Their visits still count."""
    Visit.update(turns=0, settled=1).where(Visit.key_id.in_(key_ids)).execute(db)


def purge_visits(db: peewee.Database, limit: int = 1000) -> int:
    """Delete at most ``limit`` visits from before yesterday; return their number."""
    old = Visit.select(Visit.key_id).where(Visit.day < today() - 1).limit(limit)
    return int(Visit.delete().where(Visit.key_id.in_(old)).execute(db))
