"""Parses the Markdown that models write into :class:`~.rich_text.RichText`.

HTML, reference definitions and indented code are not parsed as markup. They stay plain text,
so that a message loses no words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import zip_longest
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_inline import emphasis, strikethrough

from ..runtime.threads import run_native
from .rich_text import BOLD, CODE, ITALIC, LINK, PRE, QUOTE, STRIKE, RichText, Span, count_units

if TYPE_CHECKING:
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

#: Longer texts are not parsed, because parsing them would block a worker.
_MAX_CHARS = 100_000

_MAX_NESTING = 40

#: Cells of a table are padded to at most this width. One long cell would multiply the text.
_MAX_PADDED = 60

_INLINE = {"strong": BOLD, "em": ITALIC, "s": STRIKE}
_RULE = "—" * 8
_BULLET = "•"
_NEWLINE = re.compile(r"\r\n?|\n")
_BREAK = re.compile(r"[ \t]*+<br[ \t]*+/?>[ \t]*+", re.IGNORECASE)


def read_markdown(text: str) -> RichText:
    """Parse Markdown. Everything else stays as it is."""
    # Thousands of brackets take a tenth of a second.
    return RichText(text) if len(text) > _MAX_CHARS else run_native(_read, text)


def _read(text: str) -> RichText:
    tokens = _parser().parse(text)
    if any(token.level >= _MAX_NESTING - 1 for token in tokens):
        # The parser drops deeper content.
        return RichText(text)
    reader = _Reader(_NEWLINE.split(text))
    reader.read_blocks(tokens)
    rich = reader.finish()
    return rich if rich.text.strip() else RichText(text)


def read_fitting(text: str, max_units: int) -> RichText:
    """Parse Markdown, or return it as it is if its text would be too long.

    A formatted table may be longer than its Markdown.
    """
    rich = read_markdown(text)
    return rich if count_units(rich.text) <= max_units else RichText(text)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": _MAX_NESTING})
    parser.inline.ruler.at("emphasis", partial(_read_marks, read=emphasis.tokenize))
    parser.inline.ruler.at("strikethrough", partial(_read_marks, read=strikethrough.tokenize))
    parser.enable(["strikethrough", "table"]).disable(["reference", "code", "lheading"])
    # The first text compiles the rules. Native threads must not share them before.
    parser.parse("x")
    return parser


def _read_marks(
    state: StateInline, silent: bool, read: Callable[[StateInline, bool], bool]
) -> bool:
    """Read ``**`` or ``~~``, which may also touch punctuation beside a wide character.

    CommonMark expects a space there, as in ``**Note:** text``. Chinese, Japanese and Korean have
    none: ``**注意：**正文``.
    """
    start, known = state.pos, len(state.delimiters)
    if not read(state, silent):
        return False
    before, after = state.src[start - 1 : start], state.src[state.pos : state.pos + 1]
    # Single stars may belong to file patterns.
    pair = state.pos - start > 1 and state.src[start] != "_"
    if pair and (_is_wide(before) or _is_wide(after)):
        for one in state.delimiters[known:]:
            one.open = one.open or bool(after.strip())
            one.close = one.close or bool(before.strip())
    return True


class _Reader:
    """Converts the parser's tokens to text and spans.

    :param lines: The lines of the parsed text, for tables.
    """

    def __init__(self, lines: Sequence[str] = ()) -> None:
        self._lines = lines
        self._pieces: list[str] = []
        self._length = 0
        self._spans: list[Span] = []
        self._open: list[tuple[str, int, str]] = []
        self._lists: list[str] = []
        self._after_marker = False

    def read_blocks(self, tokens: list[Token]) -> None:
        at = 0
        while at < len(tokens):
            token = tokens[at]
            if token.type == "table_open":
                at = self._read_table(tokens, at)
                continue
            self._read_block(token)
            at += 1

    def finish(self) -> RichText:
        text = "".join(self._pieces).rstrip()
        spans = (replace(one, stop=min(one.stop, len(text))) for one in self._spans)
        return RichText(text, tuple(_without_overlaps([x for x in spans if x.start < x.stop])))

    def _read_block(self, token: Token) -> None:
        kind = token.type
        if kind == "inline":
            self._read_inline(token.children or [])
        elif kind in ("fence", "code_block"):
            language = token.info.strip().partition(" ")[0]
            self._write_block(token.content.rstrip("\n"), PRE, language)
        elif kind == "hr":
            self._begin_block()
            self._write(_RULE)
        elif kind in ("bullet_list_open", "ordered_list_open"):
            if not self._lists:
                self._begin_block()
            self._lists.append("")
        elif kind in ("bullet_list_close", "ordered_list_close"):
            self._lists.pop()
        elif kind == "list_item_open":
            self._write_marker(f"{token.info}{token.markup}" if token.info else _BULLET)
        elif kind in ("paragraph_open", "heading_open"):
            self._begin_block()
            if kind == "heading_open":
                self._begin(BOLD)
        elif kind == "heading_close":
            self._end(BOLD)
        elif kind == "blockquote_open":
            self._begin_block()
            self._after_marker = True
            self._begin(QUOTE)
        elif kind == "blockquote_close":
            self._after_marker = False
            self._end(QUOTE)

    def _read_inline(self, tokens: list[Token]) -> None:
        stars = set(_find_stars_in_words(tokens))
        for at, token in enumerate(tokens):
            name, _, side = token.type.rpartition("_")
            if token.type in ("softbreak", "hardbreak"):
                self._write("\n" + self._indent())
            elif at in stars:
                self._write(token.markup)
            elif token.type == "code_inline":
                self._begin(CODE)
                self._write(token.content)
                self._end(CODE)
            elif token.type == "image":
                self._begin(LINK, str(token.attrs.get("src", "")))
                self._write(token.content or "image")
                self._end(LINK)
            elif side == "open":
                self._begin(_INLINE.get(name, LINK), str(token.attrs.get("href", "")))
            elif side == "close":
                self._end(_INLINE.get(name, LINK))
            else:
                self._write(token.content)

    def _read_table(self, tokens: list[Token], at: int) -> int:
        """Write a table in aligned columns and return the index of the next token."""
        rows: list[list[str]] = []
        while tokens[at].type != "table_close":
            token = tokens[at]
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "tr_close" and len(rows) > 1:
                rows[-1][-1] += self._find_excess(tokens[at - 2], len(rows[-1]))
            elif token.type == "inline":
                rows[-1].append(_plain(token.children or []))
            at += 1
        self._write_block("\n".join(_align_table(rows)), PRE)
        return at + 1

    def _find_excess(self, cell: Token, columns: int) -> str:
        """Return the cells of a row after its last column, which the parser drops."""
        line = self._lines[cell.map[0]] if cell.map else ""
        cells = escapedSplit(line.lstrip("> \t").rstrip().removeprefix("|").removesuffix("|"))
        return "".join(f" | {one.strip()}" for one in cells[columns:])

    def _write_block(self, text: str, kind: str, value: str = "") -> None:
        self._begin_block()
        self._begin(kind, value)
        self._write(text)
        self._end(kind)

    def _begin_block(self) -> None:
        if self._after_marker:
            self._after_marker = False
        elif self._length:
            self._write("\n" + self._indent() if self._lists else "\n\n")

    def _write_marker(self, marker: str) -> None:
        if not self._after_marker and self._length and not self._pieces[-1].endswith("\n"):
            self._write("\n")
        self._write(self._indent(1) + marker + " ")
        self._lists[-1] = " " * (len(marker) + 1)
        self._after_marker = True

    def _indent(self, inner: int = 0) -> str:
        return "".join(self._lists[: len(self._lists) - inner])

    def _write(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._length += len(text)

    def _begin(self, kind: str, value: str = "") -> None:
        self._open.append((kind, self._length, value))

    def _end(self, kind: str) -> None:
        at = next(i for i in reversed(range(len(self._open))) if self._open[i][0] == kind)
        _, start, value = self._open.pop(at)
        nested = any(one[0] == kind for one in self._open)
        if start < self._length and not nested and (kind != LINK or value):
            self._spans.append(Span(kind, start, self._length, value))


def _find_stars_in_words(tokens: Sequence[Token]) -> Iterable[int]:
    """Yield the positions of single stars inside words, as in ``2*3*4``."""
    opened: list[int] = []
    for at, token in enumerate(tokens):
        if token.type == "em_open":
            opened.append(at)
        elif token.type == "em_close":
            first = opened.pop()
            before = tokens[first - 1].content[-1:] if first else ""
            after = tokens[at + 1].content[:1] if at + 1 < len(tokens) else ""
            # In scripts without spaces, such stars do mean emphasis.
            between = before.isalnum() and after.isalnum()
            if token.markup == "*" and between and (before + after).isascii():
                yield from (first, at)


def _plain(tokens: list[Token]) -> str:
    """Return the text of a table's cell."""
    for one in tokens:
        if one.type == "text":
            # The only way to write several lines in a cell.
            one.content = _BREAK.sub("\n", one.content)
    reader = _Reader()
    reader._read_inline(tokens)
    return reader.finish().to_plain().strip()


