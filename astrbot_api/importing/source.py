"""The data directory of an AstrBot, only ever read.

It may be in use. Its database is copied, and the copy is what is opened: SQLite
itself would write beside the original (``-wal``, ``-shm``), even to read it.
Its tables have no models: their names and columns differ with AstrBot's version.
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
DATABASE_NAME = "data_v4.db"

#: What belongs to one SQLite database while it is open.
_SUFFIXES = ("", "-wal", "-journal")

#: How often a copy is tried while the original is being written to.
_COPY_ATTEMPTS = 5

#: Rows that are read at a time.
PAGE_ROWS = 200

#: A longer value is not read.
MAX_VALUE_CHARS = 16 * 1024 * 1024

#: A larger JSON file is not read.
_MAX_JSON_BYTES = 16 * 1024 * 1024


class ImportFault(AstrBotError):
    """The directory cannot be imported from; one line says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the source, and how its columns are called there.

    ``is_numbered``: each row has a whole number for good, its ``id``.
    """

    name: str
    columns: frozenset[str]
    is_numbered: bool

    def find_column(self, *names: str) -> str | None:
        """Return the first of these columns that it has."""
        return next((name for name in names if name in self.columns), None)


class Source:
    """An AstrBot's data directory, and a copy of its database."""

    def __init__(self, folder: Path, db: sqlite3.Connection) -> None:
        self.folder = folder
        self._db = db
        db.text_factory = lambda data: data.decode("utf-8", "replace")
        # The file's author decides what its views and triggers do; none is wanted.
        db.execute("PRAGMA trusted_schema = OFF")
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        self.tables = [
            _describe(name, db.execute(f"PRAGMA table_info({_quote(name)})").fetchall())
            for (name,) in names.fetchall()
            if not name.startswith("sqlite_")
        ]

    def find_table(self, *required: str | tuple[str, ...]) -> Table | None:
        """Return the table that has all these columns; of a tuple, one is enough.

        :raises ImportFault: when several have them: which one is meant would be a guess.
        """
        found = [
            table
            for table in self.tables
            if all(table.find_column(*_names(one)) for one in required)
        ]
        if len(found) > 1:
            names = ", ".join(table.name for table in found)
            raise ImportFault(f"{DATABASE_NAME}: these tables look alike: {names}")
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
        """Yield pages of rows in the order of their numbers.

        Each row is its number, then the columns; None instead of a
        column that there is not, and of a value that is too long.

        :param where: A column and the value that it must have.
        """
        shown = ", ".join(["rowid", *(_limited(name) for name in columns)])
        condition = "" if where is None else f" AND {_quote(where[0])} = ?"
        sql = (
            f"SELECT {shown} FROM {_quote(table.name)} "
            f"WHERE rowid > ?{condition} ORDER BY rowid LIMIT {PAGE_ROWS}"
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
        """Make the copy fast to read by a column."""
        place = f"{_quote(table.name)} ({_quote(column)})"
        self._db.execute(f"CREATE INDEX IF NOT EXISTS import_by_column ON {place}")

    def list_values(self, table: Table, column: str) -> list[Any]:
        """Return the different values of a column."""
        sql = f"SELECT DISTINCT {_quote(column)} FROM {_quote(table.name)} ORDER BY 1"
        return [row[0] for row in self._db.execute(sql)]

    def has_common_value(self, table: Table, column: str, other: Table, other_column: str) -> bool:
        """Return whether a value of one column stands in the other, too."""
        sql = (
            f"SELECT 1 FROM {_quote(table.name)} WHERE {_quote(column)} IN "
            f"(SELECT {_quote(other_column)} FROM {_quote(other.name)}) LIMIT 1"
        )
        return self._db.execute(sql).fetchone() is not None

    def read_json(self, path: Path) -> Any:
        """Return what a JSON file holds.

        :raises ValueError: when it is none, or too large.
        :raises OSError: when it cannot be read.
        """
        with open_regular(path) as file:
            data = file.read(_MAX_JSON_BYTES + 1)
        if len(data) > _MAX_JSON_BYTES:
            raise ValueError("too large")
        return json.loads(data.decode("utf-8-sig"))


@contextmanager
def open_source(folder: Path) -> Iterator[Source]:
    """Copy the database of a data directory and open the copy.

    :param folder: AstrBot's ``data`` folder, or the one that holds it.
    :raises ImportFault: when there is no such database, or no sound copy of it.
    """
    if not (folder / DATABASE_NAME).is_file() and (folder / "data" / DATABASE_NAME).is_file():
        folder = folder / "data"
    if not (folder / DATABASE_NAME).is_file():
        raise ImportFault(f"{folder} has no {DATABASE_NAME}: it is no data directory of AstrBot 4")
    with tempfile.TemporaryDirectory(prefix="astrbot-import-") as temporary:
        copy = Path(temporary) / DATABASE_NAME
        try:
            _copy_quiet(folder / DATABASE_NAME, copy)
            db = sqlite3.connect(copy, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise ImportFault(f"cannot copy {DATABASE_NAME}: {error}") from error
        try:
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise ImportFault(f"{DATABASE_NAME} is damaged: {answer}")
            yield Source(folder, db)
        except sqlite3.DatabaseError as error:
            raise ImportFault(f"{DATABASE_NAME} cannot be read: {error}") from error
        finally:
            db.close()


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read, but no symbolic link, pipe or device.

    :raises OSError: when there is none.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    number = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("not a regular file")
    return os.fdopen(number, "rb")


def _copy_quiet(original: Path, copy: Path) -> None:
    """Copy a database and its log while nobody writes to either.

    :raises ImportFault: when somebody does, each time.
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
                    break  # it was closed meanwhile
        if _stamps(original) == before:
            return
    raise ImportFault(
        f"{DATABASE_NAME} is being written to all the time; stop AstrBot, or try again later"
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
