"""One connection to PostgreSQL, as the pool keeps it and as peewee uses it."""

from __future__ import annotations

import math
import select
from typing import Any, Self

import peewee
import psycopg
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict

from ..errors import SettingsError
from ..runtime.threads import native_poll

#: The longest that one statement may take, waiting for locks included, in seconds.
_STATEMENT_LIMIT_S = 30

#: The longest that a statement waits for one lock, in seconds. Our own are held for
#: milliseconds; another program's must not keep each connection of a worker waiting.
_LOCK_LIMIT_S = 10

#: Asked of every connection. A transaction whose worker has frozen must not
#: keep its locks without an end.
_SET_UP = (
    f"SET statement_timeout = '{_STATEMENT_LIMIT_S}s'; "
    f"SET lock_timeout = '{_LOCK_LIMIT_S}s'; "
    "SET idle_in_transaction_session_timeout = '60s'"
)

#: A peer that is gone without a word (a host, a cable) is noticed within half a minute.
_TCP = {
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "astrbot-api",
}


def read_url(url: str, timeout_s: float) -> dict[str, Any]:
    """Return the parameters of a connection; what the URL says wins.

    :param timeout_s: The longest that connecting may take, in seconds.
    :raises SettingsError: when PostgreSQL's library cannot read the URL.
    """
    try:
        asked = conninfo_to_dict(url)
    except psycopg.Error as error:
        # Its own words may quote the URL, and with it the password.
        raise SettingsError(
            "ASTRBOT_DATABASE_URL must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with signs like @ : / ? in the password written as %40 %3A %2F %3F"
        ) from error
    return {**_TCP, "connect_timeout": str(max(2, math.ceil(timeout_s))), **asked}


class _NumberLoader(Loader):
    """SUM of whole numbers is NUMERIC in PostgreSQL; here a number is an int or a float."""

    def load(self, data: Any) -> int | float:
        text = bytes(data)
        return int(text) if text.lstrip(b"-").isdigit() else float(text)


class _Cursor(psycopg.Cursor[Any]):
    """A cursor for text that may have U+0000, which PostgreSQL's has not.

    What a client sends is refused long before. What is looked for with one is not found,
    and what a model or a messenger says is kept with the replacement character instead.
    """

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement; its parameters are a sequence."""
        if params and any(type(one) is str and "\0" in one for one in params):
            params = [one.replace("\0", "\ufffd") if type(one) is str else one for one in params]
        return super().execute(query, params, **options)


class Connection(psycopg.Connection[Any]):
    """A connection that can say whether it still is one, and waits for nothing without a limit."""

    database: PostgresDatabase
    #: The server gives a statement up before this, and says so.
    limit_s: float | None = _STATEMENT_LIMIT_S + 10

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server; one that has frozen is given up.

        :raises psycopg.OperationalError: The connection is closed then.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.limit_s)
        except psycopg.errors._WaitTimeout as error:
            self.close()
            raise psycopg.OperationalError("the database does not answer") from error

    def set_up(self) -> None:
        """Make a fresh connection ready for use."""
        self.adapters.register_loader("numeric", _NumberLoader)
        self.cursor_factory = _Cursor
        self.execute(_SET_UP, prepare=False)
        self.database = PostgresDatabase(self)

    def is_alive(self) -> bool:
        """Return whether the server still holds this idle connection, at next to no cost.

        An idle connection has nothing to say. Where there is something to be
        read it may be the server's farewell, so then it is asked.
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
    """What a job is given: peewee over a connection that is borrowed."""

    def __init__(self, connection: Connection) -> None:
        # Not thread-safe on purpose: a connection is lent to one caller at a time.
        super().__init__("borrowed", thread_safe=False, autoconnect=False, prefer_psycopg3=True)
        self._state.set_connection(connection)  # type: ignore[attr-defined]
        #: What this transaction has locked (see :mod:`astrbot_api.db.locks`).
        self.held_locks: set[tuple[str, Any]] = set()


def find_state(error: BaseException) -> str:
    """Return PostgreSQL's five signs for an error that peewee may have wrapped, or ``""``.

    Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, psycopg.Error) and seen.sqlstate:
            return seen.sqlstate
        seen = seen.__cause__ or seen.__context__
    return ""