def _align_table(rows: list[list[str]]) -> list[str]:
    """Return the lines of a table with aligned columns."""
    columns = max(len(row) for row in rows)
    padded = [row + [""] * (columns - len(row)) for row in rows]
    lines = [list(zip_longest(*(cell.split("\n") for cell in row), fillvalue="")) for row in padded]
    widths = [
        min(_MAX_PADDED, max(_width(line[at]) for row in lines for line in row))
        for at in range(columns)
    ]
    lined = [
        " | ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for row in lines
        for line in row
    ]
    head = len(lines[0])
    return [*lined[:head], "-+-".join("-" * width for width in widths), *lined[head:]]


def _width(text: str) -> int:
    """Return the number of columns that a text takes in a monospaced font."""
    return sum(2 if _is_wide(letter) else 1 for letter in text)


def _is_wide(letter: str) -> bool:
    return bool(letter) and unicodedata.east_asian_width(letter) in "WF"


def _without_overlaps(spans: list[Span]) -> Iterable[Span]:
    """Remove formatting inside code, because messengers refuse or ignore it."""
    whole = [one for one in spans if one.kind in (LINK, QUOTE)]
    links = [one for one in whole if one.kind == LINK]
    codes = [
        one
        for one in spans
        if one.kind in (CODE, PRE)
        and not any(x.start < one.stop and one.start < x.stop for x in links)
    ]
    for one in spans:
        if one.kind in (BOLD, ITALIC, STRIKE):
            yield from _subtract(one, codes)
    yield from whole
    yield from codes


def _subtract(span: Span, holes: Iterable[Span]) -> Iterable[Span]:
    """Yield the parts of a span outside the holes."""
    start = span.start
    for hole in sorted(holes, key=lambda one: one.start):
        if hole.stop <= start or hole.start >= span.stop:
            continue
        if hole.start > start:
            yield Span(span.kind, start, hole.start)
        start = hole.stop
    if start < span.stop:
        yield Span(span.kind, start, span.stop)
