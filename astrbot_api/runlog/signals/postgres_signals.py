"""Signals over PostgreSQL: LISTEN and NOTIFY."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from ...db.postgres_connection import Connection, read_url
from .remote_signals import RemoteSignals

#: A channel belongs to one database, so its name needs no prefix.
_CHANNEL = "astrbot_signals"

_NOTIFY = f"SELECT pg_notify('{_CHANNEL}', text) FROM unnest(%s::text[]) AS text"

#: The limit of a role or database would end the listening connection. PostgreSQL 13 has none.
_NO_IDLE_LIMIT = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
)

#: Maximum seconds of one wait, so that the thread notices a shutdown.
_WAIT_S = 0.5


def make_postgres_signals(url: str) -> RemoteSignals:
    """Return signals between all processes that use one database."""
    return RemoteSignals(lambda: _PostgresTransport(url), "PostgreSQL")


class _PostgresTransport:
    """One connection, for one thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None

    def send(self, texts: Sequence[str]) -> None:
        try:
            self._connect().execute(_NOTIFY, (list(texts),))
        except Exception:
            self.close()
            raise

    def listen(self, closed: threading.Event) -> Iterator[str | None]:
        try:
            connection = self._connect()
            connection.execute(_NO_IDLE_LIMIT)
            connection.execute(f"LISTEN {_CHANNEL}")
            while not closed.is_set():
                yield None
                for heard in connection.notifies(timeout=_WAIT_S):
                    yield heard.payload
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> Connection:
        connection = self._connection
        if connection is not None and connection.is_alive():
            return connection
        self.close()
        self._connection = Connection.connect(**read_url(self._url, 5.0), autocommit=True)
        return self._connection
