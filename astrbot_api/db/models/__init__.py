"""The tables: the only definition of the schema. The first migration creates them.

On both databases, text has no maximum length and whole numbers have 64 bits. Times are
whole numbers: microseconds since 1970, UTC. Flags are 0 or 1. Each table has a module for
its queries. Queries of every request are prepared (see :mod:`astrbot_api.db.prepared`).
"""

from __future__ import annotations

import peewee

from . import deliveries, files, keys, owner, runs, sessions  # noqa: F401 (defines the tables)
from .fields import Table
from .runs import RunEvent, RunEventEnd, RunEventEpoch

#: Tables for the events of runs on PostgreSQL.
POSTGRES_MODELS: tuple[type[Table], ...] = (RunEvent, RunEventEnd, RunEventEpoch)

ALL_MODELS: tuple[type[Table], ...] = tuple(
    model for model in Table.__subclasses__() if model not in POSTGRES_MODELS
)


def is_postgres(db: peewee.Database) -> bool:
    """Return whether a database is PostgreSQL."""
    return isinstance(db, peewee.PostgresqlDatabase)


def list_models(db: peewee.Database) -> tuple[type[Table], ...]:
    """Return the tables of this kind of database."""
    return ALL_MODELS + (POSTGRES_MODELS if is_postgres(db) else ())


def create_tables(db: peewee.Database) -> None:
    """Create all tables of this kind of database, with their indexes."""
    for model in list_models(db):
        peewee.SchemaManager(model, db).create_all(safe=False)
