"""PostgreSQL only: races, restarts, and a pool that waits."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from astrbot_api.config.settings import Settings
from astrbot_api.db import (
    attachments,
    key_usage,
    keys,
    memory,
    postgres_connection,
    postgres_store,
    removal,
    runs,
    session_keys,
    sessions,
    stored,
)
from astrbot_api.db.attachment_uses import link_attachments
from astrbot_api.db.locks import lock_name
from astrbot_api.db.models.keys import ApiKey
from astrbot_api.errors import ApiError, SettingsError, StorageError
from astrbot_api.files.attachments import Attachments
from astrbot_api.files.incoming import Sender

from ..postgres import Postgres
from ..waiting import wait_for

pytest.importorskip("psycopg_pool")

from astrbot_api.db.postgres_store import PostgresStore


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    made = PostgresStore(postgres_url, pool_size=20, timeout_s=10)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine needs long for a new connection."""
    monkeypatch.setattr(postgres_store, "_LOOK_S", 30.0)


@pytest.fixture
def own_server(postgres: Postgres) -> Iterator[Postgres]:
    """A server that a test may stop. It is started again afterwards."""
    yield postgres
    postgres.stop()
    postgres.start()


def _is_waiting(postgres: Postgres) -> bool:
    sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return bool(postgres.run_sql(sql))


def _hold(store: PostgresStore, first: Callable[[Any], Any], then: Callable[[Any], Any]) -> Any:
    """Return a job of two steps with an event between them."""
    begun, go_on = threading.Event(), threading.Event()

    def job(db: Any) -> Any:
        first(db)
        begun.set()
        assert go_on.wait(30)
        return then(db)

    return begun, go_on, lambda: store.write(job)


def test_a_password_is_in_no_error(postgres: Postgres) -> None:
    with pytest.raises(SettingsError, match="postgresql://USER") as caught:
        PostgresStore("postgresql://u:hush@h:port/db?what=1")
    assert "hush" not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot reach the database") as caught:
        PostgresStore("postgresql://u:hush@127.0.0.1:1/db", timeout_s=1).upgrade()
    assert "hush" not in str(caught.value)


def test_a_role_that_may_create_no_table_is_named_with_the_remedy(postgres: Postgres) -> None:
    postgres.run_sql("CREATE ROLE guest LOGIN")
    url = postgres.create_database(migrated=False).replace("//test@", "//guest@")
    remedy = r"denied for schema public .* OWNER TO role; ALTER TABLE "
    with pytest.raises(SettingsError, match=remedy):
        PostgresStore(url).upgrade()


