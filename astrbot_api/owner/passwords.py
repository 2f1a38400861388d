"""Password hashing with argon2, in a thread: one hash takes tens of milliseconds of CPU."""

from __future__ import annotations

import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..runtime.threads import run_hash

#: The second recommended option of RFC 9106, which is the default of argon2-cffi.
_HASHER = PasswordHasher()

#: Maximum length of a password that is hashed: hashing reads all of it.
MAX_PASSWORD_CHARS = 1024


def hash_password(password: str) -> str:
    """Return the argon2 string of a password: parameters, salt and hash."""
    return run_hash(_HASHER.hash, password.encode("utf-8", "surrogatepass"))


def verify_password(password_hash: str | None, password: str) -> bool:
    """Return whether a password is correct.

    :param password_hash: The stored hash, or None if the name is unknown. An unknown
        name takes as long as a wrong password, so that timing reveals no names.
    """
    if len(password) > MAX_PASSWORD_CHARS:
        return False
    right = run_hash(_verify, password_hash or _nobodys_hash(), password)
    return right and password_hash is not None


def make_password() -> str:
    """Return a random password of 96 bits that is easy to read and type."""
    return "-".join(secrets.token_hex(3) for _ in range(4))


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return hash_password(secrets.token_hex(16))
