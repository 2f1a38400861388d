"""Converts QQ's cards and special segments to text: shares, locations, stickers.

Sources: https://github.com/botuniverse/onebot-11/blob/master/message/segment.md, and QQ's
``json`` segments as NapCat, Lagrange and go-cqhttp post them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...runtime.bounded_json import load_json

#: Type of segment -> fields with its visible text.
_NAMED = {
    "share": ("title", "content", "url"),
    "music": ("title", "content", "url"),
    "location": ("title", "content", "lat", "lon"),
    "contact": ("type", "id"),
    "dice": ("result",),
    "rps": ("result",),
    "markdown": ("content",),
    "mface": ("summary",),
    "flash_file": ("title",),
    "onlinefile": ("fileName",),
}

#: Files that QQ transfers in ways of their own, by the names of NapCat and SnowLuma.
_TRANSFERS = ("flashtransfer", "flash_file", "onlinefile")

#: Possible names of a card's URL field.
_ADDRESSES = ("jumpUrl", "qqdocurl", "url")

_BUNDLE_APP = "com.tencent.multimsg"

_MAX_CHARS = 4000


def write_named(type: str, data: dict[str, Any]) -> str:
    """Return a segment's text, or an empty text."""
    if type == "markdown":
        return str(data.get("content", ""))
    if type == "face":
        return _write_face(data)
    said = [str(data[name]) for name in _NAMED.get(type, ()) if data.get(name)]
    if not said:
        return f"[{type}, which cannot be read]" if type in _TRANSFERS else ""
    return said[0] if type == "mface" else f"[{type}: {' | '.join(said)[:_MAX_CHARS]}]"


def write_card(text: str) -> str:
    """Return the title, text and URL of a JSON card, or an empty text."""
    card = _read(text)
    said = [card.get("prompt") or card.get("desc")]
    for part in _list_parts(card):
        said += [part.get("title"), part.get("desc") or part.get("preview_text")]
        said += [next((part[name] for name in _ADDRESSES if part.get(name)), None)]
    shown = dict.fromkeys(one for one in said if isinstance(one, str) and one)
    return f"[card: {' | '.join(shown)[:_MAX_CHARS]}]" if shown else ""


def find_bundle(text: str) -> str:
    """Return the id of the forwarded messages in a card, or an empty text."""
    card = _read(text)
    if card.get("app") != _BUNDLE_APP:
        return ""
    return next((str(part["resid"]) for part in _list_parts(card) if part.get("resid")), "")


def _write_face(data: dict[str, Any]) -> str:
    # NapCat adds QQ's name of the emoji. The number alone is meaningless.
    words = _read(data.get("raw", "")).get("faceText")
    return f"[{words.strip('/[]')}]" if isinstance(words, str) and words.strip("/[]") else ""


def _read(text: Any) -> dict[str, Any]:
    try:
        found = load_json(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _list_parts(card: dict[str, Any]) -> Iterator[dict[str, Any]]:
    meta = card.get("meta")
    if isinstance(meta, dict):
        yield from (one for one in meta.values() if isinstance(one, dict))
