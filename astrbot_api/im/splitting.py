"""Splits long texts into messages at suitable places.

Markdown is split before it is parsed, so that each piece knows its share of the original
text. After a failure, only the rest is sent. A code block that must be split is closed in
one piece and reopened in the next. A table's head is repeated.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .rich_text import count_units

# The quantifiers are possessive ("++", "*+"), because backtracking would take minutes on a
# line of a hundred thousand tildes.

#: Ends of sentences, first in scripts with spaces between words, then in scripts without.
_SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?:[ \t]++|(?=\n))|[。！？；]++[”’」』）]*+"
)

#: First or last line of a code block.
_FENCE = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)[ \t]*+([^\n`]*+)$", re.MULTILINE)

#: Head of a table, as ``head``, and its rows.
_TABLE = re.compile(
    r"^(?P<head>(?=[^|\n]*+\|)[^\n]++\n(?=[^|\n]*+\|)(?=[^-\n]*+-)[ \t|:-]++\n)"
    r"(?:(?=[^|\n]*+\|)[^\n]++(?:\n|\Z))++",
    re.MULTILINE,
)

#: A longer head of a table is not repeated.
_MAX_HEAD_CHARS = 500

#: Maximum distance that a cut moves back to keep a character and its combining marks together.
_MAX_CLUSTER = 32
_JOINER = "\u200d"


@dataclass(frozen=True, slots=True)
class Piece:
    """One message of a longer text.

    :param text: Text to send, never blank.
    :param chars: Number of characters of the original text that this piece covers, including
        surrounding white space. The sum over all pieces is the text's length.
    """

    text: str
    chars: int


@dataclass(frozen=True, slots=True)
class _Block:
    """A code block or a table from ``start`` to ``stop``, with content from ``content`` to ``end``.

    :param opening: What a piece begins with that begins within the content.
    :param closing: What a piece ends with that ends within the content.
    """

    start: int
    content: int
    end: int
    stop: int
    opening: str
    closing: str


def split_markdown(text: str, max_units: int) -> list[Piece]:
    """Split at paragraphs, else lines, sentences, words, and as a last resort anywhere.

    :param max_units: Maximum length of a piece, in UTF-16 code units, at least 200.
    :returns: The pieces in order, or an empty list for a blank text.
    """
    cuts: list[tuple[str, int]] = []
    at, blocks = 0, _Blocks(text, max_units // 4)
    while at < len(text):
        opened = blocks.find(at)
        if opened and opened.content < opened.end <= at:
            # The block is already closed: do not send its last line alone.
            at, opened = opened.stop, None
        opening = opened.opening if opened and opened.content <= at else ""
        # Reserve room to close a block that this piece leaves open.
        room = max(max_units - count_units(opening) - blocks.closing_room, max_units // 2)
        stop = _fit(text, at, max_units - count_units(opening))
        if stop < len(text):
            stop = _find_break(text, blocks, at, _fit(text, at, room))
        left = blocks.find(stop)
        closing = left.closing if left and left.content <= stop and left.start < stop else ""
        body = _trim(text[at:stop])
        if body:
            cuts.append((opening + body + closing, stop))
        at = stop
    bounds = pairwise([0, *(stop for _, stop in cuts[:-1]), len(text)])
    return [
        Piece(body, stop - start) for (body, _), (start, stop) in zip(cuts, bounds, strict=False)
    ]


def find_opening(text: str, at: int) -> str:
    """Return what to put before the rest of a text, from a position, that is sent by itself."""
    block = _Blocks(text, _MAX_HEAD_CHARS).find(at)
    return block.opening if block and block.content <= at < block.end else ""


class _Blocks:
    """The code blocks and tables of a text.

    :param max_head_chars: A table with a longer head is not a block.
    """

    def __init__(self, text: str, max_head_chars: int) -> None:
        self._blocks = list(_find_code(text))
        tables = [
            _Block(one.start(), one.end("head"), one.end(), one.end(), one["head"], "")
            for one in _TABLE.finditer(text)
            if len(one["head"]) <= min(max_head_chars, _MAX_HEAD_CHARS)
        ]
        self._starts = [one.start for one in self._blocks]
        self._blocks += [one for one in tables if not self._overlaps(one)]
        self._blocks.sort(key=lambda one: one.start)
        self._starts = [one.start for one in self._blocks]
        self.closing_room = max((len(one.closing) for one in self._blocks), default=0)

    def find(self, at: int) -> _Block | None:
        """Return the block at a position, or None."""
        number = bisect_right(self._starts, at) - 1
        found = self._blocks[number] if number >= 0 else None
        return found if found is not None and at < found.stop else None

    def _overlaps(self, table: _Block) -> bool:
        number = bisect_left(self._starts, table.stop) - 1
        return number >= 0 and self._blocks[number].stop > table.start


def _find_code(text: str) -> Iterator[_Block]:
    first: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        if first is None:
            first = line
        elif line[1].startswith(first[1]) and not line[2].strip():
            yield _make_block(first, line.start(), line.end())
            first = None
    if first is not None:
        yield _make_block(first, len(text), len(text))


def _make_block(first: re.Match[str], end: int, stop: int) -> _Block:
    # A longer info string is no language, and would use up a piece.
    info = first[2].strip() if len(first[2]) <= 24 else ""
    mark = first[1][:16]
    return _Block(first.start(), first.end() + 1, end, stop, f"{mark}{info}\n", f"\n{mark}")


def _fit(text: str, start: int, max_units: int) -> int:
    """Return the last possible end of a piece that begins at ``start``."""
    stop = min(len(text), start + max_units)
    excess = count_units(text[start:stop]) - max_units
    while excess > 0:
        stop -= 1
        excess -= 2 if text[stop] > "\uffff" else 1
    return stop


def _find_break(text: str, blocks: _Blocks, start: int, stop: int) -> int:
    """Return the best end of a piece, after ``start`` and not after ``stop``."""
    half = start + (stop - start) // 2
    block = blocks.find(stop)
    if block is not None and block.start == stop:
        block = None
    if block is not None and block.start > half:
        # Keep a code block whole if the piece before it is long enough.
        return block.start
    if block is None and (at := _find_blank_line(text, blocks, half, stop)) > 0:
        return at
    if (at := text.rfind("\n", half, stop)) > 0:
        if block is None or at + 1 != block.content:
            return at + 1
        if block.start > start:
            return block.start
    if block is None:
        ends = [found.end() for found in _SENTENCE_END.finditer(text, half, stop)]
        if ends:
            return ends[-1]
    if (at := text.rfind(" ", half, stop)) > 0:
        return at + 1
    return _move_before_cluster(text, stop)


def _find_blank_line(text: str, blocks: _Blocks, start: int, stop: int) -> int:
    """Return the end of the last blank line outside blocks, or -1."""
    while (at := text.rfind("\n\n", start, stop)) > 0:
        if blocks.find(at) is None:
            return at + 2
        stop = at
    return -1


def _move_before_cluster(text: str, stop: int) -> int:
    """Move a cut before a character that it would separate from its combining marks."""
    at = stop
    while at > stop - _MAX_CLUSTER and (_belongs_to_previous(text[at]) or text[at - 1] == _JOINER):
        at -= 1
    return stop if _belongs_to_previous(text[at]) or text[at - 1] == _JOINER else at


def _belongs_to_previous(letter: str) -> bool:
    # Skin tone modifiers are symbols, not combining marks.
    return (
        letter == _JOINER
        or "\U0001f3fb" <= letter <= "\U0001f3ff"
        or unicodedata.category(letter) in ("Mn", "Me")
    )


def _trim(text: str) -> str:
    """Strip white space around a text, except the indentation of its first line."""
    text = text.rstrip()
    blank = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, blank) + 1 :]
