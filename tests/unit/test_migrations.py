"""The schema: created from the models, and migrated from the last development state.

``tests/data/development.*.sql`` contain the tables of migrations 0001 to 0010 of the development
(commit 971b0fa) with their history.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from astrbot_api.config.settings import Settings
from astrbot_api.db import migrating
from astrbot_api.db.models import list_models
from astrbot_api.db.store import Store, open_store
from astrbot_api.errors import SettingsError

from ..postgres import Postgres

_DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(params=["sqlite", "postgres"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Store]]:
    """Two stores with empty databases."""
    made = []
    for name in ("one", "other"):
        url = f"sqlite:///{tmp_path / name}.db"
        if request.param == "postgres":
            server: Postgres = request.getfixturevalue("postgres")
            url = server.create_database(migrated=False)
        made.append(open_store(Settings(database_url=url)))
    yield made
    for store in made:
        store.close()


def _run(store: Store, *statements: str) -> None:
    def job(db: peewee.Database) -> None:
        for statement in statements:
            db.execute_sql(statement)

    store.write(job)


def _make_development(store: Store, *, but: str = "no migration") -> None:
    """Create the database of the last development state, or of an earlier one."""
    text = (_DATA / f"development.{store.dialect}.sql").read_text()
    # No default contains a semicolon.
    _run(store, *(one for one in text.split(";\n") if one.strip() and but not in one))


def _rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.read() as db:
        return db.execute_sql(sql).fetchall()  # type: ignore[no-any-return]


def _describe(store: Store) -> list[str]:
    """Return the schema as lines, from the database's own catalogue."""
    if store.dialect == "postgres":
        lines = []
        for sql in (
            "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity"
            " FROM information_schema.columns WHERE table_schema = 'public'",
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            # Since PostgreSQL 18, NOT NULL is listed too, with the column's first name.
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'",
        ):
            lines += [str(tuple(row)) for row in _rows(store, sql)]
        return sorted(lines)
    lines = []
    made = dict(_rows(store, "SELECT name, sql FROM sqlite_master"))
    for (table,) in _rows(store, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        lines.append(f"{table} {'AUTOINCREMENT' in (made[table] or '')}")
        for _, column, kind, *rest in _rows(store, f"PRAGMA table_info({table})"):
            lines.append(f"{table}.{column} {_affinity(kind)} {rest}")
        for _, index, *rest in _rows(store, f"PRAGMA index_list({table})"):
            columns = [row[2] for row in _rows(store, f"PRAGMA index_info({index})")]
            where = re.sub(r'["()]', "", (made[index] or "").partition(" WHERE ")[2]).strip()
            lines.append(f"{table} {index} {columns} {rest} {where}")
    return sorted(lines)


def _affinity(kind: str) -> str:
    """Return SQLite's affinity of a type. Source: https://sqlite.org/datatype3.html#affname."""
    for affinity, signs in {"INTEGER": "INT", "TEXT": "CHAR|TEXT", "REAL": "REAL|FLOA"}.items():
        if re.search(signs, kind.upper()):
            return affinity
    return kind


ALL_MIGRATIONS = sorted(path.stem for path in migrating.MIGRATIONS.glob("[0-9]*.py"))


def test_the_numbers_are_unique() -> None:
    numbers = [path.name[:4] for path in migrating.MIGRATIONS.glob("[0-9]*.py")]
    assert len(numbers) == len(set(numbers))


def test_a_new_database_has_the_tables_of_the_models_and_no_others(stores: list[Store]) -> None:
    store = stores[0]
    assert store.upgrade() == ALL_MIGRATIONS
    with store.read() as db:
        names = {model._meta.table_name for model in list_models(db)} | {"schema_migration"}
        assert set(db.get_tables()) - {"sqlite_sequence"} == names


def test_the_last_development_state_is_taken_over(stores: list[Store]) -> None:
    old, fresh = stores
    _make_development(old)
    _run(old, "INSERT INTO owner VALUES ('bob', 'hash', 1, 2)")
    _run(
        old,
        "INSERT INTO chat_session (id, session_id, platform_id, creator, is_group, context_after,"
        " created_at, updated_at) VALUES (1, 'é', 'webchat', 'bob', 0, 0, 1, 1)",
        "INSERT INTO message (id, session, platform_id, sender_id, sender_name, content,"
        " created_at) VALUES (1, 1, 'webchat', 'bob', 'bob', '{\"é\":1}', 1)",
        "INSERT INTO run (id, run_id, session, key_id, worker_id, status, created_at)"
        " VALUES (1, 'r', 1, 'k', 'w', 'completed', 1)",
    )
    if old.dialect == "postgres":
        frame = 'data: {"a":"\u00e9"}\nid: 1\n\n'
        _run(old, f"INSERT INTO run_event VALUES (7, 1, '{frame}')")
    assert old.upgrade() == ALL_MIGRATIONS
    if old.dialect == "postgres":
        assert _rows(old, "SELECT event FROM run_event") == [('{"a":"\u00e9"}'.encode(),)]
    assert old.list_migrations() == [(name, "done") for name in ALL_MIGRATIONS]
    assert _rows(old, "SELECT name FROM owner") == [("bob",)]
    # Data counts for the key of the session's first run.
    counted = "SELECT key_id, messages, messages_bytes, sessions, sessions_bytes FROM key_stored"
    assert _rows(old, counted) == [("k", 1, 512 + 8 + 3, 1, 512 + 1024 + 2 * 2 + 4 * 3)]
    fresh.upgrade()
    assert _describe(old) == _describe(fresh)
    assert len(_describe(old)) > 250


@pytest.mark.parametrize("missing", ["'0010_", "'00"])
def test_a_state_of_the_development_before_its_last_is_refused(
    stores: list[Store], missing: str
) -> None:
    _make_development(stores[0], but=missing)
    if missing == "'00":
        sql = "INSERT INTO schema_migration (name, applied) VALUES ('0001_initial', '2026-01-01')"
        _run(stores[0], "DROP TABLE bot_lease", sql)
    with pytest.raises(SettingsError, match="`astrbot-api db upgrade` of commit 971b0fa"):
        stores[0].upgrade()


def _note_migrations(store: Store, names: Collection[str]) -> None:
    values = ", ".join(f"('{name}', '2026-01-01')" for name in names)
    _run(store, f"INSERT INTO schema_migration (name, applied) VALUES {values}")


def test_the_last_state_before_the_migrations_were_squashed_is_recognized(
    stores: list[Store],
) -> None:
    store = stores[0]
    store.upgrade()
    _note_migrations(store, migrating._SQUASHED)
    assert store.upgrade() == []
    assert store.list_migrations() == [(name, "done") for name in ALL_MIGRATIONS]


def test_an_older_version_names_the_migrations_of_a_newer_one(
    stores: list[Store], caplog: pytest.LogCaptureFixture
) -> None:
    store = stores[0]
    store.upgrade()
    _note_migrations(store, ["9999_later"])
    assert not caplog.records
    assert store.upgrade() == []
    (line,) = caplog.messages
    assert line.startswith("a newer version has migrated the database: 9999_later. Install that")
    assert store.list_migrations()[-1] == ("9999_later", "newer")


def test_a_state_before_the_last_squashed_migration_is_refused(stores: list[Store]) -> None:
    store = stores[0]
    store.upgrade()
    _note_migrations(store, migrating._SQUASHED - {"0022_edition"})
    with pytest.raises(SettingsError, match="`astrbot-api db upgrade` of commit 6164ac8"):
        store.upgrade()


def test_a_later_migration_runs_on_an_old_database_and_not_on_a_new_one(
    stores: list[Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, fresh = stores
    old.upgrade()
    (tmp_path / "0001_initial.py").write_bytes(
        (migrating.MIGRATIONS / "0001_initial.py").read_bytes()
    )
    (tmp_path / "0002_later.py").write_text(
        "def up(migrator, db):\n    db.execute_sql('CREATE TABLE later (id BIGINT)')\n"
    )
    monkeypatch.setattr(migrating, "MIGRATIONS", tmp_path)
    assert old.upgrade() == ["0002_later"]
    assert _rows(old, "SELECT id FROM later") == []
    # The models' tables include later migrations.
    assert fresh.upgrade() == ["0001_initial", "0002_later"]
    with fresh.read() as db:
        assert not db.table_exists("later")
