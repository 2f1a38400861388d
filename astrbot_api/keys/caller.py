"""Who calls: the holder of a key, or a user of the embedding application."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .rates import RateState
from .rules import KeyGuard

#: The scope that may speak as one of the administrators' names.
ADMIN_SCOPE = "chat:admin"


@dataclass(frozen=True, slots=True)
class HostUser:
    """Somebody whom the application itself has let in.

    :param username: The only username that they speak as.
    :param scopes: What they may do, as the scopes of a key.
    """

    username: str
    scopes: Collection[str] = ("chat", "file")

    def __post_init__(self) -> None:
        if not self.username.strip():
            raise ValueError("a HostUser needs a username")


@dataclass(slots=True)
class Caller:
    """The holder of a valid key."""

    key_id: str
    key_prefix: str
    scopes: frozenset[str]
    #: None, as for most keys: nothing beyond its scopes is to be checked.
    guard: KeyGuard | None = None
    #: Where its requests a minute stand, if they are limited.
    rate: RateState | None = None

    @property
    def root_id(self) -> str:
        """The key whose files and figures its own are: a session key's maker."""
        return self.key_id if self.guard is None else self.guard.root_id