def test_a_limit_of_the_database_does_not_end_a_migration(postgres: Postgres) -> None:
    url = postgres.create_database(migrated=False)
    name = url.partition("?")[0].rpartition("/")[2]
    postgres.run_sql(f"ALTER DATABASE {name} SET statement_timeout = '300ms'")
    with psycopg.connect(url, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT pg_advisory_lock(%s)", (postgres_store._MIGRATION_LOCK,))
        upgraded = pool.submit(PostgresStore(url).upgrade)  # another server migrates: it waits
        wait_for(lambda: postgres.run_sql("SELECT 1 FROM pg_locks WHERE NOT granted"))
        postgres.run_sql("SELECT pg_sleep(1)")
        other.execute("SELECT pg_advisory_unlock_all()")
        assert upgraded.result()


def test_settings_of_the_role_change_no_transaction(postgres: Postgres) -> None:
    url = postgres.create_database()
    name = url.partition("?")[0].rpartition("/")[2]
    postgres.run_sql(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    postgres.run_sql(f"ALTER DATABASE {name} SET client_encoding = 'LATIN1'")
    postgres.run_sql(f"ALTER DATABASE {name} SET statement_timeout = '7ms'")
    store = PostgresStore(url, pool_size=1)

    def show(setting: str) -> Any:
        return lambda db: db.execute_sql(f"SHOW {setting}").fetchone()[0]

    assert store.read_aside(show("statement_timeout")) == "5s"
    assert store.write(show("statement_timeout")) == "30s"
    assert store.write(show("transaction_isolation")) == "read committed"
    store.write(lambda db: memory.save_note(db, "alice", "city", "北京", max_notes=5))
    with store.read() as db:
        assert memory.list_notes(db, "alice", "city") == [("city", "北京")]
    store.close()


def test_a_number_that_is_summed_is_a_number(store: PostgresStore) -> None:
    with store.read() as db:
        sql = "SELECT SUM(n), AVG(n) FROM (VALUES (%s::bigint), (4)) AS t (n)"
        rows = db.execute_sql(sql, (3,))
        assert rows.fetchone() == (7, 3.5)


def test_text_with_a_nul_is_kept_and_found(store: PostgresStore) -> None:
    store.write(lambda db: memory.save_note(db, "alice", "a\0b", "c\0d", max_notes=5))
    with store.read() as db:
        assert memory.list_notes(db, "alice", "a\0b") == [("a\ufffdb", "c\ufffdd")]


def test_a_restart_between_two_requests_is_not_noticed(
    store: PostgresStore, own_server: Postgres
) -> None:
    def use() -> None:
        with store.read() as one, store.read() as other:
            assert one.execute_sql("SELECT 1").fetchone() == (1,)
            assert other.execute_sql("SELECT 2").fetchone() == (2,)

    use()
    own_server.kill()
    own_server.start()
    use()
    store.write(lambda db: sessions.create_session(db, "after", "alice"))


def test_an_outage_is_a_clear_error_and_ends_by_itself(
    own_server: Postgres, postgres_url: str
) -> None:
    store = PostgresStore(postgres_url, timeout_s=30)
    store.write(lambda db: sessions.create_session(db, "before", "alice"))
    own_server.kill()
    store._timeout_s = 0.3  # for operations that must fail; a busy machine may need more to succeed
    for _ in range(3):
        with pytest.raises(StorageError, match="nothing was stored"):
            store.write(lambda db: sessions.create_session(db, "lost", "alice"))
        with pytest.raises(StorageError, match="Try again"), store.read():
            pass
    own_server.start()
    store._timeout_s = 30

    def works() -> bool:
        try:
            with store.read() as db:
                return sessions.find_session(db, "before") is not None
        except StorageError:
            return False

    assert wait_for(works)
    store.write(lambda db: sessions.create_session(db, "after", "alice"))
    store.close()


def test_a_job_that_loses_its_connection_is_run_again(
    store: PostgresStore, postgres: Postgres
) -> None:
    tries: list[int] = []

    def job(db: Any) -> None:
        sessions.create_session(db, "once", "alice")
        (pid,) = db.execute_sql("SELECT pg_backend_pid()").fetchone()
        tries.append(pid)
        if len(tries) == 1:
            postgres.run_sql(f"SELECT pg_terminate_backend({pid}, 10000)")
        db.execute_sql("SELECT 1")

    store.write(job)
    assert len(tries) == 2
    with store.read() as db:
        assert sessions.list_sessions(db, "alice", page=1, page_size=10)[1] == 1


def test_a_connection_lost_in_the_commit_is_reported_and_not_tried_again(
    store: PostgresStore,
) -> None:
    for sql in (
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION die()",
    ):
        store.write(lambda db, sql=sql: db.execute_sql(sql))  # type: ignore[misc]
    tries: list[int] = []

    def job(db: Any) -> None:
        tries.append(1)
        memory.save_note(db, "alice", "k", "v", max_notes=5)

    with pytest.raises(StorageError, match="may or may not be stored"):
        store.write(job)
    assert len(tries) == 1


def test_an_error_that_a_job_swallows_does_not_pass_for_a_commit(store: PostgresStore) -> None:
    def job(db: Any) -> None:
        sessions.create_session(db, "s", "alice")
        with pytest.raises(Exception, match="no_such_table"):
            db.execute_sql("SELECT * FROM no_such_table")

    with pytest.raises(StorageError):
        store.write(job)


def test_the_loser_of_a_race_for_a_key_sees_what_the_winner_did(store: PostgresStore) -> None:
    both = threading.Barrier(2, timeout=30)
    tries: list[int] = []

    def job(db: Any) -> int:
        tries.append(1)
        found = sessions.find_session(db, "same")
        if len(tries) <= 2:
            both.wait()
        return (found or sessions.create_session(db, "same", "alice")).id

    with ThreadPoolExecutor(2) as pool:
        numbers = {one.result(30) for one in [pool.submit(store.write, job) for _ in range(2)]}
    assert len(numbers) == 1
    assert len(tries) == 3


def test_a_job_that_always_loses_ends_with_an_error(store: PostgresStore) -> None:
    tries: list[int] = []

    def job(db: Any) -> None:
        tries.append(1)
        sessions.create_session(db, "twice", "alice")
        sessions.create_session(db, "twice", "alice")

    with pytest.raises(StorageError):
        store.write(job)
    assert len(tries) == 5


def test_a_deadlock_ends_with_both_jobs_done(store: PostgresStore) -> None:
    both = threading.Barrier(2, timeout=30)
    tries: list[str] = []

    def lock(first: str, second: str) -> None:
        def job(db: Any) -> None:
            lock_name(db, "test", first)
            tries.append(first)
            if len(tries) <= 2:
                both.wait()
            lock_name(db, "test", second)

        store.write(job)

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(lock, "a", "b"), pool.submit(lock, "b", "a")]:
            one.result(30)
    assert len(tries) == 3


def test_unused_connections_are_left_to_other_workers(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "_IDLE_S", 20.0)
    url = postgres.create_database()
    name = url.partition("?")[0].rpartition("/")[2]
    store = PostgresStore(url, pool_size=20)
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(store.read())
    count = f"SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{name}'"
    assert postgres.run_sql(count)[0][0] == 20
    wait_for(lambda: postgres.run_sql(count)[0][0] < 15)
    store.close()


def test_an_empty_pool_is_an_error_after_a_wait(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, pool_size=1, timeout_s=30)
    with store.read():
        store._timeout_s = 0.2
        with pytest.raises(StorageError, match="Try again later"), store.read():
            pass
        patient = PostgresStore(postgres_url, pool_size=1, timeout_s=30)
        lent = patient.read()
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(lambda: patient.write(lambda db: 7))
            with lent:
                pass
            assert waits.result(30) == 7
        patient.close()
    store.close()


@contextmanager
def _foreign_lock(url: str) -> Iterator[Any]:
    """Hold the locks of another program, like a psql in the middle of a transaction."""
    import psycopg

    with psycopg.connect(url, application_name="psql") as connection:
        connection.execute("LOCK TABLE chat_session IN EXCLUSIVE MODE")
        yield connection
        connection.rollback()


def _count_waiting(postgres: Postgres) -> int:
    sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return int(postgres.run_sql(sql)[0][0])


def _add_session(store: PostgresStore, name: str) -> Any:
    return store.write(lambda db: sessions.create_session(db, name, "alice"))


def test_the_cause_of_an_outage_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_store, "_LOOK_S", 0.1)
    store = PostgresStore("postgresql://u@127.0.0.1:1/db", timeout_s=1)
    for use in (store.read, lambda: store.describe_fault(store)):
        with pytest.raises(StorageError, match="Try again later") as caught:
            use()
        assert "after" in caught.value.operator_text
        assert "Connection refused" in caught.value.operator_text
    store.close()


