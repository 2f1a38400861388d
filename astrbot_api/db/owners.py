"""Who may log in, their logins, and how often a login failed."""

from __future__ import annotations

import peewee

from ..runtime.clock import now_us
from .locks import lock_name

_CREATE = """
INSERT INTO owner (name, password_hash, created_at, updated_at) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO NOTHING
"""

_SET_PASSWORD = """
INSERT INTO owner (name, password_hash, created_at, updated_at) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    password_hash = excluded.password_hash, updated_at = excluded.updated_at
"""

_BEGIN = """
INSERT INTO owner_session (session_key, name, address, created_at, expires_at)
VALUES (?, ?, ?, ?, ?)
"""

_FIND_SESSION = "SELECT name FROM owner_session WHERE session_key = ? AND expires_at > ?"

_FAIL = """
INSERT INTO login_failure (subject, failures, since) VALUES (?, 1, ?)
ON CONFLICT (subject) DO UPDATE SET failures = login_failure.failures + 1
RETURNING failures, since
"""


def has_owner(db: peewee.Database) -> bool:
    """Return whether anybody can log in."""
    return db.execute_sql("SELECT 1 FROM owner LIMIT 1").fetchone() is not None


def create_owner(db: peewee.Database, name: str, password_hash: str) -> bool:
    """Make the first owner. False: there is one already."""
    lock_name(db, "owner", "first")
    if has_owner(db):
        return False
    now = now_us()
    return bool(db.execute_sql(_CREATE, (name, password_hash, now, now)).rowcount)


def set_password(db: peewee.Database, name: str, password_hash: str) -> None:
    """Give an owner another password; their logins end, failures are forgotten."""
    now = now_us()
    db.execute_sql(_SET_PASSWORD, (name, password_hash, now, now))
    db.execute_sql("DELETE FROM owner_session WHERE name = ?", (name,))
    db.execute_sql("DELETE FROM login_failure")


def find_password_hash(db: peewee.Database, name: str) -> str | None:
    """Return the hash of an owner's password."""
    row = db.execute_sql("SELECT password_hash FROM owner WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def begin_session(
    db: peewee.Database, session_key: str, name: str, address: str, length_us: int
) -> None:
    """Note a login, and forget those that have ended."""
    now = now_us()
    db.execute_sql("DELETE FROM owner_session WHERE expires_at <= ?", (now,))
    db.execute_sql(_BEGIN, (session_key, name, address, now, now + length_us))


def find_session_name(db: peewee.Database, session_key: str) -> str | None:
    """Return whose login this is, unless it has ended."""
    row = db.execute_sql(_FIND_SESSION, (session_key, now_us())).fetchone()
    return None if row is None else str(row[0])


def end_session(db: peewee.Database, session_key: str) -> bool:
    """End a login. Returns whether there was one."""
    sql = "DELETE FROM owner_session WHERE session_key = ?"
    return bool(db.execute_sql(sql, (session_key,)).rowcount)


def count_attempt(db: peewee.Database, subject: str, window_us: int) -> tuple[int, int]:
    """Count a login that is about to be tried, before the password is looked at.

    :param subject: Address or name.
    :returns: How many of this window it makes, and until when the window lasts.
    """
    now = now_us()
    db.execute_sql("DELETE FROM login_failure WHERE since <= ?", (now - window_us,))
    failures, since = db.execute_sql(_FAIL, (subject, now)).fetchone()
    return int(failures), int(since) + window_us


def forget_failures(db: peewee.Database, subject: str) -> None:
    """Start from none again, after a login that was right."""
    db.execute_sql("DELETE FROM login_failure WHERE subject = ?", (subject,))
