"""Upgrade a database to the current schema."""

from __future__ import annotations

from pathlib import Path

import peewee
from playhouse.migrations import Runner

from ..errors import SettingsError
from .models import is_postgres

#: One file per migration, with a unique number. The first one creates the current tables.
MIGRATIONS = Path(__file__).parent / "migrations"

_FIRST = "0001_initial"

#: Migrations of the development before the first release. The first migration now creates
#: the same tables.
_DEVELOPMENT = {
    "0002_attachments", "0003_notes", "0004_surviving_runs", "0005_messengers", "0006_owner",
    "0007_sessions", "0008_idempotency", "0008_import", "0008_journal", "0009_inbound_pending",
    "0010_delivery_trace",
}  # fmt: skip


# The events of runs were stored as whole SSE frames, ``data: {…}`` and ``id:``; now only the
# JSON is stored. Raw SQL: peewee cannot convert a column's type.
_CONVERT_EVENTS = (
    "ALTER TABLE run_event RENAME COLUMN frame TO event",
    "ALTER TABLE run_event ALTER COLUMN event TYPE BYTEA"
    " USING convert_to(split_part(substr(event, 7), chr(10), 1), 'UTF8')",
)


def upgrade(db: peewee.Database) -> list[str]:
    """Run the pending migrations, and return their names.

    A new database gets the current tables, so the later migrations are only marked as applied.

    :raises SettingsError: when the database is from an unreleased development version.
    """
    runner = Runner(db, str(MIGRATIONS))
    names: list[str]
    if not runner.applied():
        with db.atomic():
            names = runner.up(_FIRST) + runner.fake()
        return names
    _take_over(runner)
    names = runner.up()
    return names


def list_migrations(db: peewee.Database) -> list[tuple[str, bool]]:
    """Return each migration's name and whether it is applied."""
    return [(one.name, bool(one.applied)) for one in Runner(db, str(MIGRATIONS)).status()]


def _take_over(runner: Runner) -> None:
    """Rename the migrations of a database of the last development version, once."""
    found = _DEVELOPMENT & set(runner.applied())
    if found != _DEVELOPMENT and (found or not runner.database.table_exists("bot_lease")):
        raise SettingsError(
            "the database is from a development version before 0.1.0; first run "
            "`astrbot-api db upgrade` of commit 971b0fa, then of this version"
        )
    if found and is_postgres(runner.database):
        for statement in _CONVERT_EVENTS:
            runner.database.execute_sql(statement)
    if found:
        runner.History.delete().where(runner.History.name.in_(found)).execute()
