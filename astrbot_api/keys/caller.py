"""Who calls: the holder of a key, or a user of the embedding application."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from ..db.keys import ADMIN_SCOPE
from ..errors import ApiError
from .rates import RateState
from .rules import NO_RULES, KeyGuard, KeyRules


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


@dataclass(frozen=True, slots=True)
class Reach:
    """The usernames and targets that a caller may name.

    :param reserved_names: Usernames of administrators, which the caller may not speak as.
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
        """:raises ApiError: ``key_restricted`` unless it may send there through this bot."""
        self.rules.check_bot(bot_id)
        self.rules.check_umo(umo)

    def check_web_session(self, session_id: str, username: str) -> None:
        """Check a session of the web chat.

        :param username: Its user; empty: it has none yet.
        :raises ApiError: ``username_reserved`` or ``key_restricted``.
        """
        self.rules.check_session(session_id)
        if username or self.rules.binds_username:
            self.check_username(username)


#: Letters of other scripts that look like Latin ones, small or capital (Source: the confusables
#: of Unicode's TR 39, of which these are the Cyrillic and Greek letters, folded, and a few more).
_LOOKALIKES = str.maketrans(
    "авеіјкмноӏрԛгѕтухԝһԁαβεηικμνορτυχζɑıɡ", "abeijkmholpqrstyxwhdabehikmnoptuxzaig"
)


@lru_cache(4096)
def is_reserved(username: str, reserved_names: tuple[str, ...]) -> bool:
    """Return whether a name is an administrator's, or looks like it.

    Case, width, blanks, accents, letters of other scripts that look the same, and what is not
    seen make no difference.
    """
    shown = _as_seen(username)
    return any(shown == _as_seen(name) for name in reserved_names)


def _as_seen(name: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    letters = unicodedata.normalize("NFKD", folded).translate(_LOOKALIKES)
    return "".join(one for one in letters if unicodedata.category(one) not in _UNSEEN)


#: Categories of Unicode: formats, controls, marks that stand on others, blanks.
_UNSEEN = frozenset(("Cf", "Cc", "Mn", "Me", "Zs", "Zl", "Zp"))


@dataclass(slots=True)
class Caller:
    """The holder of a valid key, or who else is let in."""

    key_id: str
    key_prefix: str
    scopes: frozenset[str]
    #: None, as for most keys: nothing beyond its scopes is to be checked.
    guard: KeyGuard | None = None
    #: Where its requests a minute stand, if they are limited.
    rate: RateState | None = None
    #: Whether it is the owner, by a login.
    is_owner: bool = False

    @property
    def root_id(self) -> str:
        """The key whose files and figures its own are: a session key's maker."""
        return self.key_id if self.guard is None else self.guard.root_id

    @property
    def rules(self) -> KeyRules:
        """Its guard rails; without any, rules that allow everything."""
        return NO_RULES if self.guard is None else self.guard.rules

    def reach(self, admin_names: Collection[str]) -> Reach:
        """Return whom and what it may name.

        :param admin_names: The names that only :data:`ADMIN_SCOPE` may speak as.
        """
        return Reach(self.rules, () if ADMIN_SCOPE in self.scopes else admin_names)
