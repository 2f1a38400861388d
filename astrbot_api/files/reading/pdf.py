"""Jobs for PDF files: text extraction, and rendering of pages."""

from __future__ import annotations

import io
import time
from typing import Any, BinaryIO

import pypdfium2

from ...errors import Unreadable

#: Number of characters after which reading stops.
_ENOUGH_CHARS = 2_000_000

#: Seconds of CPU time after which reading stops.
_ENOUGH_S = 8.0

_PASSWORD = 4  # FPDF_ERR_PASSWORD (Source: fpdfview.h)


def open_pdf(source: BinaryIO) -> pypdfium2.PdfDocument:
    """Open a PDF.

    :raises Unreadable: when it needs a password or is damaged.
    """
    try:
        return pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD:
            raise Unreadable("it is protected by a password; ask for it without one") from error
        raise Unreadable("it is damaged") from error


def read_pdf(source: BinaryIO, notes: list[str]) -> str:
    """Return the text of the pages, up to the limits of size and time."""
    document = open_pdf(source)
    pages: list[str] = []
    chars = 0
    count = len(document)
    for number in range(count):
        try:
            page = document[number]
            text = page.get_textpage().get_text_bounded()
        except pypdfium2.PdfiumError:
            notes.append(f"Page {number + 1} is damaged.")
            continue
        pages.append(text.replace("\r\n", "\n").replace("\ufffe", "").strip())
        chars += len(text)
        page.close()
        if chars > _ENOUGH_CHARS or time.process_time() > _ENOUGH_S:
            notes.append(f"Only {number + 1} of its {count} pages were read.")
            break
    if not any(pages):
        notes.append("It has no text: its pages are images, as in a scan.")
        return ""
    return "\n\n".join(page for page in pages if page)


def render_pages(source: BinaryIO, count: int, max_side_px: int) -> tuple[Any, bytes]:
    """Render the first pages as JPEG images.

    :returns: ``{"pages": …, "sizes": [bytes, …]}``, and the concatenated images.
    """
    document = open_pdf(source)
    pictures = []
    for number in range(min(count, len(document))):
        page = document[number]
        scale = min(max_side_px / max(*page.get_size(), 1.0), 4.0)
        out = io.BytesIO()
        page.render(scale=scale).to_pil().convert("RGB").save(out, "JPEG", quality=80)
        pictures.append(out.getvalue())
        page.close()
    return {"pages": len(document), "sizes": [len(one) for one in pictures]}, b"".join(pictures)
