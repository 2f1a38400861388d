"""Counters of requests per minute, for rate limits."""

from __future__ import annotations

import peewee

from .models.keys import RateCount
from .prepared import Prepared, equals, params

_WINDOW_S = 60

_COUNT = Prepared(
    RateCount.insert(**params("subject", "minute"), requests=1)
    .on_conflict(
        conflict_target=[RateCount.subject, RateCount.minute],
        update={RateCount.requests: RateCount.requests + 1},
    )
    .returning(RateCount.requests)
)

_OF_MINUTE = equals(RateCount.subject, RateCount.minute)

_FIND = Prepared(RateCount.select(RateCount.requests).where(_OF_MINUTE))

_TAKE_BACK = Prepared(RateCount.update(requests=RateCount.requests - 1).where(_OF_MINUTE))


def count_request(
    db: peewee.Database, subject: str, limit: int, now_s: float
) -> tuple[bool, float, float]:
    """Count a request if the limit of the last 60 seconds allows it.

    The request is counted first and subtracted if rejected. On PostgreSQL this locks the
    row, so that two workers never see the same number.

    :returns: Whether the request is allowed; the count of the last 60 seconds; the
        seconds until the next request is allowed, or 0.
    """
    minute, into_s = int(now_s // _WINDOW_S), now_s % _WINDOW_S
    count = int(_COUNT.execute(db, subject=subject, minute=minute).fetchone()[0])
    row = _FIND.execute(db, subject=subject, minute=minute - 1).fetchone()
    before = int(row[0]) if row else 0
    used = count + before * (1 - into_s / _WINDOW_S)
    if used <= limit:
        return True, used, 0.0
    _TAKE_BACK.execute(db, subject=subject, minute=minute)
    if count > limit or not before:
        return False, used - 1, _WINDOW_S - into_s
    # The time at which the previous minute weighs so little that one more request fits.
    fits_at_s = _WINDOW_S * (1 - (limit - count) / before)
    return False, used - 1, max(1.0, fits_at_s - into_s)


def forget_counts(db: peewee.Database, now_s: float) -> None:
    """Delete counters that are older than the window."""
    RateCount.delete().where(RateCount.minute < int(now_s) // _WINDOW_S - 1).execute(db)
