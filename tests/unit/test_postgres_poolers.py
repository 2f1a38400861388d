"""A pooler that shares sessions of PostgreSQL between its clients is refused."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from astrbot_api.errors import SettingsError

from ..postgres import Postgres

pytest.importorskip("psycopg_pool")

from astrbot_api.db.postgres_store import PostgresStore

_STATUS = {"server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8",
           "DateStyle": "ISO, MDY", "TimeZone": "UTC", "integer_datetimes": "on",
           "standard_conforming_strings": "on"}  # fmt: skip


class Pooler:
    """Passes queries on to one session, or to one per client, like PgBouncer.

    Source: https://www.postgresql.org/docs/current/protocol-flow.html
    """

    def __init__(self, path: str, user: str, database: str, *, shares: bool) -> None:
        self._path, self._user, self._database = path, user, database
        self._lock = threading.Lock()
        self._opened: list[socket.socket] = []
        self._shared = self._open_session() if shares else None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://{user}@127.0.0.1:{self._listener.getsockname()[1]}/{database}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self._opened):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self._opened.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            while struct.unpack("!I", client.recv(65536)[4:8])[0] != 3 << 16:
                client.sendall(b"N")  # no TLS, no GSSAPI
            greeting = _message(b"R", struct.pack("!I", 0))
            for name, value in _STATUS.items():
                greeting += _message(b"S", f"{name}\0{value}\0".encode())
            greeting += _message(b"K", struct.pack("!II", 1, 1))
            client.sendall(greeting + _message(b"Z", b"I"))
            server = self._shared or self._open_session()
            while (asked := client.recv(65536)) and asked[:1] != b"X":
                with self._lock:
                    server.sendall(asked)
                    client.sendall(_read_until_ready(server))

    def _open_session(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        self._opened.append(server)
        server.connect(self._path)
        names = f"user\0{self._user}\0database\0{self._database}\0\0".encode()
        server.sendall(struct.pack("!II", len(names) + 8, 3 << 16) + names)
        _read_until_ready(server)
        return server


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _read_until_ready(server: socket.socket) -> bytes:
    data = b""
    while data[-6:-1] != b"Z\0\0\0\5":  # then one byte: idle or in a transaction
        data += server.recv(65536)
    return data


@pytest.fixture
def pooler(
    request: pytest.FixtureRequest, postgres: Postgres, postgres_url: str
) -> Iterator[Pooler]:
    database = postgres_url.partition("?")[0].rpartition("/")[2]
    path = f"{postgres.folder}/.s.PGSQL.5432"
    with closing(Pooler(path, "test", database, shares=request.param)) as made:
        yield made


@pytest.mark.parametrize("pooler", [True], indirect=True)
def test_a_pooler_that_mixes_sessions_is_refused(pooler: Pooler) -> None:
    with closing(PostgresStore(pooler.url)) as store:
        with pytest.raises(SettingsError, match="pooler in transaction mode") as caught:
            store.upgrade()
        assert "Use its session mode" in str(caught.value)


@pytest.mark.parametrize("pooler", [False], indirect=True)
def test_a_pooler_with_one_session_per_client_is_accepted(pooler: Pooler) -> None:
    with closing(PostgresStore(pooler.url)) as store:
        assert store.upgrade() == []
