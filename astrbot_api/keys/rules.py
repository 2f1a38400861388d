"""The guard rails of a key: allowed names, allowed addresses, and limits.

All are optional. They are stored with the key as one JSON object, validated
when they are set, and parsed through a cache. A key without rules costs a
request nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NoReturn

import orjson

from ..config.tables import describe_unknown
from ..errors import ApiError, refuse

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Maximum number of entries in a list, and maximum length of a text.
_MAX_ENTRIES = 100
_MAX_CHARS = 500

#: Rules that are checked when a turn starts, and those that name what a session key may use.
_TURN_LIMITS = ("streams", "turns_per_day", "tokens_per_day", "max_turns", "max_tokens")
_NAMES = ("username", "session_id", "configs")


def _rule(help: str) -> Any:
    """Return the field of a rule that an owner can set.

    :param help: Help text of its option on the command line. A list has an option for each entry.
    """
    return field(default=None, metadata={"help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRules:
    """The rules of one key; None means no rule.

    Rules without a help text are those of session keys.
    """

    username: str | None = _rule("The only username that requests may use.")
    username_prefix: str | None = _rule("Required prefix of usernames.")
    default_username: str | None = _rule("Username for requests without one.")
    session_id: str | None = None
    configs: tuple[str, ...] | None = _rule("Id of an allowed config.")
    bots: tuple[str, ...] | None = _rule("Id of an allowed bot.")
    umos: tuple[str, ...] | None = _rule("UMO that messages may be sent to; * matches anything.")
    tools: tuple[str, ...] | None = _rule("Tool that turns may use; * matches anything.")
    approve: tuple[str, ...] | None = _rule(
        "Tool whose calls a person must approve; * matches anything."
    )
    addresses: tuple[str, ...] | None = _rule(
        "Network that requests may come from, such as 10.0.0.0/8."
    )
    requests_per_minute: int | None = _rule("Maximum number of requests per minute.")
    streams: int | None = _rule("Maximum number of running and waiting turns.")
    turns_per_day: int | None = _rule("Maximum number of turns per day (UTC).")
    tokens_per_day: int | None = _rule("Maximum number of tokens per day (UTC).")
    upload_bytes: int | None = _rule("Maximum total size of the key's files, in bytes.")
    stored_bytes: int | None = _rule(
        "Maximum size of the key's messages, sessions and notes, in bytes."
    )
    sessions: int | None = _rule("Maximum number of sessions.")
    growth_bytes: int | None = _rule(
        "Maximum growth of the key's messages and sessions per minute, in bytes."
    )
    tool_calls_per_turn: int | None = _rule("Maximum number of tool calls per turn.")
    tool_seconds_per_turn: int | None = _rule("Maximum run time of the tools per turn, in seconds.")
    tool_chars_per_turn: int | None = _rule(
        "Maximum length of the tools' results per turn, in characters."
    )
    max_turns: int | None = None
    max_tokens: int | None = None
    legacy_errors: bool | None = _rule(
        "Return errors with status 200, for clients that report HTTP 400."
    )

    def to_json(self) -> dict[str, Any]:
        """Return the rules that are set."""
        values = {name: getattr(self, name) for name in RULE_TYPES}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }

    def dump(self) -> str | None:
        """Return the rules as stored JSON, or None if no rule is set."""
        found = self.to_json()
        return orjson.dumps(found).decode() if found else None

    @property
    def limits_turns(self) -> bool:
        """Whether a limit must be checked when a turn starts."""
        return any(getattr(self, name) is not None for name in _TURN_LIMITS)

    @property
    def binds_username(self) -> bool:
        """Whether the key may act only as certain usernames."""
        return self.username is not None or self.username_prefix is not None

    @property
    def binds_files(self) -> bool:
        """Whether the key may use only the files of certain usernames, or of a session."""
        return self.binds_username or self.session_id is not None

    def allows_username(self, username: str) -> bool:
        """Return whether the key may act as this username."""
        if self.username is not None and username != self.username:
            return False
        return self.username_prefix is None or username.startswith(self.username_prefix)

    def check_username(self, username: str) -> None:
        """:raises ApiError: ``key_restricted`` unless the key may act as this username."""
        if not self.allows_username(username):
            rule = "username" if self.username is not None else "username_prefix"
            _refuse(rule, f"may not speak as {username!r}")

    def check_session(self, session_id: str) -> None:
        """:raises ApiError: ``key_restricted`` unless the key may use this session."""
        if self.session_id is not None and session_id != self.session_id:
            _refuse("session_id", "is bound to another session")

    def check_config(self, config_id: str) -> None:
        """:raises ApiError: ``key_restricted`` unless the key may use this config."""
        if self.configs is not None and config_id not in self.configs:
            _refuse("configs", f"may not use the config {config_id!r}")

    def check_bot(self, bot_id: str) -> None:
        """:raises ApiError: ``key_restricted`` unless the key may send through this bot."""
        if self.bots is not None and bot_id not in self.bots:
            _refuse("bots", f"may not send through the bot {bot_id!r}")

    def choose_bots(self, bot_ids: Iterable[str]) -> list[str]:
        """Return the bots that the key may send through."""
        return [one for one in bot_ids if self.bots is None or one in self.bots]

    def check_umo(self, umo: str) -> None:
        """:raises ApiError: ``key_restricted`` unless the key may send to this target."""
        if self.umos is not None and not any(fnmatchcase(umo, one) for one in self.umos):
            _refuse("umos", "may not send to this target")

    def check_address(self, address: str | None) -> None:
        """:raises ApiError: ``key_restricted`` unless requests from this address are allowed."""
        if self.addresses is None:
            return
        try:
            parsed = ipaddress.ip_address(address or "")
        except ValueError:
            _refuse("addresses", "may not be used from an unknown address")
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        if not any(parsed in network for network in _parse_networks(self.addresses)):
            _refuse("addresses", f"may not be used from {parsed}")


NO_RULES = KeyRules()

#: Name of each rule -> its type, as written in :class:`KeyRules`.
RULE_TYPES = {item.name: str(item.type) for item in fields(KeyRules)}


@dataclass(frozen=True, slots=True)
class KeyGuard:
    """A key with guard rails, or a session key.

    :param root_id: The key itself, or the parent of a session key.
    :param root_rules: The rules of a session key's parent.
    :param is_key: False for an owner's login and for a user of the embedding application.
    """

    key_id: str
    root_id: str
    rules: KeyRules
    root_rules: KeyRules = NO_RULES
    is_key: bool = field(default=True, kw_only=True)

    @property
    def counted(self) -> tuple[tuple[str, KeyRules], ...]:
        """The keys whose counts apply to a turn, with their rules."""
        if self.root_id == self.key_id:
            return ((self.key_id, self.rules),)
        return ((self.key_id, self.rules), (self.root_id, self.root_rules))


MAX_NUMBER = 2**53


def read_rules(value: Any) -> KeyRules:
    """Validate the rules of a request.

    :param value: An object or None. A rule that is null is not set.
    :raises ApiError: ``invalid_request``; its message names the rule.
    """
    if value is None:
        return NO_RULES
    if not isinstance(value, dict):
        raise refuse("rules must be an object")
    found: dict[str, Any] = {}
    for name, given in value.items():
        if given is None:
            continue
        if name not in RULE_TYPES:
            name = str(name)[:50]
            raise refuse(f"rules.{name}: {describe_unknown(name, RULE_TYPES)}")
        found[name] = _READERS[RULE_TYPES[name]](name, given)
    for address in found.get("addresses", ()):
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError as error:
            raise refuse(
                f"rules.addresses: {address!r} is not a network; write 10.0.0.0/8 or 2001:db8::/32"
            ) from error
    rules = KeyRules(**found)
    if rules.default_username is not None and not rules.allows_username(rules.default_username):
        raise refuse(
            "rules.default_username must be a username that username and username_prefix allow"
        )
    return rules


@lru_cache(maxsize=1024)
def load_rules(text: str) -> KeyRules:
    """Return stored rules. Rules of a later version are ignored."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in orjson.loads(text).items()
        if name in RULE_TYPES
    }
    return KeyRules(**values)


