"""Rows of pages whose parts were written in another order, for jobs.

The programs that print invoices in China write the values after all labels, WeasyPrint the marks
of lists after all texts. PDFium returns the parts of a page in the order of the file.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pypdfium2
from pypdfium2 import raw

#: A page with more parts or characters is read in the order of the file.
_MAX_PARTS = 2000
_MAX_CHARS = 20_000

#: Minimum number of rows with a later part between two that follow each other in the file.
_MIN_ROWS = 3
_MIN_DISTANCE = 5

#: Sine of the angle of letters that run up or down.
_MIN_SINE = 0.5

#: Left, bottom, right, top.
_Box = tuple[float, float, float, float]


@dataclass(slots=True)
class _Part:
    """A text that is written in one go."""

    text: str
    box: _Box
    is_turned: bool

    def add(self, other: _Part) -> bool:
        """Add the next letter. Return False if it is at another place."""
        left, bottom, right, top = self.box
        own_left, low, own_right, high = other.box
        gap = max(top - bottom, high - low)
        is_level = abs(low + high - bottom - top) < 1.4 * gap  # also an underscore
        is_next = is_level and right - gap < own_left < right + gap
        if self.is_turned != other.is_turned or not (is_next or self.is_turned):
            return False
        self.text += other.text
        self.box = left, min(bottom, low), max(right, own_right), max(top, high)
        return True


def read_rows(reader: pypdfium2.PdfTextPage, text: str) -> str | None:
    """Return the text of such a page by rows from left to right, or None for another page.

    :param text: The text in the order of the file.
    """
    count = reader.count_rects()
    if not _MIN_ROWS < count < _MAX_PARTS or reader.count_chars() > _MAX_CHARS:
        return None
    boxes = [reader.get_rect(at) for at in range(count)]
    rows = _find_rows(boxes)
    if sum(map(_is_mixed, rows)) < _MIN_ROWS and not _has_late_marks(rows, boxes):
        return None
    parts = list(_iter_parts(reader))
    level = [one for one in parts if not one.is_turned]
    rows = _find_rows([one.box for one in level])
    lines = [" ".join(level[at].text.strip() for at in row) for row in rows]
    shown = "\n".join([*lines, *(one.text.strip() for one in parts if one.is_turned)])
    is_whole = sorted("".join(shown.split())) == sorted("".join(text.split()))
    return shown if is_whole else None  # parts may be off the page


def _is_mixed(row: Sequence[int]) -> bool:
    places = {index: at for at, index in enumerate(row)}
    return any(
        abs(following - index) > _MIN_DISTANCE
        and max(places.get(index + 1, 0), places.get(index + 2, 0)) > places[following]
        for index, following in pairwise(row)
    )


def _has_late_marks(rows: Sequence[Sequence[int]], boxes: Sequence[_Box]) -> bool:
    """Return whether the marks of a list were written after it, on a page with one column."""
    marks = columns = 0
    for index, following in (pair for row in rows for pair in pairwise(row)):
        (begin, _, end, _), (left, bottom, right, top) = boxes[index], boxes[following]
        height = top - bottom
        if end - begin < 3 * height > left - end and index > following + _MIN_DISTANCE:
            marks += 1
        elif min(end - begin, right - left) > 8 * height and left - end > height:
            columns += 1
    return marks >= _MIN_ROWS > columns


def _find_rows(boxes: Sequence[_Box]) -> list[list[int]]:
    """Return the indices of the boxes of each row, from the top, and each from the left."""
    rows: list[list[int]] = []
    bottom = top = 0.0
    for at in sorted(range(len(boxes)), key=lambda at: -boxes[at][1] - boxes[at][3]):
        _, low, _, high = boxes[at]
        shared = min(high, top) - max(low, bottom)
        if rows and shared > min(high - low, top - bottom) / 2:
            rows[-1].append(at)
            if high - low < top - bottom:
                continue
        else:
            rows.append([at])
        bottom, top = low, high
    return [sorted(row, key=lambda at: boxes[at][0]) for row in rows]


def _iter_parts(reader: pypdfium2.PdfTextPage) -> Iterator[_Part]:
    part: _Part | None = None
    sides = [ctypes.c_double() for _ in range(4)]
    for at in range(reader.count_chars()):
        letter = chr(raw.FPDFText_GetUnicode(reader.raw, at))
        if letter in " \0":
            if part is not None:
                part.text += " "
            continue
        raw.FPDFText_GetCharBox(reader.raw, at, *sides)
        left, right, bottom, top = (one.value for one in sides)
        is_turned = abs(math.sin(raw.FPDFText_GetCharAngle(reader.raw, at))) > _MIN_SINE
        own = _Part(letter, (left, bottom, right, top), is_turned)
        if part is not None and letter not in "\r\n" and part.add(own):
            continue
        if part is not None:
            yield part
        part = None if letter in "\r\n" else own
    if part is not None:
        yield part
