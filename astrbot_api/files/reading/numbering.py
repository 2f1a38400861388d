"""Numbers of the headings and clauses of Word documents, for jobs.

Word computes them when it shows the document. Source: ECMA-376, part 1, 17.9.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from .package import Package, iter_local, local_name, read_attribute, to_int

NUMBERING = "word/numbering.xml"
_STYLES = "word/styles.xml"

_MAX_LEVELS = 9

_CHINESE = "零一二三四五六七八九"
_DIGITS = str.maketrans("0123456789", "〇一二三四五六七八九")
_LEGAL = str.maketrans("一二三四五六七八九十百千", "壹贰叁肆伍陆柒捌玖拾佰仟")

#: Formats that count with a list of signs. Source: ECMA-376, part 1, 17.18.59.
_SIGNS = {
    "ideographTraditional": "甲乙丙丁戊己庚辛壬癸",
    "ideographZodiac": "子丑寅卯辰巳午未申酉戌亥",
    "decimalEnclosedCircle": "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳",
    "aiueo": "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホ",
    "iroha": "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノ",
    "ganada": "가나다라마바사아자차카타파하",
    "russianLower": "абвгдежзиклмнопрстуфхцчшщыэюя",
    "russianUpper": "АБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЩЫЭЮЯ",
}
_ROMAN = ((100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"),
          (4, "iv"), (1, "i"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Level:
    format: str
    text: str
    start: int
    is_legal: bool  # with Arabic numerals of all levels


@dataclass(frozen=True, slots=True)
class _List:
    """A list. Lists with the same counts go on with each other's numbers.

    ``restarts`` are first numbers of levels that differ from those of the other lists.
    """

    counts: list[int | None]
    levels: dict[int, _Level]
    restarts: dict[int, int]


def write_numbers(package: Package, root: ET.Element, namespace: str) -> None:
    """Write the numbers of paragraphs into a document, so that bullets remain as lists only.

    :param namespace: Namespace of the document's elements, in braces.
    """
    lists = _read_lists(package.parse(NUMBERING))
    styles = dict(_iter_styles(package)) if _STYLES in package.names else {}
    begun: set[str] = set()
    for paragraph in iter_local(root, "p"):
        style = styles.get(_value(paragraph, "pPr", "pStyle"), ("", "0"))
        number = _value(paragraph, "pPr", "numPr", "numId") or style[0]
        depth = to_int(_value(paragraph, "pPr", "numPr", "ilvl") or style[1])
        found = lists.get(number)
        if found is None or depth not in found.levels:
            continue
        if number not in begun:
            begun.add(number)
            for at in found.restarts:
                found.counts[at] = None
        label = _count(found, depth)
        if label:
            _insert(paragraph, f"{label} ", namespace)


def _read_lists(root: ET.Element) -> dict[str, _List]:
    levels = {
        read_attribute(one, "abstractNumId"): {
            at: _Level(
                _value(level, "numFmt"),
                _value(level, "lvlText"),
                to_int(_value(level, "start")),
                next(iter_local(level, "isLgl"), None) is not None,
            )
            for level in iter_local(one, "lvl")
            if (at := to_int(read_attribute(level, "ilvl"))) < _MAX_LEVELS
        }
        for one in iter_local(root, "abstractNum")
    }
    counts: dict[str, list[int | None]] = {name: [None] * _MAX_LEVELS for name in levels}
    lists = {}
    for one in iter_local(root, "num"):
        name = _value(one, "abstractNumId")
        if name in levels:
            restarts = {
                at: to_int(start)
                for override in iter_local(one, "lvlOverride")
                if (start := _value(override, "startOverride"))
                and (at := to_int(read_attribute(override, "ilvl"))) < _MAX_LEVELS
            }
            lists[read_attribute(one, "numId")] = _List(counts[name], levels[name], restarts)
    return lists


def _iter_styles(package: Package) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the number and the level of each style that has a number."""
    for style in iter_local(package.parse(_STYLES), "style"):
        number = _value(style, "pPr", "numPr", "numId")
        if number:
            level = _value(style, "pPr", "numPr", "ilvl") or "0"
            yield read_attribute(style, "styleId"), (number, level)


def _count(found: _List, depth: int) -> str:
    """Count a paragraph, and return its label, such as ``1.2`` or ``第三条``."""
    counts, levels = found.counts, found.levels
    level, count = levels[depth], counts[depth]
    counts[depth] = found.restarts.get(depth, level.start) if count is None else count + 1
    counts[depth + 1 :] = [None] * (_MAX_LEVELS - depth - 1)
    if level.format in ("bullet", "none"):
        return ""

    def fill(place: re.Match[str]) -> str:
        at = int(place[1]) - 1
        shown = levels.get(at)
        if shown is None:
            return ""
        count = counts[at]
        write = str if level.is_legal else find_format(shown.format)
        return write(found.restarts.get(at, shown.start) if count is None else count)

    return re.sub(r"%([1-9])", fill, level.text)


def _insert(paragraph: ET.Element, text: str, namespace: str) -> None:
    """Insert a run at the beginning of a paragraph, which is no longer an item of a list."""
    run = ET.Element(f"{namespace}r")
    shown = ET.SubElement(run, f"{namespace}t")
    shown.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
    shown.text = text
    properties = next((one for one in paragraph if local_name(one) == "pPr"), None)
    if properties is None:
        return
    for one in [one for one in properties if local_name(one) == "numPr"]:
        properties.remove(one)
    none = ET.SubElement(properties, f"{namespace}numPr")
    for name in ("ilvl", "numId"):
        ET.SubElement(none, f"{namespace}{name}").set(f"{namespace}val", "0")
    paragraph.insert(1, run)


def _to_letter(number: int) -> str:
    return chr(97 + (number - 1) % 26) * ((number - 1) // 26 + 1)


def _to_roman(number: int) -> str:
    written = ""
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        written += letters * min(count, 9)
    return written


def _to_chinese(number: int) -> str:
    if not 0 < number < 10_000:
        return str(number)
    written = ""
    for size, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, number = divmod(number, size)
        if digit:
            written += _CHINESE[digit] + unit
        elif written and number and not written.endswith("零"):
            written += "零"
    return written[1:] if written.startswith("一十") else written


def find_format(name: str) -> Callable[[int], str]:
    """Return the function that writes a number in a format of Word."""
    signs = _SIGNS.get(name.removesuffix("FullWidth").removesuffix("Chinese"), "")
    if signs:
        return lambda number: signs[number - 1] if 0 < number <= len(signs) else str(number)
    if name in _FORMATS:
        return _FORMATS[name]
    if name.startswith(("chinese", "japanese", "taiwanese", "ideograph")):
        return _to_chinese
    return str


_FORMATS: dict[str, Callable[[int], str]] = {
    "lowerLetter": _to_letter,
    "upperLetter": lambda number: _to_letter(number).upper(),
    "lowerRoman": _to_roman,
    "upperRoman": lambda number: _to_roman(number).upper(),
    "chineseLegalSimplified": lambda number: _to_chinese(number).translate(_LEGAL),
    **dict.fromkeys(
        ("ideographDigital", "japaneseDigitalTenThousand", "taiwaneseDigital"),
        lambda number: str(number).translate(_DIGITS),
    ),
    "decimalZero": lambda number: f"{number:02}",
}


def _value(element: ET.Element, *path: str) -> str:
    """Return the value of a descendant, or an empty string."""
    for name in path:
        found = next((one for one in element if local_name(one) == name), None)
        if found is None:
            return ""
        element = found
    return read_attribute(element, "val")
