"""Numbers of the lists and headings of OpenDocument files, for jobs.

Programs compute them when they show the document. Source: OpenDocument 1.3, part 3, 5.3 and 16.30.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from .numbering import find_format
from .package import local_name, read_attribute

#: Name of the numbering of headings, which has none in the file.
_OUTLINE = ""

#: First sign of a list's format -> its name in Word.
_FORMATS = {
    "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman",
    "一": "chineseCounting", "壹": "chineseLegalSimplified", "甲": "ideographTraditional",
    "子": "ideographZodiac", "①": "decimalEnclosedCircle", "ア": "aiueo", "イ": "iroha",
    "가": "ganada", "а": "russianLower", "А": "russianUpper",
}  # fmt: skip

_LEVELS = ("list-level-style-number", "outline-level-style")

_MAX_DEPTH = 10


@dataclass(frozen=True, slots=True)
class _Level:
    format: str
    prefix: str
    suffix: str
    start: int
    shown: int  # number of levels in the label


class ListNumbers:
    """Counts the items of a document's lists, in the order of the document."""

    def __init__(self, *roots: ET.Element) -> None:
        self._styles: dict[str, dict[int, _Level]] = {}
        for root in roots:
            for one in root.iter():
                if local_name(one) in ("list-style", "outline-style"):
                    name = read_attribute(one, "name")
                    is_outline = local_name(one) == "outline-style"
                    self._styles[_OUTLINE if is_outline else name] = dict(_iter_levels(one))
        self._counts: dict[str, dict[int, int]] = {}

    def begin(self, element: ET.Element) -> str:
        """Begin an outermost list, and return the name of its style."""
        style = read_attribute(element, "style-name")
        is_continued = read_attribute(element, "continue-list")
        if not is_continued and read_attribute(element, "continue-numbering") != "true":
            self._counts.pop(style, None)
        return style

    def count(self, style: str, depth: int, start: str = "") -> str:
        """Count an item, and return its label, or an empty text if it has none.

        :param depth: Number of the level, from 1.
        :param start: Number of the item, if the document gives one.
        """
        levels = self._styles.get(style, {})
        level = levels.get(depth)
        if level is None:
            return ""
        counts = self._counts.setdefault(style, {})
        counts[depth] = int(start) if start.isdecimal() else counts.get(depth, level.start - 1) + 1
        for deeper in [at for at in counts if at > depth]:
            del counts[deeper]
        if not level.format:
            return ""
        numbers = [
            find_format(_FORMATS.get(one.format[0], ""))(counts.get(at, one.start))
            for at in range(depth - level.shown + 1, depth + 1)
            if (one := levels.get(at)) and one.format
        ]
        return f"{level.prefix}{'.'.join(numbers)}{level.suffix}"

    def count_heading(self, heading: ET.Element) -> str:
        """Count a heading outside lists, and return its label with a space, or an empty text."""
        level = read_attribute(heading, "outline-level")
        if not level.isdecimal() or read_attribute(heading, "is-list-header") == "true":
            return ""
        return (
            f"{self.count(_OUTLINE, int(level), read_attribute(heading, 'start-value'))} ".lstrip()
        )


def _iter_levels(style: ET.Element) -> Iterator[tuple[int, _Level]]:
    for one in style:
        depth, start, shown = (
            read_attribute(one, name) for name in ("level", "start-value", "display-levels")
        )
        if local_name(one) in _LEVELS and depth.isdecimal() and 0 < int(depth) <= _MAX_DEPTH:
            yield (
                int(depth),
                _Level(
                    read_attribute(one, "num-format"),
                    read_attribute(one, "num-prefix"),
                    read_attribute(one, "num-suffix"),
                    int(start) if start.isdecimal() else 1,
                    min(int(shown), int(depth)) if shown.isdecimal() else 1,
                ),
            )
