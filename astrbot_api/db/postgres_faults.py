"""Why PostgreSQL accepts no writes, for the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peewee
import psycopg

from .models import list_models
from .postgres_connection import Connection

READ_ONLY_TEXT = (
    "PostgreSQL is read-only: a standby server, or default_transaction_read_only is set. With "
    "several servers, add target_session_attrs=read-write to ASTRBOT_DATABASE_URL"
)

MIXED_TEXT = (
    "ASTRBOT_DATABASE_URL leads to a pooler in transaction mode (PgBouncer: pool_mode), which runs "
    "the statements of one session in another one. Use its session mode, or connect to PostgreSQL "
    "itself"
)

#: Seconds that a pooler may take to give a second session.
_PROBE_LIMIT_S = 5.0

OWNER_REMEDY = (
    "make the role the owner of the database and of each table: "
    "ALTER DATABASE name OWNER TO role; ALTER TABLE name OWNER TO role"
)

# Only existing tables: during an upgrade, the versions may differ by a table.
_FORBIDDEN = """
    SELECT name, current_user FROM unnest(%s::text[]) AS name
    WHERE NOT (has_table_privilege(to_regclass(name), 'SELECT')
           AND has_table_privilege(to_regclass(name), 'INSERT')
           AND has_table_privilege(to_regclass(name), 'UPDATE')
           AND has_table_privilege(to_regclass(name), 'DELETE'))"""

# Superusers keep some connections. LEAST ignores NULL, which here means: no limit of its own.
_ROOM = """
    SELECT LEAST(current_setting('max_connections')::int
                 - current_setting('superuser_reserved_connections')::int,
                 NULLIF(rolconnlimit, -1), NULLIF(datconnlimit, -1))
    FROM pg_roles, pg_database
    WHERE rolname = current_user AND datname = current_database()"""

# Raw SQL on PostgreSQL's views. A session that itself waits for a lock is not a cause.
_BLOCKERS = """
    SELECT DISTINCT b.pid, b.application_name, b.state,
           EXTRACT(EPOCH FROM now() - b.xact_start)::int
    FROM pg_stat_activity w
    CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS p(pid)
    JOIN pg_stat_activity b ON b.pid = p.pid
    WHERE w.wait_event_type = 'Lock' AND w.datname = current_database()
      AND b.wait_event_type IS DISTINCT FROM 'Lock'
    ORDER BY b.pid LIMIT 3"""


def is_read_only(db: peewee.Database) -> bool:
    """Return whether a new transaction could write nothing."""
    execute: Any = db.execute_sql
    return bool(execute("SHOW transaction_read_only").fetchone()[0] == "on")


def count_allowed_connections(db: peewee.Database) -> int:
    """Return how many connections the server, the role and the database allow."""
    execute: Any = db.execute_sql
    return int(execute(_ROOM).fetchone()[0])


def describe_forbidden(db: peewee.Database) -> str:
    """Return the tables that the role may not read or write, or an empty text."""
    execute: Any = db.execute_sql
    names = [model._meta.table_name for model in list_models(db)]
    found = execute(_FORBIDDEN, [names]).fetchall()
    if not found:
        return ""
    tables = ", ".join(name for name, _ in found)
    return f"the role {found[0][1]} may not read and write {tables}; {OWNER_REMEDY}"


def mixes_sessions(connection: Connection, params: Mapping[str, Any]) -> bool:
    """Return whether a pooler shares one session of the server between two connections.

    It could then run a prepared statement of another worker instead of ours, and never release the
    lock of a migration.

    :param connection: An idle connection in autocommit mode.
    :param params: Parameters of another connection to the same address.
    """
    try:
        if _find_session(connection) == connection.info.backend_pid:
            return False  # no pooler in between
        with Connection.connect(**params, autocommit=True) as other:
            other.limit_s = _PROBE_LIMIT_S
            # Another client may use a session of the pooler between the two queries.
            return any(_find_session(connection) == _find_session(other) for _ in range(5))
    except psycopg.Error:
        return False  # a pooler with one session per client has no other one


def _find_session(connection: Connection) -> int:
    found = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return int(found[0]) if found else 0


def describe_blockers(db: peewee.Database) -> str:
    """Return the sessions whose locks others wait for, or an empty text."""
    execute: Any = db.execute_sql
    return ", ".join(_describe_blocker(*row) for row in execute(_BLOCKERS).fetchall())


def _describe_blocker(pid: int, program: str, state: str | None, age_s: int | None) -> str:
    """Describe one PostgreSQL session for the operator; other roles' states are hidden."""
    told = [program, f"{state or 'active'} for {age_s} s" if age_s is not None else ""]
    return f"pid {pid} ({', '.join(filter(None, told)) or 'unknown'})"
