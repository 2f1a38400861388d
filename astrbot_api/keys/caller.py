"""The caller of a request: the holder of a key, or a user of the embedding application."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..db.keys import ADMIN_SCOPE
from ..errors import ApiError
from .rates import RateState
from .rules import NO_RULES, KeyGuard, KeyRules


@dataclass(frozen=True, slots=True)
class HostUser:
    """A user whom the embedding application has authenticated.

    :param username: The only username that the user may act as.
    :param scopes: The user's permissions, with the names of a key's scopes.
    """

    username: str
    scopes: Collection[str] = ("chat", "file")

    def __post_init__(self) -> None:
        username: Any = self.username  # from code without type checks
        if not isinstance(username, str):
            kind = type(username).__name__
            raise TypeError(f"the username of a HostUser must be a str, not {kind}")
        if not self.username.strip():
            raise ValueError("a HostUser needs a username")
        if isinstance(self.scopes, str):
            raise TypeError(f'scopes of a HostUser must be a tuple, as in ("{self.scopes}",)')


@dataclass(frozen=True, slots=True)
class Reach:
    """The usernames and targets that a caller may use.

    :param reserved_names: Usernames of administrators, which the caller may not act as.
    """

    rules: KeyRules = NO_RULES
    reserved_names: Collection[str] = ()

    def check_username(self, username: str) -> None:
        """:raises ApiError: ``username_reserved`` or ``key_restricted``."""
        if self.reserved_names and is_reserved(username, tuple(self.reserved_names)):
            raise ApiError(
                "username_reserved",
                "username is reserved for an AstrBot administrator; choose another, or use a key "
                f"with the scope {ADMIN_SCOPE}",
            )
        self.rules.check_username(username)

    def check_target(self, bot_id: str, umo: str) -> None:
        """:raises ApiError: ``key_restricted`` unless the key allows this bot and this target."""
        self.rules.check_bot(bot_id)
        self.rules.check_umo(umo)

    def check_web_session(self, session_id: str, username: str) -> None:
        """Check a session of the web chat.

        :param username: The session's user, or empty before its first user.
        :raises ApiError: ``username_reserved`` or ``key_restricted``.
        """
        self.rules.check_session(session_id)
        if username or self.rules.binds_username:
            self.check_username(username)


#: Letters of other scripts that look like Latin ones, small or capital (Source: the confusables
#: of Unicode's TR 39: its Cyrillic and Greek letters, case-folded, and a few more).
_LOOKALIKES = str.maketrans(
    "авеіјкмноӏрԛгѕтухԝһԁαβεηικμνορτυχζɑıɡ", "abeijkmholpqrstyxwhdabehikmnoptuxzaig"
)


@lru_cache(4096)
def is_reserved(username: str, reserved_names: tuple[str, ...]) -> bool:
    """Return whether a name is an administrator's, or looks like one.

    Case, width, blanks, accents, look-alike letters of other scripts and invisible characters
    are ignored.
    """
    shown = _make_skeleton(username)
    return any(shown == _make_skeleton(name) for name in reserved_names)


def _make_skeleton(name: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    letters = unicodedata.normalize("NFKD", folded).translate(_LOOKALIKES)
    return "".join(one for one in letters if unicodedata.category(one) not in _UNSEEN)


#: Unicode categories: format and control characters, combining marks, blanks.
_UNSEEN = frozenset(("Cf", "Cc", "Mn", "Me", "Zs", "Zl", "Zp"))


@dataclass(slots=True)
class Caller:
    """The holder of a valid key, or another authenticated caller."""

    key_id: str
    key_prefix: str
    scopes: frozenset[str]
    #: The key's guard, or None if only its scopes restrict it (as for most keys).
    guard: KeyGuard | None = None
    #: The state of its request rate, or None if the rate is not limited.
    rate: RateState | None = None
    is_owner: bool = False

    @property
    def root_id(self) -> str:
        """The key that owns its files and usage: itself, or the parent of a session key."""
        return self.key_id if self.guard is None else self.guard.root_id

    @property
    def rules(self) -> KeyRules:
        """The key's guard rails, or rules that allow everything."""
        return NO_RULES if self.guard is None else self.guard.rules

    def reach(self, admin_names: Collection[str]) -> Reach:
        """Return the usernames and targets that the caller may use.

        :param admin_names: Names that only callers with :data:`ADMIN_SCOPE` may act as.
        """
        return Reach(self.rules, () if ADMIN_SCOPE in self.scopes else admin_names)
