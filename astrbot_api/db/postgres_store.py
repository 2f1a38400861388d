"""The state in PostgreSQL, shared by several hosts.

psycopg waits for the server with functions that gevent patches. A waiting
greenlet therefore never blocks the hub, and jobs run in the calling greenlet.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import peewee
import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from ..errors import SettingsError, StorageError, StoreClosed
from ..runtime.fair_semaphore import FairSemaphore
from ..runtime.per_process import PerProcess
from . import migrating
from .failures import MAX_READ_S, PATIENCE_S, as_storage_error, as_unknown_outcome
from .postgres_connection import (
    STATEMENT_LIMIT_S,
    Connection,
    PostgresDatabase,
    find_state,
    read_url,
)
from .postgres_faults import (
    MIXED_TEXT,
    OWNER_REMEDY,
    READ_ONLY_TEXT,
    describe_blockers,
    describe_forbidden,
    is_read_only,
    mixes_sessions,
)
from .postgres_transaction import LostInCommit, run_job, to_line

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Maximum number of attempts of a job that loses a race or its connection.
_MAX_ATTEMPTS = 5

#: Serialization failure, deadlock, and duplicate key: another job was first. When the
#: job is run again, it sees the other job's changes.
_RACES = ("40001", "40P01", "23505")

#: Another program holds a lock.
_LOCKED = "55P03"

#: The transaction is read-only.
_READ_ONLY = "25006"

#: PostgreSQL's disk is full.
_FULL = "53100"

#: State of an error: the role lacks a right.
_NO_RIGHT = "42501"

#: Minimum seconds between two replacements of read-only connections.
_REPLACE_EVERY_S = 1.0

#: Seconds between two attempts of a patient job that gets no connection that can write.
_RECONNECT_PAUSE_S = 0.2

#: Seconds that a diagnosis waits for a connection: less than ``BOUND_S`` of the readiness checks.
_LOOK_S = 1.5

#: Seconds for which a store counts as jammed after a caller got no connection.
_JAM_S = 5.0

#: Seconds in which a pool closes all of its connections if they are unused.
_IDLE_S = 60.0

#: Maximum number of callers that wait for a connection; others are rejected at once.
_MAX_WAITING = 2000

#: Maximum duration of a query in :meth:`PostgresStore.read_aside`, in milliseconds.
_MAX_READ_MS = f"{MAX_READ_S * 1000:.0f}"

#: A unique number, so that no other program uses the same lock.
_MIGRATION_LOCK = 0x61737472626F74

_FAILURES = (peewee.DatabaseError, peewee.InterfaceError, psycopg.Error)


class _Again(Exception):
    """The connection was lost during a job; nothing is stored."""


class PostgresStore:
    """PostgreSQL behind a pool of connections that survives restarts of the server.

    :param url: ``postgresql://…``, with any parameters of libpq.
    :param pool_size: Maximum number of connections of this process.
    :param timeout_s: Seconds that a caller waits for a connection.
    """

    dialect = "postgres"

    def __init__(self, url: str, *, pool_size: int = 20, timeout_s: float = 5.0) -> None:
        self._params = read_url(url, timeout_s)
        self._pool_size = pool_size
        self._timeout_s = timeout_s
        self._pool = PerProcess(self._open_pool)
        # Only writes wait for locks. The rest of the pool is therefore always free for reads.
        writers = max(1, pool_size * 3 // 4)
        self._writers = PerProcess(lambda: FairSemaphore(writers))
        self._refused_at = self._trusted_from = -math.inf
        #: The error of the last attempt to connect, empty if it succeeded.
        self._fault = ""
        self._closed = False

    def upgrade(self) -> list[str]:
        with self._open_schema("upgrade") as connection:
            # A session lock: a second process waits here.
            connection.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
            return migrating.upgrade(PostgresDatabase(connection))

    def list_migrations(self) -> list[tuple[str, str]]:
        with self._open_schema("read") as connection:
            return migrating.list_migrations(PostgresDatabase(connection))

    @contextmanager
    def _open_schema(self, what: str) -> Iterator[Connection]:
        """Open a connection for the migrations, and name the remedy if a statement fails.

        :raises SettingsError: with ``what`` cannot be done.
        """
        with self._connect() as connection:
            try:
                yield connection
            except _FAILURES as error:
                text, state = to_line(error), find_state(error)
                if state == _READ_ONLY:
                    text = READ_ONLY_TEXT
                elif state == _NO_RIGHT:
                    text += f"; {OWNER_REMEDY}"
                raise SettingsError(f"cannot {what} the database: {text}") from error

    def read(self) -> _Reading:
        """Borrow a connection. Each statement sees the data committed before it."""
        return _Reading(*self._borrow())

    def read_aside(self, job: Callable[[peewee.Database], T]) -> T:
        """Run a job in the calling thread, which blocks no worker. Its queries have a timeout."""
        with self.read() as db:
            execute: Any = db.execute_sql
            execute("SELECT set_config('statement_timeout', %s, FALSE)", [_MAX_READ_MS])
            try:
                return job(db)
            finally:
                execute(f"SET statement_timeout = '{STATEMENT_LIMIT_S}s'")

    def write(
        self, job: Callable[[peewee.Database], T], *, patient: bool = False, quick: bool = False
    ) -> T:
        """Run a job in its own transaction; run it again if it loses a race.

        A patient job waits for locks, for a connection, and for a database that is read-only or
        full.
        """
        attempt, patient_until = 0, time.monotonic() + PATIENCE_S * patient
        while True:
            attempt += 1
            waits = time.monotonic() < patient_until
            try:
                return self._write_once(job)
            except LostInCommit as error:
                raise as_unknown_outcome(error) from error
            except StoreClosed:
                raise
            except StorageError:
                if not waits:
                    raise
                time.sleep(_RECONNECT_PAUSE_S)
            except (_Again, *_FAILURES) as error:
                pause_s = _find_pause(error, attempt, patient=waits)
                if pause_s is None:
                    raise as_storage_error(error) from error
                log.debug("a job is run again: %s", to_line(error))
                time.sleep(pause_s)

    def _write_once(self, job: Callable[[peewee.Database], T]) -> T:
        writers, deadline = self._writers.get(), time.monotonic() + self._timeout_s
        if not writers.acquire(timeout=self._timeout_s):
            raise self._refuse(PoolTimeout(f"no connection to write within {self._timeout_s:g} s"))
        try:
            pool, connection = self._borrow(deadline)
            try:
                return run_job(connection, job)
            except _FAILURES as error:
                if connection.closed:
                    raise _Again(to_line(error)) from error
                if find_state(error) == _READ_ONLY:
                    self._distrust()
                raise
            finally:
                pool.putconn(connection)
        finally:
            writers.release()

    def describe_fault(self, look: PostgresStore) -> str:
        """Return why nothing can be written, or an empty text.

        :param look: Another store for the diagnosis; this one may have no free connection.
        """
        with _Reading(*look._borrow(time.monotonic() + _LOOK_S)) as db:
            if is_read_only(db):
                look._distrust()
                return READ_ONLY_TEXT
            if not self._is_jammed():
                return describe_forbidden(db)
            blockers = describe_blockers(db)
        held = f"; they wait for locks of {blockers}" if blockers else ""
        return f"all {self._pool_size} connections of this worker to PostgreSQL are in use{held}"

    def _is_jammed(self) -> bool:
        """Return whether a caller got no connection lately, and another would get none now.

        During an outage nobody gets a connection, too, but afterwards all are free.
        """
        if time.monotonic() - self._refused_at > _JAM_S:
            return False
        counts = self._pool.get().get_stats()
        is_free = counts["pool_available"] or counts["pool_size"] < self._pool_size
        return not is_free or self._writers.get().is_full

    def close(self) -> None:
        self._closed = True
        pool = self._pool.take()
        if pool is not None:
            pool.close()

    def _distrust(self) -> None:
        """Replace all open connections, but not at each write.

        They are read-only: their server is not the primary any more, or they have an old setting.
        """
        now = time.monotonic()
        if now - self._trusted_from >= _REPLACE_EVERY_S:
            self._trusted_from = now

    def _refuse(self, error: Exception) -> StorageError:
        if isinstance(error, (PoolTimeout, TooManyRequests)):
            self._refused_at = time.monotonic()
            if self._fault:
                error = PoolTimeout(f"{error}: {self._fault}")
        return as_storage_error(error)

    def _borrow(
        self, deadline: float | None = None
    ) -> tuple[ConnectionPool[Connection], Connection]:
        """Take a live connection out of the pool; wait if all are in use.

        :raises StorageError: when no connection becomes free in time.
        """
        if self._closed:
            raise StoreClosed("The server is shutting down; its database is closed.")
        pool = self._pool.get()
        deadline = deadline or time.monotonic() + self._timeout_s
        while True:
            try:
                connection = pool.getconn(max(0.01, deadline - time.monotonic()))
            except (PoolTimeout, TooManyRequests, psycopg.OperationalError) as error:
                raise self._refuse(error) from error
            if connection.opened_at >= self._trusted_from and connection.is_alive():
                return pool, connection
            # The pool opens another connection as a replacement.
            connection.close()
            pool.putconn(connection)

    def _open_pool(self) -> ConnectionPool[Connection]:
        return ConnectionPool(
            kwargs={**self._params, "autocommit": True, "note": partial(setattr, self, "_fault")},
            connection_class=Connection,
            configure=Connection.set_up,
            min_size=0,
            max_size=self._pool_size,
            timeout=self._timeout_s,
            max_waiting=_MAX_WAITING,
            # The pool closes one unused connection per interval. Other workers may need them.
            max_idle=_IDLE_S / self._pool_size,
            # Short: the pool doubles its pauses, and after an outage none may be long.
            # The next caller triggers another attempt.
            reconnect_timeout=3.0,
            open=True,
        )

    def _connect(self) -> Connection:
        """Open a separate connection, outside the pool, for migrations."""
        try:
            connection = Connection.connect(**self._params, autocommit=True)
            connection.limit_s = None
        except psycopg.Error as error:
            raise SettingsError(f"cannot reach the database: {to_line(error)}") from error
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise SettingsError(
                f"the database has the encoding {encoding}; it must be UTF8: "
                "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )
        if mixes_sessions(connection, self._params):
            connection.close()
            raise SettingsError(MIXED_TEXT)
        # A migration may take longer than the role's or the database's own limits allow.
        connection.execute(
            "SET statement_timeout = 0; SET lock_timeout = 0; "
            "SET idle_in_transaction_session_timeout = 0"
        )
        return connection


def _find_pause(error: Exception, attempt: int, *, patient: bool) -> float | None:
    """Return the seconds until a job is run again, or None if it has failed."""
    state = find_state(error)
    is_lost = isinstance(error, _Again)
    if is_lost or state in _RACES:
        again = attempt < _MAX_ATTEMPTS or (is_lost and patient)
    elif state == _READ_ONLY:
        again = attempt == 1 or patient  # the next connection may be to another server
    else:
        again = patient and state in (_LOCKED, _FULL)
    if not again:
        return None
    is_stuck = state == _FULL or (state == _READ_ONLY and attempt > 1)
    pause_s = _RECONNECT_PAUSE_S if is_stuck else 0.01
    return random.uniform(0.0, pause_s) * min(attempt, _MAX_ATTEMPTS)


class _Reading:
    """A borrowed connection."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: ConnectionPool[Connection], connection: Connection) -> None:
        self._pool = pool
        self._connection = connection

    def __enter__(self) -> PostgresDatabase:
        return self._connection.database

    def __exit__(self, kind: type[BaseException] | None, error: Any, traceback: object) -> None:
        self._pool.putconn(self._connection)
        if isinstance(error, _FAILURES):
            raise as_storage_error(error) from error
