"""Keys that came with another server's hash, until their first use here.

Such a key is an ordinary row of ``api_key`` whose digest can match nothing;
its real hash stands here. The first request that brings the key has its own
hash put into the place (see :mod:`astrbot_api.keys.legacy`).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import peewee

from ..runtime.clock import now_us
from . import models
from .key_secrets import hash_secret
from .locks import lock_name
from .models import ApiKey
from .prepared import Prepared, param

#: More keys than this with one prefix are not looked at: a prefix has 48
#: random bits, so there is one.
_MAX_CANDIDATES = 2


@dataclass(frozen=True, slots=True)
class LegacyKey:
    """A PBKDF2 hash. ``salts`` are the readings of the stored salt; one of them is right."""

    key_id: str
    key_prefix: str
    algorithm: str
    rounds: int
    salts: tuple[bytes, ...]
    digest: bytes

    def matches(self, secret: str) -> bool:
        """Compute the hash of a secret, which takes tens of milliseconds, and compare."""
        data = secret.encode("utf-8", "surrogatepass")
        return any(
            hmac.compare_digest(
                self.digest, hashlib.pbkdf2_hmac(self.algorithm, data, salt, self.rounds)
            )
            for salt in self.salts
        )


def _select_valid() -> Any:
    row = models.LegacyKey
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
    """Return a digest that no secret has: it is not hexadecimal."""
    return f"legacy:{key_id}"


def find_legacy_keys(db: peewee.Database, prefix: str) -> list[LegacyKey]:
    """Return the valid keys of this prefix that were not used here yet."""
    rows = _FIND.execute(db, prefix=prefix, now=now_us()).fetchall()
    return [
        LegacyKey(key_id, key_prefix, algorithm, rounds, _split(salts), bytes.fromhex(digest))
        for key_id, key_prefix, algorithm, rounds, salts, digest in rows
    ]


def add_legacy_key(db: peewee.Database, key: LegacyKey) -> None:
    """Store the hash that a key came with."""
    salts = " ".join(f"x{salt.hex()}" for salt in key.salts)
    models.LegacyKey.insert(
        key_id=key.key_id, key_prefix=key.key_prefix, algorithm=key.algorithm,
        rounds=key.rounds, salts=salts, digest=key.digest.hex(),
    ).execute(db)  # fmt: skip


def replace_hash(db: peewee.Database, key_id: str, secret: str) -> None:
    """Give a key our own hash; done twice it changes nothing.

    Two workers that check the same key at once write the same hash. A key
    that was revoked or deleted meanwhile stays so.
    """
    digest = hash_secret(secret)
    lock_name(db, "key_digest", digest)
    # A secret has one row: where another key has its hash already, that one decides.
    if not ApiKey.select(ApiKey.key_id).where(ApiKey.digest == digest).exists(db):
        (
            ApiKey.update(digest=digest, updated_at=now_us())
            .where((ApiKey.key_id == key_id) & (ApiKey.digest == placeholder(key_id)))
            .execute(db)
        )
    models.LegacyKey.delete().where(models.LegacyKey.key_id == key_id).execute(db)


def _split(salts: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(one[1:]) for one in salts.split())