def test_connections_that_an_outage_took_are_not_reported_as_in_use(
    postgres: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "_JAM_S", 1e6)
    store = PostgresStore(postgres_url, pool_size=4, timeout_s=1)
    own = PostgresStore(postgres_url, pool_size=2, timeout_s=30)
    postgres.stop()
    with pytest.raises(StorageError):
        _add_session(store, "lost")
    postgres.start()
    assert store.describe_fault(own) == ""
    store.close()
    own.close()


def test_writes_that_wait_for_a_foreign_lock_leave_connections_for_reads(
    postgres: Postgres, postgres_url: str
) -> None:
    store = PostgresStore(postgres_url, pool_size=4, timeout_s=30)
    own = PostgresStore(postgres_url, pool_size=2, timeout_s=30)
    with ExitStack() as lent:  # a busy machine needs long for a new connection
        for _ in range(4):
            lent.enter_context(store.read())
    store._timeout_s = 0.2
    with ThreadPoolExecutor(3) as pool:
        with _foreign_lock(postgres_url) as other:
            stuck = [pool.submit(_add_session, store, f"s{number}") for number in range(3)]
            wait_for(lambda: _count_waiting(postgres) == 3)
            assert store.describe_fault(own) == ""
            with pytest.raises(StorageError, match="Try again later"):
                _add_session(store, "one too many")
            with store.read() as db:
                assert sessions.find_session(db, "s0") is None
            jam = store.describe_fault(own)
            assert f"wait for locks of pid {other.info.backend_pid} (psql, idle in" in jam
        assert len({one.result(30).id for one in stuck}) == 3
    assert store.describe_fault(own) == ""
    store.close()
    own.close()


