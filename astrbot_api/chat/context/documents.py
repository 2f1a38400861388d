"""Files made fit for a model: the text of documents, pictures of a fair size.

Everything here computes and knows of nothing else; it runs in a native thread.
"""

from __future__ import annotations

import io
from pathlib import PurePath

from PIL import Image, ImageOps
from pypdf import PdfReader

#: Most text that is taken out of one document, in characters.
MAX_TEXT_CHARS = 2_000_000

#: Most pixels of a picture that is decoded at all: beyond, a small file could
#: fill the memory.
_MAX_PIXELS = 60_000_000

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

#: Formats that every model that sees can read.
_WEB_IMAGES = {"image/png", "image/jpeg", "image/webp", "image/gif"}


def extract_text(data: bytes, mime: str, name: str) -> str:
    """Return the text of a document; nothing for a file that has none.

    :param mime: Its media type.
    :param name: Its name, for the suffix.
    :raises Exception: whatever a damaged PDF makes pypdf raise.
    """
    if mime == "application/pdf":
        return _extract_pdf(data)
    suffix = PurePath(name.lower()).suffix
    if mime.startswith("text/") or mime in _TEXT_MIMES or suffix in _TEXT_SUFFIXES:
        return _decode(data)[:MAX_TEXT_CHARS]
    return ""


def _extract_pdf(data: bytes) -> str:
    pages: list[str] = []
    chars = 0
    for page in PdfReader(io.BytesIO(data)).pages:
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


def scale_image(data: bytes, mime: str, max_side_px: int) -> tuple[str, bytes]:
    """Return a picture whose longer side is at most ``max_side_px``.

    One that is small enough and of a common format is returned as it is.

    :returns: Media type and bytes.
    :raises ValueError: for a picture of too many pixels.
    :raises OSError: for one that cannot be read.
    """
    with Image.open(io.BytesIO(data)) as picture:
        if picture.width * picture.height > _MAX_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels")
        if mime in _WEB_IMAGES and max(picture.size) <= max_side_px:
            return mime, data
        upright = ImageOps.exif_transpose(picture)
        upright.thumbnail((max_side_px, max_side_px))
        out = io.BytesIO()
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            upright.convert("RGBA").save(out, "PNG")
            return "image/png", out.getvalue()
        upright.convert("RGB").save(out, "JPEG", quality=85)
        return "image/jpeg", out.getvalue()
