"""The secrets of keys: creating them, and looking up their key on every request."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import peewee

from ..runtime.clock import now_us
from .models.keys import ApiKey, ApiKeyScope
from .prepared import JoinText, Prepared, equals


@dataclass(slots=True)
class KeyRow:
    """The columns of a key that authentication needs."""

    key_id: str
    key_prefix: str
    scopes: frozenset[str]
    last_used_at: int | None
    rules: str | None = None
    parent_id: str | None = None
    parent_rules: str | None = None


_PREFIX = "abk_"


def generate_secret() -> str:
    """Return a new key: ``abk_`` and 256 random bits in URL-safe base64."""
    return _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def is_key(secret: str) -> bool:
    """Return whether this has the form of a key, valid or not."""
    return secret.startswith(_PREFIX)


def hash_secret(secret: str) -> str:
    """Return the hash that is stored, in hexadecimal.

    One round is enough: a secret has 256 random bits, so a slow hash would not
    add security.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _select_valid() -> Any:
    key, parent = ApiKey.alias(), ApiKey.alias()
    rules = parent.select(parent.rules).where(parent.key_id == key.parent_id)
    # An earlier secret has no scopes of its own; use its parent's.
    of = peewee.Case(None, [(key.replaced == 1, key.parent_id)], key.key_id)
    scopes = ApiKeyScope.select(JoinText(ApiKeyScope.scope)).where(ApiKeyScope.key_id == of)
    return key.select(
        key.key_id, key.key_prefix, key.last_used_at, key.expires_at,
        key.rules, key.parent_id, rules, scopes, key.replaced,
    ).where(equals(key.digest) & key.revoked_at.is_null())  # fmt: skip


#: The query of every authenticated request.
FIND_VALID = Prepared(_select_valid())


def find_valid_key(db: peewee.Database, secret: str) -> KeyRow | None:
    """Return the key of a secret, or None if it is unknown, revoked or expired."""
    row = FIND_VALID.execute(db, digest=hash_secret(secret)).fetchone()
    if row is None:
        return None
    key_id, prefix, last_used_at, expires_at, rules, parent_id, parent_rules, scopes, *old = row
    if expires_at is not None and expires_at <= now_us():
        return None
    if old[0]:  # an earlier secret of a rotated key; use that key's id and rules
        key_id, rules, parent_id, parent_rules = parent_id, parent_rules, None, None
    return KeyRow(
        key_id, prefix, _parse_scopes(scopes or ""), last_used_at, rules, parent_id, parent_rules
    )


def name_secret(key_id: str, key_prefix: str) -> str:
    """Return the name of a key's secret that :func:`list_valid` uses."""
    return f"{key_id} {key_prefix}"


def list_valid(db: peewee.Database, secrets: Collection[str]) -> set[str]:
    """Return the secrets that are valid now, named as by :func:`name_secret`.

    A session key is valid only while its parent is.
    """
    key_ids = [one.partition(" ")[0] for one in secrets]
    key, maker = ApiKey.alias(), ApiKey.alias()
    now = now_us()

    def holds(one: Any) -> Any:
        return one.revoked_at.is_null() & (one.expires_at.is_null() | (one.expires_at > now))

    makers = maker.select(maker.key_id).where(holds(maker))
    known_as = peewee.Case(None, [(key.replaced == 1, key.parent_id)], key.key_id)
    query = key.select(known_as, key.key_prefix).where(holds(key))
    query = query.where(
        key.key_id.in_(key_ids) | ((key.replaced == 1) & key.parent_id.in_(key_ids))
    )
    query = query.where(key.parent_id.is_null() | key.parent_id.in_(makers))
    return {name_secret(*row) for row in query.tuples().execute(db)} & set(secrets)


@lru_cache(maxsize=64)
def _parse_scopes(text: str) -> frozenset[str]:
    return frozenset(text.split())
