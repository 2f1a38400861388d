"""Count turns and their tokens for their keys.

A turn that waits for a person is counted when it begins to wait. It may wait for a day, and be
stopped or deleted meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import peewee

from ...db import keyuse
from .turn import OpenTurn


def count_pause(
    db: peewee.Database, turn: OpenTurn, stats: Mapping[str, Any], *, first: bool
) -> None:
    """Count a turn that begins to wait.

    :param stats: Its ``agent_stats`` so far.
    :param first: Whether it has not waited before.
    """
    counted = turn.resumed.counted if turn.resumed else (0, 0)
    keys = turn.request.counting_keys
    count_turn(
        db, keys, {**stats, "end_time": stats["start_time"]}, turns=int(first), counted=counted
    )


def count_turn(
    db: peewee.Database,
    key_ids: Iterable[str],
    stats: Mapping[str, Any] | None,
    *,
    turns: int,
    counted: tuple[int, int],
    failed: bool = False,
) -> None:
    """Add a turn to the statistics of its keys.

    :param stats: Its ``agent_stats``, or None if no model was asked.
    :param turns: 0 if the turn itself is counted already.
    :param counted: Tokens of input and output that are counted already.
    """
    usage = stats["token_usage"] if stats else {}
    guessed = (stats or {}).get("estimated_tokens") or {}
    input_tokens, output_tokens = sum_usage(usage)
    for key_id in sorted(key_ids):  # fixed order, so that two turns cannot deadlock
        keyuse.add_turn(
            db,
            key_id,
            turns=turns,
            failed=failed,
            # A turn that ends before it is restored reports none of the counted tokens.
            input_tokens=max(0, input_tokens - counted[0]) + guessed.get("input", 0),
            output_tokens=max(0, output_tokens - counted[1]) + guessed.get("output", 0),
            turn_ms=int((stats["end_time"] - stats["start_time"]) * 1000) if stats else 0,
        )


def sum_usage(usage: Mapping[str, int]) -> tuple[int, int]:
    """Return the tokens of input and output of a ``token_usage``."""
    return usage.get("input_other", 0) + usage.get("input_cached", 0), usage.get("output", 0)
