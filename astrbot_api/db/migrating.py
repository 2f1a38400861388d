"""Upgrade a database to the current schema."""

from __future__ import annotations

import logging
from pathlib import Path

import peewee
from playhouse.migrations import Runner

from ..errors import SettingsError
from . import development

log = logging.getLogger(__name__)

#: One file per migration, with a unique number. The first one creates the current tables.
MIGRATIONS = Path(__file__).parent / "migrations"

_FIRST = "0001_initial"

NEWER_TEXT = "a newer version has migrated the database"
NEWER_REMEDY = "Install that version, or restore the backup made before the upgrade"

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
    if newer := [one.name for one in runner.status() if one.path is None]:
        # Not refused: during an upgrade, workers of both versions run.
        log.warning("%s: %s. %s", NEWER_TEXT, ", ".join(newer), NEWER_REMEDY)
    return names


def list_migrations(db: peewee.Database) -> list[tuple[str, str]]:
    """Return each migration's name and state: ``done``, ``to do`` or ``newer``."""
    found = Runner(db, str(MIGRATIONS)).status()
    return [
        (one.name, "newer" if one.path is None else "done" if one.applied else "to do")
        for one in found
    ]
