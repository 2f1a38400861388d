"""Tables and links in Markdown, and the sheets of workbooks as such tables."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

from ...errors import Unreadable

#: Maximum number of rows of a sheet, and of cells of a workbook.
_MAX_ROWS = 20_000
MAX_CELLS = 400_000

#: Maximum number of links of a sheet, and length of the text in which they are searched.
_MAX_LINKS = 500
_MAX_SEARCHED_CHARS = 200_000

#: A link to another place than this document or this disk.
_OUTER = re.compile(r"(?:https?|ftp|mailto|tel):", re.IGNORECASE)


def read_sheets(data: bytes) -> str:
    """Return the sheets of a workbook of any format as tables."""
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetVisibleEnum

    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        return write_sheets(
            (
                one.name,
                one.visible != SheetVisibleEnum.Visible,
                workbook.get_sheet_by_name(one.name).iter_rows(),
            )
            for one in workbook.sheets_metadata
        )
    except PasswordError as error:
        raise Unreadable("it is protected by a password; ask for it without one") from error
    except CalamineError as error:
        raise Unreadable("it is damaged") from error


def write_sheets(sheets: Iterable[tuple[str, bool, Iterator[list[Any]]]]) -> str:
    """Return sheets, of which each has a name, whether it is hidden, and rows, as tables."""
    parts, cells = [], 0
    for name, is_hidden, rows in sheets:
        table, count = _to_table(rows, MAX_CELLS - cells)
        cells += count
        parts.append(f"## {name}{' (hidden)' if is_hidden else ''}\n\n{table}".rstrip())
        if cells >= MAX_CELLS:
            parts.append("[Only the first cells were read.]")
            break
    return "\n\n".join(parts) if cells else ""


def write_remarks(title: str, remarks: Iterable[tuple[str, str]]) -> str:
    """Return what belongs to cells as a list, or an empty string for nothing."""
    lines = [f"- {cell}: {' '.join(text.split())}" for cell, text in remarks]
    return "\n".join([f"{title}:", *lines]) if lines else ""


def _to_table(rows: Iterator[list[Any]], room: int) -> tuple[str, int]:
    """Return rows as a Markdown table without empty rows, and the number of cells."""
    lines: list[list[str]] = []
    cells = 0
    more = ""
    for row in rows:
        texts = [to_cell(one) for one in row]
        while texts and not texts[-1]:
            texts.pop()
        if not texts:
            continue
        cells += len(texts)
        lines.append(texts)
        if cells > room or len(lines) >= _MAX_ROWS:
            more = f"\n\n[Only its first {len(lines)} rows are shown.]"
            break
    return to_markdown_table(lines) + more, cells


def write_link(text: str, url: str) -> str:
    """Return a text with its link, unless the link leads nowhere or the text shows it."""
    said, shown = text.strip(), url.removeprefix("mailto:").rstrip("/")
    return f"[{said}]({url})" if said and shown not in said and _OUTER.match(url) else text


def write_links(title: str, links: Iterable[tuple[str, str]], shown: str) -> str:
    """Return the links of cells that the shown text does not contain as a list."""
    shown = shown[:_MAX_SEARCHED_CHARS]
    found = islice(links, _MAX_LINKS)  # a sheet may have 65,530
    new = ((cell, link) for cell, link in found if link.removeprefix("mailto:") not in shown)
    return write_remarks(title, new)


def write_hidden(sheet: str, count: int) -> str:
    """Return a remark about the rows that a program hides, or an empty string for none."""
    return f"[Rows of {sheet} that are hidden, such as by a filter: {count}.]" if count else ""


def to_cell(value: Any) -> str:
    """Return a value of a cell with the precision of spreadsheets."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return str(value)


def to_markdown_table(rows: list[list[str]]) -> str:
    """Return rows as a Markdown table. The first row is the header."""
    if not rows:
        return ""
    width = max(len(row) for row in rows)
    lines = []
    for number, row in enumerate(rows):
        cells = [" ".join(one.split()).replace("|", "\\|") for one in row]
        lines.append("| " + " | ".join(cells + [""] * (width - len(cells))) + " |")
        if number == 0:
            lines.append("|" + " --- |" * width)
    return "\n".join(lines)
