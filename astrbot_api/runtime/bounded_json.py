"""JSON from outside, read within limits of members and depth.

A parsed value costs up to sixty times the bytes that describe it, and whatever looks at it
costs time for each member. So the text is looked at first: a few passes in C over the bytes.
Most texts are too short to need even those.
"""

from __future__ import annotations

from typing import Any

import orjson

from .threads import let_others_run

#: Most members of one text: what stands in its lists and objects, at any depth.
MAX_MEMBERS = 50_000

#: Deepest nesting. What orjson reads up to 1,024 deep it writes up to 254 deep only.
MAX_DEPTH = 100


class JsonLimitError(ValueError):
    """A text has too many members."""


class JsonDepthError(JsonLimitError):
    """It is nested too deep."""


def load_json(
    text: bytes | str, *, max_members: int = MAX_MEMBERS, max_depth: int = MAX_DEPTH
) -> Any:
    """Return the value of a JSON text.

    :raises JsonLimitError: for one beyond a limit; nothing of it was parsed. Of the depth it is
        a :class:`JsonDepthError`.
    :raises orjson.JSONDecodeError: for what is not JSON.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) <= max_members:
        if data.count(b"[") + data.count(b"{") > max_depth:
            _check_structure(data, max_members, max_depth)
        return orjson.loads(data)
    let_others_run()
    # Each member ends at a comma or begins at a bracket.
    marks = data.translate(None, _NO_MARKS)
    if len(marks) > max_members or len(marks) - marks.count(b",") > max_depth:
        let_others_run()
        _check_structure(data, max_members, max_depth)
    let_others_run()
    return orjson.loads(data)


def _check_structure(data: bytes, max_members: int, max_depth: int) -> None:
    """Count what stands outside of strings."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"")
        let_others_run()
        data = data.replace(b'\\"', b"")
        let_others_run()
    if data.count(b'"') > 4 * max_members + 4:  # a name and a value each, two quotes each
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
