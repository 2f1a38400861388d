"""Usage of keys per day: requests, errors, turns and tokens.

Workers collect requests in memory and write them every few seconds. Turns and
tokens are written in the transaction that stores the turn's end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import peewee

from ..events import count_tokens
from ..runtime.clock import now_us, to_iso
from .keys import DAY_US, find_parent
from .models.keys import ApiKey, KeyUse
from .models.runs import RUN_ACTIVE, Run, RunApproval
from .prepared import Prepared, equals, param, params

#: Later than any day.
_LAST_DAY = 2**31 - 1

_COUNTS = (
    "requests", "errors", "turns", "failed_turns", "input_tokens", "output_tokens", "turn_ms",
)  # fmt: skip

_FIELDS = [getattr(KeyUse, name) for name in _COUNTS]

_SUMS = [peewee.fn.SUM(field) for field in _FIELDS]

_ADD = Prepared(
    KeyUse.insert(**params("key_id", "day", *_COUNTS)).on_conflict(
        conflict_target=[KeyUse.key_id, KeyUse.day],
        update={field: field + getattr(peewee.EXCLUDED, field.name) for field in _FIELDS},
    )
)


def _count_runs(which: Any) -> Prepared:
    """Return the statement that counts such runs of a key and its session keys.

    It goes from the runs to their keys: a key has few runs, but thousands of session keys.
    """
    of_key = Run.key_id == ApiKey.key_id
    own = (Run.key_id == param("key_id")) | (ApiKey.parent_id == param("key_id"))
    query = Run.select(peewee.fn.COUNT(Run.id)).join(ApiKey, peewee.JOIN.LEFT_OUTER, on=of_key)
    return Prepared(query.where(which & own))


ACTIVE = _count_runs(RUN_ACTIVE)

#: Active runs that no key has counted yet. A run is counted when it first waits for a person.
RUN_UNCOUNTED = RUN_ACTIVE & ~peewee.fn.EXISTS(
    RunApproval.select(RunApproval.run).where(RunApproval.run == Run.id)
)

_UNCOUNTED = _count_runs(RUN_UNCOUNTED)

_TURNS = Prepared(
    KeyUse.select(
        peewee.fn.COALESCE(peewee.fn.SUM(KeyUse.turns), 0),
        peewee.fn.COALESCE(peewee.fn.SUM(KeyUse.input_tokens + KeyUse.output_tokens), 0),
    ).where(equals(KeyUse.key_id) & KeyUse.day.between(param("first"), param("last")))
)


def today() -> int:
    """Return the number of this day since 1970, UTC."""
    return now_us() // DAY_US


def add_requests(db: peewee.Database, counts: Mapping[str, Sequence[int]]) -> None:
    """Write the collected numbers of requests and errors.

    Rows are always written in the order of the keys, so that two writers cannot deadlock.

    :param counts: Key id -> number of requests, number of error responses.
    """
    day = today()
    for key_id, (requests, errors) in sorted(counts.items()):
        _add(db, key_id, day, requests=requests, errors=errors)


def add_turn(
    db: peewee.Database,
    key_ids: Iterable[str],
    stats: Mapping[str, Any] | None,
    *,
    turns: int,
    counted: tuple[int, int],
    failed: bool = False,
) -> None:
    """Count a turn that has ended or begins to wait for a person.

    It may wait for a day, and be stopped or deleted meanwhile.

    :param stats: Its ``agent_stats``, or None if no model was asked.
    :param turns: 0 if the turn itself is counted already.
    :param counted: Tokens of input and output that are counted already.
    """
    input_tokens, _, output_tokens = count_tokens(stats)
    guessed = (stats or {}).get("estimated_tokens") or {}
    _add_all(
        db, key_ids, turns=turns, failed_turns=int(failed),
        # A turn that ends before it is restored reports none of the counted tokens.
        input_tokens=max(0, input_tokens - counted[0]) + guessed.get("input", 0),
        output_tokens=max(0, output_tokens - counted[1]) + guessed.get("output", 0),
        turn_ms=int((stats["end_time"] - stats["start_time"]) * 1000) if stats else 0,
    )  # fmt: skip


def add_tokens(
    db: peewee.Database, key_ids: Iterable[str], input_tokens: int, output_tokens: int
) -> None:
    """Count the tokens of a request to a model beside the turns."""
    _add_all(db, key_ids, input_tokens=input_tokens, output_tokens=output_tokens)


def add_lost_turn(db: peewee.Database, key_id: str | None, *, turns: int = 1) -> None:
    """Count a turn whose worker died; its tokens are unknown."""
    key_id = key_id or ""
    _add_all(db, {key_id, find_parent(db, key_id) or key_id}, turns=turns, failed_turns=1)


def count_active_turns(db: peewee.Database, key_id: str) -> int:
    """Return how many turns of a key and its session keys run or wait."""
    return int(ACTIVE.execute(db, key_id=key_id).fetchone()[0])


def count_uncounted_turns(db: peewee.Database, key_id: str) -> int:
    """Return how many of these turns :func:`sum_turns` lacks."""
    return int(_UNCOUNTED.execute(db, key_id=key_id).fetchone()[0])


def sum_turns(db: peewee.Database, key_id: str, day: int | None = None) -> tuple[int, int]:
    """Return the number of a key's counted turns, and the number of their tokens.

    :param day: Count this day only. Later days are left out: if the clock was ahead for a
        while, its days must not count as today.
    """
    first, last = (0, _LAST_DAY) if day is None else (day, day)
    turns, tokens = _TURNS.execute(db, key_id=key_id, first=first, last=last).fetchone()
    return int(turns), int(tokens)


def list_days(db: peewee.Database, days: int, key_id: str | None = None) -> list[dict[str, Any]]:
    """Return the usage of the last days, without days of no use, oldest first.

    :param key_id: Only this key, or None for the sum of all keys.
    """
    if key_id is None:
        # The usage of session keys is already included in their parents'.
        session_keys = ApiKey.select(ApiKey.key_id).where(ApiKey.parent_id.is_null(False))
        query = (
            KeyUse.select(KeyUse.day, *_SUMS)
            .where(KeyUse.key_id.not_in(session_keys))
            .group_by(KeyUse.day)
        )
    else:
        query = KeyUse.select(KeyUse.day, *_FIELDS).where(KeyUse.key_id == key_id)
    query = query.where(KeyUse.day > today() - days).order_by(KeyUse.day)
    rows = query.tuples().execute(db)
    return [{"day": to_iso(day * DAY_US)[:10], **_describe(rest)} for day, *rest in rows]


def sum_by_key(db: peewee.Database, days: int) -> dict[str, dict[str, int]]:
    """Return the usage of each key in the last days, by key id."""
    query = KeyUse.select(KeyUse.key_id, *_SUMS).where(KeyUse.day > today() - days)
    rows = query.group_by(KeyUse.key_id).tuples().execute(db)
    return {key_id: _describe(rest) for key_id, *rest in rows}


def forget_before(db: peewee.Database, time_us: int) -> None:
    """Delete the days before a time."""
    KeyUse.delete().where(KeyUse.day < time_us // DAY_US).execute(db)


def _add_all(db: peewee.Database, key_ids: Iterable[str], **counts: int) -> None:
    day = today()
    for key_id in sorted(key_ids):  # fixed order, so that two writers cannot deadlock
        _add(db, key_id, day, **counts)


def _add(db: peewee.Database, key_id: str, day: int, **counts: int) -> None:
    _ADD.execute(db, key_id=key_id, day=day, **(dict.fromkeys(_COUNTS, 0) | counts))


def _describe(values: list[Any]) -> dict[str, int]:
    return {name: int(value or 0) for name, value in zip(_COUNTS, values, strict=True)}
