"""The store on both databases: transactions, and isolation of jobs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from astrbot_api import StorageError
from astrbot_api.config.settings import Settings
from astrbot_api.db import postgres_store, sessions, sqlite_store
from astrbot_api.db.models import ALL_MODELS
from astrbot_api.db.store import Store, open_store
from astrbot_api.errors import StoreClosed

from ..postgres import Postgres


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database. The tests apply to both dialects."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create_database(migrated=False)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = open_store(Settings(database_url=url))
    made.upgrade()
    yield made
    made.close()


def _count(store: Store) -> int:
    with store.read() as db:
        return int(db.execute_sql("SELECT COUNT(*) FROM chat_session").fetchone()[0])


def test_a_job_that_raises_undoes_its_own_part_alone(store: Store) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def first(db: Any) -> None:
        begun.set()
        go_on.wait(30)

    def good(db: Any) -> None:
        sessions.create_session(db, "good", "alice")

    def bad(db: Any) -> None:
        sessions.create_session(db, "bad", "alice")
        raise ValueError("no")

    with ThreadPoolExecutor(4) as pool:
        waits = pool.submit(store.write, first)
        assert begun.wait(30)
        # These gather while the first one works, and share a transaction.
        results = [pool.submit(store.write, job) for job in (good, bad)]
        go_on.set()
        waits.result(30)
        results[0].result(30)
        with pytest.raises(ValueError, match="no"):
            results[1].result(30)
    assert _count(store) == 1


def test_many_writers_at_once_lose_nothing(store: Store) -> None:
    def write(number: int) -> None:
        store.write(lambda db: sessions.create_session(db, f"s{number}", "alice"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(300)))
    assert _count(store) == 300


def test_a_read_aside_ends_in_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "MAX_READ_S", 0.1)
    monkeypatch.setattr(postgres_store, "_MAX_READ_MS", "100")

    def count(limit: int) -> int:
        sql = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})"
            " SELECT COUNT(*) FROM n"
        )
        return store.read_aside(lambda db: db.execute_sql(sql.format(limit)).fetchone()[0])

    assert count(10) == 10
    with pytest.raises(StorageError):
        count(10**9)
    assert count(10) == 10
    with store.read() as db:
        assert db.execute_sql("SELECT 1").fetchone()[0] == 1


def test_the_log_names_the_file_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = sqlite_store.SqliteStore(tmp_path / "some.db")
    with pytest.raises(StorageError) as caught:
        store.write(lambda db: db.execute_sql("SELECT 1 FROM missing"))
    assert caplog.messages == [f"database {tmp_path / 'some.db'}: no such table: missing"]
    assert "some.db" not in str(caught.value)
    store.close()


def test_a_replaced_file_is_not_opened_by_a_process_that_has_only_read(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    store = sqlite_store.SqliteStore(path)
    with store.read() as db:
        db.execute_sql("CREATE TABLE old (x)")
    path.write_bytes(path.rename(tmp_path / "saved.db").read_bytes())
    with pytest.raises(StorageError):
        store.write(lambda db: db.execute_sql("CREATE TABLE new (x)"))
    with store.read() as db:
        assert db.get_tables() == ["old"]
        with pytest.raises(StorageError), store.read():
            pytest.fail("a second connection was opened")
    assert store.describe_fault(store).endswith("restart the server")
    store.close()


def test_a_connection_that_is_returned_late_is_closed(tmp_path: Path) -> None:
    store = sqlite_store.SqliteStore(tmp_path / "some.db")
    with store.read() as db:
        store.close()
        assert db.execute_sql("SELECT 1").fetchone()[0] == 1
    assert db.is_closed()


def test_a_closed_store_refuses(store: Store) -> None:
    store.close()
    with pytest.raises(StorageError, match="closed"), store.read():
        pass
    with pytest.raises(StorageError, match="closed"):
        store.write(lambda db: None)


def test_upgrading_twice_runs_nothing(store: Store) -> None:
    assert store.upgrade() == []
    assert all(state == "done" for _, state in store.list_migrations())


def test_the_models_are_what_the_migrations_made(store: Store) -> None:
    with store.read() as db:
        for model in ALL_MODELS:
            table = model._meta.table_name  # type: ignore[attr-defined]
            columns = {one.name for one in db.get_columns(table)}
            fields = {one.column_name for one in model._meta.sorted_fields}  # type: ignore[attr-defined]
            assert columns == fields, table


def test_processes_that_start_together_migrate_once(url: str) -> None:
    program = f"""
