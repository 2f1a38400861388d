"""The statements of the SQLite journal. Each function runs within a transaction or reads.

Raw SQL: the file is opened without peewee, and its tables are not part of the state.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import orjson

from ..events import Event, encode_event
from ..runtime.clock import now_us
from .journal import EPOCH_KEPT_US, READ_BYTES, Piece, Slice, cut

log = logging.getLogger(__name__)

# After a commit with unknown outcome a piece is written again. It then starts with the same
# events and may contain more of them.
_ADD_ROWS = """
INSERT INTO event (run, number, event)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
FROM json_each(?) WHERE true
ON CONFLICT DO UPDATE SET event = excluded.event
"""

_END = "INSERT INTO ended (run, last, ended_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"

_END_ROWS = """
INSERT INTO ended (run, last, ended_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
FROM json_each(?) WHERE true
ON CONFLICT DO NOTHING
"""

# Starts at the row that contains event :number + 1. As bytes: events are sent without decoding.
_READ = """
SELECT number, CAST(event AS BLOB) FROM event
WHERE run = :run AND number >= COALESCE(
    (SELECT MAX(number) FROM event WHERE run = :run AND number <= :number + 1), 0)
ORDER BY number
"""

_LAST_ROW = "SELECT number, event FROM event WHERE run = ? ORDER BY number DESC LIMIT 1"

_TAKE = """
INSERT INTO epoch (run, epoch, since) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET epoch = excluded.epoch, since = excluded.since
"""

# Only runs with something to know, usually none: each row releases the GIL, too.
_KNOWN = """
SELECT value, epoch.epoch, ended.run IS NOT NULL
FROM json_each(?)
LEFT JOIN epoch ON epoch.run = value AND epoch.since > ?
LEFT JOIN ended ON ended.run = value
WHERE epoch.run IS NOT NULL OR ended.run IS NOT NULL
"""

# Only of runs that begin: with many long runs, looking at the first row of each reads more pages
# than the cache has.
_WITH_EVENTS = """
SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM event WHERE run = value)
"""

_LAST = "SELECT last FROM ended WHERE run = ?"

_OLD = "SELECT run FROM ended WHERE ended_at < ? ORDER BY ended_at LIMIT ?"


#: Maximum lines and bytes of a row. A reader of one event reads the whole row.
_ROW_LINES, _ROW_BYTES = 256, 128 * 1024

#: Maximum number of runs that one call of ``prune`` deletes, in a transaction of milliseconds.
_PRUNED_AT_ONCE = 200


class _Known(NamedTuple):
    """What the journal knows of a run.

    :param epoch: That of the worker that has taken it over, or 0.
    """

    epoch: int = 0
    ended: bool = False


_UNKNOWN = _Known()


def append(db: sqlite3.Connection, pieces: Sequence[Piece]) -> set[int]:
    """Store pieces, and return the runs whose events were rejected.

    The number of statements does not depend on the number of events. Each statement releases
    the GIL, and under load it takes long to get it back.
    """
    known = _find_known(db, [piece.run for piece in pieces])
    refused, begun = set[int](), list[int]()
    for piece in pieces:
        of_run = known.get(piece.run, _UNKNOWN)
        if piece.epoch < of_run.epoch or (of_run.ended and piece.first > 1):
            refused.add(piece.run)
        elif piece.first == 1:
            begun.append(piece.run)
    if begun:
        _forget(db, _find_used(db, begun, known))
    if refused:
        log.warning("runs ended or were taken over; events of their former worker are dropped")
    pieces = [piece for piece in pieces if piece.run not in refused]
    _add_rows(db, [row for piece in pieces for row in _iter_rows(piece)])
    ended = [(piece.run, piece.last, now_us()) for piece in pieces if piece.ended]
    if ended:
        db.execute(_END_ROWS, (orjson.dumps(ended).decode(),))
    return refused


def _find_known(db: sqlite3.Connection, runs: Sequence[int]) -> dict[int, _Known]:
    rows = db.execute(_KNOWN, (orjson.dumps(runs).decode(), now_us() - EPOCH_KEPT_US))
    return {run: _Known(epoch or 0, bool(ended)) for run, epoch, ended in rows}


def _find_used(
    db: sqlite3.Connection, begun: Sequence[int], known: Mapping[int, _Known]
) -> Sequence[int]:
    """Return the runs of which the journal has an end or events, although they begin."""
    with_events = {run for (run,) in db.execute(_WITH_EVENTS, (orjson.dumps(begun).decode(),))}
    return [run for run in begun if run in with_events or (run in known and known[run].ended)]


def take_over(
    db: sqlite3.Connection, run: int, epoch: int, after: int, events: Sequence[Event]
) -> bool:
    """Add the first events of a worker that takes over a run. False if it is too late."""
    piece = Piece(run, after + 1, [*map(encode_event, events)], epoch=epoch)
    known = _find_known(db, [run]).get(run, _UNKNOWN)
    if epoch < known.epoch or known.ended or _find_last(db, run) != after:
        return False
    _add_rows(db, list(_iter_rows(piece)))
    db.execute(_TAKE, (run, epoch, now_us()))
    return True


def _find_last(db: sqlite3.Connection, run: int) -> int:
    row = db.execute(_LAST_ROW, (run,)).fetchone()
    return row[0] + row[1].count("\n") if row else 0


def _iter_rows(piece: Piece) -> Iterator[tuple[int, int, str]]:
    """Split a piece into rows. A longer piece with the same start has the same splits."""
    if len(piece.events) <= _ROW_LINES and sum(map(len, piece.events)) <= _ROW_BYTES:
        if piece.events:
            yield piece.run, piece.first, b"\n".join(piece.events).decode()
        return
    first, lines, size = piece.first, list[bytes](), 0
    for line in piece.events:
        if len(lines) == _ROW_LINES or (lines and size + len(line) > _ROW_BYTES):
            yield piece.run, first, b"\n".join(lines).decode()
            first, lines, size = first + len(lines), [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield piece.run, first, b"\n".join(lines).decode()


def _add_rows(db: sqlite3.Connection, rows: list[tuple[int, int, str]]) -> None:
    # One small JSON array per row: json_extract would parse a larger array again
    # for every row.
    db.execute(_ADD_ROWS, (orjson.dumps(rows).decode(),))


def read_after(db: sqlite3.Connection, run: int, number: int, limit: int) -> Slice:
    """Return the events of a run after ``number``."""
    # Read the end first: a run that ends between the two reads then only seems open.
    ended = db.execute(_LAST, (run,)).fetchone()
    events = _read_lines(db, run, number, limit)
    return Slice(events, closed=ended is not None and number + len(events) >= ended[0])


def _read_lines(db: sqlite3.Connection, run: int, number: int, limit: int) -> list[bytes]:
    events: list[bytes] = []
    with closing(db.execute(_READ, {"run": run, "number": number})) as rows:
        for first, lines in rows:
            events += lines.split(b"\n")[number + len(events) + 1 - first :]
            if len(events) >= limit or sum(map(len, events)) >= READ_BYTES:
                break
    return cut(events[:limit])


def end_run(db: sqlite3.Connection, run: int, events: Sequence[Event]) -> bool:
    """Append the closing events of another worker's run. False if it had already ended."""
    if db.execute(_LAST, (run,)).fetchone() is not None:
        return False
    last = _find_last(db, run)
    closing_piece = Piece(run, last + 1, [encode_event(event) for event in events])
    _add_rows(db, list(_iter_rows(closing_piece)))
    db.execute(_END, (run, closing_piece.last, now_us()))
    return True


def prune(db: sqlite3.Connection, ended_before_us: int) -> int:
    """Delete runs that ended before a time, and return their number."""
    runs = [run for (run,) in db.execute(_OLD, (ended_before_us, _PRUNED_AT_ONCE))]
    _forget(db, runs)
    return len(runs)


def _forget(db: sqlite3.Connection, runs: Sequence[int]) -> None:
    if not runs:
        return
    for table in ("event", "ended", "epoch"):
        db.execute(
            f"DELETE FROM {table} WHERE run IN (SELECT value FROM json_each(?))",
            (orjson.dumps(runs).decode(),),
        )
