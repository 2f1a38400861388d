"""Converts OneBot 11 messages: arrays of segments, or text with CQ codes.

Source: https://github.com/botuniverse/onebot-11/tree/master/message
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ..adapter import FileType, InFile
from .cards import find_bundle, write_card, write_named

_CQ = re.compile(r"\[CQ:([a-zA-Z0-9_.-]+)((?:,[^,\[\]=]+=[^,\[\]]*)*)\]")

#: Type of segment -> type of the file, and its default name.
_FILES: dict[str, tuple[FileType, str]] = {
    "image": ("image", "image.jpg"),
    "record": ("record", "record.amr"),
    "video": ("video", "video.mp4"),
    "file": ("file", "file"),
    "mface": ("image", "sticker.gif"),
}

#: The ampersand comes last, so that it cannot create another escape.
_ESCAPES = (("&#91;", "["), ("&#93;", "]"), ("&#44;", ","), ("&amp;", "&"))


#: A mention such as ``@12345678``, as :mod:`.inbound` writes users without a name.
_CALLED = re.compile(r"(?<![\w@.])@([1-9]\d{4,11})(?![\w.])", re.ASCII)


def write_segments(text: str, *, in_group: bool) -> list[dict[str, Any]]:
    """Return the segments of a text. In a group, ``@12345678`` mentions that member.

    ``@all`` is never converted, so a model cannot notify the whole group.
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
    """Return the segments of an event's ``message``, in either format.

    :returns: Objects with ``type`` and ``data``. The values of ``data`` are strings, except
        that ``content`` of forwarded messages is a list.
    """
    if isinstance(message, str):
        return _read_codes(message)
    if not isinstance(message, list):
        return []
    return [
        _find_bundle({"type": one["type"], "data": _read_data(one)})
        for one in message
        if isinstance(one, dict) and isinstance(one.get("type"), str)
    ]


def list_files(segments: list[dict[str, Any]], chat: Mapping[str, str]) -> Iterator[InFile]:
    """Yield the files of segments.

    :param chat: ``group_id`` of the message, or ``user_id`` of a private message.
    """
    for one in segments:
        if one["type"] in _FILES and (one["type"] != "mface" or one["data"].get("url")):
            kind, name = _FILES[one["type"]]
            source = orjson.dumps([one["type"], {**one["data"], **chat}]).decode()
            yield InFile(kind, _name_file(one["data"], name), source)


def list_file_calls(type: str, data: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the calls that may return a segment's file, the most likely first."""
    name = data.get("file_id") or data.get("file", "")
    asked = {"file": name, "file_id": name}
    if type == "file" and data.get("file_id"):
        # NapCat and go-cqhttp have separate calls for documents of groups and users.
        if data.get("group_id"):
            group = {"group_id": int(data["group_id"])}
            busid = {"busid": data["busid"]} if data.get("busid") else {}
            yield "get_group_file_url", {**group, **busid, "file_id": name}
        else:
            # Lagrange also needs the user and the hash.
            user = {"user_id": int(data["user_id"])} if data.get("user_id") else {}
            hashed = {"file_hash": data["file_hash"]} if data.get("file_hash") else {}
            yield "get_private_file_url", {**user, **hashed, "file_id": name}
    if type == "record":
        yield "get_record", {**asked, "out_format": "mp3"}
    elif type == "image":
        yield "get_image", asked
    else:
        yield "get_file", asked


def write_text(segments: list[dict[str, Any]], own: str = "") -> str:
    """Return the text of segments, including mentions.

    :param own: The bot's number, whose mentions are omitted.
    """
    return "".join(_write(one, own) for one in segments).strip()


def write_marked_text(segments: list[dict[str, Any]]) -> str:
    """Return the text of segments, with a placeholder for each file."""
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
    if one["type"] == "json":
        return write_card(data.get("data", ""))
    return write_named(one["type"], data)


def _name_file(data: dict[str, Any], name: str) -> str:
    shown: str = data.get("name") or data.get("file_name") or data.get("file") or name
    # go-cqhttp uses a file's URL or hash as its name.
    return name if "/" in shown or "." not in shown else shown


def _read_data(one: dict[str, Any]) -> dict[str, Any]:
    data = one.get("data")
    if not isinstance(data, dict):
        return {}
    whole = ("content",) if one["type"] == "forward" else ()
    return {
        name: value if name in whole and isinstance(value, list) else _to_text(value)
        for name, value in data.items()
    }


def _to_text(value: Any) -> str:
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)


def _find_bundle(segment: dict[str, Any]) -> dict[str, Any]:
    """Return the forwarded messages that a card shows, or else the segment itself."""
    number = find_bundle(segment["data"].get("data", "")) if segment["type"] == "json" else ""
    return {"type": "forward", "data": {"id": number}} if number else segment


def _read_codes(message: str) -> list[dict[str, Any]]:
    found, at = [], 0
    for code in _CQ.finditer(message):
        found.append(_text(message[at : code.start()]))
        pairs = (pair.partition("=") for pair in code[2].split(",")[1:])
        data = {name: _unescape(value) for name, _, value in pairs}
        found.append(_find_bundle({"type": code[1], "data": data}))
        at = code.end()
    found.append(_text(message[at:]))
    return [one for one in found if one["type"] != "text" or one["data"]["text"]]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "data": {"text": _unescape(text)}}


def _unescape(text: str) -> str:
    for escape, letter in _ESCAPES:
        text = text.replace(escape, letter)
    return text
