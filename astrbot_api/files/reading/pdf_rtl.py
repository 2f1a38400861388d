"""Order of the letters and words on pages with scripts from right to left, for jobs.

Of pages that Chromium printed, PDFium returns the letters of some words from left to right. In
documents that are marked as such, it returns the words of English lines from right to left.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

import pypdfium2
from pypdfium2 import raw

#: Letters of Hebrew, Arabic and their relatives, with the marks on them.
RTL = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")

#: A page with more characters is read as PDFium returns it. A page of a newspaper has 20,000.
_MAX_CHARS = 100_000

#: Signs that end a sentence or a part of it.
_SIGNS = ".,;:!?"

#: A character and its distance from the left edge.
_Placed = tuple[str, float]


def is_rtl(document: pypdfium2.PdfDocument) -> bool:
    """Return whether a document is marked as written from right to left."""
    buffer = ctypes.create_string_buffer(8)
    raw.FPDF_VIEWERREF_GetName(document.raw, b"Direction", buffer, len(buffer))
    return buffer.value == b"R2L"


def read_in_order(reader: pypdfium2.PdfTextPage, is_marked: bool) -> str | None:
    """Return the text of a page with the letters and words of each line in their order.

    :param is_marked: Whether the document is marked as written from right to left.
    :returns: None if PDFium returns them in their order, or for a very long page.
    """
    if reader.count_chars() > _MAX_CHARS:
        return None
    placed = list(_iter_placed(reader))
    if not is_marked and not any(map(_is_turned, _iter_runs(placed))):
        return None
    lines = groupby(placed, key=lambda one: one[0] == "\n")
    return "".join("\n" if is_end else _order(list(line)) for is_end, line in lines)


def _iter_placed(reader: pypdfium2.PdfTextPage) -> Iterator[_Placed]:
    left, *others = (ctypes.c_double() for _ in range(4))
    for at in range(reader.count_chars()):
        letter = chr(raw.FPDFText_GetUnicode(reader.raw, at))
        raw.FPDFText_GetCharBox(reader.raw, at, left, *others)
        if letter != "\r":
            yield letter, left.value


def _iter_runs(placed: Sequence[_Placed]) -> Iterator[list[_Placed]]:
    """Yield the letters from right to left that follow each other, and what is between them."""
    for _, run in groupby(placed, key=lambda one: _has_rtl([one])):
        yield list(run)


def _is_turned(run: Sequence[_Placed]) -> bool:
    return _has_rtl(run[:1]) and run[0][1] < run[-1][1]


def _has_rtl(placed: Sequence[_Placed]) -> bool:
    return any(RTL.match(letter) for letter, _ in placed)


def _order(line: list[_Placed]) -> str:
    words = [list(word) for is_gap, word in groupby(line, lambda one: one[0] == " ") if not is_gap]
    if not _has_rtl(line):
        words = [sorted(word, key=lambda one: one[1]) for word in words]
        return " ".join(map(_write, sorted(words, key=lambda word: word[0][1])))
    texts: list[str] = []
    for has_rtl, group in groupby(words, _has_rtl):
        found = list(group)
        written = list(map(_write, found))
        is_reversed = not has_rtl and found[0][0][1] > found[-1][0][1]
        texts += _reverse(written) if is_reversed else written
    return " ".join(texts)


def _write(word: list[_Placed]) -> str:
    runs = (run[::-1] if _is_turned(run) else run for run in _iter_runs(word))
    return "".join(letter for run in runs for letter, _ in run)


def _reverse(words: list[str]) -> list[str]:
    """Reverse words. The sign at their end, such as a full stop, stays there."""
    last = words[-1].rstrip(_SIGNS)
    return [last, *words[-2:0:-1], words[0] + words[-1][len(last) :]]
