"""One SQL text for two databases.

The SQL of this package is what SQLite 3.35 and PostgreSQL 13 both read, with
``?`` for a parameter. What is left to translate for PostgreSQL is done here,
once for each text.
"""

from __future__ import annotations

import re
from functools import lru_cache

import peewee


def is_postgres(db: peewee.Database) -> bool:
    """Return whether a connection is to PostgreSQL."""
    return isinstance(db, peewee.PostgresqlDatabase)


# Literals and quoted names stay as they are, but for the sign that psycopg reads.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\?|%|\bgroup_concat\(", re.IGNORECASE)


def _translate_token(match: re.Match[str]) -> str:
    token = match.group()
    if token == "?":
        return "%s"
    if token.lower() == "group_concat(":
        return "string_agg("
    return token.replace("%", "%%")


@lru_cache(maxsize=2048)
def to_postgres(sql: str) -> str:
    """Return a statement as psycopg takes it.

    What peewee has built is for PostgreSQL already, and stays as it is.
    """
    return sql if "%s" in sql else _TOKEN.sub(_translate_token, sql)


def to_native(db: peewee.Database, sql: str) -> str:
    """Return a statement for ``db.connection().execute``, past peewee.

    For the few reads that every request pays, where peewee's own steps would
    double the cost.
    """
    return to_postgres(sql) if is_postgres(db) else sql
