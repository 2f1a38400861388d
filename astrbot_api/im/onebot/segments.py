"""Messages of OneBot 11: arrays of segments, or text with CQ codes.

Source: https://github.com/botuniverse/onebot-11/tree/master/message
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from ..adapter import FileType, InFile

_CQ = re.compile(r"\[CQ:([a-zA-Z0-9_.-]+)((?:,[^,\[\]=]+=[^,\[\]]*)*)\]")

#: Type of segment -> type of the file, and its name where it has none.
_FILES: dict[str, tuple[FileType, str]] = {
    "image": ("image", "image.jpg"),
    "record": ("record", "record.amr"),
    "video": ("video", "video.mp4"),
    "file": ("file", "file"),
}

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

    :returns: Objects with ``type`` and ``data``, whose values are strings; only the ``content`` of
        a bundle is a list.
    """
    if isinstance(message, str):
        return _read_codes(message)
    if not isinstance(message, list):
        return []
    return [
        {"type": one["type"], "data": _read_data(one)}
        for one in message
        if isinstance(one, dict) and isinstance(one.get("type"), str)
    ]


def list_files(segments: list[dict[str, Any]]) -> Iterator[InFile]:
    """Return the files of segments."""
    for one in segments:
        if one["type"] in _FILES:
            kind, name = _FILES[one["type"]]
            source = orjson.dumps([one["type"], one["data"]]).decode()
            yield InFile(kind, _name_file(one["data"], name), source)


def write_text(segments: list[dict[str, Any]], own: str = "") -> str:
    """Return the words of segments, with who is called in them.

    :param own: The bot's number: calls of it are left out.
    """
    return "".join(_write(one, own) for one in segments).strip()


def write_marked_text(segments: list[dict[str, Any]]) -> str:
    """Return the words of segments, with a mark where each file is."""
    marked = (
        f"[{one['type']} {_name_file(one['data'], _FILES[one['type']][1])}]"
        if one["type"] in _FILES
        else _write(one, "")
        for one in segments
    )
    return "".join(marked).strip()


def _write(one: dict[str, Any], own: str) -> str:
    data = one["data"]
    if one["type"] == "text":
        return str(data.get("text", ""))
    if one["type"] == "at" and data.get("qq") != own:
        return f"@{data.get('name') or data.get('qq', '')} "
    return ""


def _name_file(data: dict[str, Any], name: str) -> str:
    shown: str = data.get("name") or data.get("file") or name
    # go-cqhttp names a file by its address or by its hash.
    return name if "/" in shown or "." not in shown else shown


def _read_data(one: dict[str, Any]) -> dict[str, Any]:
    data = one.get("data")
    if not isinstance(data, dict):
        return {}
    whole = ("content",) if one["type"] == "forward" else ()
    return {
        name: value if name in whole and isinstance(value, list) else str(value)
        for name, value in data.items()
    }


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
