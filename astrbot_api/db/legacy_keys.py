"""Keys that were imported with another server's hash, until their first use.

Such a key is an ordinary row of ``api_key`` with a placeholder as its digest.
Its real hash is stored here. The first request with the key replaces the
placeholder by our own hash (see :mod:`astrbot_api.keys.legacy`).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import peewee

from ..runtime.clock import now_us
from .key_secrets import hash_secret
from .locks import lock_name
from .models import keys as tables
from .models.keys import ApiKey
from .prepared import Prepared, param

#: Maximum number of keys with one prefix that are checked. A prefix has 48 random
#: bits, so in practice there is only one.
_MAX_CANDIDATES = 2


@dataclass(frozen=True, slots=True)
class LegacyKey:
    """A PBKDF2 hash. ``salts`` are possible decodings of the stored salt; one is right."""

    key_id: str
    key_prefix: str
    algorithm: str
    rounds: int
    salts: tuple[bytes, ...]
    digest: bytes

    def matches(self, secret: str) -> bool:
        """Compute and compare the hash of a secret, which takes tens of milliseconds."""
        data = secret.encode("utf-8", "surrogatepass")
        return any(
            hmac.compare_digest(
                self.digest, hashlib.pbkdf2_hmac(self.algorithm, data, salt, self.rounds)
            )
            for salt in self.salts
        )


def _select_valid() -> Any:
    row = tables.LegacyKey
    return (
        row.select(row.key_id, row.key_prefix, row.algorithm, row.rounds, row.salts, row.digest)
        .join(ApiKey, on=(ApiKey.key_id == row.key_id))
        .where((row.key_prefix == param("prefix")) & ApiKey.revoked_at.is_null())
        .where(ApiKey.expires_at.is_null() | (ApiKey.expires_at > param("now")))
        .order_by(row.key_id)
        .limit(_MAX_CANDIDATES)
    )


_FIND = Prepared(_select_valid())


def placeholder(key_id: str) -> str:
    """Return a digest that matches no secret, because it is not hexadecimal."""
    return f"legacy:{key_id}"


def find_legacy_keys(db: peewee.Database, prefix: str) -> list[LegacyKey]:
    """Return the valid, still unused imported keys with this prefix."""
    rows = _FIND.execute(db, prefix=prefix, now=now_us()).fetchall()
    return [
        LegacyKey(key_id, key_prefix, algorithm, rounds, _split(salts), bytes.fromhex(digest))
        for key_id, key_prefix, algorithm, rounds, salts, digest in rows
    ]


def add_legacy_key(db: peewee.Database, key: LegacyKey) -> None:
    """Store the original hash of an imported key."""
    salts = " ".join(f"x{salt.hex()}" for salt in key.salts)
    tables.LegacyKey.insert(
        key_id=key.key_id, key_prefix=key.key_prefix, algorithm=key.algorithm,
        rounds=key.rounds, salts=salts, digest=key.digest.hex(),
    ).execute(db)  # fmt: skip


def replace_hash(db: peewee.Database, key_id: str, secret: str) -> None:
    """Store our own hash of a key. Repeating it has no effect.

    Two workers that check the same key at once write the same hash. A revoked or
    deleted key is not changed.
    """
    digest = hash_secret(secret)
    lock_name(db, "key_digest", digest)
    # Hashes are unique: if another key has this one already, that key is used.
    if not ApiKey.select(ApiKey.key_id).where(ApiKey.digest == digest).exists(db):
        (
            ApiKey.update(digest=digest, updated_at=now_us())
            .where((ApiKey.key_id == key_id) & (ApiKey.digest == placeholder(key_id)))
            .execute(db)
        )
    tables.LegacyKey.delete().where(tables.LegacyKey.key_id == key_id).execute(db)


def _split(salts: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(one[1:]) for one in salts.split())
