"""The API keys and their scopes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import peewee

from ..runtime.clock import now_us, to_iso, to_iso_or_none
from .key_secrets import generate_secret, hash_secret
from .legacy_keys import placeholder
from .locks import for_update, lock_name
from .models.keys import ApiKey, ApiKeyScope, KeyUse, LegacyKey
from .prepared import Prepared, equals, param
from .run_stops import stop_of_key

MAX_NAME_CHARS = 200

#: The four scopes of the published API.
PUBLIC_SCOPES = ("chat", "config", "file", "im")

#: Allows a key to act as an administrator's username; never granted by default.
ADMIN_SCOPE = "chat:admin"

#: All scopes of a key. The scopes after the first five belong to newer versions of
#: AstrBot; here they allow reading lists.
ALL_SCOPES = (
    *PUBLIC_SCOPES, ADMIN_SCOPE, "bot", "provider", "persona", "data", "plugin", "mcp", "skill",
)  # fmt: skip

#: Scopes that another one includes. Source: answers of AstrBot 4.29.3 to keys with one scope.
INCLUDED_IN = {"provider": "config"}

DAY_US = 24 * 60 * 60 * 1_000_000

_PARENT = Prepared(ApiKey.select(ApiKey.parent_id).where(equals(ApiKey.key_id)))

_NOTE_FIRST_USE = Prepared(
    ApiKey.update(last_used_at=param("now"))
    .where(equals(ApiKey.key_id) & ApiKey.last_used_at.is_null())
    .returning(ApiKey.name, ApiKey.key_prefix)
)

_NOTE_USE = Prepared(ApiKey.update(last_used_at=param("now")).where(equals(ApiKey.key_id)))


def create_key(
    db: peewee.Database,
    name: str,
    scopes: Sequence[str],
    *,
    created_by: str,
    expires_in_days: int | None = None,
    expires_at: int | None = None,
    rules: str | None = None,
    parent_id: str | None = None,
    owner_session: str | None = None,
) -> tuple[dict[str, Any], str]:
    """Create a key.

    :param expires_at: Expiry in microseconds, instead of ``expires_in_days``.
    :param rules: Its guard rails as JSON; see :mod:`astrbot_api.keys.rules`.
    :param owner_session: The owner's login with which it ends.
    :returns: The key as :func:`describe_key` returns it, and the secret, which
        is not stored.
    """
    secret = generate_secret()
    now = now_us()
    key_id = str(uuid.uuid4())
    if expires_in_days is not None:
        expires_at = now + expires_in_days * DAY_US
    ApiKey.insert(
        key_id=key_id,
        name=name,
        key_prefix=secret[:12],
        digest=hash_secret(secret),
        created_by=created_by,
        created_at=now,
        updated_at=now,
        expires_at=expires_at,
        rules=rules,
        parent_id=parent_id,
        owner_session=owner_session,
    ).execute(db)
    rows = [{"key_id": key_id, "scope": scope} for scope in dict.fromkeys(scopes)]
    ApiKeyScope.insert_many(rows).execute(db)
    return get_key(db, key_id), secret


def rotate_key(
    db: peewee.Database, key_id: str, *, grace_s: int = 0
) -> tuple[dict[str, Any], str] | None:
    """Give a key a new secret. Its id and its usage stay the same.

    The key's session keys end together with the old secret.

    :param grace_s: Seconds for which the old secret stays valid.
    :returns: The key and its new secret, or None if the key is unknown, revoked or a
        session key.
    """
    # Lock the row: a concurrent revocation would otherwise leave the new secret valid.
    old = for_update(db, ApiKey.select().where(ApiKey.key_id == key_id)).first(db)
    if old is None or old.revoked_at is not None or old.parent_id is not None:
        return None
    secret, now = generate_secret(), now_us()
    ApiKey.update(
        digest=hash_secret(secret), key_prefix=secret[:12], updated_at=now, last_used_at=None
    ).where(ApiKey.key_id == key_id).execute(db)
    if grace_s > 0:
        until = now + grace_s * 1_000_000
        (
            ApiKey.update(expires_at=until, updated_at=now)
            .where((ApiKey.parent_id == key_id) & (ApiKey.expires_at > until))
            .execute(db)
        )
        _keep_old_secret(db, old, until)
    else:
        end_session_keys(db, key_id)
    LegacyKey.delete().where(LegacyKey.key_id == key_id).execute(db)
    return get_key(db, key_id), secret


def _keep_old_secret(db: peewee.Database, old: ApiKey, until: int) -> None:
    """Keep a key's current secret valid until a time, in microseconds."""
    kept_id, digest = str(uuid.uuid4()), old.digest
    if digest == placeholder(old.key_id):  # an imported key that is still unused
        digest = placeholder(kept_id)
        LegacyKey.update(key_id=kept_id).where(LegacyKey.key_id == old.key_id).execute(db)
    ApiKey.insert(
        key_id=kept_id, name=old.name, key_prefix=old.key_prefix, digest=digest,
        created_by=old.created_by, created_at=old.created_at, updated_at=now_us(),
        last_used_at=old.last_used_at, expires_at=min(old.expires_at or until, until),
        parent_id=old.key_id, replaced=1,
    ).execute(db)  # fmt: skip


