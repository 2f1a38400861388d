"""Fields and tools that a model rejected.

An omission is for one value of a field, or one definition of a tool. Requests of other clients may
have a value that the endpoint accepts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import orjson

#: Maximum number of names with rejected values, and of the values of each name.
_MAX_REJECTED = 100


class Omissions:
    """Rejected values of fields, or rejected definitions of tools, by name. Thread-safe.

    :param unknown_after: Number of rejected values after which a name that was never accepted is
        always omitted.
    """

    def __init__(self, unknown_after: int = _MAX_REJECTED + 1) -> None:
        self._unknown_after = unknown_after
        self._rejected: Mapping[str, frozenset[bytes]] = {}
        self._accepted: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return name in self._rejected

    def __len__(self) -> int:
        return len(self._rejected)

    def copy(self) -> Omissions:
        """Return a copy."""
        made = Omissions(self._unknown_after)
        made._rejected, made._accepted = self._rejected, self._accepted
        return made

    def omits(self, name: str, value: Any) -> bool:
        """Return whether a value must be omitted."""
        rejected = self._rejected.get(name)
        if rejected is None:
            return False
        unknown = name not in self._accepted and len(rejected) >= self._unknown_after
        return unknown or _digest(value) in rejected

    def add(self, name: str, value: Any) -> bool:
        """Store a rejected value, and return whether it is new."""
        rejected, digest = self._rejected.get(name, frozenset()), _digest(value)
        if digest in rejected:
            return False
        full = name not in self._rejected and len(self._rejected) >= _MAX_REJECTED
        kept = {} if full else self._rejected
        rejected = rejected if len(rejected) < _MAX_REJECTED else frozenset()
        self._rejected = {**kept, name: rejected | {digest}}
        return True

    def accepts(self, name: str) -> bool:
        """Return whether any value of a name was accepted."""
        return name in self._accepted

    def note_accepted(self, names: Collection[str]) -> None:
        """Store accepted names, so that bad values do not disable them."""
        if not self._accepted.issuperset(names):
            self._accepted |= set(names)


def _digest(value: Any) -> bytes:
    try:
        data = orjson.dumps(value)
    except TypeError:
        data = repr(value).encode()
    return hashlib.sha256(data).digest()
