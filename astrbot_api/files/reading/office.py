"""Text extraction from ZIP-based documents and e-books, for jobs."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from ...errors import Unreadable

#: Maximum size of one uncompressed part, in bytes.
_MAX_PART_BYTES = 64 * 2**20

#: Maximum total size of the uncompressed parts according to the ZIP directory, in bytes.
_MAX_UNPACKED_BYTES = 512 * 2**20

#: Maximum number of rows of a sheet, and of cells of a workbook.
_MAX_ROWS = 20_000
_MAX_CELLS = 400_000

_MAX_LISTED = 200


class Package:
    """A ZIP file with size limits.

    :raises Unreadable: when the uncompressed size in its directory exceeds the limit.
    """

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self._zip = zipfile.ZipFile(source)
        self.names = set(self._zip.namelist())
        if sum(one.file_size for one in self._zip.infolist()) > _MAX_UNPACKED_BYTES:
            raise Unreadable(f"it unpacks to more than {_MAX_UNPACKED_BYTES // 2**20} MiB")

    def read(self, name: str) -> bytes:
        """Return a part.

        :raises Unreadable: when the part is missing, too large or encrypted.
        """
        try:
            with self._zip.open(name) as file:
                data = file.read(_MAX_PART_BYTES + 1)
        except KeyError as error:
            raise Unreadable("it is damaged: a part is missing") from error
        except RuntimeError as error:  # encrypted
            raise Unreadable("it is protected by a password; ask for it without one") from error
        if len(data) > _MAX_PART_BYTES:
            raise Unreadable(f"a part of it unpacks to more than {_MAX_PART_BYTES // 2**20} MiB")
        return data

    def parse(self, name: str) -> ET.Element:
        """Parse an XML part and return its root."""
        return ET.fromstring(self.read(name))

    def describe(self) -> str:
        """Return a list of the files, one per line."""
        members = [one for one in self._zip.infolist() if not one.is_dir()]
        lines = [f"An archive with {len(members)} files:"]
        lines += [f"- {one.filename}, {one.file_size} bytes" for one in members[:_MAX_LISTED]]
        if len(members) > _MAX_LISTED:
            lines.append(f"- and {len(members) - _MAX_LISTED} more")
        return "\n".join(lines)


def read_docx(package: Package) -> str:
    """Return the text of a Word document with headings, lists, tables, notes and comments."""
    import mammoth

    from .pages import html_to_markdown

    package.source.seek(0)
    # mammoth uses the file's name as a path, and an open descriptor has no path.
    source = io.BytesIO(package.source.read())
    no_picture = mammoth.images.img_element(lambda _: {})
    page = mammoth.convert_to_html(
        source, convert_image=no_picture, style_map="comment-reference => sup"
    ).value
    return html_to_markdown(page)


def read_workbook(package: Package) -> str:
    """Return the sheets of an xlsx, xlsm, xlsb or ods workbook as tables."""
    package.source.seek(0)
    return read_sheets(package.source.read())


def read_sheets(data: bytes) -> str:
    """Return the sheets of a workbook of any format as tables."""
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetVisibleEnum

    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        parts, cells = [], 0
        for sheet in workbook.sheets_metadata:
            rows = workbook.get_sheet_by_name(sheet.name).iter_rows()
            table, count = _to_table(rows, _MAX_CELLS - cells)
            cells += count
            hidden = "" if sheet.visible == SheetVisibleEnum.Visible else " (hidden)"
            parts.append(f"## {sheet.name}{hidden}\n\n{table}".rstrip())
            if cells >= _MAX_CELLS:
                parts.append("[Only the first cells were read.]")
                break
    except PasswordError as error:
        raise Unreadable("it is protected by a password; ask for it without one") from error
    except CalamineError as error:
        raise Unreadable("it is damaged") from error
    return "\n\n".join(parts) if cells else ""


def _to_table(rows: Iterator[list[Any]], room: int) -> tuple[str, int]:
    """Return rows as a Markdown table without empty rows, and the number of cells."""
    lines: list[list[str]] = []
    cells = 0
    more = ""
    for row in rows:
        texts = [_to_cell(one) for one in row]
        while texts and not texts[-1]:
            texts.pop()
        cells += len(texts)
        lines.append(texts)
        if cells > room or len(lines) >= _MAX_ROWS:
            more = f"\n\n[Only its first {len(lines)} rows are shown.]"
            break
    while lines and not lines[-1]:
        lines.pop()
    return to_markdown_table([line for line in lines if line]) + more, cells


def _to_cell(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.15g}"  # the precision of spreadsheets
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


def read_pptx(package: Package) -> str:
    """Return the text of a presentation's slides, with tables and notes."""
    parts = []
    slides = [name for name in package.names if re.fullmatch(r"ppt/slides/slide\d+\.xml", name)]
    order = _slide_order(package)
    slides.sort(key=lambda name: (order.get(name, 10**6), int(re.sub(r"\D", "", name))))
    for number, name in enumerate(slides, 1):
        slide = package.parse(name)
        hidden = " (hidden)" if slide.get("show") in ("0", "false") else ""
        lines = [f"## Slide {number}{hidden}", *_iter_slide(slide)]
        for target in _list_targets(package, name, "notesSlide"):
            notes = " ".join(_iter_slide(package.parse(target))).strip()
            if notes:
                lines.append(f"Notes: {notes}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _slide_order(package: Package) -> dict[str, int]:
    """Return the position of each slide, which its part's name does not show."""
    main = "ppt/presentation.xml"
    targets = dict(_iter_relations(package, main))
    order = {}
    for number, slide in enumerate(iter_local(package.parse(main), "sldId")):
        key = next((value for name, value in slide.items() if name.endswith("}id")), "")
        if key in targets:
            order[targets[key][1]] = number
    return order


def _iter_relations(package: Package, name: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the id, type and target of each relationship of a part."""
    folder, base = posixpath.split(name)
    relations = f"{folder}/_rels/{base}.rels"
    if relations in package.names:
        for one in iter_local(package.parse(relations), "Relationship"):
            target = one.get("Target", "")
            path = target[1:] if target.startswith("/") else posixpath.join(folder, target)
            kind = one.get("Type", "").rpartition("/")[2]
            yield one.get("Id", ""), (kind, posixpath.normpath(path))


def _list_targets(package: Package, name: str, kind: str) -> list[str]:
    found = [target for _, (one, target) in _iter_relations(package, name) if one == kind]
    return [target for target in found if target in package.names]


def _iter_slide(root: ET.Element) -> Iterator[str]:
    """Yield the paragraphs, tables and image descriptions of a slide, without its number."""
    skipped = {id(one) for table in iter_local(root, "tbl") for one in table.iter()}
    for shape in iter_local(root, "sp"):
        place = next(iter_local(shape, "ph"), None)
        if place is not None and place.get("type") in ("sldNum", "dt", "ftr", "hdr"):
            skipped |= {id(one) for one in shape.iter()}
    for element in root.iter():
        local = local_name(element)
        if local == "tbl":
            rows = [
                [_text_of(cell) for cell in iter_local(row, "tc")]
                for row in iter_local(element, "tr")
            ]
            yield to_markdown_table(rows)
        elif local == "pic":
            described = next((one.get("descr") for one in iter_local(element, "cNvPr")), None)
            if described:
                yield f"[picture: {' '.join(described.split())}]"
        elif local == "p" and id(element) not in skipped:
            text = _text_of(element)
            if text:
                yield text


def _text_of(element: ET.Element) -> str:
    """Return the text of a DrawingML element."""
    pieces = []
    for one in element.iter():
        local = local_name(one)
        if local == "t":
            pieces.append(one.text or "")
        elif local == "br":
            pieces.append(" ")
    return "".join(pieces).strip()


def read_epub(package: Package) -> str:
    """Return the chapters of an e-book, in reading order."""
    from ...runtime.decoding import decode
    from .pages import html_to_markdown

    root = next(iter_local(package.parse("META-INF/container.xml"), "rootfile"), None)
    if root is None:
        raise Unreadable("it is damaged: a part is missing")
    path = root.get("full-path", "")
    book = package.parse(path)
    items = {one.get("id"): one.get("href", "") for one in iter_local(book, "item")}
    encrypted = _list_encrypted(package)
    chapters, chars = [], 0
    for reference in iter_local(book, "itemref"):
        href = unquote(items.get(reference.get("idref"), ""))
        name = posixpath.normpath(posixpath.join(posixpath.dirname(path), href))
        if name in encrypted:
            raise Unreadable("it is protected against copying (DRM)")
        if name in package.names:
            text = html_to_markdown(decode(package.read(name))[0])
            chapters.append(text)
            chars += len(text)
        if chars > 2_000_000:
            break
    return "\n\n".join(one for one in chapters if one)


def _list_encrypted(package: Package) -> set[str]:
    """Return the encrypted parts of a book. Encrypted fonts are common and harmless."""
    name = "META-INF/encryption.xml"
    if name not in package.names:
        return set()
    references = iter_local(package.parse(name), "CipherReference")
    return {unquote(one.get("URI", "")) for one in references}


def local_name(element: ET.Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def iter_local(element: ET.Element, local: str) -> Iterator[ET.Element]:
    """Yield the element and its descendants that have a local name."""
    return (one for one in element.iter() if local_name(one) == local)
