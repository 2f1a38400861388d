"""Text with its formatting as ranges beside it, never as marks inside it.

What is bold is a mark in one messenger and a range in the next. Models write
Markdown; it is read once, and each adapter writes the result down in its
platform's own way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Kinds of :class:`Span`. Nothing lies within ``code`` or ``pre``.
BOLD, ITALIC, STRIKE, CODE, PRE, LINK, QUOTE = (
    "bold", "italic", "strike", "code", "pre", "link", "quote",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a text, in characters of Python.

    ``value`` is the address of a link and the language of a code block.
    """

    kind: str
    start: int
    stop: int
    value: str = ""


@dataclass(frozen=True, slots=True)
class RichText:
    """A text and what is bold, linked and so on in it."""

    text: str
    spans: tuple[Span, ...] = ()

    def to_plain(self) -> str:
        """Return the text alone, with the addresses of its links."""
        pieces, at = [], 0
        for link in sorted((one for one in self.spans if one.kind == LINK), key=lambda x: x.stop):
            label = self.text[link.start : link.stop]
            if link.value not in (label, f"mailto:{label}"):
                pieces += [self.text[at : link.stop], f" ({link.value})"]
                at = link.stop
        return "".join([*pieces, self.text[at:]])


def iter_pieces(
    text: str, spans: Sequence[Span]
) -> Iterator[tuple[Sequence[Span], Sequence[Span], str]]:
    """Yield a text in pieces, each with the spans that end and that begin before it.

    Of those that end the inner one comes first, of those that begin the outer one. It takes
    time that follows from their number.
    """
    ending: dict[int, list[Span]] = defaultdict(list)
    beginning: dict[int, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda one: (one.start, -one.stop)):
        beginning[span.start].append(span)
    for span in sorted(spans, key=lambda one: (-one.start, one.stop)):
        ending[span.stop].append(span)
    places = sorted({0, len(text), *beginning, *ending})
    for start, stop in zip(places, [*places[1:], places[-1]], strict=True):
        yield ending[start], beginning[start], text[start:stop]


def count_units(text: str) -> int:
    """Return the length as Telegram and JavaScript count: in UTF-16 code units."""
    return len(text) + sum(letter > "\uffff" for letter in text)
