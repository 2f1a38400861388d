"""The journal for several hosts: tables in PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ..db.postgres_store import PostgresStore
from ..errors import StorageError
from ..events import Event, encode_event
from ..runtime.clock import now_us
from .journal import EPOCH_KEPT_US, READ_BYTES, READ_LIMIT, Journal, Piece, Slice

log = logging.getLogger(__name__)

T = TypeVar("T")

# Raw SQL: peewee cannot express the insert of many rows from arrays.
_ADD = """
INSERT INTO run_event (run, number, event)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[]) ON CONFLICT DO NOTHING
"""

_END = """
INSERT INTO run_event_end (run, last, ended_at)
SELECT *, %s FROM unnest(%s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING
"""

# One statement instead of two round trips: ended runs, and runs taken over.
_ENDED = """
SELECT run, NULL::bigint FROM run_event_end WHERE run = ANY(%s::bigint[])
UNION ALL SELECT run, epoch FROM run_event_epoch WHERE run = ANY(%s::bigint[]) AND since > %s
"""

_TAKE = """
INSERT INTO run_event_epoch (run, epoch, since) VALUES (%s, %s, %s)
ON CONFLICT (run) DO UPDATE SET epoch = EXCLUDED.epoch, since = EXCLUDED.since
"""

# One statement, so that the end and the events come from the same snapshot.
_READ = """
SELECT (SELECT last FROM run_event_end WHERE run = %s),
    ARRAY(
        SELECT event FROM (
            SELECT number, event, sum(octet_length(event)) OVER (ORDER BY number) AS size
            FROM run_event WHERE run = %s AND number > %s ORDER BY number LIMIT %s
        ) AS first WHERE size - octet_length(event) < %s ORDER BY number)
"""

_LAST = "SELECT COALESCE(MAX(number), 0) FROM run_event WHERE run = %s"

# SKIP LOCKED: another worker may be deleting the same rows.
_OLD = """
SELECT run FROM run_event_end WHERE ended_at < %s ORDER BY ended_at LIMIT %s
FOR UPDATE SKIP LOCKED
"""

#: Maximum number of runs that one call of ``prune`` deletes, in a transaction of milliseconds.
_PRUNED_AT_ONCE = 200

#: Maximum number of attempts to write against another worker that adds to the same run.
_MAX_ATTEMPTS = 20


class _Overtaken(Exception):
    """Another worker has added the same events first."""


class PostgresJournal(Journal):
    """Events in PostgreSQL, on separate connections, so that tokens do not wait for turns.

    There are no locks. If two workers write the same event, the second insert
    conflicts with the primary key and is skipped.

    :param store: A store of its own, not the one for the state; closed with the journal.
    """

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def append(self, pieces: Sequence[Piece]) -> Collection[int]:
        return self._write_with_retries(lambda run_sql: _append(run_sql, pieces))

    def read_after(self, run: int, number: int, limit: int = READ_LIMIT) -> Slice:
        with self._store.read() as db:
            values = (run, run, number, limit, READ_BYTES)
            last, events = db.connection().execute(_READ, values).fetchone()  # type: ignore[no-untyped-call]
        if last is None:
            return Slice(events, closed=False)
        # Hide events that a lost worker added after the end.
        del events[max(0, last - number) :]
        return Slice(events, closed=number + len(events) >= last)

    def take_over(self, run: int, epoch: int, after: int, events: Sequence[Event]) -> bool:
        piece = Piece(run, after + 1, [*map(encode_event, events)], epoch=epoch)
        try:
            return self._write(lambda run_sql: _take_over(run_sql, piece))
        except _Overtaken:
            return False

    def end_run(self, run: int, events: Sequence[Event]) -> bool:
        return self._write_with_retries(lambda run_sql: _end_run(run_sql, run, events))

    def prune(self, ended_before_us: int) -> int:
        return self._write(lambda run_sql: _prune(run_sql, ended_before_us))

    def close(self) -> None:
        self._store.close()

    def _write_with_retries(self, job: Callable[[Callable[..., Any]], T]) -> T:
        """Run a job, again if another worker adds the same events first."""
        for _ in range(_MAX_ATTEMPTS):
            with suppress(_Overtaken):
                return self._write(job)
        raise StorageError("The run is still being added to; try again later.")

    def _write(self, job: Callable[[Callable[..., Any]], T]) -> T:
        return self._store.write(lambda db: job(db.connection().execute))


def _append(run_sql: Callable[..., Any], pieces: Sequence[Piece]) -> set[int]:
    refused = _find_refused(run_sql, pieces)
    begun = [piece.run for piece in pieces if piece.first == 1 and piece.run not in refused]
    if begun:
        _forget(run_sql, begun)
    for run in refused:
        log.warning("run %d ended or was taken over; events of its former worker are dropped", run)
    kept = [piece for piece in pieces if piece.run not in refused]
    # The former worker and the new one insert the same number; the key detects it.
    if _add(run_sql, kept) and _find_refused(run_sql, kept):
        raise _Overtaken
    done = [piece for piece in kept if piece.ended]
    if done:
        run_sql(_END, (now_us(), [piece.run for piece in done], [piece.last for piece in done]))
    return refused


def _add(run_sql: Callable[..., Any], pieces: Sequence[Piece]) -> int:
    """Add events, and return the number of events that existed already."""
    rows = [
        (piece.run, number, event)
        for piece in pieces
        for number, event in enumerate(piece.events, piece.first)
    ]
    if not rows:
        return 0
    added: int = run_sql(_ADD, tuple(map(list, zip(*rows, strict=True)))).rowcount
    return len(rows) - added


def _find_refused(run_sql: Callable[..., Any], pieces: Sequence[Piece]) -> set[int]:
    """Return the runs that have ended or that another worker has taken over."""
    runs = [piece.run for piece in pieces]
    rows = run_sql(_ENDED, (runs, runs, now_us() - EPOCH_KEPT_US)).fetchall() if runs else ()
    epochs = {run: epoch for run, epoch in rows if epoch is not None}
    ended = {run for run, epoch in rows if epoch is None}
    return {
        piece.run
        for piece in pieces
        # A piece with event 1 replaces the rows that an earlier database left.
        if (piece.first > 1 and piece.run in ended) or piece.epoch < epochs.get(piece.run, 0)
    }


def _take_over(run_sql: Callable[..., Any], piece: Piece) -> bool:
    (last,) = run_sql(_LAST, (piece.run,)).fetchone()
    if last != piece.first - 1 or _find_refused(run_sql, [piece]):
        return False
    run_sql(_TAKE, (piece.run, piece.epoch, now_us()))
    if _add(run_sql, [piece]):
        raise _Overtaken  # rolls back the insert
    return True


def _end_run(run_sql: Callable[..., Any], run: int, events: Sequence[Event]) -> bool:
    if run_sql("SELECT 1 FROM run_event_end WHERE run = %s", (run,)).fetchone() is not None:
        return False
    (last,) = run_sql(_LAST, (run,)).fetchone()
    piece = Piece(run, last + 1, [*map(encode_event, events)])
    existing = _add(run_sql, [piece])
    ended = run_sql(_END, (now_us(), [run], [piece.last])).rowcount
    if existing or not ended:
        raise _Overtaken  # rolls back the insert
    return True


def _prune(run_sql: Callable[..., Any], ended_before_us: int) -> int:
    runs = [run for (run,) in run_sql(_OLD, (ended_before_us, _PRUNED_AT_ONCE)).fetchall()]
    if runs:
        _forget(run_sql, runs)
    return len(runs)


def _forget(run_sql: Callable[..., Any], runs: Sequence[int]) -> None:
    for table in ("run_event", "run_event_end", "run_event_epoch"):
        run_sql(f"DELETE FROM {table} WHERE run = ANY(%s::bigint[])", (list(runs),))
