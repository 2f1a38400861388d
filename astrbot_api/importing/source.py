"""Read-only access to an AstrBot's data directory.

The directory may be in use. The database is copied before it is opened, because SQLite creates
files beside a database (``-wal``, ``-shm``) even to read it. Tables have no models, because
their names and columns depend on AstrBot's version.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import AstrBotError

#: The database of AstrBot 4.
_DATABASE_NAME = "data_v4.db"

#: Suffixes of the files of an open SQLite database.
_SUFFIXES = ("", "-wal", "-journal")

#: Number of attempts to copy a database that is being written to.
_COPY_ATTEMPTS = 5

_PAGE_ROWS = 200

#: Longer values are returned as None.
MAX_VALUE_CHARS = 16 * 1024 * 1024

_MAX_JSON_BYTES = 16 * 1024 * 1024


class ImportFault(AstrBotError):
    """Raised if the directory cannot be imported. The message is one line."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the source.

    ``is_numbered``: whether each row has a permanent integer ``id``.
    """

    name: str
    columns: frozenset[str]
    is_numbered: bool

    def find_column(self, *names: str) -> str | None:
        """Return the first of these columns that the table has, or None."""
        return next((name for name in names if name in self.columns), None)


class Source:
    """An AstrBot's data directory, and a copy of its database."""

    def __init__(self, folder: Path, db: sqlite3.Connection) -> None:
        self.folder = folder
        self._db = db
        db.text_factory = lambda data: data.decode("utf-8", "replace")
        # The database is untrusted: its views and triggers must not run functions.
        db.execute("PRAGMA trusted_schema = OFF")
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        self.tables = [
            _describe(name, db.execute(f"PRAGMA table_info({_quote(name)})").fetchall())
            for (name,) in names.fetchall()
            if not name.startswith("sqlite_")
        ]

    def find_table(self, *required: str | tuple[str, ...]) -> Table | None:
        """Return the table that has all these columns. A tuple lists alternatives.

        :raises ImportFault: if several tables match.
        """
        found = [
            table
            for table in self.tables
            if all(table.find_column(*_names(one)) for one in required)
        ]
        if len(found) > 1:
            names = ", ".join(table.name for table in found)
            raise ImportFault(f"{_DATABASE_NAME}: these tables are too similar: {names}")
        return found[0] if found else None

    def count_rows(self, table: Table) -> int:
        """Return how many rows a table has."""
        return int(self._db.execute(f"SELECT COUNT(*) FROM {_quote(table.name)}").fetchone()[0])

    def read_rows(
        self,
        table: Table,
        columns: Sequence[str | None],
        *,
        where: tuple[str, Any] | None = None,
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield pages of rows in the order of their ``rowid``.

        Each row contains its ``rowid``, then the columns. A missing column and a value that is too
        long are None.

        :param where: A column and its required value.
        """
        shown = ", ".join(["rowid", *(_limited(name) for name in columns)])
        condition = "" if where is None else f" AND {_quote(where[0])} = ?"
        sql = (
            f"SELECT {shown} FROM {_quote(table.name)} "
            f"WHERE rowid > ?{condition} ORDER BY rowid LIMIT {_PAGE_ROWS}"
        )
        last = -(2**63)
        while True:
            values = (last,) if where is None else (last, where[1])
            page = self._db.execute(sql, values).fetchall()
            if not page:
                return
            yield page
            last = page[-1][0]

    def index_column(self, table: Table, column: str) -> None:
        """Create an index on a column of the copy."""
        place = f"{_quote(table.name)} ({_quote(column)})"
        self._db.execute(f"CREATE INDEX IF NOT EXISTS import_by_column ON {place}")

    def list_values(self, table: Table, column: str) -> list[Any]:
        """Return the distinct values of a column."""
        sql = f"SELECT DISTINCT {_quote(column)} FROM {_quote(table.name)} ORDER BY 1"
        return [row[0] for row in self._db.execute(sql)]

    def has_common_value(self, table: Table, column: str, other: Table, other_column: str) -> bool:
        """Return whether the two columns have a value in common."""
        sql = (
            f"SELECT 1 FROM {_quote(table.name)} WHERE {_quote(column)} IN "
            f"(SELECT {_quote(other_column)} FROM {_quote(other.name)}) LIMIT 1"
        )
        return self._db.execute(sql).fetchone() is not None

    def read_json(self, path: Path) -> Any:
        """Parse a JSON file.

        :raises ValueError: if it is not JSON or too large.
        :raises OSError: if it cannot be read.
        """
        with open_regular(path) as file:
            data = file.read(_MAX_JSON_BYTES + 1)
        if len(data) > _MAX_JSON_BYTES:
            raise ValueError("too large")
        return json.loads(data.decode("utf-8-sig"))


@contextmanager
def open_source(folder: Path) -> Iterator[Source]:
    """Copy the database of a data directory and open the copy.

    :param folder: AstrBot's ``data`` folder, or its parent.
    :raises ImportFault: if there is no database, or it cannot be copied intact.
    """
    if not (folder / _DATABASE_NAME).is_file() and (folder / "data" / _DATABASE_NAME).is_file():
        folder = folder / "data"
    if not (folder / _DATABASE_NAME).is_file():
        raise ImportFault(f"{folder} has no {_DATABASE_NAME}, so it is no AstrBot 4 data directory")
    with tempfile.TemporaryDirectory(prefix="astrbot-import-") as temporary:
        copy = Path(temporary) / _DATABASE_NAME
        try:
            _copy_quiet(folder / _DATABASE_NAME, copy)
            db = sqlite3.connect(copy, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise ImportFault(f"cannot copy {_DATABASE_NAME}: {error}") from error
        try:
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise ImportFault(f"{_DATABASE_NAME} is damaged: {answer}")
            yield Source(folder, db)
        except sqlite3.DatabaseError as error:
            raise ImportFault(f"{_DATABASE_NAME} cannot be read: {error}") from error
        finally:
            db.close()


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, but no symbolic link, pipe or device.

    :raises OSError: if it is not a regular file or cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    number = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("not a regular file")
    return os.fdopen(number, "rb")


def _copy_quiet(original: Path, copy: Path) -> None:
    """Copy a database and its log without concurrent writes.

    :raises ImportFault: if the files changed during every attempt.
    """
    for attempt in range(_COPY_ATTEMPTS):
        time.sleep(0.2 * attempt)
        before = _stamps(original)
        for suffix in _SUFFIXES:
            target = copy.with_name(copy.name + suffix)
            target.unlink(missing_ok=True)
            if before[suffix] is not None:
                try:
                    shutil.copyfile(f"{original}{suffix}", target)
                except FileNotFoundError:
                    break  # AstrBot closed the database
        if _stamps(original) == before:
            return
    raise ImportFault(
        f"{_DATABASE_NAME} is constantly being written to; stop AstrBot, or try again later"
    )


def _stamps(original: Path) -> dict[str, tuple[int, int] | None]:
    found: dict[str, tuple[int, int] | None] = {}
    for suffix in _SUFFIXES:
        try:
            status = os.stat(f"{original}{suffix}")
        except FileNotFoundError:
            found[suffix] = None
        else:
            found[suffix] = (status.st_mtime_ns, status.st_size)
    return found


def _describe(name: str, columns: list[tuple[Any, ...]]) -> Table:
    key = [(row[1], row[2].upper()) for row in columns if row[5]]
    return Table(name, frozenset(row[1] for row in columns), key == [("id", "INTEGER")])


def _names(one: str | tuple[str, ...]) -> tuple[str, ...]:
    return (one,) if isinstance(one, str) else one


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _limited(name: str | None) -> str:
    if name is None:
        return "NULL"
    quoted = _quote(name)
    return f"CASE WHEN length({quoted}) <= {MAX_VALUE_CHARS} THEN {quoted} END"
