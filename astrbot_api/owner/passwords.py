"""Passwords: argon2, off the hub, since one hash takes tens of milliseconds of CPU."""

from __future__ import annotations

import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..runtime.threads import run_hash

#: RFC 9106's second recommendation, which argon2-cffi has as its default.
_HASHER = PasswordHasher()

#: Longest password that is looked at: hashing reads all of it.
MAX_PASSWORD_CHARS = 1024


def hash_password(password: str) -> str:
    """Return argon2's text of a password: parameters, salt and hash."""
    return run_hash(_HASHER.hash, password.encode("utf-8", "surrogatepass"))


def verify_password(password_hash: str | None, password: str) -> bool:
    """Return whether a password is right.

    :param password_hash: None: nobody has this name. That takes as long as a
        wrong password, so that the time reveals no names.
    """
    if len(password) > MAX_PASSWORD_CHARS:
        return False
    right = run_hash(_verify, password_hash or _nobodys_hash(), password)
    return right and password_hash is not None


def make_password() -> str:
    """Return a random password of 96 bits that can be read from a terminal and typed."""
    return "-".join(secrets.token_hex(3) for _ in range(4))


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return hash_password(secrets.token_hex(16))
