"""A PostgreSQL connection for the pool, and its wrapper for peewee."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Generator
from typing import Any, Self

import peewee
import psycopg
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict

from ..errors import SettingsError
from ..runtime.threads import native_poll

#: Maximum duration of one statement, including lock waits, in seconds.
STATEMENT_LIMIT_S = 30

#: Maximum wait of a statement for one lock, in seconds. Our own locks last milliseconds.
#: Another program's lock must not block all connections of a worker.
_LOCK_LIMIT_S = 10

#: Settings of every connection, whatever the role's are. A transaction of a frozen worker must not
#: hold its locks without limit, and a job must see what was committed before it got a lock.
_SET_UP = (
    "SET default_transaction_isolation = 'read committed'; "
    f"SET statement_timeout = '{STATEMENT_LIMIT_S}s'; "
    f"SET lock_timeout = '{_LOCK_LIMIT_S}s'; "
    "SET idle_in_transaction_session_timeout = '60s'"
)

#: Detect a peer that is gone without closing the connection within about ten seconds, so that the
#: worker's lease does not expire. Several probes fit into this time, because one may be lost.
_TCP = {
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "astrbot-api",
}


def read_url(url: str, timeout_s: float) -> dict[str, Any]:
    """Return the parameters of a connection. Parameters in the URL take precedence.

    :param timeout_s: Connect timeout, in seconds.
    :raises SettingsError: when libpq cannot parse the URL.
    """
    try:
        asked = conninfo_to_dict(url)
    except psycopg.Error as error:
        # The library's message may contain the URL with its password.
        raise SettingsError(
            "ASTRBOT_DATABASE_URL must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with signs like @ : / ? in the password written as %40 %3A %2F %3F, "
            "and after a ? only parameters of libpq, such as sslmode=require"
        ) from error
    limit = {"connect_timeout": str(max(2, math.ceil(timeout_s)))}
    return {**_TCP, **limit, **asked, "client_encoding": "UTF8"}


class _NumberLoader(Loader):
    """Loads NUMERIC, the type of SUM over whole numbers in PostgreSQL, as int or float."""

    def load(self, data: Any) -> int | float:
        text = bytes(data)
        return int(text) if text.lstrip(b"-").isdigit() else float(text)


class _Cursor(psycopg.Cursor[Any]):
    """A cursor that replaces U+0000 in parameters, which PostgreSQL text cannot contain.

    Requests with U+0000 are rejected before. A search for such a text finds nothing. A text
    of a model or a messenger is stored with the replacement character.
    """

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement; its parameters must be a sequence."""
        if params and any(type(one) is str and "\0" in one for one in params):
            params = [one.replace("\0", "\ufffd") if type(one) is str else one for one in params]
        return super().execute(query, params, **options)


class _NoAnswerError(Exception):
    """The server has not responded in time."""


def _limit(steps: Generator[Any, Any, Any], limit_s: float) -> Generator[Any, Any, Any]:
    """Run the steps of a statement. The library resumes them each 0.1 s, also without data.

    Before 3.3.6, psycopg has no timeout of its own for a wait; later, its error is private.

    :raises _NoAnswerError: when they take longer.
    """
    deadline = time.monotonic() + limit_s
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send((yield wanted))
            if time.monotonic() >= deadline:
                raise _NoAnswerError
    except StopIteration as end:
        return end.value


class Connection(psycopg.Connection[Any]):
    """A connection with a liveness check and with a timeout for every wait."""

    database: PostgresDatabase
    #: Time before it was opened, of the monotonic clock. The server may have changed since.
    opened_at: float
    #: The server cancels a statement and reports it before this time.
    limit_s: float | None = STATEMENT_LIMIT_S + 10

    @classmethod
    def connect(cls, *args: Any, **options: Any) -> Self:
        """Open a connection.

        The option ``note`` is called with the error's text, or with an empty one. The pool hides
        the error from those who wait for a connection.
        """
        note: Callable[[str], None] | None = options.pop("note", None)
        opened_at, fault = time.monotonic(), ""
        try:
            connection = super().connect(*args, **options)
        except psycopg.Error as error:
            fault = str(error)
            raise
        finally:
            if note is not None:
                note(fault)
        connection.opened_at = opened_at
        return connection

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """Wait for the server, and close the connection if it does not respond.

        :param gen: The steps of a statement.
        :raises psycopg.OperationalError: when the connection was closed.
        """
        if self.limit_s is not None and options.get("timeout") is None:
            gen = _limit(gen, self.limit_s)
        try:
            return super().wait(gen, *args, **options)
        except _NoAnswerError as error:
            self.close()
            raise psycopg.OperationalError("the database does not answer") from error

    def set_up(self) -> None:
        """Prepare a new connection for use."""
        self.adapters.register_loader("numeric", _NumberLoader)
        self.cursor_factory = _Cursor
        self.execute(_SET_UP, prepare=False)
        self.database = PostgresDatabase(self)

    def is_alive(self) -> bool:
        """Return whether this idle connection is still open, at almost no cost.

        The server sends nothing on an idle connection. Readable data may be its
        shutdown message, so the connection is then tested with a query.
        """
        if self.closed:
            return False
        try:
            poll = native_poll()
            poll.register(self.pgconn.socket, select.POLLIN)
            if poll.poll(0):
                self.execute("SELECT 1", prepare=False)
        except psycopg.Error:
            return False
        return True


class PostgresDatabase(peewee.PostgresqlDatabase):
    """The database that a job gets: peewee over a borrowed connection."""

    def __init__(self, connection: Connection) -> None:
        # Not thread-safe on purpose: only one caller at a time uses a connection.
        super().__init__("borrowed", thread_safe=False, autoconnect=False, prefer_psycopg3=True)
        self._state.set_connection(connection)  # type: ignore[attr-defined]
        #: The locks of this transaction (see :mod:`astrbot_api.db.locks`).
        self.held_locks: set[tuple[str, Any]] = set()


def find_state(error: BaseException) -> str:
    """Return the SQLSTATE of an error that peewee may have wrapped, or ``""``.

    Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, psycopg.Error) and seen.sqlstate:
            return seen.sqlstate
        seen = seen.__cause__ or seen.__context__
    return ""
