"""Encode events as lines of JSON, and shorten events that are too long.

:mod:`astrbot_api.events` defines the events.
"""

from __future__ import annotations

import itertools
from typing import Any

import orjson

#: Maximum length of a line, in bytes, since one client stops reading at 256 KiB. Longer texts are
#: split into several events.
MAX_LINE_BYTES = 256 * 1024

#: Types of ``plain`` events whose ``data`` is JSON.
_CALLS = frozenset({"tool_call", "tool_call_result"})

#: Successive limits on an event: characters per text, entries per list, and depth. The last one
#: fits any event, since ids and numbers of fields are limited.
_CUTS = ((64_000, 250), (16_000, 250), (4_000, 250), (1_000, 250), (125, 250), (125, 2), (125, 1))
_MIN_ENTRIES = 32


def encode_line(value: Any) -> bytes:
    """Return JSON without characters at which any client splits lines.

    Python's ``splitlines``, httpx and requests also split at these three. Other line breaks are
    control characters, which JSON always escapes.
    """
    line = orjson.dumps(value)
    if not line.isascii():
        line = line.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
        line = line.replace(b"\xc2\x85", b"\\u0085")
    # A copy, since orjson's own buffer holds 4 KB for a line of a hundred bytes, and runs keep
    # lines.
    return b"%b" % line


def join_surrogates(text: str) -> str:
    """Join the surrogate pairs of a text, and replace lone surrogates by U+FFFD.

    A lone surrogate can be neither stored nor sent.
    """
    try:
        text.encode()  # the usual case, and ten times as fast
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def fit_line(event: dict[str, Any]) -> dict[str, Any]:
    """Shorten an event to the maximum length of a line, and set ``truncated``.

    Fields that can grow are shortened first, as little as needed.
    """
    shortened = {**event, "truncated": True}
    limit = MAX_LINE_BYTES - 1024
    if event["type"] == "message":
        shortened["data"] = {**event["data"], "content": None}
    elif event.get("chain_type") in _CALLS:
        shortened = _fit_call(shortened, limit)
    else:
        shortened = _fit_texts(shortened, limit)
    return shortened if len(encode_line(shortened)) <= limit else _fit_all(shortened, limit)


def _fit_texts(shortened: dict[str, Any], limit: int) -> dict[str, Any]:
    """Shorten the reasoning first, then the text."""
    for key in ("reasoning", "data"):
        text = shortened.get(key)
        if not isinstance(text, str):
            continue
        excess = len(encode_line(shortened)) - limit
        if excess <= 0:
            break
        # A character has at most six bytes in JSON, so this always removes enough.
        encoded = len(encode_line(text))
        keep = max(0, encoded - excess) * len(text) // max(encoded, 1)
        while keep and len(encode_line({**shortened, key: text[:keep]})) > limit:
            keep = keep * 9 // 10
            if key == "reasoning" and len(encode_line({**shortened, key: ""})) > limit:
                keep = 0
        shortened[key] = text[:keep]
    return shortened


def _fit_call(shortened: dict[str, Any], limit: int) -> dict[str, Any]:
    """Shorten a tool's result or the arguments of a call. ``data`` stays valid JSON."""
    call = orjson.loads(shortened["data"])
    name = next((name for name in ("result", "args") if name in call), None)
    if name is None:
        return shortened
    text = call[name] if isinstance(call[name], str) else _json_text(call[name])
    keep = min(len(text), limit)
    while True:
        fitted = {**shortened, "data": _json_text({**call, name: text[:keep]})}
        if not keep or len(encode_line(fitted)) <= limit:
            return fitted
        keep = keep * 3 // 4


def _fit_all(shortened: dict[str, Any], limit: int) -> dict[str, Any]:
    """Shorten every text, list and object of an event. ``data`` of a call stays valid JSON."""
    holds_json = shortened.get("chain_type") in _CALLS
    if holds_json:
        shortened = {**shortened, "data": orjson.loads(shortened["data"])}
    for chars, depth in _CUTS:
        fitted = {key: _cut(value, chars, depth) for key, value in shortened.items()}
        if holds_json:
            fitted["data"] = _json_text(fitted["data"])
        if len(encode_line(fitted)) <= limit:
            break
    return fitted


def _cut(value: Any, chars: int, depth: int) -> Any:
    """Return a JSON value with limited texts, entries and depth."""
    if isinstance(value, str):
        return value[:chars]
    if not isinstance(value, dict | list):
        return value
    entries = max(_MIN_ENTRIES, chars // 8) if depth else 0
    if isinstance(value, list):
        return [_cut(one, chars, depth - 1) for one in value[:entries]]
    return {
        key[:chars]: _cut(one, chars, depth - 1)
        for key, one in itertools.islice(value.items(), entries)
    }


def _json_text(value: dict[str, Any]) -> str:
    return orjson.dumps(value).decode()
