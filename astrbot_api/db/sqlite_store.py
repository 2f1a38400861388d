"""The state in an SQLite file: short reads in the calling thread, writes in groups."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import peewee

from ..errors import SettingsError, StoreClosed
from ..runtime.filelock import lock_file
from ..runtime.per_process import OwnConnections, PerProcess
from ..runtime.private_files import create_private_file
from ..runtime.threads import run_disk
from . import counting, migrating
from .failures import MAX_READ_S, as_storage_error
from .group_commit import BatchWriter, Job

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Milliseconds that a write waits for another process. Long, because it waits in a separate
#: thread, and a busy disk can stall for seconds.
_BUSY_TIMEOUT_MS = 30_000

#: SQLite steps between two checks of the time limit of :meth:`SqliteStore.read_aside`.
_STEPS = 10_000

#: Fault of a file that is no longer at its path.
_MOVED = "the file was moved, deleted or replaced while the server was running; restart the server"

_PRAGMAS = {
    "journal_mode": "wal",
    # Safe against a crash of the process. A power cut may lose the last
    # transactions but never corrupts the file (Source: https://sqlite.org/wal.html).
    "synchronous": "normal",
    "busy_timeout": _BUSY_TIMEOUT_MS,
    "foreign_keys": 1,
    "cache_size": -16_000,
    # A checkpoint copies each changed page once, however often it was written.
    "wal_autocheckpoint": 4_000,
}


class SqliteStore:
    """A SQLite database that never blocks the hub on a lock.

    Reads take microseconds and run in the calling thread. Writes that wait share a transaction
    (see :class:`~astrbot_api.db.group_commit.BatchWriter`).

    :param path: The database file; its folder must exist.
    """

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()  # the application may change its folder
        self._own = PerProcess(lambda: _Own(self._path, self._connect))
        self._closed = False

    def upgrade(self) -> list[str]:
        with lock_file(Path(f"{self._path}.lock")):
            db = self._connect()
            try:
                return migrating.upgrade(db)
            except (peewee.DatabaseError, sqlite3.Error) as error:
                cause: BaseException = error
                while cause.__context__ is not None:  # on a full disk, the rollback fails, too
                    cause = cause.__context__
                raise SettingsError(f"cannot upgrade the database {self._path}: {cause}") from error
            finally:
                db.close()

    def list_migrations(self) -> list[tuple[str, str]]:
        db = self._connect()
        try:
            return migrating.list_migrations(db)
        finally:
            db.close()

    def read(self) -> _Reading:
        """Borrow a connection. The block must not yield, sleep or call anything that does."""
        own = self._get_own()
        try:
            db = own.readers.pop()
        except IndexError:
            db = own.connect()
        return _Reading(own, db)

    def read_aside(self, job: Callable[[peewee.SqliteDatabase], T]) -> T:
        """Run a job in a native thread, with a time limit for its queries."""
        result: T = run_disk(_read_for_a_time, self.read(), job)
        return result

    def write(
        self,
        job: Callable[[peewee.SqliteDatabase], T],
        *,
        patient: bool = False,
        quick: bool = False,
    ) -> T:
        """Run a job, possibly in one transaction with other jobs."""
        try:
            return self._get_own().writer.submit(job, quick=quick)
        except (peewee.DatabaseError, sqlite3.Error) as error:
            raise as_storage_error(error, str(self._path)) from error
        except RuntimeError:
            self._get_own()  # raises StoreClosed if the writer's thread has ended meanwhile
            raise

    def describe_fault(self, look: object) -> str:
        """Return whether the file is gone. Otherwise reads never wait, and one thread writes."""
        own = self._own.current
        return _MOVED if own is not None and own.has_moved() else ""

    def close(self) -> None:
        """Stop the writer and close every connection. The store cannot be used afterwards."""
        self._closed = True
        own = self._own.take()
        if own is not None:
            own.writer.close()
            own.close()

    def _connect(self) -> peewee.SqliteDatabase:
        create_private_file(self._path)
        # Not thread-safe on purpose: only one caller at a time uses a connection,
        # and peewee's per-greenlet state would open a connection per request.
        db = peewee.SqliteDatabase(
            str(self._path), pragmas=_PRAGMAS, thread_safe=False, check_same_thread=False
        )
        try:
            db.connect()
        except (peewee.DatabaseError, sqlite3.Error) as error:
            raise as_storage_error(error, str(self._path)) from error
        return db

    def _get_own(self) -> _Own:
        if self._closed:
            raise StoreClosed("The server is shutting down; its database is closed.")
        return self._own.get()


def _read_for_a_time(reading: _Reading, job: Callable[[peewee.SqliteDatabase], T]) -> T:
    """Run a job. The connection is returned here, even if the caller no longer waits."""
    with reading as db:
        connection, end = db.connection(), time.monotonic() + MAX_READ_S
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            return job(db)
        finally:
            connection.set_progress_handler(None, 0)


class _Own(OwnConnections[peewee.SqliteDatabase]):
    """The connections and the writer of one process."""

    def __init__(self, path: Path, connect: Callable[[], peewee.SqliteDatabase]) -> None:
        super().__init__()
        self._path = path
        self._connect = connect
        #: Whether that connection waits for locks of other processes.
        self._waits = True
        #: Inode of the file that the first connection has opened, or 0.
        self._inode = 0
        self.writer = BatchWriter(self)

    def connect(self) -> peewee.SqliteDatabase:
        if self.has_moved():  # the WAL beside the new file belongs to the old one
            raise as_storage_error(sqlite3.OperationalError(_MOVED), str(self._path))
        db = self._connect()
        self._inode = self._inode or os.stat(self._path).st_ino
        return db

    def has_moved(self) -> bool:
        """Return whether the path no longer leads to the file that this process has open.

        SQLite continues to write to the old file in WAL mode, and a restart would lose all of it.
        """
        if not self._inode:
            return False
        try:
            return os.stat(self._path).st_ino != self._inode
        except OSError:
            return True

    def begin(self, *, wait: bool) -> bool:
        if not self.writers:
            self.writers.append(self.connect())
        elif self.has_moved():
            raise sqlite3.OperationalError(_MOVED)
        # Raw SQL: peewee has no statement for either, and its own take four times as long.
        execute = self.writers[0].connection().execute
        if wait != self._waits:
            execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS if wait else 0}")
            self._waits = wait
        try:
            execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if wait or "locked" not in str(error):
                raise
            return False
        counting.begin_batch(self.writers[0])
        return True

    def run(self, jobs: Sequence[Job], until: float | None) -> list[Any | BaseException]:
        """Run jobs in the transaction. Each has a savepoint, unless there is only one."""
        db = self.writers[0]
        outcomes: list[Any | BaseException] = []
        try:
            if len(jobs) == 1:  # rolling back the transaction undoes the job
                return [_run_alone(db, jobs[0])]
            for job in jobs:
                outcomes.append(_run_job(db, job))
                if until is not None and time.monotonic() > until:
                    break
        except BaseException:
            _roll_back(db)
            raise
        return outcomes

    def commit(self) -> None:
        """Write the counts of the jobs and commit."""
        db = self.writers[0]
        try:
            counting.end_batch(db)
            db.connection().execute("COMMIT")
        except BaseException:
            _roll_back(db)
            raise


def _run_job(db: peewee.SqliteDatabase, job: Job) -> Any | BaseException:
    execute = db.connection().execute
    execute("SAVEPOINT job")
    try:
        result = _run_alone(db, job)
    except Exception as error:
        execute("ROLLBACK TO job")
        execute("RELEASE job")
        counting.undo(db)
        return error
    execute("RELEASE job")
    return result


def _run_alone(db: peewee.SqliteDatabase, job: Job) -> Any:
    counting.begin(db)
    result = job(db)
    counting.settle(db)
    return result


class _Reading:
    """A borrowed connection. A class is faster than a generator, and each request uses one."""

    __slots__ = ("_db", "_own")

    def __init__(self, own: _Own, db: peewee.SqliteDatabase) -> None:
        self._own = own
        self._db = db

    def __enter__(self) -> peewee.SqliteDatabase:
        return self._db

    def __exit__(self, kind: type[BaseException] | None, error: Any, traceback: object) -> None:
        self._own.readers.append(self._db)
        if self._own.closed:
            self._own.close_idle()
        if isinstance(error, (peewee.DatabaseError, sqlite3.Error)):
            raise as_storage_error(error, str(self._db.database)) from error


def _roll_back(db: peewee.SqliteDatabase) -> None:
    try:
        db.execute_sql("ROLLBACK")
    except (peewee.DatabaseError, sqlite3.Error):
        # When the disk is full, SQLite has already rolled back. Nothing is left to
        # undo, and the first error is the relevant one.
        log.debug("nothing to roll back", exc_info=True)