def test_a_foreign_lock_is_an_error_soon_and_outlasted_by_a_patient_write(
    postgres: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connection, "_SET_UP", "SET lock_timeout = '50ms'")
    store = PostgresStore(postgres_url)
    add = partial(sessions.create_session, session_id="patient", creator="alice")
    with ThreadPoolExecutor(1) as pool:
        with _foreign_lock(postgres_url):
            waits = pool.submit(store.write, add, patient=True)
            for number in range(3):  # each takes at least as long as a patient one's attempt
                with pytest.raises(StorageError):
                    _add_session(store, f"s{number}")
            assert not waits.done()
        assert waits.result(30).session_id == "patient"
    store.close()


def test_a_patient_write_waits_for_a_server_that_is_away(
    own_server: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "_RECONNECT_PAUSE_S", 0.01)
    store = PostgresStore(postgres_url, timeout_s=0.1)
    own_server.kill()
    add = partial(sessions.create_session, session_id="patient", creator="alice")
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(store.write, add, patient=True)
        for number in range(3):  # each takes at least as long as a patient one's attempt
            with pytest.raises(StorageError):
                _add_session(store, f"s{number}")
        assert not waits.done()
        own_server.start()
        assert waits.result(30).session_id == "patient"
    store.close()


def test_a_patient_write_waits_for_space_on_a_full_disk(store: PostgresStore) -> None:
    tried: list[int] = []

    def job(db: Any) -> int:
        tried.append(1)
        if len(tried) < 8:
            raise psycopg.errors.DiskFull("could not extend file")
        return 5

    with pytest.raises(StorageError):
        store.write(job)
    assert store.write(job, patient=True) == 5
    assert len(tried) == 8


def test_a_statement_without_a_response_closes_its_connection(postgres_url: str) -> None:
    with postgres_connection.Connection.connect(postgres_url, autocommit=True) as connection:
        connection.limit_s = 0.05
        with pytest.raises(psycopg.OperationalError, match="does not answer"):
            connection.execute("SELECT pg_sleep(600)")
        assert connection.closed


def test_tables_of_another_role_are_named_with_the_remedy(
    postgres: Postgres, postgres_url: str
) -> None:
    """For example after a restore as the administrator."""
    postgres.run_sql("CREATE ROLE newcomer LOGIN")
    store = PostgresStore(postgres_url.replace("test@", "newcomer@"))
    for use in (store.list_migrations, store.upgrade):
        with pytest.raises(SettingsError, match=r"permission denied .*ALTER TABLE name OWNER"):
            use()
    store.close()


def test_a_table_that_the_role_may_not_write_is_named(
    postgres: Postgres, postgres_url: str
) -> None:
    """For example after the administrator has restored one table."""
    postgres.run_sql("CREATE ROLE reader LOGIN")
    rights = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader"
    store = PostgresStore(postgres_url.replace("test@", "reader@"))
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(rights)
        assert store.describe_fault(store) == ""
        owner.execute("REVOKE INSERT ON message FROM reader")
        assert "the role reader may not read and write message; " in store.describe_fault(store)
        owner.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reader")
    store.close()


def test_a_read_only_database_is_named_before_its_upgrade(postgres: Postgres) -> None:
    empty = postgres.create_database(migrated=False)
    database = empty.partition("?")[0].rpartition("/")[2]
    postgres.run_sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    store = PostgresStore(empty)
    with pytest.raises(SettingsError, match="upgrade the database: PostgreSQL is read-only"):
        store.upgrade()
    store.close()


