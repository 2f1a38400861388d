"""The interface of the database that stores an app's state, and functions that open it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import peewee

from ..config.settings import Settings
from ..errors import SettingsError, StorageError, StoreClosed
from .failures import PATIENCE_S

T = TypeVar("T")


class Store(Protocol):
    """One database: an SQLite file, or PostgreSQL for several hosts.

    The queries are written once for both databases (see
    :mod:`astrbot_api.db.models` and :mod:`astrbot_api.db.prepared`).
    """

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgres``."""
        ...

    def upgrade(self) -> list[str]:
        """Run the pending migrations.

        If several processes start together, one migrates. The others wait and find
        no pending migrations.

        :returns: The names of the migrations that ran.
        :raises SettingsError: when the database cannot be reached or upgraded.
        """
        ...

    def list_migrations(self) -> list[tuple[str, str]]:
        """Return each migration's name and state: ``done``, ``to do`` or ``newer``."""
        ...

    def read(self) -> AbstractContextManager[peewee.Database]:
        """Borrow a connection for a few short reads: ``with store.read() as db``.

        The block must only read. It must not sleep, wait or call the store.

        :raises StorageError: on any database error, here or from the block.
        """
        ...

    def read_aside(self, job: Callable[[peewee.Database], T]) -> T:
        """Run a job whose reads or computation take milliseconds, without blocking the worker.

        :param job: Called with ``db``, on SQLite in a native thread: it must only read ``db``
            and compute. A query that takes longer than
            :data:`~astrbot_api.db.failures.MAX_READ_S` is interrupted.
        :returns: The job's result.
        :raises StorageError: on any database error, or when a query was interrupted.
        """
        ...

    def write(
        self, job: Callable[[peewee.Database], T], *, patient: bool = False, quick: bool = False
    ) -> T:
        """Run ``job(db)`` in a transaction and wait until it is committed.

        An exception of the job undoes only its own changes. Jobs may share a
        transaction (each with a savepoint), and several transactions may run at
        once (see :mod:`astrbot_api.db.locks`).

        :param job: May run more than once, and in another thread: it must only
            read and write ``db``.
        :param patient: Wait longer for another program's lock, and on PostgreSQL for an
            unreachable server: for data that would otherwise be lost, if no client waits.
        :param quick: Whether it takes less than a millisecond, for frequent jobs. On SQLite it may
            then run in the event loop.
        :returns: The job's result.
        :raises StorageError: when the database could not store the changes.
        """
        ...

    def describe_fault(self, look: Any) -> str:
        """Return for an operator why nothing can be written, or an empty text.

        :param look: The store from :func:`open_own_store`, for the diagnosis.
        """
        ...

    def close(self) -> None:
        """Close every connection. The store cannot be used afterwards."""
        ...


def open_store(settings: Settings) -> Store:
    """Return the store of the settings; it connects on first use.

    :raises SettingsError: when its driver is not installed.
    """
    if settings.uses_postgres:
        try:
            from .postgres_store import PostgresStore
        except ImportError as error:
            raise SettingsError(
                "ASTRBOT_DATABASE_URL names PostgreSQL, but its driver is not installed: "
                "pip install 'astrbot-api[postgres]'"
            ) from error

        return PostgresStore(
            settings.database_url,
            pool_size=settings.database_pool_size,
            timeout_s=settings.database_timeout_s,
        )
    from .sqlite_store import SqliteStore

    settings.database_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteStore(settings.database_path)


def read_patiently(store: Store, job: Callable[[peewee.Database], T]) -> T:
    """Read data for a running turn, with retries: unlike a request, a turn cannot be repeated.

    :param job: As for :meth:`Store.read`; it may run more than once.
    :raises StorageError: when the database was unreadable for ``PATIENCE_S`` seconds.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with store.read() as db:
                return job(db)
        except StorageError as error:
            if isinstance(error, StoreClosed) or time.monotonic() >= until:
                raise
        time.sleep(0.5)


def is_cut_off(store: Store) -> bool:
    """Return whether PostgreSQL is unreachable, so that another worker may continue a turn."""
    if store.dialect == "sqlite":
        return False
    try:
        with store.read() as db:
            db.execute_sql("SELECT 1")
    except StorageError:
        return True
    return False


def open_own_store(settings: Settings, store: Store) -> Store:
    """Return the store for a worker's own tasks: its lease and its health checks.

    On PostgreSQL it has its own connections, which requests never use. A worker whose requests
    occupy the whole pool can therefore still renew its lease.
    """
    if not settings.uses_postgres:
        return store
    from .postgres_store import PostgresStore

    return PostgresStore(settings.database_url, pool_size=2, timeout_s=settings.database_timeout_s)
