"""A PostgreSQL server for the tests, in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .waiting import wait_for

#: Fast: committed data survives a crash of the server, but not of the machine.
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "32MB",
    "deadlock_timeout": "50ms",
}

#: Deletes all rows and restarts the sequences, without checks of foreign keys. Most tables are
#: empty, and TRUNCATE takes three times as long because it replaces the files of each table.
_EMPTY = """
DO $$ DECLARE name text; used bool; BEGIN
SET LOCAL session_replication_role = replica;
FOR name IN SELECT format('%I', tablename) FROM pg_tables
    WHERE schemaname = 'public' AND tablename <> 'schema_migration'
LOOP
    EXECUTE 'SELECT EXISTS (SELECT 1 FROM ' || name || ')' INTO used;
    IF used THEN EXECUTE 'DELETE FROM ' || name; END IF;
END LOOP;
FOR name IN SELECT format('%I', sequencename) FROM pg_sequences
    WHERE schemaname = 'public' AND last_value IS NOT NULL
LOOP
    EXECUTE 'ALTER SEQUENCE ' || name || ' RESTART';
END LOOP;
END $$
"""

#: Recovery after a crash is slow on a busy machine.
_START_LIMIT_S = 120.0


def require_tool(path: str | None, name: str) -> str:
    """Return the path of a program. If it is missing, skip the test, or fail in CI."""
    if path is not None:
        return path
    message = f"there is no {name} on this machine (see .ci/install-tools)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def find_postgres() -> str | None:
    """Return the folder of PostgreSQL's programs, which is not in PATH on Debian."""
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return str(Path(on_path).parent)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return str(found[-1].parent) if found else None


class Postgres:
    """A server on a Unix socket. Root runs it as another user, as PostgreSQL requires."""

    def __init__(self, programs: str) -> None:
        self._programs = Path(programs)
        # Not below pytest's folder, which other users cannot enter.
        self.folder = Path(tempfile.mkdtemp(prefix="astrbot-pg-", dir="/tmp"))
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            user = _find_user()
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}")
            # The server must not survive a killed test run.
            self._as_user = ["setpriv", *ids, "--clear-groups", "--pdeathsig=INT"]
        self._process: subprocess.Popen[bytes] | None = None
        self._template = ""
        #: Databases of finished tests. Emptying one is faster than creating one.
        self.reusable: list[str] = []
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "test", "-E", "UTF8",
                  "--locale=C.UTF-8", "--no-sync", "--no-instructions")  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = [f"-c{name}={value}" for name, value in _OPTIONS.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user, str(self._programs / "postgres"), "-D", "data",
                 "-k", str(self.folder), *options],
                cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_for(self._answers, _START_LIMIT_S)
        except AssertionError:
            pytest.fail("PostgreSQL did not start:\n" + (self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        """Stop the server without waiting for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server at any point."""
        # Avoids a replay of the WAL of hundreds of test databases.
        self.run_sql("CHECKPOINT")
        self.end(at_once=True)

    def end(self, *, at_once: bool) -> None:
        """Stop the server. With ``at_once``, stop it like a crash."""
        self._end(signal.SIGQUIT if at_once else signal.SIGINT)

    def close(self) -> None:
        """Kill the server and remove its folder."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self, *, migrated: bool = True) -> str:
        """Create a database for one test and return its URL."""
        from astrbot_api.db.postgres_store import PostgresStore

        if migrated and not self._template:
            url = self.create_database(migrated=False)
            PostgresStore(url).upgrade()
            self._template = url.partition("?")[0].rpartition("/")[2]
        name = f"test_{uuid.uuid4().hex[:12]}"
        template = self._template if migrated else "template0"
        self.run_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def empty(self, url: str) -> None:
        """Delete all rows of a database that no application has open."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            for left in range(5, -1, -1):
                try:
                    connection.execute(_EMPTY)
                    return
                except psycopg.errors.DeadlockDetected:  # with an application's last statement
                    if not left:
                        raise

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://test@/{database}?host={self.folder}"

    def run_sql(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the administrator."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        import psycopg

        try:
            self.run_sql("SELECT 1")
        except psycopg.OperationalError:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_user, str(self._programs / program), *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def _find_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the tests of this process."""
    pytest.importorskip("psycopg_pool")
    server = Postgres(require_tool(find_postgres(), "PostgreSQL"))
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of a fresh database with all tables."""
    return postgres.create_database()
