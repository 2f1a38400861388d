"""Parsing of untrusted JSON with limits on members and depth.

A parsed value can use sixty times the memory of its text, and processing it takes time for
each member. So the text is checked before parsing, in a few passes in C. Short texts need no
check.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any

import orjson

from .threads import let_others_run

#: Maximum number of members of all lists and objects of a text, at any depth.
_MAX_MEMBERS = 50_000

#: Maximum nesting. orjson parses 1,024 levels, but serialises only 254.
_MAX_DEPTH = 100


class JsonLimitError(ValueError):
    """Raised when a text has too many members."""


class JsonDepthError(JsonLimitError):
    """Raised when a text is nested too deeply."""


def load_with_halves(data: bytes) -> Any:
    """Parse JSON of lenient writers: cut emojis (half of a surrogate pair) become U+FFFD, NaN null.

    :raises ValueError: when the text is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        value = json.loads(data, parse_constant=lambda name: None)
        text = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
        return orjson.loads(text.decode("utf-16-le", "replace"))


def load_json(
    text: bytes | str,
    *,
    max_members: int = _MAX_MEMBERS,
    max_depth: int = _MAX_DEPTH,
    parse: Callable[[bytes], Any] = orjson.loads,
) -> Any:
    """Parse a JSON text. A byte order mark before it is ignored (RFC 8259, 8.1).

    :param parse: Another parser, such as :func:`load_with_halves` for what Python writes.
    :raises JsonLimitError: before parsing, when the text has too many members.
    :raises JsonDepthError: before parsing, when the text is nested too deeply.
    :raises ValueError: when the text is not JSON.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    data = data.removeprefix(BOM_UTF8)
    if len(data) <= max_members:
        if data.count(b"[") + data.count(b"{") > max_depth:
            _check_structure(data, max_members, max_depth)
        return parse(data)
    let_others_run()
    # Each member ends at a comma or begins at a bracket.
    marks = data.translate(None, _NO_MARKS)
    if len(marks) > max_members or len(marks) - marks.count(b",") > max_depth:
        let_others_run()
        _check_structure(data, max_members, max_depth)
    let_others_run()
    return parse(data)


def _check_structure(data: bytes, max_members: int, max_depth: int) -> None:
    """Count members and nesting outside of strings, and raise if they exceed a limit."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"")
        let_others_run()
        data = data.replace(b'\\"', b"")
        let_others_run()
    if data.count(b'"') > 4 * max_members + 4:  # at most four quotes per member
        raise _too_many(max_members)
    outside = b"".join(data.split(b'"')[::2])
    opening = outside.count(b"[") + outside.count(b"{")
    if opening + outside.count(b",") > max_members:
        raise _too_many(max_members)
    if opening <= max_depth:
        return
    depth = 0
    for byte in outside.translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > max_depth:
            raise JsonDepthError(f"it is nested deeper than {max_depth} levels")


_NO_MARKS = bytes(byte for byte in range(256) if byte not in b"[{,")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _too_many(max_members: int) -> JsonLimitError:
    return JsonLimitError(f"it has more than {max_members} members in its lists and objects")
