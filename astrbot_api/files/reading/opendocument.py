"""Text extraction from OpenDocument files, for jobs."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from ...errors import Unreadable
from .office import Package, iter_local, local_name, to_markdown_table
from .workbooks import read_workbook

#: Maximum repetitions of a cell or row. Empty cells repeat up to the edge of the sheet.
_MAX_REPEATED = 100


def read_opendocument(package: Package) -> str:
    """Return the text of an OpenDocument text, presentation, drawing or spreadsheet."""
    if "META-INF/manifest.xml" in package.names:
        manifest = package.read("META-INF/manifest.xml")
        if b"encryption-data" in manifest:
            raise Unreadable("it is protected by a password; ask for it without one")
    if b"opendocument.spreadsheet" in package.read("mimetype"):
        return read_workbook(package)
    return "\n\n".join(one for one in _iter_opendocument(package.parse("content.xml"), 0) if one)


def _iter_opendocument(element: ET.Element, depth: int) -> Iterator[str]:
    """Yield headings, paragraphs, lists and tables."""
    if depth > 200:
        return
    for one in element:
        local = local_name(one)
        if local == "h":
            level = next((v for k, v in one.items() if k.endswith("}outline-level")), "1")
            yield "#" * min(int(level) if level.isdecimal() else 1, 6) + " " + _odf_text(one)
        elif local == "p":
            yield _odf_text(one)
        elif local == "list":
            yield "\n".join(_iter_list(one, 0))
        elif local == "table":
            yield to_markdown_table(list(_iter_rows(one)))
        elif local == "page":
            name = next((v for k, v in one.items() if k.endswith("}name")), "")
            yield f"## {name}".rstrip()
            yield from _iter_opendocument(one, depth + 1)
        elif local not in ("tracked-changes", "automatic-styles", "font-face-decls"):
            yield from _iter_opendocument(one, depth + 1)


def _iter_list(element: ET.Element, level: int) -> Iterator[str]:
    for item in element:
        for one in item if local_name(item) == "list-item" else ():
            if local_name(one) in ("p", "h"):
                yield "  " * level + "- " + _odf_text(one)
            elif local_name(one) == "list" and level < 20:
                yield from _iter_list(one, level + 1)


def _iter_rows(table: ET.Element) -> Iterator[list[str]]:
    """Yield the rows of a table, with repetitions."""
    for row in iter_local(table, "table-row"):
        cells: list[str] = []
        for cell in row:
            if local_name(cell) not in ("table-cell", "covered-table-cell"):
                continue
            text = " ".join(_odf_text(one) for one in iter_local(cell, "p"))
            cells += [text] * _repeated(cell, "number-columns-repeated")
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield from [cells] * _repeated(row, "number-rows-repeated")


def _repeated(element: ET.Element, name: str) -> int:
    value = next((v for k, v in element.items() if k.endswith(name)), "1")
    return max(1, min(int(value), _MAX_REPEATED)) if value.isdecimal() else 1


def _odf_text(element: ET.Element) -> str:
    pieces: list[str] = []

    def walk(one: ET.Element, depth: int) -> None:
        local = local_name(one)
        if local in ("s", "tab", "line-break"):
            pieces.append(" ")
        if local == "note-body":
            pieces.append(f" [{' '.join(_odf_text(p) for p in iter_local(one, 'p'))}] ")
        elif local not in ("annotation", "note-citation") and depth < 200:
            pieces.append(one.text or "")
            for child in one:
                walk(child, depth + 1)
                pieces.append(child.tail or "")

    walk(element, 0)
    return " ".join("".join(pieces).split())