from astrbot_api.config.settings import Settings
from astrbot_api.db.store import open_store

store = open_store(Settings(database_url={url!r}))
print("ready", flush=True)
input()
print(bool(store.upgrade()))
store.close()
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    ran = [one.communicate(timeout=60)[0].strip() for one in processes]
    assert sorted(ran) == ["False", "False", "False", "True"]
    assert [one.returncode for one in processes] == [0, 0, 0, 0]


def test_a_forked_child_opens_connections_of_its_own(url: str) -> None:
    program = f"""
import os
from astrbot_api.config.settings import Settings
from astrbot_api.db import postgres_store, sessions, sqlite_store
from astrbot_api.db.store import open_store

store = open_store(Settings(database_url={url!r}))
store.upgrade()
store.write(lambda db: sessions.create_session(db, "parent", "a"))
with store.read() as db:
    parents = id(db)
child = os.fork()
if child == 0:
    store.write(lambda db: sessions.create_session(db, "child", "a"))
    with store.read() as db:
        os._exit(0 if id(db) != parents else 3)
assert os.waitpid(child, 0)[1] == 0
with store.read() as db:
    assert sessions.find_session(db, "child")
store.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_failed_write_of_the_upgrade_is_named_although_its_rollback_fails_too(
    tmp_path: Path,
) -> None:
    program = """
import resource, sys
from pathlib import Path
from astrbot_api.db.sqlite_store import SqliteStore
from astrbot_api.errors import SettingsError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    SqliteStore(Path(sys.argv[1])).upgrade()
except SettingsError as error:
    print(error)
"""
    path = tmp_path / "a.db"
    command = [sys.executable, "-c", program, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == f"cannot upgrade the database {path}: disk I/O error\n"


def test_the_log_names_a_limit_of_open_files_as_the_cause(tmp_path: Path) -> None:
    program = """
import os, resource, sys
from pathlib import Path
from astrbot_api.db.sqlite_store import SqliteStore
from astrbot_api.errors import StorageError
store = SqliteStore(Path(sys.argv[1]))
store.upgrade()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    store.read()
except StorageError as error:
    os.close(taken.pop())
    print(error)
"""
    path = tmp_path / "a.db"
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    cause = "unable to open database file: Too many open files; raise the limit (ulimit -n, "
    assert done.stderr.startswith(f"database {path}: {cause}")
    assert str(tmp_path) not in done.stdout


def test_a_full_disk_is_named_where_sqlite_does_not(tmp_path: Path) -> None:
    program = """
import resource, shutil, sys
from pathlib import Path
from astrbot_api.db.sqlite_store import SqliteStore
from astrbot_api.errors import StorageError
path = Path(sys.argv[1])
store = SqliteStore(path)
store.upgrade()
store.close()
shutil.disk_usage = lambda folder: shutil._ntuple_diskusage(1, 1, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file can grow
try:
    with SqliteStore(path).read() as db:
        db.execute_sql("SELECT * FROM api_key")
except StorageError as error:
    print(error)
"""
    path = tmp_path / "a.db"
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == f"database {path}: disk I/O error: the disk is full\n"
    assert str(tmp_path) not in done.stdout


def test_a_write_that_meets_the_closing_reports_a_closed_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite_store.SqliteStore(tmp_path / "test.db")
    writer = store._get_own().writer
    submit = writer.submit

    def close_before(job: Any, **options: Any) -> Any:
        store.close()
        return submit(job, **options)

    monkeypatch.setattr(writer, "submit", close_before)
    with pytest.raises(StoreClosed):
        store.write(lambda db: None)
