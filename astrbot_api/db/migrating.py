"""Bring a database to the schema of the models."""

from __future__ import annotations

from pathlib import Path

import peewee
from playhouse.migrations import Runner

from ..errors import SettingsError
from .models import is_postgres

#: One file each, with a number of its own. The first one makes the tables of the models.
MIGRATIONS = Path(__file__).parent / "migrations"

_FIRST = "0001_initial"

#: Migrations of the development before the first release. Together they made what the
#: first one makes now.
_DEVELOPMENT = {
    "0002_attachments", "0003_notes", "0004_surviving_runs", "0005_messengers", "0006_owner",
    "0007_sessions", "0008_idempotency", "0008_import", "0008_journal", "0009_inbound_pending",
    "0010_delivery_trace",
}  # fmt: skip


# The events of runs were whole frames, ``data: {…}`` and ``id:``; now they are the JSON alone.
# By hand: peewee has no word for the conversion of a column's type.
_CONVERT_EVENTS = (
    "ALTER TABLE run_event RENAME COLUMN frame TO event",
    "ALTER TABLE run_event ALTER COLUMN event TYPE BYTEA"
    " USING convert_to(split_part(substr(event, 7), chr(10), 1), 'UTF8')",
)


def upgrade(db: peewee.Database) -> list[str]:
    """Run the migrations that are still to run; return their names.

    A new database gets the tables of today's models, so later migrations only count as run.

    :raises SettingsError: when the database is from the middle of the development.
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
    """Return each migration's name and whether it has run."""
    return [(one.name, bool(one.applied)) for one in Runner(db, str(MIGRATIONS)).status()]


def _take_over(runner: Runner) -> None:
    """Renumber the history of a database of the development's last state, once."""
    found = _DEVELOPMENT & set(runner.applied())
    if found != _DEVELOPMENT and (found or not runner.database.table_exists("bot_lease")):
        raise SettingsError(
            "the database is from the middle of the development before 0.1.0; run "
            "`astrbot-api db upgrade` of commit 971b0fa first, then this version's"
        )
    if found and is_postgres(runner.database):
        for statement in _CONVERT_EVENTS:
            runner.database.execute_sql(statement)
    if found:
        runner.History.delete().where(runner.History.name.in_(found)).execute()
