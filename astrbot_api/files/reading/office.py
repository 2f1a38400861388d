"""Text extraction from ZIP-based documents and e-books, for jobs."""

from __future__ import annotations

import io
import posixpath
import re
import tarfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Any, BinaryIO
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from ...errors import Unreadable
from ...runtime.decoding import decode

#: Maximum size of one uncompressed part, in bytes.
_MAX_PART_BYTES = 64 * 2**20

#: Maximum total size of the uncompressed parts according to the ZIP directory, in bytes.
_MAX_UNPACKED_BYTES = 512 * 2**20

#: Maximum number of rows of a sheet, and of cells of a workbook.
_MAX_ROWS = 20_000
MAX_CELLS = 400_000

_MAX_LISTED = 200

#: Maximum number of links of a sheet, and length of the text in which they are searched.
_MAX_LINKS = 500
_MAX_SEARCHED_CHARS = 200_000

#: Number of characters of a book after which reading stops, and seconds of CPU time after which its
#: chapters are read without their formatting.
_ENOUGH_CHARS = 2_000_000
_BUSY_S = 4.0

#: Maximum number of files and folders of a tar archive that are counted.
_MAX_MEMBERS = 20_000

#: Flag of a file in a ZIP whose name is in UTF-8. zipfile decodes other names as cp437, while
#: Windows writes them in the encoding of its language.
_UTF8_NAME = 0x800

#: Part with a picture of an Office, OpenDocument or OFD file, and the size of pictures that count.
_PICTURE = re.compile(
    r"((word|ppt|xl)/media|Pictures|Doc_\d+/Res)/[^/]+\.(png|jpe?g|gif|bmp|tiff?|webp)",
    re.IGNORECASE,
)
_MIN_PICTURE_BYTES = 2048

#: An element with its older forms, or notices for older programs. Source: ECMA-376, part 3, 7.5.
_ALTERNATIVES = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"


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

    def read(self, name: str, *, may_cut: bool = False) -> bytes:
        """Return a part.

        :param may_cut: Whether to return the beginning of a part that is too large.
        :raises Unreadable: when the part is missing, too large, encrypted or oddly compressed.
        """
        try:
            with self._zip.open(name) as file:
                data = file.read(_MAX_PART_BYTES + 1)
        except KeyError as error:
            raise Unreadable("it is damaged: a part is missing") from error
        except NotImplementedError as error:
            raise Unreadable("its compression is not supported; ask for it unpacked") from error
        except RuntimeError as error:  # encrypted
            raise Unreadable("it is protected by a password; ask for it without one") from error
        if may_cut:
            return data[:_MAX_PART_BYTES]
        if len(data) > _MAX_PART_BYTES:
            raise Unreadable(f"a part of it unpacks to more than {_MAX_PART_BYTES // 2**20} MiB")
        return data

    def measure(self, name: str) -> int:
        """Return the size of a part according to the ZIP directory, in bytes."""
        return self._zip.getinfo(name).file_size

    def list_pictures(self) -> list[str]:
        """Return the parts with pictures in the order of their numbers, without small icons."""
        found = [
            one.filename
            for one in self._zip.infolist()
            if _PICTURE.fullmatch(one.filename) and one.file_size >= _MIN_PICTURE_BYTES
        ]
        return sorted(found, key=lambda name: (int("0" + re.sub(r"\D", "", name)[:9]), name))

    def parse(self, name: str) -> ET.Element:
        """Parse an XML part and return its root, without older forms of new elements."""
        root = ET.fromstring(self.read(name))
        for one in root.iter(_ALTERNATIVES):
            one[1:] = []
        return root

    def describe(self) -> str:
        """Return a list of the files, one per line."""
        files = []
        for one in self._zip.infolist():
            name = one.filename
            has_second_name = name != one.orig_filename  # which is in UTF-8
            if not has_second_name and not one.flag_bits & _UTF8_NAME:
                name = decode(name.encode("cp437"))[0]
            files += [] if one.is_dir() else [(name, one.file_size)]
        return _list_files(files)


