"""Keys that came with another server's hash, until their first use here.

Such a key is an ordinary row of ``api_key`` whose digest can match nothing;
its real hash stands here. The first request that brings the key has its own
hash put into the place (see :mod:`astrbot_api.keys.legacy`).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import peewee

from ..runtime.clock import now_us
from .keys import hash_secret
from .locks import lock_name

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


_FIND = """
SELECT l.key_id, l.key_prefix, l.algorithm, l.rounds, l.salts, l.digest
FROM legacy_key AS l JOIN api_key AS k ON k.key_id = l.key_id
WHERE l.key_prefix = ? AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?)
ORDER BY l.key_id LIMIT ?
"""

_INSERT = """
INSERT INTO legacy_key (key_id, key_prefix, algorithm, rounds, salts, digest)
VALUES (?, ?, ?, ?, ?, ?)
"""

# A secret has one row: where another key has its hash already, that one decides.
_REPLACE = """
UPDATE api_key SET digest = ?, updated_at = ?
WHERE key_id = ? AND digest = ? AND NOT EXISTS (SELECT 1 FROM api_key WHERE digest = ?)
"""


def placeholder(key_id: str) -> str:
    """Return a digest that no secret has: it is not hexadecimal."""
    return f"legacy:{key_id}"


def find_legacy_keys(db: peewee.Database, prefix: str) -> list[LegacyKey]:
    """Return the valid keys of this prefix that were not used here yet."""
    rows = db.execute_sql(_FIND, (prefix, now_us(), _MAX_CANDIDATES)).fetchall()
    return [
        LegacyKey(key_id, key_prefix, algorithm, rounds, _split(salts), bytes.fromhex(digest))
        for key_id, key_prefix, algorithm, rounds, salts, digest in rows
    ]


def add_legacy_key(db: peewee.Database, key: LegacyKey) -> None:
    """Store the hash that a key came with."""
    salts = " ".join(f"x{salt.hex()}" for salt in key.salts)
    values = (key.key_id, key.key_prefix, key.algorithm, key.rounds, salts, key.digest.hex())
    db.execute_sql(_INSERT, values)


def replace_hash(db: peewee.Database, key_id: str, secret: str) -> None:
    """Give a key our own hash; done twice it changes nothing.

    Two workers that check the same key at once write the same hash. A key
    that was revoked or deleted meanwhile stays so.
    """
    digest = hash_secret(secret)
    lock_name(db, "key_digest", digest)
    db.execute_sql(_REPLACE, (digest, now_us(), key_id, placeholder(key_id), digest))
    db.execute_sql("DELETE FROM legacy_key WHERE key_id = ?", (key_id,))


def _split(salts: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(one[1:]) for one in salts.split())
