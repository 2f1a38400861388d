"""Upgrade a database to the current schema."""

from __future__ import annotations

from pathlib import Path

import peewee
from playhouse.migrations import Runner

from ..errors import SettingsError
from . import development

#: One file per migration, with a unique number. The first one creates the current tables.
MIGRATIONS = Path(__file__).parent / "migrations"

_FIRST = "0001_initial"

#: Migrations before the first release, whose tables the first one now creates.
_SQUASHED = {
    "0002_session_key", "0003_file_texts", "0004_attached", "0005_file_upload", "0006_stored",
    "0007_responses", "0008_uploader", "0009_checkpoints", "0010_console_key", "0011_replaced",
    "0012_approvals", "0013_stopping", "0016_growth", "0019_visits", "0020_paused",
    "0021_completing_by", "0022_edition",
}  # fmt: skip


def upgrade(db: peewee.Database) -> list[str]:
    """Run the pending migrations, and return their names.

    A new database gets the current tables, so the later migrations are only marked as applied.

    :raises SettingsError: when the database is from an unreleased development version.
    """
    runner = Runner(db, str(MIGRATIONS))
    applied = set(runner.applied())
    names: list[str]
    if not applied:
        with db.atomic():
            names = runner.up(_FIRST) + runner.fake()
        return names
    old = applied & (development.MIGRATIONS | _SQUASHED)
    if not old and not db.table_exists("bot_lease"):
        old = {_FIRST}
    if old and old not in (development.MIGRATIONS, _SQUASHED):
        commit = "6164ac8" if old & _SQUASHED else "971b0fa"
        raise SettingsError(
            "the database is from a development version before 0.1.0; first run "
            f"`astrbot-api db upgrade` of commit {commit}, then of this version"
        )
    names = []
    if old:
        with db.atomic():
            if old == development.MIGRATIONS:
                development.take_over(db)
                names = [_FIRST, *runner.fake()]
            runner.History.delete().where(runner.History.name.in_(old)).execute()
    names += runner.up()
    return names


def list_migrations(db: peewee.Database) -> list[tuple[str, bool]]:
    """Return each migration's name and whether it is applied."""
    return [(one.name, bool(one.applied)) for one in Runner(db, str(MIGRATIONS)).status()]