def list_tar(source: BinaryIO, notes: list[str]) -> str:
    """Return a list of the files of a tar archive, one per line."""
    files = []
    with suppress(tarfile.ReadError), tarfile.open(fileobj=source, mode="r:") as archive:
        for one in islice(archive, _MAX_MEMBERS):
            files += [(one.name, one.size)] if one.isfile() else []
        if archive.next() is not None:
            notes.append(f"Only its first {_MAX_MEMBERS} files and folders were counted.")
    return _list_files(files)


def _list_files(files: list[tuple[str, int]]) -> str:
    lines = [f"An archive with {len(files)} files, which are not read:"]
    lines += [f"- {name}, {size} bytes" for name, size in files[:_MAX_LISTED]]
    if len(files) > _MAX_LISTED:
        lines.append(f"- and {len(files) - _MAX_LISTED} more")
    return "\n".join(lines)


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


def read_epub(package: Package) -> str:
    """Return the chapters of an e-book, in reading order.

    After some seconds, the other chapters are read without their formatting.
    """
    from .pages import read_page, strip_tags

    root = next(iter_local(package.parse("META-INF/container.xml"), "rootfile"), None)
    if root is None:
        raise Unreadable("it is damaged: a part is missing")
    path = root.get("full-path", "")
    book = package.parse(path)
    items = {one.get("id"): one.get("href", "") for one in iter_local(book, "item")}
    encrypted = _list_encrypted(package)
    chapters: list[str] = []
    chars, began = 0, time.process_time()
    for reference in iter_local(book, "itemref"):
        spent_s = time.process_time() - began
        if chars > _ENOUGH_CHARS or spent_s > 2 * _BUSY_S:
            chapters.append(f"[Only its first {len(chapters)} chapters were read.]")
            break
        href = unquote(items.get(reference.get("idref"), ""))
        name = posixpath.normpath(posixpath.join(posixpath.dirname(path), href))
        if name in encrypted:
            raise Unreadable("it is protected against copying (DRM)")
        if name in package.names:
            read = strip_tags if spent_s > _BUSY_S else read_page
            chapters.append(read(decode(package.read(name))[0]))
            chars += len(chapters[-1])
    return "\n\n".join(one for one in chapters if one)


def _list_encrypted(package: Package) -> set[str]:
    """Return the encrypted parts of a book. Encrypted fonts are common and harmless."""
    name = "META-INF/encryption.xml"
    if name not in package.names:
        return set()
    references = iter_local(package.parse(name), "CipherReference")
    return {unquote(one.get("URI", "")) for one in references}


def iter_relations(package: Package, name: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the id, type and target of each relationship of a part."""
    folder, base = posixpath.split(name)
    relations = f"{folder}/_rels/{base}.rels"
    if relations in package.names:
        for one in iter_local(package.parse(relations), "Relationship"):
            target = one.get("Target", "")
            if one.get("TargetMode") != "External":
                path = target[1:] if target.startswith("/") else posixpath.join(folder, target)
                target = posixpath.normpath(path)
            yield one.get("Id", ""), (one.get("Type", "").rpartition("/")[2], target)


def list_targets(package: Package, name: str, kind: str) -> list[str]:
    """Return the existing parts to which a part has relationships of a type."""
    found = [target for _, (one, target) in iter_relations(package, name) if one == kind]
    return [target for target in found if target in package.names]


def local_name(element: ET.Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def read_attribute(element: ET.Element, local: str) -> str:
    """Return the attribute with a namespace that has a local name, or an empty string."""
    return next((value for name, value in element.items() if name.endswith("}" + local)), "")


def to_int(text: str) -> int:
    """Return a whole number of at most five digits. Others count as 0."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def iter_local(element: ET.Element, local: str) -> Iterator[ET.Element]:
    """Yield the element and its descendants that have a local name."""
    return (one for one in element.iter() if local_name(one) == local)
