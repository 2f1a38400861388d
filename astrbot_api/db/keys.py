"""The API keys: who may call, and what."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import peewee

from ..clock import now_us, to_iso, to_iso_or_none
from .dialect import to_native
from .locks import for_update, lock_name
from .models import ApiKey, ApiKeyScope

#: The four scopes of the published API.
PUBLIC_SCOPES = ("chat", "config", "file", "im")

#: Every scope that a key can have. ``chat:admin`` lets it speak as one of
#: the administrators' names; it is never given by default.
ALL_SCOPES = (*PUBLIC_SCOPES, "chat:admin")

_DAY_US = 24 * 60 * 60 * 1_000_000


@dataclass(slots=True)
class KeyRow:
    """What the check of a request needs to know of its key."""

    key_id: str
    key_prefix: str
    scopes: frozenset[str]
    last_used_at: int | None


def generate_secret() -> str:
    """Return a new key: ``abk_`` and 256 random bits in URL-safe base64."""
    return "abk_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def hash_secret(secret: str) -> str:
    """Return the hash that is stored, in hexadecimal.

    One round is enough: the secret has 256 random bits, so there is nothing
    that a slow hash would protect.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


_FIND = """
SELECT key_id, key_prefix, last_used_at, expires_at,
    (SELECT group_concat(scope, ' ') FROM api_key_scope AS s WHERE s.key_id = k.key_id)
FROM api_key AS k WHERE digest = ? AND revoked_at IS NULL
"""


_LOCK = "SELECT 1 FROM api_key WHERE key_id = ?"


def find_valid_key(db: peewee.Database, secret: str) -> KeyRow | None:
    """Return the key of a secret unless it is unknown, revoked or expired."""
    # On the bare connection: peewee's own steps would double the cost of this
    # read, which every request pays.
    row = db.connection().execute(to_native(db, _FIND), (hash_secret(secret),)).fetchone()
    if row is None:
        return None
    key_id, prefix, last_used_at, expires_at, scopes = row
    if expires_at is not None and expires_at <= now_us():
        return None
    return KeyRow(key_id, prefix, _parse_scopes(scopes or ""), last_used_at)


@lru_cache(maxsize=64)
def _parse_scopes(text: str) -> frozenset[str]:
    return frozenset(text.split())


def create_key(
    db: peewee.Database,
    name: str,
    scopes: Sequence[str],
    *,
    created_by: str,
    expires_in_days: int | None = None,
) -> tuple[dict[str, Any], str]:
    """Make a key.

    :returns: The key as :func:`describe_key` has it, and the secret, which
        cannot be had again.
    """
    secret = generate_secret()
    now = now_us()
    key_id = str(uuid.uuid4())
    ApiKey.insert(
        key_id=key_id,
        name=name,
        key_prefix=secret[:12],
        digest=hash_secret(secret),
        created_by=created_by,
        created_at=now,
        updated_at=now,
        expires_at=None if expires_in_days is None else now + expires_in_days * _DAY_US,
    ).execute(db)
    rows = [{"key_id": key_id, "scope": scope} for scope in dict.fromkeys(scopes)]
    ApiKeyScope.insert_many(rows).execute(db)
    return get_key(db, key_id), secret


def rotate_key(
    db: peewee.Database, key_id: str, *, grace_s: int = 0
) -> tuple[dict[str, Any], str] | None:
    """Replace a key by a new one with the same name, scopes and expiry.

    :param grace_s: How long the old secret still works, in seconds.
    :returns: The new key and its secret; None when there is no such key, or
        when it is revoked.
    """
    # Locked, or a revocation at the same time would leave the new key valid.
    db.execute_sql(_LOCK + for_update(db), (key_id,))
    old = ApiKey.select().where(ApiKey.key_id == key_id).first(db)
    if old is None or old.revoked_at is not None:
        return None
    scopes = get_key(db, key_id)["scopes"]
    new, secret = create_key(db, old.name, scopes, created_by=old.created_by)
    now = now_us()
    if grace_s > 0:
        until = now + grace_s * 1_000_000
        ends = until if old.expires_at is None else min(until, old.expires_at)
        ended = {"expires_at": ends}
    else:
        ended = {"revoked_at": now}
    ApiKey.update(updated_at=now, **ended).where(ApiKey.key_id == key_id).execute(db)
    ApiKey.update(expires_at=old.expires_at).where(ApiKey.key_id == new["key_id"]).execute(db)
    return get_key(db, new["key_id"]), secret