def test_a_connection_that_is_read_only_is_replaced(
    postgres: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "_REPLACE_EVERY_S", 0.0)
    database = postgres_url.partition("?")[0].rpartition("/")[2]
    store, own = PostgresStore(postgres_url), PostgresStore(postgres_url)
    postgres.run_sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with pytest.raises(StorageError):
        _add_session(store, "refused")
    assert store.describe_fault(own).startswith("PostgreSQL is read-only")
    with store.read() as db:  # opens a connection that stays read-only
        assert sessions.find_session(db, "refused") is None
    postgres.run_sql(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    assert _add_session(store, "stored").session_id == "stored"
    assert store.describe_fault(own) == ""
    store.close()
    own.close()


def test_a_connection_is_as_old_as_its_first_packet(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server may have become read-only before it was ready."""
    connect, sent_at = psycopg.Connection.connect, list[float]()

    def note_and_connect(cls: Any, *args: Any, **options: Any) -> Any:
        sent_at.append(time.monotonic())
        return connect.__func__(cls, *args, **options)  # type: ignore[attr-defined]

    monkeypatch.setattr(psycopg.Connection, "connect", classmethod(note_and_connect))
    with store.read() as db:
        assert db.connection().opened_at <= sent_at[0]  # type: ignore[attr-defined,no-untyped-call]


def test_a_session_that_was_deleted_since_it_was_found_is_not_found(store: PostgresStore) -> None:
    found = _add_session(store, "gone")
    store.write(lambda db: removal.remove_session(db, found))
    with store.read() as db, pytest.raises(ApiError) as refused:
        sessions.describe_session(db, found)
    assert refused.value.code == "session_not_found"


def test_a_greenlet_that_waits_does_not_hold_the_hub(postgres_url: str) -> None:
    program = f"""
from gevent import monkey
monkey.patch_all()
import gevent
from astrbot_api.db.postgres_store import PostgresStore

store = PostgresStore({postgres_url!r})
done, ticks = [], []

def tick():
    while not done:
        ticks.append(1)
        gevent.sleep(0.005)

def wait():
    with store.read() as db:
        db.execute_sql("SELECT pg_sleep(0.3)")

def write():
    store.write(lambda db: db.execute_sql("SELECT pg_sleep(0.3)"))

ticker = gevent.spawn(tick)
gevent.joinall([gevent.spawn(one) for one in (wait, write) * 5], raise_error=True)
done.append(1)
ticker.join()
store.close()
assert len(ticks) > 10, len(ticks)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_turns_of_a_session_get_their_places_one_after_another(
    store: PostgresStore, postgres: Postgres
) -> None:
    session = store.write(lambda db: sessions.create_session(db, "s", "alice"))

    def add(db: Any, name: str) -> tuple[int, int]:
        values: Any = {"key_id": None, "worker_id": "w", "user_message": None, "checkpoint": "c"}
        return runs.add_run(db, name, session.id, **values)

    begun, go_on, first = _hold(store, lambda db: add(db, "first"), lambda db: None)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert begun.wait(30)
        other = pool.submit(lambda: store.write(lambda db: add(db, "second")))
        wait_for(lambda: _is_waiting(postgres))
        go_on.set()
        one.result(30)
        assert other.result(30)[1] == 1, "the second turn did not see the first one"


def test_an_attachment_that_a_message_takes_up_is_not_deleted(
    store: PostgresStore, postgres: Postgres, tmp_path: Path
) -> None:
    files = Attachments(Settings(data_dir=tmp_path), store)
    row = files.store_bytes(b"text", "a.txt")
    begun, go_on, use = _hold(
        store,
        lambda db: attachments.lock_attachments(db, [row.attachment_id]),
        lambda db: link_attachments(db, 1, [row.id]),
    )
    with ThreadPoolExecutor(2) as pool:
        used = pool.submit(use)
        assert begun.wait(30)
        deleted = pool.submit(files.delete, row)
        wait_for(lambda: _is_waiting(postgres))
        go_on.set()
        used.result(30)
        assert deleted.result(30) is False
    assert files.read_bytes(row, 10) == b"text"


def test_an_upload_that_takes_up_bytes_keeps_them(
    store: PostgresStore, postgres: Postgres, tmp_path: Path
) -> None:
    files = Attachments(Settings(data_dir=tmp_path), store)
    row = files.store_bytes(b"text", "a.txt")
    values: Any = {"name": "b.txt", "type": "file", "mime": "text/plain", "charset": None,
                   "size_bytes": 4, "sha256": row.sha256, "key_id": None}  # fmt: skip
    found: list[str] = []
    begun, go_on, upload = _hold(
        store,
        lambda db: found.append(str(attachments.find_blob(db, row.sha256))),
        lambda db: attachments.add_attachment(db, blob=found[0], **values),
    )
    with ThreadPoolExecutor(2) as pool:
        uploaded = pool.submit(upload)
        assert begun.wait(30)
        deleted = pool.submit(files.delete, row)
        wait_for(lambda: _is_waiting(postgres))
        go_on.set()
        kept = uploaded.result(30)
        assert deleted.result(30) is True
    assert files.read_bytes(kept, 10) == b"text"


def test_uploads_at_once_do_not_pass_the_limit_of_their_key(
    store: PostgresStore, tmp_path: Path
) -> None:
    files = Attachments(Settings(data_dir=tmp_path, max_bytes_per_key=450), store)

    def upload(number: int) -> bool:
        try:
            files.store_bytes(bytes([number]) * 100, "a.bin", Sender("key"))
        except ApiError as error:
            return error.code != "quota_exceeded"
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(upload, range(16))) == 4
    with store.read() as db:
        assert stored.find_committed(db, "key").files_bytes == 400


def test_a_key_that_is_deleted_while_it_makes_a_session_key_leaves_none(
    store: PostgresStore, postgres: Postgres
) -> None:
    row, _ = store.write(lambda db: keys.create_key(db, "k", ["chat"], created_by="test"))
    key_id, end = row["key_id"], 2**53
    begun, go_on, make = _hold(
        store,
        lambda db: session_keys.create_session_key(db, key_id, "s", expires_at=end),
        lambda db: None,
    )
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(make)
        assert begun.wait(30)
        deleted = pool.submit(lambda: store.write(lambda db: keys.delete_key(db, key_id)))
        wait_for(lambda: _is_waiting(postgres))
        go_on.set()
        made.result(30)
        assert deleted.result(30)
    with store.read() as db:
        assert not ApiKey.select().where(ApiKey.parent_id == key_id).exists(db)


def test_a_key_that_is_rotated_while_it_is_revoked_leaves_no_valid_one(
    store: PostgresStore, postgres: Postgres
) -> None:
    row, _ = store.write(lambda db: keys.create_key(db, "k", ["chat"], created_by="test"))
    begun, go_on, revoke = _hold(
        store, lambda db: keys.revoke_key(db, row["key_id"]), lambda db: None
    )
    with ThreadPoolExecutor(2) as pool:
        revoked = pool.submit(revoke)
        assert begun.wait(30)
        rotated = pool.submit(lambda: store.write(lambda db: keys.rotate_key(db, row["key_id"])))
        wait_for(lambda: _is_waiting(postgres))
        go_on.set()
        revoked.result(30)
        assert rotated.result(30) is None
    with store.read() as db:
        assert [one["is_revoked"] for one in keys.list_keys(db)] == [True]


def test_of_servers_that_start_together_one_makes_the_first_key(store: PostgresStore) -> None:
    def make(_: int) -> bool:
        made = store.write(keys.create_first_key)
        return made is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(make, range(8))) == 1


def test_sessions_made_and_removed_at_once_are_counted_right(store: PostgresStore) -> None:
    def churn(number: int) -> None:
        for turn in range(6):
            name = f"s{number}-{turn}"
            made = store.write(lambda db, name=name: sessions.create_session(db, name, "alice"))  # type: ignore[misc]
            if turn % 2:
                store.write(lambda db, made=made: removal.remove_session(db, made))  # type: ignore[misc]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(churn, range(8)))
    with store.read() as db:
        page, total = sessions.list_sessions(db, "alice", page=1, page_size=100)
    assert len(page) == total == 24


def test_a_job_that_counts_for_several_keys_counts_in_one_order(
    monkeypatch: pytest.MonkeyPatch, store: PostgresStore
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(key_usage, "_add", lambda db, key_id, *_, **__: counted.append(key_id))
    ids = [f"key{number}" for number in range(20)]
    store.write(lambda db: key_usage.add_requests(db, {key_id: [1, 0] for key_id in reversed(ids)}))
    key_usage.add_turn(cast(Any, None), frozenset(ids), None, turns=1, counted=(0, 0))
    assert counted == sorted(ids) * 2