def revoke_key(db: peewee.Database, key_id: str) -> dict[str, Any] | None:
    """Revoke a key and stop its turns. Return it as before, or None if it does not exist."""
    _lock_with_session_keys(db, key_id)
    key, now = find_key(db, key_id), now_us()
    end_session_keys(db, key_id)
    ApiKey.update(revoked_at=peewee.fn.COALESCE(ApiKey.revoked_at, now), updated_at=now).where(
        ApiKey.key_id == key_id
    ).execute(db)
    stop_of_key(db, key_id)
    return key


def _lock_with_session_keys(db: peewee.Database, key_id: str) -> None:
    """Lock a key and its session keys, so that all turns and session keys made with it are seen.

    The key is locked first, as for a new session key.
    """
    for which in (ApiKey.key_id, ApiKey.parent_id):
        query = ApiKey.select(ApiKey.key_id).where(which == key_id).order_by(ApiKey.key_id)
        for_update(db, query).execute(db)


def end_session_keys(db: peewee.Database, key_id: str, *, old_secrets: bool = True) -> None:
    """Revoke the session keys of a key.

    :param old_secrets: Whether to revoke its earlier secrets too.
    """
    now = now_us()
    ended = (ApiKey.parent_id == key_id) & ApiKey.revoked_at.is_null()
    if not old_secrets:
        ended &= ApiKey.replaced == 0
    ApiKey.update(revoked_at=now, updated_at=now).where(ended).execute(db)


def update_key(db: peewee.Database, key_id: str, changes: Mapping[str, Any]) -> bool:
    """Change a key. Its session keys end if its permissions change.

    :param changes: Any of ``name``, ``scopes``, ``rules`` (JSON or None) and
        ``expires_at`` (microseconds or None).
    """
    old = ApiKey.select(ApiKey.rules, ApiKey.expires_at).where(ApiKey.key_id == key_id)
    before = old.dicts().first(db) or {}
    columns = {name: value for name, value in changes.items() if name != "scopes"}
    query = ApiKey.update(updated_at=now_us(), **columns).where(ApiKey.key_id == key_id)
    if not query.execute(db):
        return False
    changed = any(columns.get(name, value) != value for name, value in before.items())
    if "scopes" in changes:
        changed = changed or set(get_key(db, key_id)["scopes"]) != set(changes["scopes"])
        ApiKeyScope.delete().where(ApiKeyScope.key_id == key_id).execute(db)
        rows = [{"key_id": key_id, "scope": one} for one in dict.fromkeys(changes["scopes"])]
        ApiKeyScope.insert_many(rows).execute(db)
    if changed:
        end_session_keys(db, key_id, old_secrets=False)
    if columns.get("expires_at") is not None:
        end = columns["expires_at"]
        old_secret = (ApiKey.parent_id == key_id) & (ApiKey.replaced == 1)
        later = old_secret & (ApiKey.expires_at > end)
        ApiKey.update(expires_at=end).where(later).execute(db)
    return True


