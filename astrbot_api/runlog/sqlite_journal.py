"""The journal of one data directory: a separate SQLite file.

A separate file, so that token writes and state transactions do not wait for
each other.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from ..errors import SettingsError, StorageError
from ..events import Event
from ..runtime.filelock import lock_file
from ..runtime.per_process import OwnConnections, PerProcess
from ..runtime.private_files import create_private_file
from ..runtime.threads import NativeThread
from . import sqlite_events
from .journal import READ_LIMIT, Journal, Piece, Slice

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


class _Own(OwnConnections[sqlite3.Connection]):
    """The connections and the writer thread of one process."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = NativeThread()


class SqliteJournal(Journal):
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
        return self._call(lambda db: sqlite_events.append(db, pieces))

    def read_after(self, run: int, number: int, limit: int = READ_LIMIT) -> Slice:
        own, connection = self._get_own(), None
        try:
            try:
                connection = own.readers.pop()
            except IndexError:
                connection = self._connect()
            found = sqlite_events.read_after(connection, run, number, limit)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise StorageError(f"The events of the run could not be read: {error}") from error
        own.readers.append(connection)
        if own.closed:
            own.close_idle()
        return found

    def take_over(self, run: int, epoch: int, after: int, events: Sequence[Event]) -> bool:
        return self._call(lambda db: sqlite_events.take_over(db, run, epoch, after, events))

    def end_run(self, run: int, events: Sequence[Event]) -> bool:
        return self._call(lambda db: sqlite_events.end_run(db, run, events))

    def prune(self, ended_before_us: int) -> int:
        return self._call(lambda db: sqlite_events.prune(db, ended_before_us))

    def close(self) -> None:
        """Stop the writer thread and close every connection."""
        self._closed = True
        own = self._own.take()
        if own is not None:
            own.thread.close()
            own.close()

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
                checked = connection.execute("PRAGMA user_version").fetchone()[0]
                if not boot or checked != boot:
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
