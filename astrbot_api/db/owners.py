"""Who may log in, their logins, and how often a login failed."""

from __future__ import annotations

import peewee

from ..runtime.clock import now_us
from .keys import end_keys_of_login
from .locks import lock_name
from .models import LoginFailure, Owner, OwnerSession
from .prepared import Prepared, equals, param

_FIND_SESSION = Prepared(
    OwnerSession.select(OwnerSession.name).where(
        equals(OwnerSession.session_key) & (OwnerSession.expires_at > param("now"))
    )
)


def has_owner(db: peewee.Database) -> bool:
    """Return whether anybody can log in."""
    return bool(Owner.select().exists(db))


def create_owner(db: peewee.Database, name: str, password_hash: str) -> bool:
    """Make the first owner. False: there is one already."""
    lock_name(db, "owner", "first")
    if has_owner(db):
        return False
    now = now_us()
    Owner.insert(name=name, password_hash=password_hash, created_at=now, updated_at=now).execute(db)
    return True


def set_password(db: peewee.Database, name: str, password_hash: str) -> None:
    """Give an owner another password; their logins end, failures are forgotten."""
    now = now_us()
    Owner.insert(
        name=name, password_hash=password_hash, created_at=now, updated_at=now
    ).on_conflict(
        conflict_target=[Owner.name], preserve=[Owner.password_hash, Owner.updated_at]
    ).execute(db)
    ended = OwnerSession.delete().where(OwnerSession.name == name)
    ended = ended.returning(OwnerSession.session_key)
    end_keys_of_login(db, [key for (key,) in ended.tuples().execute(db)])
    LoginFailure.delete().execute(db)


def find_password_hash(db: peewee.Database, name: str) -> str | None:
    """Return the hash of an owner's password."""
    found: str | None = Owner.select(Owner.password_hash).where(Owner.name == name).scalar(db)
    return found


def begin_session(
    db: peewee.Database, session_key: str, name: str, address: str, length_us: int
) -> None:
    """Note a login, and forget those that have ended."""
    now = now_us()
    OwnerSession.delete().where(OwnerSession.expires_at <= now).execute(db)
    OwnerSession.insert(
        session_key=session_key,
        name=name,
        address=address,
        created_at=now,
        expires_at=now + length_us,
    ).execute(db)


def find_session_name(db: peewee.Database, session_key: str) -> str | None:
    """Return whose login this is, unless it has ended."""
    row = _FIND_SESSION.execute(db, session_key=session_key, now=now_us()).fetchone()
    return None if row is None else str(row[0])


def find_session_end(db: peewee.Database, session_key: str) -> int:
    """Return when a login ends, in microseconds; 0: it has ended."""
    query = OwnerSession.select(OwnerSession.expires_at)
    return int(query.where(OwnerSession.session_key == session_key).scalar(db) or 0)


def end_session(db: peewee.Database, session_key: str) -> bool:
    """End a login, and the keys of its console. Returns whether there was one."""
    end_keys_of_login(db, [session_key])
    return bool(OwnerSession.delete().where(OwnerSession.session_key == session_key).execute(db))


def count_attempt(db: peewee.Database, subject: str, window_us: int) -> tuple[int, int]:
    """Count a login that is about to be tried, before the password is looked at.

    :param subject: Address or name.
    :returns: How many of this window it makes, and until when the window lasts.
    """
    now = now_us()
    LoginFailure.delete().where(LoginFailure.since <= now - window_us).execute(db)
    count = LoginFailure.insert(subject=subject, failures=1, since=now).on_conflict(
        conflict_target=[LoginFailure.subject],
        update={LoginFailure.failures: LoginFailure.failures + 1},
    )
    ((failures, since),) = (
        count.returning(LoginFailure.failures, LoginFailure.since).tuples().execute(db)
    )
    return failures, since + window_us


def forget_failures(db: peewee.Database, subject: str) -> None:
    """Start from none again, after a login that was right."""
    LoginFailure.delete().where(LoginFailure.subject == subject).execute(db)
