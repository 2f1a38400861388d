"""Text with its formatting as separate ranges, without markup.

Some messengers take bold text as markup, others as a range. Models write Markdown, which is
parsed once. Each adapter then writes the result in its platform's format.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

#: Kinds of :class:`Span`. Spans of ``code`` and ``pre`` contain no other spans.
BOLD, ITALIC, STRIKE, CODE, PRE, LINK, QUOTE = (
    "bold", "italic", "strike", "code", "pre", "link", "quote",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a text, in Python characters.

    ``value`` is the URL of a link or the language of a code block.
    """

    kind: str
    start: int
    stop: int
    value: str = ""


@dataclass(frozen=True, slots=True)
class RichText:
    """A text and its formatting."""

    text: str
    spans: tuple[Span, ...] = ()

    def to_plain(self) -> str:
        """Return the text without formatting, with the URLs of its links in parentheses."""
        return self.show_links(lambda address: False).text

    def show_links(self, keep: Callable[[str], object]) -> RichText:
        """Return the text with the URLs of links in parentheses instead of their spans."""
        shown = [one for one in self.spans if one.kind == LINK and not keep(one.value)]
        if not shown:
            return self
        pieces, at, added = [], 0, 0
        places, shifts = [-1], [0]
        for link in sorted(shown, key=lambda one: one.stop):
            label = self.text[link.start : link.stop]
            if link.value not in (label, f"mailto:{label}"):
                pieces += [self.text[at : link.stop], f" ({link.value})"]
                added += len(pieces[-1])
                at = link.stop
                places.append(at)
                shifts.append(added)

        def move(position: int) -> int:
            return position + shifts[bisect_right(places, position) - 1]

        kept = (one for one in self.spans if one.kind != LINK or keep(one.value))
        return RichText(
            "".join([*pieces, self.text[at:]]),
            tuple(replace(one, start=move(one.start), stop=move(one.stop)) for one in kept),
        )


def iter_pieces(
    text: str, spans: Sequence[Span]
) -> Iterator[tuple[Sequence[Span], Sequence[Span], str]]:
    """Yield a text in pieces, each with the spans that end and that begin before it.

    Inner spans end first, outer spans begin first. Takes O(n log n) time for n spans.
    """
    ending: dict[int, list[Span]] = defaultdict(list)
    beginning: dict[int, list[Span]] = defaultdict(list)
    ordered = sorted(spans, key=lambda one: (one.start, -one.stop))
    for span in ordered:
        beginning[span.start].append(span)
    # Of two spans with the same range, the one that begins last ends first.
    ordered.reverse()
    for span in sorted(ordered, key=lambda one: (-one.start, one.stop)):
        ending[span.stop].append(span)
    places = sorted({0, len(text), *beginning, *ending})
    for start, stop in zip(places, [*places[1:], places[-1]], strict=True):
        yield ending[start], beginning[start], text[start:stop]


def count_units(text: str) -> int:
    """Return the length in UTF-16 code units, as Telegram and JavaScript count."""
    return len(text) + sum(letter > "\uffff" for letter in text)
