"""The journal of one data directory: a separate SQLite file.

A separate file, so that token writes and state transactions do not wait for
each other.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import orjson

from ..errors import SettingsError, StorageError
from ..events import Event, encode_event
from ..runtime.clock import now_us
from ..runtime.filelock import lock_file
from ..runtime.per_process import PerProcess
from ..runtime.private_files import create_private_file
from ..runtime.threads import NativeThread
from .journal import EPOCH_KEPT_US, READ_LIMIT, Piece, Slice

log = logging.getLogger(__name__)

T = TypeVar("T")

# A row of ``event`` holds consecutive events, one per line; ``number`` is the first one's.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ended (
    run INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    ended_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS ended_at ON ended (ended_at);
CREATE TABLE IF NOT EXISTS epoch (
    run INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    since INTEGER NOT NULL
);
"""

# An older layout stored whole SSE frames: ``data: {…}``, then ``id:``.
_OF_FRAMES = "SELECT 1 FROM pragma_table_info('event') WHERE name = 'frame'"
_CONVERT = """
ALTER TABLE event RENAME COLUMN frame TO event;
UPDATE event SET event = substr(event, 7, instr(event, char(10)) - 7);
"""

# Written events survive the end of any process, including SIGKILL, but not a power cut:
# no token waits for a disk flush. After a reboot the file is checked, and set aside if it
# is corrupt.
_PRAGMAS = """
PRAGMA journal_mode = wal;
PRAGMA synchronous = off;
PRAGMA busy_timeout = 30000;
PRAGMA wal_autocheckpoint = 4000;
"""

