"""Conversion of MCP results and tool descriptions to the workers' protocol."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from ..wire import (
    MAX_ENTRY_CHARS,
    MAX_FILES_CHARS,
    MAX_LIST_CHARS,
    MAX_TEXT_CHARS,
    encode,
)  # fmt: skip

log = logging.getLogger(__name__)


def to_parts(result: Any) -> list[dict[str, Any]]:
    """Return the parts of a ``CallToolResult``, truncated to the protocol's limits.

    :returns: ``text`` and ``file`` parts, see :mod:`..wire`.
    """
    parts = [_to_part(block) for block in result.content]
    said = any(part["type"] == "file" or part["text"].strip() for part in parts)
    if not said and result.structured_content is not None:
        parts = [_text(json.dumps(result.structured_content, ensure_ascii=False))]
    return _cut(parts)


def to_resource_parts(result: Any) -> list[dict[str, Any]]:
    """Return the parts of a ``ReadResourceResult``, truncated to the protocol's limits."""
    return _cut([_to_resource_part(one) for one in result.contents])


def to_prompt_parts(result: Any) -> list[dict[str, Any]]:
    """Return the parts of a ``GetPromptResult``, each with its ``role``."""
    return _cut([{**_to_part(one.content), "role": one.role} for one in result.messages])


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _file(name: str, mime: str, data: str) -> dict[str, Any]:
    """Return a file. Some servers send a ``data:`` URL instead of base64, or a link."""
    if data.startswith(("https://", "http://")):
        return _text(f"[link: {name} {data}]")
    head, comma, rest = data.partition(",")
    if comma and head.startswith("data:"):
        mime, data = head[5:].partition(";")[0] or mime, rest
    return {"type": "file", "name": name, "mime": mime, "data": data}


def _to_part(block: Any) -> dict[str, Any]:
    kind = block.type
    if kind == "text":
        return _text(block.text)
    if kind in ("image", "audio"):
        return _file(kind, block.mime_type, block.data)
    if kind == "resource_link":
        return _text(f"[link: {block.title or block.name} {block.uri}]")
    if kind == "resource":
        return _to_resource_part(block.resource)
    return _text(f"[{kind}: unsupported type of content]")


def _to_resource_part(resource: Any) -> dict[str, Any]:
    if hasattr(resource, "text"):
        return _text(resource.text)
    name = urlsplit(str(resource.uri)).path.rpartition("/")[2] or "file"
    mime = resource.mime_type or "application/octet-stream"
    return _file(name, mime, resource.blob)


def _cut(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    text_room, files_room = MAX_TEXT_CHARS, MAX_FILES_CHARS
    kept = []
    for part in parts:
        if part["type"] == "file" and len(part["data"]) > files_room:
            size_bytes = len(part["data"]) * 3 // 4
            text = f"[{part['name']}: {size_bytes} bytes, too large]"
            role = {"role": part["role"]} if "role" in part else {}
            part = {**role, **_text(text)}
        if part["type"] == "file":
            files_room -= len(part["data"])
        else:
            text = part["text"]
            part = {**part, "text": text[:text_room]}
            text_room -= len(part["text"])
            if len(part["text"]) < len(text):
                kept += [part, {**part, "text": f"[cut: the text has {len(text)} characters]"}]
                return kept
        kept.append(part)
    return kept


def describe_tool(tool: Any) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description or tool.title or tool.name,
        "parameters": tool.input_schema,
        "hints": _list_hints(tool),
    }


class Kept:
    """The descriptions of one list that fit into the protocol's limits. Others are logged.

    :param kind: ``tool``, ``resource`` or ``prompt``, for the log.
    :param max_entries: Maximum number of entries, or None for any.
    """

    def __init__(self, server: str, kind: str, max_entries: int | None = None) -> None:
        self.entries: list[dict[str, Any]] = []
        #: Whether further entries are dropped, so that no more pages are read.
        self.full = False
        self._server = server
        self._kind = kind
        self._max_entries = max_entries
        self._room = MAX_LIST_CHARS

    def add(self, described: Iterable[dict[str, Any]]) -> None:
        """Keep the descriptions of a page."""
        for entry in described:
            size = len(encode(entry))
            if size > MAX_ENTRY_CHARS:
                log.error(
                    "MCP server %s: skipped %s %.100r: its description is too large",
                    self._server, self._kind, entry["name"],
                )  # fmt: skip
                continue
            self.full = size > self._room or len(self.entries) == self._max_entries
            if self.full:
                log.error(
                    "MCP server %s: skipped %s %.100r and all that follow: the list is too long",
                    self._server, self._kind, entry["name"],
                )  # fmt: skip
                return
            self.entries.append(entry)
            self._room -= size


def _list_hints(tool: Any) -> list[str]:
    """Return a tool's hints, see :mod:`..wire`."""
    said = tool.annotations
    if said is None:
        return []
    if said.read_only_hint:
        return ["safe", "reads_only"]
    hints = {"safe": said.idempotent_hint, "destructive": said.destructive_hint}
    return [name for name, given in hints.items() if given]
