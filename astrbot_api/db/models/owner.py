"""The tables of the owner: logins and the log of actions."""

from __future__ import annotations

from peewee import TextField

from .fields import RowNumber, Table, Whole, add_index


class Owner(Table):
    """The server's owner; ``password_hash`` is an argon2 string."""

    name = TextField(primary_key=True)
    password_hash = TextField()
    created_at = Whole()
    updated_at = Whole()


class OwnerSession(Table):
    """A valid login. The token is signed and contains ``session_key``."""

    session_key = TextField(primary_key=True)
    name = TextField()
    address = TextField()
    created_at = Whole()
    expires_at = Whole()


add_index("owner_session_expires", OwnerSession.expires_at)


class LoginFailure(Table):
    """Number of failed logins of an address, a browser or a name since a time."""

    subject = TextField(primary_key=True)
    failures = Whole()
    since = Whole()


add_index("login_failure_since", LoginFailure.since)


class Audit(Table):
    """An action on keys, logins or data, with its actor and address."""

    id = RowNumber()
    at = Whole()
    action = TextField()
    actor = TextField()
    address = TextField()
    subject = TextField()
    detail = TextField()


add_index("audit_at", Audit.at)
