"""The journal of several hosts: two tables in PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import peewee

from ..db.postgres_store import PostgresStore
from ..errors import StorageError
from ..events import Event, encode_event
from ..runtime.clock import now_us
from .journal import READ_LIMIT, Piece, Slice

log = logging.getLogger(__name__)

T = TypeVar("T")

# SQL by hand: many events are one statement with arrays, which peewee has no words for.
_ADD = """
INSERT INTO run_event (run, number, event)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[]) ON CONFLICT DO NOTHING
"""

_END = """
INSERT INTO run_event_end (run, last, ended_at)
SELECT *, %s FROM unnest(%s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING
"""

_ENDED = "SELECT run FROM run_event_end WHERE run = ANY(%s::bigint[])"

# One statement, so that the end and the events are of one moment.
_READ = """
SELECT (SELECT last FROM run_event_end WHERE run = %s),
    ARRAY(SELECT event FROM run_event WHERE run = %s AND number > %s ORDER BY number LIMIT %s)
"""

_LAST = "SELECT COALESCE(MAX(number), 0) FROM run_event WHERE run = %s"

# What another worker is about to forget is left to it.
_OLD = """
SELECT run FROM run_event_end WHERE ended_at < %s ORDER BY ended_at LIMIT %s
FOR UPDATE SKIP LOCKED
"""

#: Runs that one call of ``prune`` forgets, most of them: a transaction of milliseconds.
_PRUNED_AT_ONCE = 200

#: How often the end of a run is tried against a worker that still adds to it.
_MAX_ATTEMPTS = 20


class _Overtaken(Exception):
    """The run's own worker added the same events first."""


class PostgresJournal:
    """Events in PostgreSQL, on connections of their own: tokens wait for no turn.

    There are no locks: two who write the same event of a run meet at its key,
    and the second one finds it there.

    :param store: Not the one that holds the state; closed with the journal.
    """

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def append(self, pieces: Sequence[Piece]) -> None:
        """Keep events of any number of runs, all or none of them."""
        self._write(lambda run_sql: _append(run_sql, pieces))

    def read_after(self, run: int, number: int, limit: int = READ_LIMIT) -> Slice:
        """Return the events of a run after ``number``."""
        with self._store.read() as db:
            values = (run, run, number, limit)
            last, events = db.connection().execute(_READ, values).fetchone()  # type: ignore[no-untyped-call]
        if last is None:
            return Slice(events, closed=False)
        # What its lost worker said after the end is not shown.
        del events[max(0, last - number) :]
        return Slice(events, closed=number + len(events) >= last)

    def end_run(self, run: int, events: Sequence[Event]) -> bool:
        """Close a run whose own worker cannot; False when it had ended already."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                return self._write(lambda run_sql: _end_run(run_sql, run, events))
            except _Overtaken:
                continue
        raise StorageError("The run is still being added to; try again later.")

    def prune(self, ended_before_us: int) -> int:
        """Forget runs that ended before a time; return how many."""
        return self._write(lambda run_sql: _prune(run_sql, ended_before_us))

    def close(self) -> None:
        """Close the connections."""
        self._store.close()

    def _write(self, job: Callable[[Callable[..., Any]], T]) -> T:
        def run(db: peewee.Database) -> T:
            return job(db.connection().execute)

        return self._store.write(run)


def _append(run_sql: Callable[..., Any], pieces: Sequence[Piece]) -> None:
    begun = [piece.run for piece in pieces if piece.first == 1]
    if begun:
        _forget(run_sql, begun)
    going_on = [piece.run for piece in pieces if piece.first > 1]
    ended = {row[0] for row in run_sql(_ENDED, (going_on,))} if going_on else set()
    for run in ended:
        log.warning("run %d has ended elsewhere; what its worker still says is dropped", run)
    kept = [piece for piece in pieces if piece.run not in ended or piece.first == 1]
    rows = [
        (piece.run, number, event)
        for piece in kept
        for number, event in enumerate(piece.events, piece.first)
    ]
    if rows:
        run_sql(_ADD, tuple(map(list, zip(*rows, strict=True))))
    done = [piece for piece in kept if piece.ended]
    if done:
        run_sql(_END, (now_us(), [piece.run for piece in done], [piece.last for piece in done]))


def _end_run(run_sql: Callable[..., Any], run: int, events: Sequence[Event]) -> bool:
    if run_sql(_ENDED, ([run],)).fetchone() is not None:
        return False
    (last,) = run_sql(_LAST, (run,)).fetchone()
    numbers = list(range(last + 1, last + 1 + len(events)))
    lines = [encode_event(event) for event in events]
    added = run_sql(_ADD, ([run] * len(lines), numbers, lines)).rowcount if lines else 0
    ended = run_sql(_END, (now_us(), [run], [last + len(lines)])).rowcount
    if added != len(lines) or not ended:
        raise _Overtaken  # undoes what was added
    return True


def _prune(run_sql: Callable[..., Any], ended_before_us: int) -> int:
    runs = [run for (run,) in run_sql(_OLD, (ended_before_us, _PRUNED_AT_ONCE)).fetchall()]
    if runs:
        _forget(run_sql, runs)
    return len(runs)


def _forget(run_sql: Callable[..., Any], runs: Sequence[int]) -> None:
    run_sql("DELETE FROM run_event WHERE run = ANY(%s::bigint[])", (list(runs),))
    run_sql("DELETE FROM run_event_end WHERE run = ANY(%s::bigint[])", (list(runs),))
