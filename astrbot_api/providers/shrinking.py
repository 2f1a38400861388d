"""Size of a conversation, and its reduction for a model with a smaller context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ..agent.provider import ModelMessage

#: Lengths to which tool results are truncated in a long conversation, in characters.
_SHORT_RESULT_CHARS = 200
_SHORTEST_RESULT_CHARS = 40

#: Size that an image or audio part counts as, in characters.
_MEDIA_CHARS = 4000


def measure(messages: Sequence[ModelMessage]) -> int:
    """Return the size of messages in characters of JSON. Media have a fixed size."""
    return sum(map(_measure_one, messages))


def _measure_one(message: ModelMessage) -> int:
    content = message.get("content")
    if not isinstance(content, list):
        return _count_json(message)
    texts = [one for one in content if isinstance(one, dict) and one.get("type") == "text"]
    media = len(content) - len(texts)
    return _count_json({**message, "content": texts}) + media * _MEDIA_CHARS


def _count_json(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError:
        return len(repr(value))


def shrink(messages: Sequence[ModelMessage], max_chars: int) -> list[ModelMessage]:
    """Shrink messages to a size, as far as possible.

    First truncate tool results of earlier turns, then drop the oldest turns, then truncate tool
    results of this turn. System messages and the last user message are always kept.
    """
    head = [one for one in messages if one["role"] in ("system", "developer")]
    rest = [one for one in messages if one["role"] not in ("system", "developer")]
    starts = [at for at, one in enumerate(rest) if one["role"] == "user"]
    own = starts[-1] if starts else 0
    past, turn = rest[:own], rest[own:]
    room = max_chars - measure(head) - measure(turn)
    if measure(past) > room:
        past = [_cut_result(one, _SHORT_RESULT_CHARS) for one in past]
    sizes = list(map(_measure_one, past))
    used, first = sum(sizes), 0
    for at in (*starts[1:], own):
        if used <= room:
            break
        used -= sum(sizes[first:at])
        first = at
    past = past[first:]
    if used > room:
        for chars in (_SHORT_RESULT_CHARS * 10, _SHORT_RESULT_CHARS, _SHORTEST_RESULT_CHARS):
            turn = [_cut_result(one, chars) for one in turn]
            if measure(head) + measure(turn) <= max_chars:
                break
    return [*head, *past, *turn]


def _cut_result(message: ModelMessage, max_chars: int) -> ModelMessage:
    content = message.get("content")
    if message["role"] != "tool" or not isinstance(content, str) or len(content) <= max_chars:
        return message
    return {**message, "content": f"{content[:max_chars]}\n[cut]"}
