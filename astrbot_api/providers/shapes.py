"""Parsing of a chunk's JSON: its values, texts and reasoning, in all known shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from ..errors import ProviderError
from ..runtime.bounded_json import JsonLimitError, load_json

#: Maximum number of members and depth of a payload. A chunk has twenty members, a whole completion
#: with probabilities some for each token.
_MAX_MEMBERS = 100_000
_MAX_DEPTH = 1000


def load_bounded(payload: bytes) -> Any:
    """Parse a chunk or a whole completion.

    :raises orjson.JSONDecodeError: when it is not strict JSON.
    :raises ProviderError: before parsing, when it has too many members.
    """
    if len(payload) <= _MAX_MEMBERS:
        return orjson.loads(payload)
    try:
        return load_json(payload, max_members=_MAX_MEMBERS, max_depth=_MAX_DEPTH)
    except JsonLimitError as error:
        raise ProviderError(f"The model's endpoint sent an overlong event: {error}.") from error


def _read_int(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)  # orjson writes 64 bits


_DECODER = json.JSONDecoder(strict=False, parse_int=_read_int)


def load_leniently(payload: bytes) -> Iterator[tuple[Any, bool]]:
    """Yield the values of a text that orjson rejects, and whether they may have a lone surrogate.

    Some endpoints send lone surrogates, NaN, control characters or bad UTF-8. A payload of several
    lines is parsed line by line, because some endpoints omit the blank line between events. Yield
    None for text that is not JSON.
    """
    text = payload.decode("utf-8", "replace").strip("\0 \r\n\t\ufeff")
    try:
        yield _DECODER.decode(text), True
        return
    except (ValueError, RecursionError):
        pass
    try:
        yield from [(one, True) for one in _iter_values(text)]
        return
    except (ValueError, RecursionError):
        pass
    lines = text.split("\n")
    for line in lines if len(lines) > 1 else ():
        try:
            yield _DECODER.decode(line), True
        except (ValueError, RecursionError):
            if line.strip() not in ("", "[DONE]"):
                yield None, False
    if len(lines) == 1:
        yield None, False


#: Separators between the chunks of one line.
_BETWEEN = re.compile(r"(?:\s|,|data:|\[DONE\])*")


def _iter_values(text: str) -> Iterator[Any]:
    """Yield the JSON values of a text in order.

    :raises ValueError: when the text contains anything else.
    """
    at = 0
    while (at := _BETWEEN.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        value, at = _DECODER.raw_decode(text, at)
        yield value


def unwrap(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """Return the completion inside a gateway's own envelope, or None if no envelope is found."""
    for key in ("data", "result", "output", "response"):
        inner = chunk.get(key)
        choices = inner.get("choices") if isinstance(inner, dict) else None
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            return inner
    return None


#: Fields of an object with reasoning text.
_THOUGHT_NAMES = (
    "thinking", "text", "content", "summary", "reasoning", "reasoning_content", "thought",
)  # fmt: skip

THOUGHT_TYPES = frozenset(
    {"thinking", "reasoning", "reasoning_content", "reasoning_text", "thought"}
)


def find_thought(value: Any, depth: int = 0) -> str:
    """Return reasoning text from a string, an object or a list of blocks."""
    if depth > 5:
        return ""
    if isinstance(value, list):
        return "".join(find_thought(one, depth + 1) for one in value)
    if isinstance(value, dict):
        known = (find_thought(value.get(key), depth + 1) for key in _THOUGHT_NAMES)
        return next(filter(None, known), "")
    return to_text(value)


def to_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def join_texts(parts: Any) -> str:
    return "".join(map(_read_text_part, parts)) if isinstance(parts, list) else to_text(parts)


def _read_text_part(part: Any) -> str:
    if not isinstance(part, dict):
        return to_text(part)
    text = part.get("text") if part.get("type") in _TEXT_TYPES else ""
    return to_text(text.get("value")) if isinstance(text, dict) else to_text(text)


_TEXT_TYPES = (None, "text", "output_text", "text_delta")
