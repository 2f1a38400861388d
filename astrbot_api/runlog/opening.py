"""Choose the journal and the signals of a server according to its settings."""

from __future__ import annotations

from ..config.settings import Settings
from .journal import Journal
from .signals.signals import Signals


def open_journal(settings: Settings) -> Journal:
    """Return the journal of the runs: Redis, else PostgreSQL, else a file of this host.

    :raises SettingsError: when it cannot be opened or its client is not installed.
    """
    if settings.redis_url:
        from .redis_journal import RedisJournal

        return RedisJournal(settings.redis_url, settings.redis_prefix)
    if settings.uses_postgres:
        from ..db.postgres_store import PostgresStore
        from .postgres_journal import PostgresJournal

        # Few connections and a short timeout: without a connection, streams send
        # events before they are written.
        size = max(2, settings.database_pool_size // 4)
        return PostgresJournal(PostgresStore(settings.database_url, pool_size=size, timeout_s=1.0))
    from .sqlite_journal import SqliteJournal

    return SqliteJournal(settings.journal_path)


def open_signals(settings: Settings) -> Signals:
    """Return the signals between workers: over Redis, else PostgreSQL, else Unix sockets.

    :raises SettingsError: when the client is not installed.
    """
    if settings.redis_url:
        from .signals.redis_signals import make_redis_signals

        return make_redis_signals(settings.redis_url, settings.redis_prefix)
    if settings.uses_postgres:
        from .signals.postgres_signals import make_postgres_signals

        return make_postgres_signals(settings.database_url)
    from .signals.datagrams import DatagramSignals

    return DatagramSignals(settings.data_dir)
