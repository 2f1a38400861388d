"""Files of text: sources, logs, pages, mails and notebooks, and files of unsupported formats."""

from __future__ import annotations

import re
from typing import BinaryIO

from ...errors import Unreadable
from ...runtime.decoding import decode, is_binary
from ..kinds import is_text_type
from .mails import read_mail, read_mbox
from .notebooks import read_notebook
from .pages import read_page
from .texts import (
    CONTROLS,
    EMBEDDED,
    MAX_TEXT_CHARS,
    MAX_WHOLE_BYTES,
    leave_out_base64,
    read_ends,
    show_letters,
)
from .vcards import FOLD, read_vcards

#: Maximum length of the rest of a page, in characters. A million takes a second.
_MAX_PAGE_CHARS = 4_000_000

_PAGE_SUFFIXES = (".html", ".htm", ".xhtml")
_MAIL_SUFFIXES = (".eml", ".emlx", ".mht", ".mhtml", ".mbox")

#: Extensions of text files whose media type is not text.
_TEXT_SUFFIXES = {
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml",
    ".ini", ".cfg", ".conf", ".log", ".py", ".js", ".ts", ".tsx", ".jsx", ".java", ".c", ".h",
    ".cpp", ".hpp", ".cs", ".go", ".rs", ".rb", ".php", ".swift", ".kt", ".scala", ".sh", ".bat",
    ".ps1", ".sql", ".html", ".htm", ".css", ".tex", ".lua", ".pl", ".r", ".vue", ".svg", ".srt",
    ".vtt", ".ass", ".lrc", ".ics", ".vcf", ".eml", ".mht", ".rtf", ".diff", ".patch", ".env",
}  # fmt: skip

#: Beginning of pages and mails that have the name of another document, such as what Confluence
#: and many shops export as "doc" and "xls".
_PAGE_START = re.compile(
    rb"\s*(<\?xml[^>]{0,100}>\s*)?<(!doctype\s+html|html|head|meta|style|body|table)\b",
    re.IGNORECASE,
)
_MAIL_START = re.compile(
    rb"([A-Za-z-]+:[^\n]*\n([ \t][^\n]*\n)*){0,50}?MIME-Version:", re.IGNORECASE
)

_ASK = "Its format is not supported; ask for a common one, such as PDF, docx, CSV, ZIP, PNG or MP3."
#: Mark in the first 68 bytes of a file that is not read, and what to ask for.
_NOT_READ = (
    (b"7z\xbc\xaf", "It is a 7z archive; ask for the files in it."),
    (b"Rar!", "It is a RAR archive; ask for the files in it."),
    (b"\x28\xb5\x2f\xfd", "It is compressed with Zstandard; ask for it uncompressed."),
    (b"PAR1", "It is a Parquet table; ask for it as CSV."),
    (b"SQLite format 3", "It is an SQLite database; ask for its tables as CSV."),
    (b"\0\1\0\0Standard ", "It is an Access database; ask for its tables as CSV."),
    (b"BOOKMOBI", "It is a Kindle book; ask for it as EPUB or PDF."),
    (b"AT&TFORM", "It is a DjVu document; ask for it as PDF."),
)


def read_text_file(source: BinaryIO, head: bytes, mime: str, suffix: str, notes: list[str]) -> str:
    """Return the text of a file, or an empty one with a note if its format is not supported.

    :param head: The beginning of the file.
    :param suffix: Extension of its name, in lower case.
    """
    is_known = suffix in _TEXT_SUFFIXES
    is_mail = mime == "message/rfc822" or suffix in _MAIL_SUFFIXES
    if not (is_known or is_mail or is_text_type(mime)):
        notes.append(next((what for mark, what in _NOT_READ if mark in head[:68]), _ASK))
        return ""
    if suffix == ".ipynb":
        data, is_cut = _read_whole(source)
        if is_cut:
            raise Unreadable(f"it is larger than {MAX_WHOLE_BYTES // 2**20} MiB")
        return leave_out_base64(read_notebook(_decode_text(data, notes)))
    if is_mail or (not is_known and _MAIL_START.match(head)):
        return _read_mail(source, notes)
    if suffix in _PAGE_SUFFIXES or (not is_known and _PAGE_START.match(head)):
        return _read_page(source, notes)
    data = read_ends(source)
    is_cut = source.tell() > len(data)
    text = _decode_text(FOLD.sub(b"", data) if suffix in (".ics", ".vcf") else data, notes)
    if suffix == ".vcf":
        text = read_vcards(text)
    elif suffix.endswith(("json", ".jsonl", ".har")):  # also .geojson and .ndjson
        text = show_letters(text)
    text = leave_out_base64(text)
    if is_cut and len(text) <= MAX_TEXT_CHARS:  # else a later note says it
        notes.append("Only its first 6 and its last 2 MB were read.")
    return text


def _read_mail(source: BinaryIO, notes: list[str]) -> str:
    data, is_cut = _read_whole(source)
    if is_cut:
        notes.append(f"Only its first {MAX_WHOLE_BYTES // 2**20} MiB were read.")
    return read_mbox(data, notes) if data.startswith(b"From ") else read_mail(data)


def _read_page(source: BinaryIO, notes: list[str]) -> str:
    data, is_cut = _read_whole(source)
    text = EMBEDDED.sub(r"\1…", _decode(data, notes))
    if is_cut or len(text) > _MAX_PAGE_CHARS:
        notes.append("Only its beginning was read, because it is a very long page.")
    return read_page(text[:_MAX_PAGE_CHARS])


def _read_whole(source: BinaryIO) -> tuple[bytes, bool]:
    """Return the bytes up to the limit, and whether there are more."""
    data = source.read(MAX_WHOLE_BYTES)
    return data, len(data) == MAX_WHOLE_BYTES and bool(source.read(1))


def _decode(data: bytes, notes: list[str]) -> str:
    text, assumed = decode(data)
    if assumed:
        notes.append(f"Its encoding is not marked; it was {assumed}.")
    return text


def _decode_text(data: bytes, notes: list[str]) -> str:
    """Return what a person reads in a text.

    :raises Unreadable: for a binary file with the extension of a text.
    """
    text = CONTROLS.sub("", _decode(data, notes))
    if is_binary(text):
        raise Unreadable("its name is that of a text, but its content is binary")
    return text
