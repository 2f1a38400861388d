"""Reads rich messages of Telegram, as bots send them and users forward them.

Source: https://core.telegram.org/bots/api#richmessage
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Type of a block with a file -> field of the message that has such a file.
_FILES = {
    "photo": "photo",
    "video": "video",
    "animation": "animation",
    "audio": "audio",
    "voice_note": "voice",
    "document": "document",
}


def write_rich(rich: Mapping[str, Any]) -> str:
    """Return a rich message as Markdown."""
    return "\n\n".join(_iter_blocks(rich["blocks"]))


def list_rich_files(rich: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a message with one file for each file in a rich message."""
    for block in rich["blocks"]:
        name = _FILES.get(block["type"])
        if name:
            yield {name: block[block["type"]]}
        for inner in (block, *block.get("items", ())):
            if "blocks" in inner:
                yield from list_rich_files(inner)


def _iter_blocks(blocks: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the text of each block that has some."""
    for block in blocks:
        text = _write_block(block).strip("\n")
        if text:
            yield text


def _write_block(block: dict[str, Any]) -> str:
    kind = block["type"]
    text = _write(block.get("text", ""))
    if kind == "heading":
        return f"{'#' * int(block['size'])} {text}"
    if kind == "pre":
        return f"```{block.get('language', '')}\n{text}\n```"
    if kind == "mathematical_expression":
        return f"$${block['expression']}$$"
    if kind == "list":
        return "\n".join(_write_item(one) for one in block["items"])
    if kind == "table":
        return _write_table(block)
    inner = "\n\n".join(_iter_blocks(block.get("blocks", [])))
    caption = block.get("caption") or {}
    parts = [_write(block.get("summary", "")), text, inner, _write(caption.get("text", ""))]
    written = "\n\n".join(filter(None, parts))
    if kind.endswith("quote"):
        return "> " + "\n> ".join(written.split("\n"))
    return written


def _write_item(item: dict[str, Any]) -> str:
    box = ("[x] " if item.get("is_checked") else "[ ] ") if item.get("has_checkbox") else ""
    label = item["label"] if str(item.get("label", "")).rstrip(".)").isalnum() else "-"
    return f"{label} {box}" + "\n".join(_iter_blocks(item["blocks"])).replace("\n", "\n  ")


def _write_table(table: dict[str, Any]) -> str:
    rows = [[_write(cell.get("text", "")) for cell in row] for row in table["cells"]]
    lines = ["| " + " | ".join(row).replace("\n", " ") + " |" for row in rows]
    if rows:
        lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join([*lines, *filter(None, [_write(table.get("caption", ""))])])


def _write(text: Any) -> str:
    """Return a formatted text, which is a string, a list or an object with a text."""
    if isinstance(text, str):
        return text
    if isinstance(text, list):
        return "".join(map(_write, text))
    kind = text.get("type")
    if kind == "mathematical_expression":
        return f"${text['expression']}$"
    if kind == "custom_emoji":
        return str(text.get("alternative_text", ""))
    if kind == "code":
        return f"`{_write(text['text'])}`"
    said = _write(text.get("text", ""))
    if kind == "url" and text["url"].strip("/") != said.strip("/"):
        return f"{said} ({text['url']})"
    return said
