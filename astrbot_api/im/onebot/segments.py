"""Messages of OneBot 11: arrays of segments, or text with CQ codes.

Source: https://github.com/botuniverse/onebot-11/tree/master/message
"""

from __future__ import annotations

import re
from typing import Any

_CQ = re.compile(r"\[CQ:([a-zA-Z0-9_.-]+)((?:,[^,\[\]=]+=[^,\[\]]*)*)\]")

#: The order matters: what was an ampersand must not become an escape.
_ESCAPES = (("&#91;", "["), ("&#93;", "]"), ("&#44;", ","), ("&amp;", "&"))


#: A number of QQ that is called by ``@``, as :mod:`.inbound` shows one without a name.
_CALLED = re.compile(r"(?<![\w@.])@([1-9]\d{4,11})(?![\w.])", re.ASCII)


def write_segments(text: str, *, in_group: bool) -> list[dict[str, Any]]:
    """Return the segments of a text; in a group ``@12345678`` calls that member.

    Never everybody: a model must not be able to.
    """
    if not in_group:
        return [{"type": "text", "data": {"text": text}}]
    found: list[dict[str, Any]] = []
    at = 0
    for called in _CALLED.finditer(text):
        found.append({"type": "text", "data": {"text": text[at : called.start()]}})
        found.append({"type": "at", "data": {"qq": called[1]}})
        at = called.end()
    found.append({"type": "text", "data": {"text": text[at:]}})
    return [one for one in found if one["type"] != "text" or one["data"]["text"]]


def read_segments(message: Any) -> list[dict[str, Any]]:
    """Return the segments of an event's ``message``, in either of its forms.

    :returns: Objects with ``type`` and ``data``, whose values are strings.
    """
    if isinstance(message, str):
        return _read_codes(message)
    if not isinstance(message, list):
        return []
    return [
        {"type": one["type"], "data": {k: str(v) for k, v in (one.get("data") or {}).items()}}
        for one in message
        if isinstance(one, dict) and isinstance(one.get("type"), str)
    ]


def _read_codes(message: str) -> list[dict[str, Any]]:
    found, at = [], 0
    for code in _CQ.finditer(message):
        found.append(_text(message[at : code.start()]))
        pairs = (pair.partition("=") for pair in code[2].split(",")[1:])
        data = {name: _unescape(value) for name, _, value in pairs}
        found.append({"type": code[1], "data": data})
        at = code.end()
    found.append(_text(message[at:]))
    return [one for one in found if one["type"] != "text" or one["data"]["text"]]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "data": {"text": _unescape(text)}}


def _unescape(text: str) -> str:
    for escape, letter in _ESCAPES:
        text = text.replace(escape, letter)
    return text
