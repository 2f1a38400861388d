"""Text extraction from OpenDocument files, for jobs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO
from xml.etree import ElementTree as ET

from ...errors import Unreadable
from ...runtime.decoding import decode
from .mathml import write_mathml, write_power
from .opendocument_lists import ListNumbers
from .package import Package, iter_local, local_name, read_attribute
from .tables import to_markdown_table, write_hidden, write_link
from .workbooks import read_workbook

_STYLES = "styles.xml"

#: Beginnings of ``text-position`` that raise a text: a word or a percentage above 0.
_RAISED = ("super", *"123456789")

#: Maximum size of a document that is a single XML file, in bytes.
_MAX_FLAT_BYTES = 16 * 2**20

#: Maximum size of the XML of a spreadsheet that is read with its formats and comments, in bytes.
_MAX_TREE_BYTES = 8 * 2**20

#: A number with its currency, but no sign, bracket or arrow.
_UNSIGNED = re.compile(r"[\w\s.,%$€£¥￥]{0,30}[1-9][\w\s.,%$€£¥￥]{0,30}")

#: Maximum repetitions of a cell or row. Empty cells repeat up to the edge of the sheet.
_MAX_REPEATED = 100


def read_opendocument(package: Package) -> str:
    """Return the text of an OpenDocument text, presentation, drawing or spreadsheet."""
    if "META-INF/manifest.xml" in package.names:
        manifest = package.read("META-INF/manifest.xml")
        if b"encryption-data" in manifest:
            raise Unreadable("it is protected by a password; ask for it without one")
    if package.measure("content.xml") > _MAX_TREE_BYTES and b"spreadsheet" in package.read(
        "mimetype"
    ):
        with suppress(Unreadable):  # it has line ends between its cells, as SheetJS writes them
            return read_workbook(package)
    return _read_body(package.parse("content.xml"), package)


def read_flat(source: BinaryIO) -> str:
    """Return the text of an OpenDocument file that is a single XML file, such as fodt."""
    data = source.read(_MAX_FLAT_BYTES + 1)
    if len(data) > _MAX_FLAT_BYTES:
        raise Unreadable(f"it is larger than {_MAX_FLAT_BYTES // 2**20} MiB; ask for it as PDF")
    return _read_body(ET.fromstring(decode(data)[0]))


def _read_body(root: ET.Element, package: Package | None = None) -> str:
    """Return the text of a document, with formulas in their places and charts at the end."""
    styles = [package.parse(_STYLES)] if package is not None and _STYLES in package.names else []
    lists = ListNumbers(*styles, root)
    ends = []
    hidden = _find_styles(root, "display", "false", "none")
    hidden |= _find_styles(root, "visibility", "hidden")
    for one in list(iter_local(root, "object")):
        part = posixpath.normpath(f"{read_attribute(one, 'href')}/content.xml")
        if package is not None and part in package.names:
            one.append(package.parse(part))
        for inner in list(one):
            one.remove(inner)
            if local_name(inner) == "math":
                source = next(iter_local(inner, "annotation"), None)
                said = write_mathml(inner) if source is None else "".join(source.itertext())
                one.text = f" [formula: {' '.join(said.split())}] "
            else:
                is_chart = next(iter_local(inner, "chart"), None) is not None
                for cell in iter_local(inner, "table-cell") if is_chart else ():
                    cell[:] = [part for part in cell if local_name(part) != "g"]  # cell ranges
                text = _join(_iter_opendocument(inner, lists, 0))
                ends.append(f"[chart]\n{text}" if is_chart else text)
    for one in root.iter() if hidden else ():
        if read_attribute(one, "style-name") not in hidden:
            continue
        if local_name(one) == "span":
            tail = one.tail
            one.clear()
            one.tail = tail
        elif local_name(one) in ("table", "page"):
            one.attrib = {"{}name": f"{read_attribute(one, 'name')} (hidden)"}
    raised = _find_styles(root, "text-position", *_RAISED)
    for one in iter_local(root, "span") if raised else ():
        if read_attribute(one, "style-name") in raised:
            one.text = write_power(one.text or "")
    bodies = list(iter_local(root, "body"))
    blocks = (_join(_iter_opendocument(body, lists, 0)) for body in bodies)
    if any(local_name(one) == "text" for body in bodies for one in body):
        # Sheets have those of the program.
        ends += dict.fromkeys(_iter_margins(styles or [root], lists))
    return _join([*blocks, *ends])


def _find_styles(root: ET.Element, name: str, *values: str) -> set[str]:
    """Return the styles of which an attribute begins with one of the values."""
    return {
        read_attribute(style, "name")
        for style in iter_local(root, "style")
        if any(read_attribute(one, name).startswith(values) for one in style)
    }


def _iter_margins(styles: Iterable[ET.Element], lists: ListNumbers) -> Iterator[str]:
    for page in (page for one in styles for page in iter_local(one, "master-page")):
        for part in page:
            kind = local_name(part).partition("-")[0]
            if kind in ("header", "footer") and read_attribute(part, "display") != "false":
                text = _join(_iter_opendocument(part, lists, 0))
                yield f"{kind.capitalize()}: {text}" if text else ""


def _join(blocks: Iterable[str]) -> str:
    return "\n\n".join(one for one in blocks if one)


def _iter_opendocument(element: ET.Element, lists: ListNumbers, depth: int) -> Iterator[str]:
    """Yield headings, paragraphs, lists and tables."""
    if depth > 200:
        return
    for one in element:
        local = local_name(one)
        if local == "h":
            level = read_attribute(one, "outline-level")
            mark = "#" * min(int(level) if level.isdecimal() else 1, 6)
            yield f"{mark} {lists.count_heading(one)}{_odf_text(one)}"
        elif local in ("p", "object"):  # of which a formula has become text
            yield _odf_text(one)
        elif local == "list":
            yield "\n".join(_iter_list(one, lists, lists.begin(one), 0))
        elif local == "table":
            if local_name(element) == "spreadsheet":
                yield f"## {read_attribute(one, 'name')}"
            yield to_markdown_table(list(_iter_rows(one)))
            hidden = sum(
                next(iter_local(row, "p"), None) is not None
                for row in iter_local(one, "table-row")
                if read_attribute(row, "visibility") in ("collapse", "filter")
            )
            yield write_hidden(read_attribute(one, "name"), hidden)
        elif local == "page":
            yield f"## {read_attribute(one, 'name')}".rstrip()
            yield from _iter_opendocument(one, lists, depth + 1)
        elif local == "notes":
            said = " ".join(_iter_opendocument(one, lists, depth + 1))
            said = said.replace("<number>", "").strip()  # the place of the page's number
            yield f"Notes: {said}" if said else ""
        elif local not in ("tracked-changes", "automatic-styles", "font-face-decls"):
            yield from _iter_opendocument(one, lists, depth + 1)


def _iter_list(element: ET.Element, lists: ListNumbers, style: str, level: int) -> Iterator[str]:
    style = read_attribute(element, "style-name") or style
    for item in element:
        mark = "  " if local_name(item) == "list-header" else ""
        for one in item:
            if local_name(one) in ("p", "h"):
                start = read_attribute(item, "start-value")
                mark = mark or f"{lists.count(style, level + 1, start) or '-'} "
                yield "  " * level + mark + _odf_text(one)
                mark = "  "
            elif local_name(one) == "list" and level < 20:
                yield from _iter_list(one, lists, style, level + 1)


def _iter_rows(table: ET.Element) -> Iterator[list[str]]:
    """Yield the rows of a table, with repetitions. A table in a cell becomes its text."""
    for row in table:
        if local_name(row) in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _iter_rows(row)
        if local_name(row) != "table-row":
            continue
        cells: list[str] = []
        for cell in row:
            if local_name(cell) not in ("table-cell", "covered-table-cell"):
                continue
            cells += [_write_cell(cell)] * _repeated(cell, "number-columns-repeated")
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield from [cells] * _repeated(row, "number-rows-repeated")


def _write_cell(cell: ET.Element) -> str:
    """Return the text of a cell as it is shown, but dates in a form for all languages."""
    date = read_attribute(cell, "date-value")
    for one in [one for one in cell if date and local_name(one) == "p"]:
        one.clear()
        one.text, date = date.replace("T", " "), ""
    text = _odf_text(cell)
    is_negative = read_attribute(cell, "value").startswith("-")
    # Only the colour of some numbers shows that they are negative.
    return f"-{text}" if is_negative and _UNSIGNED.fullmatch(text) else text


def _repeated(element: ET.Element, name: str) -> int:
    value = read_attribute(element, name)
    return max(1, min(int(value), _MAX_REPEATED)) if value.isdecimal() else 1


def _odf_text(element: ET.Element) -> str:
    """Return the text of a paragraph, indented like a line of code."""
    pieces: list[str] = []

    def walk(one: ET.Element, depth: int) -> None:
        local = local_name(one)
        if local in ("line-break", "p"):
            pieces.append(" ")
        elif local in ("s", "tab"):
            pieces.append("\xa0" * (4 if local == "tab" else _repeated(one, "c")))
        if local in ("note-body", "annotation"):
            author = "".join(f"{name.text}: " for name in iter_local(one, "creator"))
            pieces.append(f" [{author}{' '.join(_odf_text(p) for p in iter_local(one, 'p'))}] ")
        elif local not in ("note-citation", "binary-data", "ruby-text") and depth < 200:
            begin = len(pieces)
            pieces.append(one.text or "")
            for child in one:
                walk(child, depth + 1)
                pieces.append(child.tail or "")
            if local == "a":
                pieces[begin:] = [write_link("".join(pieces[begin:]), read_attribute(one, "href"))]

    walk(element, 0)
    text = "".join(pieces).strip(" \t\r\n")
    indent = " " * (len(text) - len(text.lstrip("\xa0")))
    return (indent + " ".join(text.split())).rstrip()
