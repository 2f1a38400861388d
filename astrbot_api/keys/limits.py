"""Checks a key's guard rails when a turn starts.

The checks run in the transaction that stores the turn. Two workers therefore
cannot both use the last unit of a limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from ..db import key_usage, session_keys
from ..db.attachments import AttachmentRow
from ..db.locks import lock_name
from ..errors import ApiError
from ..runtime.clock import now_us
from .files import check_attachments
from .rules import KeyGuard, KeyRules

#: Maximum number of session keys of one key, with those that ended a moment ago.
MAX_SESSION_KEYS = 10_000

_DAY_S = 24 * 60 * 60

#: Assumed cost of a turn that has not ended. Near its token limit, a key runs its
#: turns one after another, so that parallel turns cannot overdraw it.
_RESERVED_TOKENS = 4000

#: Seconds until a retry when the key's own running turns block a new one.
_SOON_S = 2


def check_turn(
    db: peewee.Database,
    guard: KeyGuard,
    session_id: str,
    config_id: str,
    sent: Sequence[AttachmentRow],
    *,
    stops_turn: bool,
    left: int,
) -> None:
    """Reject a turn that its key does not allow.

    :param sent: The attachments that its message uses.
    :param stops_turn: Whether it is a stop command, which counts instead of an active turn.
    :param left: How many of the key's active turns are stopped before it begins.
    :raises ApiError: ``key_restricted``, ``rate_limited`` or ``budget_exhausted``.
    """
    guard.rules.check_session(session_id)
    guard.rules.check_config(config_id)
    check_attachments(db, guard, sent)
    for key_id, rules in guard.counted:
        if rules.limits_turns:
            _check_counts(db, key_id, rules, stops_turn, left)


def _check_counts(
    db: peewee.Database, key_id: str, rules: KeyRules, stops_turn: bool, left: int
) -> None:
    lock_name(db, "key", key_id)
    # Count open turns first: a turn that ends meanwhile then counts twice, not zero times.
    active = key_usage.count_active_turns(db, key_id)
    uncounted = key_usage.count_uncounted_turns(db, key_id) if active else 0
    if stops_turn:
        active, uncounted = max(0, active - 1), max(0, uncounted - 1)
    active = max(0, active - left)
    if rules.streams is not None and active >= rules.streams:
        raise ApiError(
            "rate_limited",
            f"{active} turns of the API key are running or waiting (its rule streams); "
            "wait for one of them",
            retry_after_s=_SOON_S,
        )
    if rules.turns_per_day is not None or rules.tokens_per_day is not None:
        turns, tokens = key_usage.sum_turns(db, key_id, key_usage.today())
        tomorrow_s = _DAY_S - now_us() // 1_000_000 % _DAY_S
        _check_used("turns_per_day", rules.turns_per_day, turns + uncounted, "turns", tomorrow_s)
        _check_tokens("tokens_per_day", rules.tokens_per_day, tokens, active, tomorrow_s)
    if rules.max_turns is not None or rules.max_tokens is not None:
        turns, tokens = key_usage.sum_turns(db, key_id)
        _check_used("max_turns", rules.max_turns, turns + uncounted, "turns", None)
        _check_tokens("max_tokens", rules.max_tokens, tokens, active, None)


def _check_used(rule: str, limit: int | None, used: int, what: str, tomorrow_s: int | None) -> None:
    if limit is not None and used >= limit:
        text = f"its {limit} {what} of today" if tomorrow_s else f"all of its {limit} {what}"
        raise ApiError(
            "budget_exhausted",
            f"the API key has used {text} (its rule {rule})",
            retry_after_s=tomorrow_s,
        )


def _check_tokens(
    rule: str, limit: int | None, tokens: int, active: int, tomorrow_s: int | None
) -> None:
    _check_used(rule, limit, tokens, "tokens", tomorrow_s)
    if limit is not None and tokens + active * _RESERVED_TOKENS >= limit:
        raise ApiError(
            "rate_limited",
            f"the running turns of the API key may use up the rest of its {limit} tokens "
            f"(its rule {rule}); wait for one of them",
            retry_after_s=_SOON_S,
        )


def check_session_keys(db: peewee.Database, key_id: str) -> None:
    """Check that a key may create another session key.

    :raises ApiError: ``too_many_keys``.
    """
    if session_keys.count_session_keys(db, key_id, MAX_SESSION_KEYS) >= MAX_SESSION_KEYS:
        raise ApiError(
            "too_many_keys",
            f"the API key has {MAX_SESSION_KEYS} session keys that are valid or ended within the "
            f"last {session_keys.KEPT_MINUTES} minutes; create fewer, or let them expire sooner",
            retry_after_s=60,
        )
