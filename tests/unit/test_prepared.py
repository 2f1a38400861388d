"""Prepared statements from peewee expressions, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from astrbot_api.config.settings import Settings
from astrbot_api.db.models import is_postgres
from astrbot_api.db.models.files import AttachmentTotal
from astrbot_api.db.models.keys import ApiKeyScope
from astrbot_api.db.models.runs import RUN_ACTIVE, Run
from astrbot_api.db.models.sessions import Note, SessionCount
from astrbot_api.db.prepared import JoinText, Prepared, param, params
from astrbot_api.db.store import Store, open_store

from ..postgres import Postgres


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create_database(migrated=False)
    made = open_store(Settings(database_url=url))
    made.upgrade()
    yield made
    made.close()


_SAVE = Prepared(Note.insert(**params("username", "key", "value"), updated_at=7))

_FIND = Prepared(
    Note.select(Note.value, Note.updated_at)
    .where((Note.username == param("name")) & (Note.key > param("key")))
    .order_by(Note.key)
    .limit(param("limit"))
)


def test_values_go_where_their_names_stand(store: Store) -> None:
    def save(db: peewee.Database) -> None:
        for key in ("a", "b", "c"):
            assert _SAVE.execute(db, value=f"of {key}", username="alice", key=key).rowcount == 1

    store.write(save)
    with store.read() as db:
        rows = _FIND.execute(db, limit=1, key="a", name="alice").fetchall()
        assert [tuple(row) for row in rows] == [("of b", 7)]
        assert _FIND.execute(db, limit=5, key="c", name="alice").fetchone() is None


def test_a_name_may_stand_twice_and_a_missing_value_is_an_error(store: Store) -> None:
    either = Prepared(
        Note.select(Note.key).where(
            (Note.username == param("text")) | (Note.value == param("text"))
        )
    )
    store.write(lambda db: _SAVE.execute(db, username="a", key="k", value="b").rowcount)
    with store.read() as db:
        assert either.execute(db, text="a").fetchone()[0] == "k"
        assert either.execute(db, text="b").fetchone()[0] == "k"
        with pytest.raises(KeyError, match="text"):
            either.execute(db)


def test_constants_stand_in_the_text(store: Store) -> None:
    odd = "it's ? 100% %s"
    statement = Prepared(
        Note.select(Note.key).where((Note.value == odd) & (Note.key == param("key")))
    )
    store.write(lambda db: _SAVE.execute(db, username="a", key="k", value=odd).rowcount)
    with store.read() as db:
        assert "it''s" in statement.sql(db)
        assert statement.execute(db, key="k").fetchone()[0] == "k"


def test_a_partial_index_serves_what_is_prepared(store: Store) -> None:
    active = Prepared(Run.select(Run.id).where((Run.session == param("session")) & RUN_ACTIVE))
    with store.read() as db:
        assert "IN ('queued', 'running')" in active.sql(db)
        if not is_postgres(db):
            plan = db.execute_sql(f"EXPLAIN QUERY PLAN {active.sql(db)}", (1,)).fetchall()
            assert "run_active" in plan[0][3]


def test_rows_are_counted_up_and_returned(store: Store) -> None:
    count = Prepared(
        SessionCount.insert(**params("creator", "platform_id"), sessions=1)
        .on_conflict(
            conflict_target=[SessionCount.creator, SessionCount.platform_id],
            update={SessionCount.sessions: SessionCount.sessions + 1},
        )
        .returning(SessionCount.sessions)
    )
    add = Prepared(
        AttachmentTotal.insert(**params("key_id", "size_bytes"), attachments=1).on_conflict(
            conflict_target=[AttachmentTotal.key_id],
            update={
                AttachmentTotal.size_bytes: AttachmentTotal.size_bytes + peewee.EXCLUDED.size_bytes
            },
        )
    )

    def job(db: peewee.Database) -> list[int]:
        for size in (3, 4):
            add.execute(db, key_id="k", size_bytes=size)
        return [
            count.execute(db, creator="a", platform_id="webchat").fetchone()[0] for _ in range(3)
        ]

    assert store.write(job) == [1, 2, 3]
    with store.read() as db:
        total = AttachmentTotal.select().where(AttachmentTotal.key_id == "k").get(db)
        assert total.size_bytes == 7


def test_texts_are_joined_on_both(store: Store) -> None:
    joined = Prepared(
        ApiKeyScope.select(JoinText(ApiKeyScope.scope)).where(ApiKeyScope.key_id == param("key_id"))
    )
    rows = [{"key_id": "k", "scope": scope} for scope in ("chat", "file")]
    store.write(lambda db: ApiKeyScope.insert_many(rows).execute(db))
    with store.read() as db:
        assert set(joined.execute(db, key_id="k").fetchone()[0].split()) == {"chat", "file"}
