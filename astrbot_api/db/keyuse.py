"""What keys did, by day: requests, errors, turns and tokens.

Requests gather in the workers' memory and are written every few seconds;
turns and tokens are written in the transaction that stores the turn's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import peewee

from ..runtime.clock import now_us, to_iso

_DAY_US = 24 * 60 * 60 * 1_000_000

_ADD = """
INSERT INTO key_use (key_id, day, requests, errors, turns, failed_turns,
    input_tokens, output_tokens, turn_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key_id, day) DO UPDATE SET
    requests = key_use.requests + excluded.requests,
    errors = key_use.errors + excluded.errors,
    turns = key_use.turns + excluded.turns,
    failed_turns = key_use.failed_turns + excluded.failed_turns,
    input_tokens = key_use.input_tokens + excluded.input_tokens,
    output_tokens = key_use.output_tokens + excluded.output_tokens,
    turn_ms = key_use.turn_ms + excluded.turn_ms
"""

_COLUMNS = "requests, errors, turns, failed_turns, input_tokens, output_tokens, turn_ms"

_SUMS = ", ".join(f"SUM({name.strip()})" for name in _COLUMNS.split(","))

_OF_KEY = f"SELECT day, {_COLUMNS} FROM key_use WHERE key_id = ? AND day >= ? ORDER BY day"

# What a session key did was counted to its maker, too.
_OF_ALL = f"""
SELECT day, {_SUMS} FROM key_use WHERE day >= ?
  AND key_id NOT IN (SELECT key_id FROM api_key WHERE parent_id IS NOT NULL)
GROUP BY day ORDER BY day
"""

_OF_EACH = f"""
SELECT key_id, {_SUMS} FROM key_use WHERE day >= ? GROUP BY key_id
"""


# A session key's turns are its maker's, too.
_ACTIVE = """
SELECT COUNT(*) FROM run WHERE status IN ('queued', 'running')
  AND key_id IN (SELECT key_id FROM api_key WHERE key_id = ? OR parent_id = ?)
"""

_TURNS = """
SELECT COALESCE(SUM(turns), 0), COALESCE(SUM(input_tokens + output_tokens), 0)
FROM key_use WHERE key_id = ? AND day >= ?
"""


def today() -> int:
    """Return the number of this day since 1970, UTC."""
    return now_us() // _DAY_US


def add_requests(db: peewee.Database, counts: Mapping[str, Sequence[int]]) -> None:
    """Write requests and errors that gathered.

    :param counts: Key id -> requests, and those of them that were answered with an error.
    """
    day = today()
    for key_id, (requests, errors) in counts.items():
        db.execute_sql(_ADD, (key_id, day, requests, errors, 0, 0, 0, 0, 0))


def add_turn(
    db: peewee.Database,
    key_id: str,
    *,
    failed: bool,
    input_tokens: int,
    output_tokens: int,
    turn_ms: int,
) -> None:
    """Count a turn that has ended."""
    values = (key_id, today(), 0, 0, 1, int(failed), input_tokens, output_tokens, turn_ms)
    db.execute_sql(_ADD, values)


def add_lost_turn(db: peewee.Database, key_id: str | None) -> None:
    """Count a turn that its worker did not live to end; its tokens are not known."""
    sql = "SELECT parent_id FROM api_key WHERE key_id = ?"
    row = db.execute_sql(sql, (key_id,)).fetchone() if key_id else None
    for counted in {key_id or "", (row and row[0]) or key_id or ""}:
        add_turn(db, counted, failed=True, input_tokens=0, output_tokens=0, turn_ms=0)


def count_active_turns(db: peewee.Database, key_id: str) -> int:
    """Return how many turns of a key, and of its session keys, run or wait."""
    return int(db.execute_sql(_ACTIVE, (key_id, key_id)).fetchone()[0])


def sum_turns(db: peewee.Database, key_id: str, since_day: int) -> tuple[int, int]:
    """Return how many turns of a key have ended since a day, and their tokens."""
    turns, tokens = db.execute_sql(_TURNS, (key_id, since_day)).fetchone()
    return int(turns), int(tokens)


def list_days(db: peewee.Database, days: int, key_id: str | None = None) -> list[dict[str, Any]]:
    """Return the use of the last days on which there was any, oldest first.

    :param key_id: Of one key; None: of all together.
    """
    since = today() - days + 1
    if key_id is None:
        rows = db.execute_sql(_OF_ALL, (since,)).fetchall()
    else:
        rows = db.execute_sql(_OF_KEY, (key_id, since)).fetchall()
    return [{"day": to_iso(day * _DAY_US)[:10], **_describe(rest)} for day, *rest in rows]


def sum_by_key(db: peewee.Database, days: int) -> dict[str, dict[str, int]]:
    """Return what each key did in the last days, by key id."""
    rows = db.execute_sql(_OF_EACH, (today() - days + 1,)).fetchall()
    return {key_id: _describe(rest) for key_id, *rest in rows}


def forget_before(db: peewee.Database, time_us: int) -> None:
    """Remove the days before a time."""
    db.execute_sql("DELETE FROM key_use WHERE day < ?", (time_us // _DAY_US,))


def _describe(values: list[Any]) -> dict[str, int]:
    names = (name.strip() for name in _COLUMNS.split(","))
    return {name: int(value or 0) for name, value in zip(names, values, strict=True)}