# Raw SQL: the file is opened without peewee, and its tables are not part of the state.
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
# Starts at the row that contains event ?2 + 1. As bytes: events are sent without decoding.
_READ = """
SELECT number, CAST(event AS BLOB) FROM event
WHERE run = ?1 AND number >= COALESCE(
    (SELECT MAX(number) FROM event WHERE run = ?1 AND number <= ?2 + 1), 0)
ORDER BY number
"""
_LAST_ROW = "SELECT number, event FROM event WHERE run = ? ORDER BY number DESC LIMIT 1"
_TAKE = """
INSERT INTO epoch (run, epoch, since) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET epoch = excluded.epoch, since = excluded.since
"""
_KNOWN = """
SELECT value,
    (SELECT epoch FROM epoch WHERE run = value AND since > ?),
    EXISTS (SELECT 1 FROM ended WHERE run = value)
FROM json_each(?)
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

    epoch: int
    ended: bool


class _Own:
    """The connections and the writer thread of one process: SQLite must not cross a fork."""

    def __init__(self) -> None:
        self.readers: list[sqlite3.Connection] = []
        #: The writer's connection, or empty before the first write.
        self.writers: list[sqlite3.Connection] = []
        self.thread = NativeThread()


class SqliteJournal:
    """Events in ``events.db``.

    Writes run in one native thread per process. Reads take microseconds and
    run in the calling thread.

    :param path: The file. Its folder must exist.
    :raises SettingsError: when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = PerProcess(_Own)
        self._closed = False
        try:
            with lock_file(Path(f"{path}.lock")):
                self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise SettingsError(f"cannot open {path}: {error}") from error

    def append(self, pieces: Sequence[Piece]) -> Collection[int]:
        """Store events of any number of runs, and return the runs whose events were rejected."""
        return self._call(lambda db: _append(db, pieces))

    def read_after(self, run: int, number: int, limit: int = READ_LIMIT) -> Slice:
        """Return the events of a run after ``number``."""
        readers = self._get_own().readers
        try:
            connection = readers.pop()
        except IndexError:
            connection = self._connect()
        try:
            # Read the end first: a run that ends between the two reads then only seems open.
            ended = connection.execute(_LAST, (run,)).fetchone()
            events = _read_lines(connection, run, number, limit)
        except sqlite3.Error as error:
            connection.close()
            raise StorageError(f"The events of the run could not be read: {error}") from error
        readers.append(connection)
        if ended is None:
            return Slice(events, closed=False)
        del events[max(0, ended[0] - number) :]
        return Slice(events, closed=number + len(events) >= ended[0])

    def take_over(self, run: int, epoch: int, after: int, events: Sequence[Event]) -> bool:
        """Add the first events of a worker that takes over a run."""
        return self._call(lambda db: _take_over(db, run, epoch, after, events))

    def end_run(self, run: int, events: Sequence[Event]) -> bool:
        """Append the closing events of another worker's run. False if it had already ended."""
        return self._call(lambda db: _end_run(db, run, events))

    def prune(self, ended_before_us: int) -> int:
        """Delete runs that ended before a time, and return their number."""
        return self._call(lambda db: _prune(db, ended_before_us))

    def close(self) -> None:
        """Stop the writer thread and close every connection."""
        self._closed = True
        own = self._own.take()
        if own is not None:
            own.thread.close()
            for connection in (*own.readers, *own.writers):
                connection.close()

    def _call(self, job: Callable[[sqlite3.Connection], T]) -> T:
        own = self._get_own()
        try:
            return own.thread.call(lambda: self._run_in_transaction(own, job))
        except sqlite3.Error as error:
            raise StorageError(f"The events could not be stored: {error}") from error

    def _run_in_transaction(self, own: _Own, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job in the writer thread."""
        if not own.writers:
            own.writers.append(self._connect())
        db = own.writers[0]
        db.execute("BEGIN IMMEDIATE")
        try:
            result = job(db)
            db.execute("COMMIT")
        except BaseException:
            # When the disk is full, SQLite has already rolled back.
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return result

    def _prepare(self) -> None:
        """Create the tables. Set aside a file that a power cut has corrupted."""
        boot = _read_boot()
        try:
            with closing(self._connect()) as connection:
                if connection.execute("PRAGMA user_version").fetchone()[0] != boot:
                    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                    if answer != "ok":
                        raise sqlite3.DatabaseError(answer)
                if connection.execute(_OF_FRAMES).fetchone() is not None:
                    connection.executescript(f"BEGIN IMMEDIATE; {_CONVERT} COMMIT;")
                connection.executescript(f"{_SCHEMA} PRAGMA user_version = {boot};")
            return
        except sqlite3.OperationalError:
            raise  # a locked file or a full disk, not a broken one
        except sqlite3.DatabaseError as error:
            log.error("%s is corrupt and was set aside: %s", self._path.name, error)
        for suffix in ("", "-wal", "-shm"):
            broken = Path(f"{self._path}{suffix}")
            if broken.exists():
                broken.replace(f"{self._path}.broken{suffix}")
        with closing(self._connect()) as connection:
            connection.executescript(f"{_SCHEMA} PRAGMA user_version = {boot};")

    def _connect(self) -> sqlite3.Connection:
        create_private_file(self._path)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.executescript(_PRAGMAS)
        return connection

    def _get_own(self) -> _Own:
        if self._closed:
            raise StorageError("The server is shutting down; the journal is closed.")
        return self._own.get()


def _read_boot() -> int:
    """Return a number that identifies this boot of the machine, or 0 if it is unknown."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text[:7], 16)


def _append(db: sqlite3.Connection, pieces: Sequence[Piece]) -> set[int]:
    """Store pieces in a few statements, however many events they have.

    Each statement releases the GIL, and under load it takes long to get it back.
    One statement per event would take seconds.
    """
    known = _find_known(db, [piece.run for piece in pieces])
    refused, begun = set[int](), list[int]()
    for piece in pieces:
        of_run = known[piece.run]
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
    rows = db.execute(_KNOWN, (now_us() - EPOCH_KEPT_US, orjson.dumps(runs).decode()))
    return {run: _Known(epoch or 0, ended) for run, epoch, ended in rows}


def _find_used(
    db: sqlite3.Connection, begun: Sequence[int], known: Mapping[int, _Known]
) -> Sequence[int]:
    """Return the runs of which the journal has an end or events, although they begin."""
    with_events = {run for (run,) in db.execute(_WITH_EVENTS, (orjson.dumps(begun).decode(),))}
    return [run for run in begun if run in with_events or known[run].ended]


def _take_over(
    db: sqlite3.Connection, run: int, epoch: int, after: int, events: Sequence[Event]
) -> bool:
    piece = Piece(run, after + 1, [*map(encode_event, events)], epoch=epoch)
    known = _find_known(db, [run])[run]
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


def _read_lines(db: sqlite3.Connection, run: int, number: int, limit: int) -> list[bytes]:
    events: list[bytes] = []
    with closing(db.execute(_READ, (run, number))) as rows:
        for first, lines in rows:
            events += lines.split(b"\n")[number + len(events) + 1 - first :]
            if len(events) >= limit:
                break
    return events[:limit]


def _end_run(db: sqlite3.Connection, run: int, events: Sequence[Event]) -> bool:
    if db.execute(_LAST, (run,)).fetchone() is not None:
        return False
    last = _find_last(db, run)
    closing_piece = Piece(run, last + 1, [encode_event(event) for event in events])
    _add_rows(db, list(_iter_rows(closing_piece)))
    db.execute(_END, (run, closing_piece.last, now_us()))
    return True


def _prune(db: sqlite3.Connection, ended_before_us: int) -> int:
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
