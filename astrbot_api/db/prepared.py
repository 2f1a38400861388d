"""Statements that are built once from a peewee expression and run without peewee.

Building a query in peewee takes twenty times as long as running it in SQLite. The statements
of every request, event and chore are therefore cached as SQL, one text per kind of database::

    _FIND = Prepared(Run.select(Run.status).where(Run.run_id == param("run_id")))

    row = _FIND.execute(db, run_id="a").fetchone()

Constants of the expression become literals, so that partial indexes apply. Values are
passed in their stored form: no field converts them. Rows are tuples.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, reduce
from operator import and_, itemgetter
from typing import Any

import peewee

from .models import is_postgres

#: U+0000 marks a parameter: neither database allows it in SQL.
_MARK = re.compile("\0(\\w+)\0")


class _Param(peewee.ColumnBase):
    """A placeholder in an expression."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __sql__(self, ctx: Any) -> Any:
        return ctx.literal(f"\0{self._name}\0")


def param(name: str) -> Any:
    """Return a placeholder for a value that :meth:`Prepared.execute` gets by this name."""
    return _Param(name)


def params(*names: str) -> dict[str, Any]:
    """Return placeholders by name, for the columns of an INSERT or UPDATE."""
    return {name: _Param(name) for name in names}


def equals(*fields: peewee.Field[Any]) -> Any:
    """Return the condition that each column equals the value passed by its name."""
    return reduce(and_, (field == param(field.name) for field in fields))


class JoinText(peewee.ColumnBase):
    """The aggregate that joins the texts of a column with blanks."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def __sql__(self, ctx: Any) -> Any:
        # STRING_AGG exists only since SQLite 3.44.
        name = "group_concat" if ctx.state.param == "?" else "string_agg"
        return ctx.sql(peewee.Function(name, (self._node, " ")))


class Prepared:
    """One statement.

    :param query: The expression. Its SQL is built on first use, once for each kind of
        database.
    """

    __slots__ = ("_made", "_query")

    def __init__(self, query: Any) -> None:
        self._query = query
        self._made: dict[type, tuple[str, Callable[[dict[str, Any]], Any]]] = {}

    def sql(self, db: peewee.Database) -> str:
        """Return the SQL text for a database."""
        return self._make(db)[0]

    def execute(self, db: peewee.Database, /, **values: Any) -> Any:
        """Run the statement, and return the driver's cursor.

        :param values: The values by parameter name. A missing one raises KeyError.
        """
        try:
            sql, order = self._made[type(db)]
        except KeyError:
            sql, order = self._make(db)
        return db.connection().execute(sql, order(values))

    def _make(self, db: peewee.Database) -> tuple[str, Callable[[dict[str, Any]], Any]]:
        made = self._made.get(type(db))
        if made is None:
            sql, constants = db.get_sql_context(value_literals=True).parse(self._query)
            if constants:
                raise ValueError(f"not all constants of a statement became text: {sql}")
            names = _MARK.findall(sql)
            if is_postgres(db):
                sql = sql.replace("%", "%%")
            sql = _MARK.sub("%s" if is_postgres(db) else "?", sql)
            made = self._made[type(db)] = (sql, _order(names))
        return made


def _order(names: list[str]) -> Callable[[dict[str, Any]], Any]:
    if len(names) > 1:
        return itemgetter(*names)
    if not names:
        return lambda values: ()
    only = names[0]
    return lambda values: (values[only],)


def insert(db: peewee.Database, model: type[peewee.Model], /, **values: Any) -> Any:
    """Insert a row. Return the driver's cursor, which yields the row's number, if any.

    One statement is prepared for each set of columns.
    """
    return _insert(model, tuple(values)).execute(db, **values)


@cache
def _insert(model: type[peewee.Model], names: tuple[str, ...]) -> Prepared:
    query = model.insert(**params(*names))
    key = model._meta.primary_key
    return Prepared(query.returning(key) if isinstance(key, peewee.AutoField) else query)
