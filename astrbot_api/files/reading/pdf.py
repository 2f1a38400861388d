"""Jobs for PDF files: text extraction, and rendering of pages."""

from __future__ import annotations

import ctypes
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO

import pypdfium2
from PIL import Image
from pypdfium2 import raw

from ...errors import Unreadable
from .pdf_fields import read_fields
from .pdf_rows import read_rows
from .pdf_rtl import RTL, is_rtl, read_in_order

#: Number of characters after which reading stops.
_ENOUGH_CHARS = 2_000_000

#: Seconds of CPU time after which reading stops.
_ENOUGH_S = 8.0

# It warns of every XFA form. The model gets a note instead.
logging.getLogger("pypdfium2").setLevel(logging.ERROR)

_PASSWORD = 4  # FPDF_ERR_PASSWORD (Source: fpdfview.h)

#: Maximum number of attached files that are named.
_MAX_ATTACHMENTS = 20

#: A page with a large picture and less text is a scan with a stamp or a page number.
_STAMP_CHARS = 200

#: Ligatures as Ghostscript 10.00 writes them: the letters' bytes are swapped, and the last two of
#: three letters are one character.
_SWAPPED = re.compile(
    "(?<=[A-Za-z])[昀琀吀][昀琀椀氀樀栀케툀]+|[昀琀吀][昀琀椀氀樀栀케툀]+(?=[A-Za-z])"
)
_LETTERS = str.maketrans("昀琀吀椀氀樀栀", "ftTiljh") | str.maketrans({"케": "fi", "툀": "fl"})

#: What PDFium returns instead of a hyphen and a line end, or U+FFFE.
_HYPHEN = "\x02"
_SPLIT_WORD = re.compile(f"(?<=[^\\W\\d_]){_HYPHEN}(?=[^\\W\\d_A-Z])")

#: A line end, or a sign on the line with the digits after it, of which some may be raised.
_CHECKED = re.compile("\r\n ?|[^\\W_][0-9]*[-+\N{MINUS SIGN}]?[0-9]+")

#: Number of characters per page whose code is checked, and maximum part without Unicode.
_CHECKED_CHARS = 500
_MAX_UNKNOWN = 0.3


def open_pdf(source: BinaryIO) -> pypdfium2.PdfDocument:
    """Open a PDF with its form, so that values in fields are rendered.

    :raises Unreadable: when it needs a password or is damaged.
    """
    try:
        document = pypdfium2.PdfDocument(source)
        document.init_forms()
        return document
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD:
            raise Unreadable("it is protected by a password; ask for it without one") from error
        raise Unreadable("it is damaged") from error


def read_pdf(source: BinaryIO, notes: list[str]) -> tuple[str, list[int]]:
    """Return the text of the pages, up to the limits of size and time.

    :returns: The text with the fields of forms and the comments, and the indices of the pages
        that are images or whose text is not readable.
    """
    document = open_pdf(source)
    notes += _describe(document)
    pages: list[str] = []
    images: list[int] = []
    damaged: list[int] = []
    chars = 0
    count, began, is_marked = len(document), time.process_time(), is_rtl(document)
    for number in range(count):
        try:
            page = document[number]
            text, is_image = _read_page(page, is_marked)
            fields = read_fields(document, page)
        except pypdfium2.PdfiumError:
            damaged.append(number)
            continue
        images += [number] if is_image else []
        pages.append("\n\n".join(filter(None, (text, fields))))
        chars += len(pages[-1])
        page.close()
        is_enough = chars > _ENOUGH_CHARS or time.process_time() - began > _ENOUGH_S
        if is_enough and number + 1 < count:
            notes.append(f"Only {number + 1} of its {count} pages were read.")
            break
    if damaged:
        notes.append(f"These pages are damaged: {write_numbers(damaged)}.")
    if not any(pages):
        notes.append("It has no text: its pages are images, as in a scan.")
        return "", images or list(range(count))
    if images:
        notes.append(
            f"These pages have hardly any readable text, as in a scan: {write_numbers(images)}."
        )
    return "\n\n".join(page for page in pages if page), images


def _describe(document: pypdfium2.PdfDocument) -> Iterator[str]:
    """Yield notes about what is not on the pages."""
    if document.get_formtype() == raw.FORMTYPE_XFA_FULL:
        yield "It is an XFA form: what Adobe's programs show may be missing here."
    count, names = document.count_attachments(), []
    for at in range(min(count, _MAX_ATTACHMENTS)):
        with suppress(pypdfium2.PdfiumError):  # the file was removed, as some mail servers do
            names.append(document.get_attachment(at).get_name())
    if any(names):
        listed = ", ".join(filter(None, names))
        yield f"Files are attached to it, which are not read ({count}): {listed}."