def delete_key(db: peewee.Database, key_id: str) -> dict[str, Any] | None:
    """Delete a key with its scopes and session keys, and stop its turns.

    :returns: The key, or None if it did not exist.
    """
    _lock_with_session_keys(db, key_id)
    key = find_key(db, key_id)
    stop_of_key(db, key_id)
    children = ApiKey.select(ApiKey.key_id).where(ApiKey.parent_id == key_id)
    ApiKeyScope.delete().where(ApiKeyScope.key_id.in_(children)).execute(db)
    ApiKey.delete().where(ApiKey.parent_id == key_id).execute(db)
    for model in (KeyUse, LegacyKey, ApiKeyScope):
        model.delete().where(model.key_id == key_id).execute(db)
    ApiKey.delete().where(ApiKey.key_id == key_id).execute(db)
    return key


def list_keys(db: peewee.Database) -> list[dict[str, Any]]:
    """Return every key, newest first, as :func:`describe_key` returns it, without session keys."""
    own = ApiKey.parent_id.is_null()
    scopes: dict[str, list[str]] = {}
    listed = ApiKey.select(ApiKey.key_id).where(own)
    rows = ApiKeyScope.select().where(ApiKeyScope.key_id.in_(listed)).order_by(ApiKeyScope.id)
    for row in rows.execute(db):
        scopes.setdefault(row.key_id, []).append(row.scope)
    keys = ApiKey.select().where(own).order_by(ApiKey.created_at.desc(), ApiKey.key_id)
    return [describe_key(key, scopes.get(key.key_id, [])) for key in keys.execute(db)]


def find_key(db: peewee.Database, key_id: str) -> dict[str, Any] | None:
    """Return one key as :func:`describe_key` returns it, or None."""
    known = ApiKey.select(ApiKey.key_id).where(ApiKey.key_id == key_id).exists(db)
    return get_key(db, key_id) if known else None


def get_key(db: peewee.Database, key_id: str) -> dict[str, Any]:
    """Return one key as :func:`describe_key` returns it; it must exist."""
    key = ApiKey.select().where(ApiKey.key_id == key_id).get(db)
    rows = ApiKeyScope.select().where(ApiKeyScope.key_id == key_id).order_by(ApiKeyScope.id)
    return describe_key(key, [row.scope for row in rows.execute(db)])


def create_first_key(db: peewee.Database) -> tuple[dict[str, Any], str] | None:
    """Create the key of a new server, with the public scopes.

    :returns: As :func:`create_key`, or None if a key exists already.
    """
    lock_name(db, "api_key", "first")  # only one of two hosts that start together creates it
    if ApiKey.select().exists(db):
        return None
    return create_key(db, "first key", PUBLIC_SCOPES, created_by="serve")


def find_parent(db: peewee.Database, key_id: str) -> str | None:
    """Return the parent of a session key, or None for any other key."""
    row = _PARENT.execute(db, key_id=key_id).fetchone()
    return None if row is None else row[0]


def find_root(db: peewee.Database, key_id: str | None) -> str | None:
    """Return the key whose quota a key uses: a session key's parent, or the key itself."""
    return find_parent(db, key_id) or key_id if key_id else None


def end_keys_of_login(db: peewee.Database, owner_sessions: Sequence[str]) -> None:
    """Revoke the console keys of logins that have ended."""
    now = now_us()
    (
        ApiKey.update(revoked_at=now, updated_at=now)
        .where(ApiKey.owner_session.in_(list(owner_sessions)) & ApiKey.revoked_at.is_null())
        .execute(db)
    )


def describe_key(key: ApiKey, scopes: Sequence[str]) -> dict[str, Any]:
    """Return a key without its secret, in the form of the contract.

    ``rules`` is present only if the key has guard rails, ``parent_id`` only
    for a session key.
    """
    described = {
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
    if key.rules is not None:
        described["rules"] = orjson.loads(key.rules)
    if key.parent_id is not None:
        described["parent_id"] = key.parent_id
    return described


def note_use(db: peewee.Database, used: Mapping[str, int]) -> dict[str, str]:
    """Store when keys were last used. The use of a session key counts for its parent too.

    :param used: Key id -> time in microseconds.
    :returns: The keys used for the first time, without session keys: id -> name and prefix.
    """
    first = {}
    for key_id, time_us in sorted(used.items()):
        root_id = find_parent(db, key_id) or key_id
        fresh = _NOTE_FIRST_USE.execute(db, now=time_us, key_id=root_id).fetchone()
        if fresh is not None:
            first[root_id] = f"{fresh[0]} ({fresh[1]}…)"
        for used_id in {key_id, root_id}:
            _NOTE_USE.execute(db, now=time_us, key_id=used_id)
    return first
