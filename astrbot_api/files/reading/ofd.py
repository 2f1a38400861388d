"""Text extraction from OFD, the format of Chinese invoices and official letters, for jobs.

Source: GB/T 33190-2016.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from ...errors import Unreadable
from .package import Package, iter_local, local_name

#: Texts whose baselines differ by less are on one line, and texts with a smaller gap are one word,
#: as shares of the size of a letter.
_LINE = 0.5
_GAP = 0.2

#: Size of a letter whose size is missing, in millimetres.
_SIZE_MM = 3.0


@dataclass(frozen=True, slots=True)
class _Text:
    y: float
    x: float
    right: float
    size: float
    text: str


def read_ofd(package: Package) -> str:
    """Return the text of the pages, with that of their templates, in lines from top to bottom."""
    pages: list[str] = []
    for root in iter_local(package.parse("OFD.xml"), "DocRoot"):
        path = posixpath.normpath((root.text or "").strip().lstrip("/"))
        pages += _iter_pages(package, path)
    return "\n\n".join(filter(None, pages))


def _iter_pages(package: Package, path: str) -> Iterator[str]:
    document = package.parse(path)
    templates = {one.get("ID"): one for one in iter_local(document, "TemplatePage")}
    for one in iter_local(document, "Page"):
        page = _parse(package, path, one)
        shown = [templates.get(use.get("TemplateID")) for use in iter_local(page, "Template")]
        parts = [page, *(_parse(package, path, use) for use in shown if use is not None)]
        yield _write_lines([text for part in parts for text in _iter_texts(part)])


def _parse(package: Package, path: str, place: ET.Element) -> ET.Element:
    """Parse the part to which an element refers."""
    name = place.get("BaseLoc", "")
    joined = name[1:] if name.startswith("/") else posixpath.join(posixpath.dirname(path), name)
    return package.parse(posixpath.normpath(joined))


def _iter_texts(page: ET.Element) -> Iterator[_Text]:
    for one in iter_local(page, "TextObject"):
        if one.get("Visible") == "false":
            continue
        left, top, width, _ = _read_numbers(one.get("Boundary", ""), [0.0] * 4)
        a, b, c, d, e, f = _read_numbers(one.get("CTM", ""), [1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
        (size,) = _read_numbers(one.get("Size") or one.get("size") or "", [_SIZE_MM])
        x = y = 0.0
        for code in one:
            if local_name(code) == "TextCode" and code.text:
                (x,) = _read_numbers(code.get("X", ""), [x])
                (y,) = _read_numbers(code.get("Y", ""), [y])
                place = left + a * x + c * y + e
                yield _Text(top + b * x + d * y + f, place, left + width, size, code.text)


def _read_numbers(text: str, default: list[float]) -> list[float]:
    try:
        found = [float(one) for one in text.split()]
    except ValueError as error:
        raise Unreadable("it is damaged") from error
    return found if len(found) == len(default) else default


def _write_lines(texts: list[_Text]) -> str:
    lines: list[list[_Text]] = []
    for one in sorted(texts, key=lambda text: text.y):
        if lines and one.y - lines[-1][0].y < _LINE * one.size:
            lines[-1].append(one)
        else:
            lines.append([one])
    return "\n".join(map(_write_line, lines))


def _write_line(line: list[_Text]) -> str:
    written, right = "", 0.0
    for one in sorted(line, key=lambda text: text.x):
        gap = " " if written and one.x - right > _GAP * one.size else ""
        written += gap + one.text.strip()
        right = one.right
    return written
