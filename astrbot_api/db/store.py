"""What the state of one app is kept in: a database that is read and written in short jobs."""

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

    The queries beside the tables are written once, for both (see
    :mod:`astrbot_api.db.models` and :mod:`astrbot_api.db.prepared`).
    """

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgres``."""
        ...

    def upgrade(self) -> list[str]:
        """Run the migrations that are still to run.

        Processes that start together do not get in each other's way: one
        migrates, the others wait and find nothing left to do.

        :returns: The names of those that ran.
        :raises SettingsError: when the database cannot be reached or upgraded.
        """
        ...

    def list_migrations(self) -> list[tuple[str, bool]]:
        """Return each migration's name and whether it has run."""
        ...

    def read(self) -> AbstractContextManager[peewee.Database]:
        """Lend a connection for a few short reads: ``with store.read() as db``.

        The block must not sleep, wait or call the store: fetch what is
        wanted and leave.

        :raises StorageError: here or out of the block, for whatever the
            database refuses.
        """
        ...

    def read_aside(self, job: Callable[[peewee.Database], T]) -> T:
        """Run ``job(db)``, whose reads or computing take milliseconds, where it holds no worker.

        :param job: Runs in a native thread with SQLite: it must do nothing but read ``db``
            and compute. A query that takes longer than
            :data:`~astrbot_api.db.failures.MAX_READ_S` is interrupted.
        :returns: What the job returned.
        :raises StorageError: for whatever the database refuses, or a query that was interrupted.
        """
        ...

    def write(self, job: Callable[[peewee.Database], T], *, patient: bool = False) -> T:
        """Run ``job(db)`` in a transaction and wait until it is committed.

        What the job raises undoes its own part, and nobody else's: jobs may
        share a transaction (each in a savepoint of its own), and several
        transactions may run at once (see :mod:`astrbot_api.db.locks`).

        :param job: May run more than once, and in another thread: it must do
            nothing but read and write ``db``.
        :param patient: Wait longer for a lock that another program holds: what would be
            lost, and for which nobody waits.
        :returns: What the job returned.
        :raises StorageError: when the database could not keep it.
        """
        ...

    def describe_jam(self, look: Any) -> str:
        """Say for an operator what keeps callers from a connection; empty: nothing does.

        :param look: The store of :func:`open_own_store`, to ask for the cause.
        """
        ...

    def close(self) -> None:
        """Close every connection; nothing can be read or written after."""
        ...


def open_store(settings: Settings) -> Store:
    """Return the store that the settings name; it connects when it is first used.

    :raises SettingsError: when its driver is not installed.
    """
    if settings.uses_postgres:
        try:
            from .postgres_store import PostgresStore
        except ImportError as error:
            raise SettingsError(
                "ASTRBOT_DATABASE_URL names PostgreSQL, whose driver is not installed: "
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
    """Read what a turn needs that has begun: its caller cannot ask again as a request's can.

    :param job: As that of :meth:`Store.read`; it may run more than once.
    :raises StorageError: when the database could not be read for ``PATIENCE_S`` seconds.
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


def open_own_store(settings: Settings, store: Store) -> Store:
    """Return the store of what a worker does for itself: its lease, its checks.

    With PostgreSQL it has connections of its own, for which no request waits: a worker whose
    requests have taken all others still lives, and says so.
    """
    if not settings.uses_postgres:
        return store
    from .postgres_store import PostgresStore

    return PostgresStore(settings.database_url, pool_size=2, timeout_s=settings.database_timeout_s)
