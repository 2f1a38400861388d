"""The text of documents. Jobs: they run aside."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, BinaryIO

from pypdf import PdfReader

#: Most text that is taken out of one document, in characters.
MAX_TEXT_CHARS = 2_000_000

_TEXT_MIMES = {
    "application/json", "application/xml", "application/javascript", "application/toml",
    "application/yaml", "application/x-yaml", "application/sql", "application/x-sh",
    "application/csv", "image/svg+xml",
}  # fmt: skip

#: Name endings of texts whose type does not say so.
_TEXT_SUFFIXES = {
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml",
    ".ini", ".cfg", ".conf", ".log", ".py", ".js", ".ts", ".tsx", ".jsx", ".java", ".c", ".h",
    ".cpp", ".hpp", ".cs", ".go", ".rs", ".rb", ".php", ".swift", ".kt", ".scala", ".sh", ".bat",
    ".ps1", ".sql", ".html", ".htm", ".css", ".tex", ".lua", ".pl", ".r", ".vue", ".svg",
}  # fmt: skip


def extract_text(source: BinaryIO, mime: str, name: str) -> tuple[Any, bytes]:
    """Return the text of a document as bytes of UTF-8; nothing for a file that has none.

    :param mime: Its media type.
    :param name: Its name, for the suffix.
    :raises Exception: whatever a damaged PDF makes the library raise.
    """
    text = ""
    suffix = PurePath(name.lower()).suffix
    if mime == "application/pdf":
        text = _extract_pdf(source)
    elif mime.startswith("text/") or mime in _TEXT_MIMES or suffix in _TEXT_SUFFIXES:
        text = _decode(source.read())[:MAX_TEXT_CHARS]
    return None, text.encode("utf-8", "replace")


def _extract_pdf(source: BinaryIO) -> str:
    pages: list[str] = []
    chars = 0
    for page in PdfReader(source).pages:
        text = page.extract_text().strip()
        pages.append(text)
        chars += len(text)
        if chars > MAX_TEXT_CHARS:
            break
    return "\n\n".join(page for page in pages if page)[:MAX_TEXT_CHARS]


def _decode(data: bytes) -> str:
    """Decode text of unknown encoding: marked ones, UTF-8, the Chinese one, Latin."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return text.replace("\x00", "")
    return data.decode("latin-1").replace("\x00", "")
