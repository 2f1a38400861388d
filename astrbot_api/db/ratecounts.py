"""How many requests of a minute a limit has counted."""

from __future__ import annotations

import peewee

_WINDOW_S = 60

_COUNT = """
INSERT INTO rate_count (subject, minute, requests) VALUES (?, ?, 1)
ON CONFLICT (subject, minute) DO UPDATE SET requests = rate_count.requests + 1
RETURNING requests
"""

_BEFORE = "SELECT requests FROM rate_count WHERE subject = ? AND minute = ?"

_TAKE_BACK = "UPDATE rate_count SET requests = requests - 1 WHERE subject = ? AND minute = ?"


def count_request(
    db: peewee.Database, subject: str, limit: int, now_s: float
) -> tuple[bool, float, float]:
    """Count a request unless it is one too many for the last 60 seconds.

    It is counted first and taken back: that locks the row on PostgreSQL, so
    that no two see the same number.

    :returns: Whether it is allowed; how many were counted of the last 60
        seconds; in how many seconds the next one is allowed (0: now).
    """
    minute, into_s = divmod(now_s, _WINDOW_S)
    count = int(db.execute_sql(_COUNT, (subject, int(minute))).fetchone()[0])
    row = db.execute_sql(_BEFORE, (subject, int(minute) - 1)).fetchone()
    before = int(row[0]) if row else 0
    used = count + before * (1 - into_s / _WINDOW_S)
    if used <= limit:
        return True, used, 0.0
    db.execute_sql(_TAKE_BACK, (subject, int(minute)))
    if count > limit or not before:
        return False, used - 1, _WINDOW_S - into_s
    # When the last minute weighs so much less that one more fits.
    fits_at_s = _WINDOW_S * (1 - (limit - count) / before)
    return False, used - 1, max(1.0, fits_at_s - into_s)


def forget_counts(db: peewee.Database, now_s: float) -> None:
    """Remove what no window looks at any more."""
    db.execute_sql("DELETE FROM rate_count WHERE minute < ?", (int(now_s) // _WINDOW_S - 1,))