def revoke_key(db: peewee.Database, key_id: str) -> bool:
    """Make a key useless from now on. Returns whether there is such a key."""
    now = now_us()
    query = ApiKey.update(
        revoked_at=peewee.fn.COALESCE(ApiKey.revoked_at, now), updated_at=now
    ).where(ApiKey.key_id == key_id)
    return bool(query.execute(db))


def delete_key(db: peewee.Database, key_id: str) -> bool:
    """Remove a key and its scopes. Returns whether there was such a key."""
    ApiKeyScope.delete().where(ApiKeyScope.key_id == key_id).execute(db)
    return bool(ApiKey.delete().where(ApiKey.key_id == key_id).execute(db))


def list_keys(db: peewee.Database) -> list[dict[str, Any]]:
    """Return every key, newest first, as :func:`describe_key` has it."""
    scopes: dict[str, list[str]] = {}
    for row in ApiKeyScope.select().order_by(ApiKeyScope.id).execute(db):
        scopes.setdefault(row.key_id, []).append(row.scope)
    keys = ApiKey.select().order_by(ApiKey.created_at.desc(), ApiKey.key_id).execute(db)
    return [describe_key(key, scopes.get(key.key_id, [])) for key in keys]


def get_key(db: peewee.Database, key_id: str) -> dict[str, Any]:
    """Return one key as :func:`describe_key` has it; it must exist."""
    key = ApiKey.select().where(ApiKey.key_id == key_id).get(db)
    rows = ApiKeyScope.select().where(ApiKeyScope.key_id == key_id).order_by(ApiKeyScope.id)
    return describe_key(key, [row.scope for row in rows.execute(db)])


def create_first_key(
    db: peewee.Database, name: str, *, created_by: str
) -> tuple[dict[str, Any], str] | None:
    """Make the key of a new server, with the public scopes.

    :returns: As :func:`create_key`; None when there is a key already.
    """
    lock_name(db, "api_key", "first")  # of two hosts that start together, one makes it
    if has_keys(db):
        return None
    return create_key(db, name, PUBLIC_SCOPES, created_by=created_by)


def has_keys(db: peewee.Database) -> bool:
    """Tell whether any key was ever made and is still there."""
    return ApiKey.select().first(db) is not None


def describe_key(key: ApiKey, scopes: Sequence[str]) -> dict[str, Any]:
    """Return a key without its secret, as the contract shows it."""
    return {
        "key_id": key.key_id,
        "name": key.name,
        "key_prefix": key.key_prefix,
        "scopes": list(scopes),
        "created_by": key.created_by,
        "created_at": to_iso(key.created_at),
        "updated_at": to_iso(key.updated_at),
        "last_used_at": to_iso_or_none(key.last_used_at),
        "expires_at": to_iso_or_none(key.expires_at),
        "revoked_at": to_iso_or_none(key.revoked_at),
        "is_revoked": key.revoked_at is not None,
        "is_expired": key.expires_at is not None and key.expires_at <= now_us(),
    }


def note_use(db: peewee.Database, used: dict[str, int]) -> None:
    """Write when keys were last used.

    :param used: Key id -> time in microseconds.
    """
    for key_id, time_us in used.items():
        ApiKey.update(last_used_at=time_us).where(ApiKey.key_id == key_id).execute(db)
