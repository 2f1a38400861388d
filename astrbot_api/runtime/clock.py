"""Conversion of times: integers in the database, ISO 8601 with ``+00:00`` on the wire."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """Return the current time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def to_iso(time_us: int) -> str:
    """Format a stored time as ISO 8601 with microseconds.

    >>> to_iso(1_795_452_111_860_786)
    '2026-11-23T16:41:51.860786+00:00'
    """
    moment = _EPOCH + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="microseconds")


def to_iso_or_none(time_us: int | None) -> str | None:
    """Format a stored time, or return None for None."""
    return None if time_us is None else to_iso(time_us)
