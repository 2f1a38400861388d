"""The owners, their logins, and counters of failed logins."""

from __future__ import annotations

from collections.abc import Collection

import peewee

from ..runtime.clock import now_us
from .keys import end_keys_of_login
from .locks import lock_name
from .models.owner import LoginFailure, Owner, OwnerSession
from .prepared import Prepared, equals, param

_FIND_SESSION = Prepared(
    OwnerSession.select(OwnerSession.name).where(
        equals(OwnerSession.session_key) & (OwnerSession.expires_at > param("now"))
    )
)


def has_owner(db: peewee.Database) -> bool:
    return bool(Owner.select().exists(db))


def create_owner(db: peewee.Database, name: str, password_hash: str) -> bool:
    """Create the first owner. False if an owner exists already."""
    lock_name(db, "owner", "first")
    if has_owner(db):
        return False
    now = now_us()
    Owner.insert(name=name, password_hash=password_hash, created_at=now, updated_at=now).execute(db)
    return True


def set_password(db: peewee.Database, name: str, password_hash: str) -> None:
    """Change an owner's password, end their logins, and reset the failure counters."""
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
    found: str | None = Owner.select(Owner.password_hash).where(Owner.name == name).scalar(db)
    return found


def begin_session(
    db: peewee.Database, session_key: str, name: str, address: str, length_us: int
) -> None:
    """Store a login, and delete expired logins."""
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
    """Return the owner's name of a login, or None if it has ended."""
    row = _FIND_SESSION.execute(db, session_key=session_key, now=now_us()).fetchone()
    return None if row is None else str(row[0])


#: Beginning of a login's name among the secrets of keys.
_LOGIN = "login "


def name_login(session_key: str) -> str:
    """Return the name of a login that :func:`list_valid` uses."""
    return f"{_LOGIN}{session_key}"


def list_valid(db: peewee.Database, names: Collection[str]) -> set[str]:
    """Return the names of logins that are valid now; others are names of keys' secrets."""
    logins = {one for one in names if one.startswith(_LOGIN)}
    return {one for one in logins if find_session_name(db, one.removeprefix(_LOGIN))}


def find_session_end(db: peewee.Database, session_key: str) -> int:
    """Return the expiry of a login, in microseconds, or 0 if it has ended."""
    query = OwnerSession.select(OwnerSession.expires_at)
    return int(query.where(OwnerSession.session_key == session_key).scalar(db) or 0)


def end_session(db: peewee.Database, session_key: str) -> bool:
    """End a login and its console keys. Return whether it existed."""
    end_keys_of_login(db, [session_key])
    return bool(OwnerSession.delete().where(OwnerSession.session_key == session_key).execute(db))


def count_attempt(db: peewee.Database, subject: str, window_us: int) -> tuple[int, int]:
    """Count a login attempt before its password is checked.

    :param subject: The address, the browser or the name.
    :returns: The number of attempts in this window, and the end of the window.
    """
    now = now_us()
    since = LoginFailure.since
    # A count that begins in the future was made before the clock was set back.
    LoginFailure.delete().where((since <= now - window_us) | (since > now)).execute(db)
    count = LoginFailure.insert(subject=subject, failures=1, since=now).on_conflict(
        conflict_target=[LoginFailure.subject],
        update={LoginFailure.failures: LoginFailure.failures + 1},
    )
    ((failures, since),) = (
        count.returning(LoginFailure.failures, LoginFailure.since).tuples().execute(db)
    )
    return failures, since + window_us


def forget_failures(db: peewee.Database, subject: str) -> None:
    """Reset a failure counter after a successful login."""
    LoginFailure.delete().where(LoginFailure.subject == subject).execute(db)
