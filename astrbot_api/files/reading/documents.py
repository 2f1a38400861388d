"""Job that extracts the text of documents as Markdown."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePath
from typing import Any, BinaryIO, Literal
from xml.etree import ElementTree as ET

from ...errors import Unreadable
from ...event_lines import join_surrogates
from ..kinds import HEAD_BYTES, detect_kind
from .ebooks import read_epub, read_fb2
from .mindmaps import XMIND_PART, read_xmind
from .ofd import read_ofd
from .opendocument import read_flat, read_opendocument
from .outlook import read_msg
from .package import Package, list_tar, list_targets
from .pages import limit_cpu
from .rtf import read_rtf
from .slides import read_pptx, read_vsdx
from .tables import read_sheets
from .text_files import read_text_file
from .texts import MAX_TEXT_BYTES, MAX_WHOLE_BYTES, keep_ends
from .word import iter_blocks, read_docx
from .workbooks import read_workbook, read_xml_workbook
from .xls import read_xls

#: Maximum number and length of notes, which the config's ``file_tokens`` does not limit.
_MAX_NOTES = 20
_MAX_NOTE_CHARS = 500

#: A document with pictures and less text is shown as its pictures.
_FEW_CHARS = 500

_XML_WORKBOOK = b'<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"'
#: A document of Word 2003, or of a later one with all parts, as a single XML file.
_XML_DOCUMENT = re.compile(rb"<(w:wordDocument|pkg:package)\s")
#: Parts of Office documents that embed documents.
_WITH_EMBEDDED = re.compile(r"word/document\.xml|ppt/slides/slide\d+\.xml")
#: Folders in a ZIP, and what macOS adds to the files.
_IGNORED = re.compile(r"/$|^__MACOSX/|(^|/)\.DS_Store$")
_FLAT_START = re.compile(rb"\s*(<\?xml[^>]{0,100}>\s*)?<office:document\s")

#: Beginning of a compressed file, and the function that opens it; of bzip2 with its first block.
_PACKED: tuple[tuple[re.Pattern[bytes], Callable[[Any], Any]], ...] = (
    (re.compile(rb"\x1f\x8b"), gzip.open), (re.compile(rb"\xfd7zXZ\0"), lzma.open),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), bz2.open),
)  # fmt: skip

_PASSWORD = "it is protected by a password; ask for it without one"

#: Names of streams in old Office files. Source: MS-OFFCRYPTO, MS-OXMSG.
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
#: The record FilePass after the beginning of a workbook. Source: MS-XLS, 2.4.117.
_LOCKED_SHEETS = re.compile(rb"\x09\x08[\x08\x10]\0.{8,16}?\x2f\0[\x04-\xff]\0", re.DOTALL)
#: Beginning of a sheet of Excel 2 to 4, which some instruments and old programs still write.
_OLD_SHEET = re.compile(rb"\x09[\0\2\4][\4\6]\0")
_WORKBOOK = re.compile("book".encode("utf-16-le"), re.IGNORECASE)  # Workbook or Book
_OUTLOOK = "__properties_version1.0".encode("utf-16-le")

#: Name of a stream, extension and program of an old document.
_OLD_DOCUMENTS: tuple[tuple[str, Literal["doc", "ppt"], str], ...] = (
    ("WordDocument", "doc", "Word"), ("PowerPoint Document", "ppt", "PowerPoint"),
)  # fmt: skip


def extract_text(source: BinaryIO, mime: str, name: str) -> tuple[Any, bytes]:
    """Return the text of a document as UTF-8, with notes for the model.

    :returns: ``{"notes": [sentence, …], "images": [index, …]}`` and the text. The images are the
        pages of a PDF without readable text, or the pictures of a document with hardly any text.
    :raises Unreadable: when the document cannot be read, with the reason.
    :raises Exception: any error of a library for a damaged document.
    """
    notes: list[str] = []
    images: list[int] = []
    head = source.read(4096)
    source.seek(0)
    packed, outer = _unpack(source, head, name, notes), source
    source.seek(0)
    if packed is not None:
        source, name = packed
        head = source.read(HEAD_BYTES)
        source.seek(0)
        mime = detect_kind(head, name).mime
    if not head:
        return {"notes": ["It is empty."], "images": []}, b""
    if b"%PDF-" in head[:1024]:
        from .pdf import read_pdf

        text, images = read_pdf(source, notes)
    else:
        text = _extract(source, head, mime, PurePath(name.lower()).suffix, notes)
        if not (text.strip() or notes):
            notes.append("It has no text.")
        if head.startswith(b"PK\x03\x04"):
            images = _find_pictures(source, text, notes)
    if packed is not None:
        images = []  # the job that shows them gets the packed file
        if not text and zipfile.is_zipfile(outer):  # such as a photo: its name is what remains
            notes.clear()
            text = _read_archive(outer, notes)
    text = keep_ends(text, notes)
    notes = [one[:_MAX_NOTE_CHARS] for one in notes[:_MAX_NOTES]]
    # RTF, JSON and PDFium have a character beyond 16 bits, such as an emoji, as two.
    return {"notes": notes, "images": images}, join_surrogates(text).encode()


def _unpack(
    source: BinaryIO, head: bytes, name: str, notes: list[str]
) -> tuple[BinaryIO, str] | None:
    """Return the content and the name of a compressed file, or of a single file in a ZIP."""
    if head.startswith(b"PK\x03\x04"):
        with suppress(zipfile.BadZipFile):
            package = Package(source)
            members = [one for one in package.names if not _IGNORED.search(one)]
            if len(members) == 1 and _find_reader(package) is None:
                return io.BytesIO(package.read(members[0])), members[0]
        return None
    unpack = next((one for mark, one in _PACKED if mark.match(head)), None)
    if unpack is None:
        return None
    try:
        with unpack(source) as file:
            data = file.read(MAX_WHOLE_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise Unreadable("it is damaged") from error
    if len(data) > MAX_WHOLE_BYTES:
        notes.append(f"Only its first {MAX_WHOLE_BYTES // 2**20} MiB were unpacked.")
    inner = re.sub(r"\.(gz|bz2|xz)$|(?<=\.t)gz$", "", name, flags=re.IGNORECASE)
    return io.BytesIO(data[:MAX_WHOLE_BYTES]), inner


def _extract(source: BinaryIO, head: bytes, mime: str, suffix: str, notes: list[str]) -> str:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_archive(source, notes)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _read_old_office(source)
    if _OLD_SHEET.match(head):
        return _read_old_workbook(source.read(MAX_WHOLE_BYTES))
    if head[257:262] == b"ustar":
        return list_tar(source, notes)
    if _FLAT_START.match(head):
        return read_flat(source)
    with suppress(ET.ParseError):  # else it is read as a text
        if _XML_WORKBOOK in head:
            return read_xml_workbook(source.read(MAX_WHOLE_BYTES // 2))
        if b"<FictionBook" in head:
            return read_fb2(source.read(MAX_WHOLE_BYTES))
        if _XML_DOCUMENT.search(head):
            blocks = list(iter_blocks(source.read(MAX_WHOLE_BYTES)))
            return "\n\n".join(filter(None, blocks))
    source.seek(0)
    if head.startswith(b"{\\rtf"):
        return read_rtf(source.read(MAX_TEXT_BYTES))
    return read_text_file(source, head, mime, suffix, notes)


def _find_pictures(source: BinaryIO, text: str, notes: list[str]) -> list[int]:
    """Return the indices of the pictures that a document consists of, such as pasted scans."""
    package = Package(source)
    count = len(package.list_pictures())
    if not count or _find_reader(package) is None:
        return []
    if len(text) < _FEW_CHARS:
        notes.append(f"It has {count} pictures." if count > 1 else "It has a picture.")
        return list(range(count))
    notes.append(f"Its pictures are not shown: {count}.")
    return []


def _read_archive(source: BinaryIO, notes: list[str]) -> str:
    """Return the text of a ZIP-based document, or the list of files of another archive."""
    try:
        package = Package(source)
    except zipfile.BadZipFile as error:
        raise Unreadable("it is damaged") from error
    read = _find_reader(package)
    text = package.describe() if read is None else read(package)
    # Converters of HTML embed the page in an empty document, and programs that join documents
    # embed the others. They leave the rest to Word. Of an embedded sheet, Office shows a picture.
    for name in _list_embedded(package):
        chunk, suffix = package.read(name), PurePath(name.lower()).suffix
        try:
            text += "\n\n" + _extract(io.BytesIO(chunk), chunk[:4096], "text/html", suffix, notes)
        except Exception as error:
            reason = str(error) if isinstance(error, Unreadable) else "it is damaged"
            notes.append(f"A document in it was not read: {reason}.")
    return text.strip()


def _list_embedded(package: Package) -> dict[str, None]:
    parts = sorted(filter(_WITH_EMBEDDED.fullmatch, package.names))
    kinds = ("aFChunk", "package")
    targets = (list_targets(package, part, kind) for part in parts for kind in kinds)
    return dict.fromkeys(one for found in targets for one in found)


def _find_reader(package: Package) -> Callable[[Package], str] | None:
    """Return the reader of a ZIP-based document, or None for another archive."""
    names = package.names
    if "Index/Document.iwa" in names or "Index.zip" in names:
        raise Unreadable("it is a document of Pages, Numbers or Keynote; ask for it as PDF")
    if "[Content_Types].xml" in names:
        for folder, reader in (
            ("word", read_docx),
            ("xl", read_workbook),
            ("ppt", read_pptx),
            ("visio", read_vsdx),
        ):
            if any(name.startswith(f"{folder}/") for name in names):
                return reader
    if "OFD.xml" in names:
        return read_ofd
    if XMIND_PART in names and "metadata.json" in names:
        return read_xmind
    if "META-INF/container.xml" in names:
        return read_epub
    if "content.xml" in names and "mimetype" in names:
        return read_opendocument
    return None


def _read_old_office(source: BinaryIO) -> str:
    data = source.read(64 * 2**20)
    if _OUTLOOK in data:  # first, because an attachment may be encrypted
        return read_msg(data)
    if _ENCRYPTED in data:
        raise Unreadable(_PASSWORD)
    for name, kind, program in _OLD_DOCUMENTS:
        if name.encode("utf-16-le") in data:
            words = f"it is in the old format of {program}; ask for it as {kind}x or PDF"
            return _read_old_document(data, kind, words)
    if _LOCKED_SHEETS.search(data):
        raise Unreadable(_PASSWORD)
    if not _WORKBOOK.search(data):
        raise Unreadable("its format is not supported; ask for it as PDF")
    return _read_old_workbook(data)


def _read_old_workbook(data: bytes) -> str:
    # Without the extra office, or of a damaged or very large one, calamine reads more.
    with suppress(Exception), limit_cpu():
        return read_xls(data)
    return read_sheets(data)


def _read_old_document(data: bytes, kind: Literal["doc", "ppt"], words: str) -> str:
    try:
        from office_oxide import Document, OfficeOxideError
    except ImportError as error:
        raise Unreadable(words) from error
    try:
        text: str = Document.from_bytes(data, kind).to_markdown()
    except OfficeOxideError as error:
        raise Unreadable(_PASSWORD if "password" in str(error) else words) from error
    return text