def narrow_rules(stored: str | None, more: KeyRules) -> str | None:
    """Return the rules of a session key: a key's rules with the names and counts of ``more``.

    Counts are kept for each key separately, so they are taken from ``more`` alone. Its other rules
    have no effect.

    :param stored: The key's rules as stored JSON, or None. The result has the same form.
    :raises ApiError: ``key_restricted`` when ``more`` names what they do not allow.
    """
    rules = load_rules(stored or "{}")
    if more.username is not None:
        rules.check_username(more.username)
    if more.session_id is not None:
        rules.check_session(more.session_id)
    for config_id in more.configs or ():
        rules.check_config(config_id)
    names = {name: getattr(more, name) or getattr(rules, name) for name in _NAMES}
    counts = {name: getattr(more, name) for name in ("requests_per_minute", *_TURN_LIMITS)}
    return replace(rules, **names, **counts).dump()


def _read_number(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 20.0 is a whole number in JSON
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(f"rules.{name} must be a whole number")
    if not 1 <= value <= MAX_NUMBER:
        raise refuse(f"rules.{name} must be between 1 and {MAX_NUMBER}")
    return value


def _read_list(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise refuse(f"rules.{name} must be a list with at least one entry")
    if len(value) > _MAX_ENTRIES:
        raise refuse(f"rules.{name} may have {_MAX_ENTRIES} entries at most")
    return tuple(dict.fromkeys(_read_text(name, one) for one in value))


def _read_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_CHARS:
        raise refuse(f"rules.{name} must be a text of 1 to {_MAX_CHARS} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise refuse(f"rules.{name} must be valid Unicode") from error
    return value.strip()


def _read_flag(name: str, value: Any) -> bool | None:
    if not isinstance(value, bool):
        raise refuse(f"rules.{name} must be true or false")
    return value or None


#: Type of a rule, as in :class:`KeyRules` -> function that reads its value.
_READERS: dict[str, Callable[[str, Any], Any]] = {
    "int | None": _read_number,
    "tuple[str, ...] | None": _read_list,
    "str | None": _read_text,
    "bool | None": _read_flag,
}


def _refuse(rule: str, what: str) -> NoReturn:
    raise ApiError("key_restricted", f"the API key {what}: its rule {rule} does not allow it")


@lru_cache(maxsize=256)
def _parse_networks(addresses: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(one, strict=False) for one in addresses)
