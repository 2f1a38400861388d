"""Fields of a message that must be sent back to its endpoint, such as reasoning and signatures.

The values are not interpreted. Pieces are merged as SDKs do: strings are concatenated, lists
are extended, and pieces of one block in a list become one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any

from ..event_lines import join_surrogates

#: Fields of a delta or message that are not sent back.
KNOWN_FIELDS = frozenset(
    {
        "role", "content", "tool_calls", "function_call", "refusal", "images", "image", "audio",
        "annotations", "citations", "parsed", "logprobs", "token_ids", "prompt_token_ids",
        "stop_reason", "name", "finish_reason", "usage", "padding", "obfuscation",
    }
)  # fmt: skip

#: Fields of the reasoning text. Source: DeepSeek, vLLM, OpenRouter.
REASONING_FIELDS = ("reasoning_content", "reasoning")

#: String fields of a block that are sent in pieces.
_GROWING = ("text", "summary", "thinking", "data", "content", "reasoning")

#: Maximum size of the attached fields of one answer, in characters. A signature has thousands.
MAX_CHARS = 4_000_000

#: Maximum depth of a field. orjson writes 254 levels.
_MAX_DEPTH = 100


def merge_fields(into: dict[str, Any], piece: Mapping[str, Any]) -> int:
    """Merge the fields of one piece into ``into``. Use :func:`join_pieces` after the last one.

    :returns: Approximate number of characters added.
    """
    chars = 0
    for key, value in piece.items():
        if value is None or value == "" or value == []:
            continue
        try:
            chars += measure(value)
        except RecursionError:
            continue  # it could not be stored
        known = into.get(key)
        if isinstance(value, str) and isinstance(known, (str, StringIO)):
            grows = key in REASONING_FIELDS or not _begins_with(value, known)
            into[key] = _append(known, value) if grows else value
        elif isinstance(value, list) and isinstance(known, list):
            _merge_list(known, value)
        elif isinstance(value, dict) and isinstance(known, dict):
            _merge_object(known, value)
        elif isinstance(value, list):
            into[key] = []
            _merge_list(into[key], value)
        else:
            into[key] = value
    return chars


def join_pieces(merged: Any) -> Any:
    """Return merged fields with their texts as strings that can be stored."""
    if isinstance(merged, StringIO):
        merged = merged.getvalue()
    if isinstance(merged, str):
        return join_surrogates(merged)
    if isinstance(merged, dict):
        return {join_surrogates(key): join_pieces(value) for key, value in merged.items()}
    return [join_pieces(one) for one in merged] if isinstance(merged, list) else merged


def _append(known: str | StringIO, value: str) -> StringIO:
    """Append to a text. Adding strings would take quadratic time."""
    if isinstance(known, str):
        text = StringIO()
        text.write(known)
    else:
        text = known
    text.write(value)
    return text


def _begins_with(value: str, known: str | StringIO) -> bool:
    if isinstance(known, str):
        return value.startswith(known)
    return len(value) >= known.tell() and value.startswith(known.getvalue())


def _merge_object(into: dict[str, Any], piece: Mapping[str, Any]) -> None:
    for key, value in piece.items():
        known = into.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            _merge_object(known, value)
        elif value is not None or key not in into:
            into[key] = value


def _merge_list(into: list[Any], pieces: list[Any]) -> None:
    for piece in pieces:
        last = into[-1] if into else None
        if isinstance(piece, dict) and isinstance(last, dict) and _continues(last, piece):
            for key, value in piece.items():
                known: Any = last.get(key)
                grows = key in _GROWING and isinstance(known, (str, StringIO))
                if grows and isinstance(value, str):
                    last[key] = _append(known, value)
                elif value is not None or key not in last:
                    last[key] = value
        else:
            into.append(dict(piece) if isinstance(piece, dict) else piece)


def _continues(last: Mapping[str, Any], piece: Mapping[str, Any]) -> bool:
    """Return whether a block continues the previous block."""
    if last.get("type") != piece.get("type") or last.get("index") != piece.get("index"):
        return False
    if piece.get("id") and last.get("id") and piece["id"] != last["id"]:
        return False
    if last.get("signature") and piece.get("index") is None:
        return False
    grows = any(isinstance(piece.get(key), str) for key in _GROWING)
    encrypted = "encrypted" in str(piece.get("type")) or "redacted" in str(piece.get("type"))
    return (grows and not encrypted) or piece.get("index") is not None


def measure(value: Any, depth: int = 0) -> int:
    """Return the approximate number of characters of a JSON value.

    :raises RecursionError: when it is nested too deeply to be stored.
    """
    if isinstance(value, str):
        return len(value)
    if depth > _MAX_DEPTH:
        raise RecursionError
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = (*value, *value.values())
    elif isinstance(value, list):
        parts = value
    return 8 + sum(measure(one, depth + 1) for one in parts)
