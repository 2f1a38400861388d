"""Parses AstrBot's key hashes in the usual formats of PBKDF2 hashes.

The contract only says PBKDF2 with 100,000 rounds. Supported formats: a hash with its own
parameters, as Django, passlib and Werkzeug write it; ``SALT$HASH`` and ``SALT:HASH``; a bare
hash with its salt in another column. A salt in AstrBot's program code is not in the data. The
operator supplies it, or such keys are skipped.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from ..db.legacy_keys import LegacyKey

#: Source: section 8, item 10 of the contract.
_ROUNDS = 100_000

#: Hashes with more rounds are rejected: checking one would block a core.
_MAX_ROUNDS = 1_000_000

_ALGORITHM_OF_SIZE = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}

_SELF_DESCRIBED = re.compile(
    r"\$?pbkdf2[-_:](?:hmac[-_:])?(?P<algorithm>sha\d+)[:$](?P<rounds>\d{1,9})\$(?P<salt>[^$]*)\$(?P<hash>.+)"
)

_SALT_AND_HASH = re.compile(r"(?P<salt>[^$:]+)[$:](?P<hash>[^$:]+)")

#: Salts to try, besides the stored ones, if the operator supplies a known key.
_GUESSES = ("no salt", "the key's id as the salt", "the key's prefix as the salt")


class UnreadableHash(ValueError):
    """Raised for a hash that cannot be checked, with the reason."""


@dataclass(frozen=True, slots=True)
class StoredHash:
    """A hash, with the possible salts by their description."""

    algorithm: str
    rounds: int
    digest: bytes
    salts: dict[str, bytes]


def read_hash(text: str, salt: str, rounds: int | None, given_salt: bytes | None) -> StoredHash:
    """Parse a hash.

    :param text: Value of the column with the hash.
    :param salt: Value of the column with the salt, or empty.
    :param rounds: Value of the column with the rounds, or None.
    :param given_salt: The operator's salt for every key, or None.
    :raises UnreadableHash: if the format is unknown.
    """
    algorithm, rounds = "", _ROUNDS if rounds is None else rounds
    described = _SELF_DESCRIBED.fullmatch(text)
    pair = None if described else _SALT_AND_HASH.fullmatch(text)
    if described:
        algorithm, rounds = described["algorithm"], int(described["rounds"])
    match = described or pair
    if match:
        salt, text = match["salt"], match["hash"]
    digest = _decode_digest(text)
    algorithm = algorithm or _ALGORITHM_OF_SIZE[len(digest)]
    if algorithm not in _ALGORITHM_OF_SIZE.values() or not 1 <= rounds <= _MAX_ROUNDS:
        raise UnreadableHash(f"its hash has unknown parameters ({algorithm}, {rounds} rounds)")
    salts = _read_salts(salt) if salt else {}
    if given_salt is not None and not salts:
        salts["--key-salt"] = given_salt
    return StoredHash(algorithm, rounds, digest, salts)


def guess_salts(stored: StoredHash, key_id: str, key_prefix: str) -> dict[str, bytes]:
    """Return the salts to try with a known key, by their description."""
    guesses = (b"", key_id.encode(), key_prefix.encode())
    return {**stored.salts, **dict(zip(_GUESSES, guesses, strict=True))}


def to_legacy(stored: StoredHash, key_id: str, prefix: str, salts: dict[str, bytes]) -> LegacyKey:
    """Return the data to keep until the key's first use."""
    unique = tuple(dict.fromkeys(salts.values()))
    return LegacyKey(key_id, prefix, stored.algorithm, stored.rounds, unique, stored.digest)


def read_given_salt(text: str) -> bytes:
    """Parse the value of ``--key-salt``: text, ``hex:…`` or ``base64:…``.

    :raises ValueError: if it is not valid hexadecimal or base64.
    """
    if text.startswith("hex:"):
        return bytes.fromhex(text[4:])
    if text.startswith("base64:"):
        return base64.b64decode(text[7:], validate=True)
    return text.encode()


def _decode_digest(text: str) -> bytes:
    for decode in (bytes.fromhex, _from_base64):
        try:
            digest = decode(text.strip())
        except (ValueError, binascii.Error):
            continue
        if len(digest) in _ALGORITHM_OF_SIZE:
            return digest
    raise UnreadableHash("its hash has an unknown format")


def _read_salts(salt: str) -> dict[str, bytes]:
    """Return every interpretation of a salt. The first use of the key shows which is right."""
    salts = {"the stored salt as text": salt.encode()}
    for way, decode in (("hexadecimal", bytes.fromhex), ("base64", _from_base64)):
        try:
            decoded = decode(salt)
        except (ValueError, binascii.Error):
            continue
        if decoded:
            salts[f"the stored salt as {way}"] = decoded
    return salts


def _from_base64(text: str) -> bytes:
    # passlib's alphabet has a dot instead of the plus, and no padding.
    text = text.replace(".", "+").replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