def _read_page(page: pypdfium2.PdfPage, is_rtl: bool) -> tuple[str, bool]:
    """Return a page's text, and whether only its image shows what it says.

    :param is_rtl: Whether the document is marked as written from right to left.
    """
    reader = page.get_textpage()
    checked = min(reader.count_chars(), _CHECKED_CHARS)
    unknown = sum(raw.FPDFText_HasUnicodeMapError(reader.raw, at) == 1 for at in range(checked))
    if unknown > checked * _MAX_UNKNOWN:
        return "", True
    text = _read_letters(reader)
    if is_rtl or RTL.search(text):
        text = read_in_order(reader, is_rtl) or text
    else:
        text = read_rows(reader, text) or text
    text = text.replace("\r\n", "\n").replace("\ufffe", _HYPHEN)
    text = _SPLIT_WORD.sub("", text).replace(_HYPHEN, "-").strip()
    text = _SWAPPED.sub(lambda ligature: ligature[0].translate(_LETTERS), text)
    if not text:
        return "", raw.FPDFPage_CountObjects(page.raw) > 0
    return text, len(text) < _STAMP_CHARS and _has_large_picture(page)


def _read_letters(reader: pypdfium2.PdfTextPage) -> str:
    """Return the text within the edges of a page, with the cells of a row in one line."""
    text: str = reader.get_text_bounded()
    whole: str = reader.get_text_range().replace("\ufffe", _HYPHEN)
    if len(whole) != reader.count_chars():  # some characters have more than 16 bits
        text, whole = _cut_in_halves(text), _cut_in_halves(whole)
    if "".join(text.split()) != "".join(whole.split()):  # parts are off the page
        return text
    # The first text has no spaces around letters that stand alone, such as digits in a table.
    if len(whole) != reader.count_chars():
        return whole
    return _CHECKED.sub(lambda part: _check(reader, part), whole)


def _cut_in_halves(text: str) -> str:
    """Return a text with two for a character beyond 16 bits, as PDFium counts them."""
    return "".join(map(chr, memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")))


def _check(reader: pypdfium2.PdfTextPage, part: re.Match[str]) -> str:
    """Return a number with a sign before its power, or a line end or a space for a line end."""
    first, last = part.start(), part.end() - 1
    if part[0][0] != "\r":
        raised = (at for at in range(first + 1, last + 1) if _is_raised(reader, first, at))
        at = next(raised, 0) - first if _is_raised(reader, first, last) else 0
        at -= at > 1 and not part[0][at - 1].isalnum()  # its sign
        return f"{part[0][:at]}^{part[0][at:]}" if at > 0 else part[0]
    if not 0 < first <= last < reader.count_chars() - 1:
        return "\n"
    _, low, right, high = reader.get_charbox(first - 1)
    left, bottom, _, top = reader.get_charbox(last + 1)
    is_near = left < right + high - low and part.string[last + 1].isdigit()
    if is_near and _is_raised(reader, first - 1, last + 1):
        return "^"
    is_level = abs(low + high - bottom - top) < 2 * max(high - low, top - bottom)  # or raised
    return " " if left > right - 1 and is_level else "\n"


def _is_raised(reader: pypdfium2.PdfTextPage, base: int, digit: int) -> bool:
    """Return whether a digit stands above the line of a letter or digit before it.

    Boxes are not enough: some letters, and digits of some fonts, reach below their line.
    """
    before, low, _, high = reader.get_charbox(base)
    left, bottom, _, top = reader.get_charbox(digit)
    height = high - low
    is_above = low + height / 4 < bottom < high < top - height / 32
    is_small = top - bottom < height * 1.2 and left > before
    return is_above and is_small and _find_line(reader, digit) > _find_line(reader, base)


def _find_line(reader: pypdfium2.PdfTextPage, at: int) -> float:
    """Return the height of the line on which a character was written."""
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(reader.raw, at, x, y)
    return y.value


def _has_large_picture(page: pypdfium2.PdfPage) -> bool:
    """Return whether pictures cover over a third of a page. Scanners may store a page in strips."""
    width, height = page.get_size()
    left = width * height / 3
    for one in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=2):
        x1, y1, x2, y2 = one.get_bounds()
        left -= (x2 - x1) * (y2 - y1)
        if left < 0:
            return True
    return False


def write_numbers(pages: Sequence[int]) -> str:
    """Return the numbers of pages given as indices, such as ``1, 3 to 5``."""
    parts: list[list[int]] = []
    for page in pages:
        if parts and parts[-1][-1] == page - 1:
            parts[-1][1:] = [page]
        else:
            parts.append([page])
    return ", ".join(" to ".join(str(one + 1) for one in part) for part in parts)


def render_page(document: pypdfium2.PdfDocument, number: int, max_side_px: int) -> Image.Image:
    page = document[number]
    scale = min(max_side_px / max(*page.get_size(), 1.0), 4.0)
    picture: Image.Image = page.render(scale=scale).to_pil()
    page.close()
    return picture
