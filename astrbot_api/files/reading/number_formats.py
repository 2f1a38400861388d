"""Number formats of workbooks, for jobs: with the format ``0.0%``, ``0.153`` is shown as ``15.3%``.

Dates, times and durations are left to calamine. Source: ECMA-376, part 1, 18.8.30 and 18.8.31.
"""

from __future__ import annotations

import decimal
import operator
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from .package import iter_local
from .tables import to_cell

#: Formats that a workbook does not define. Their signs of currencies depend on the language.
_BUILT_IN = {
    1: "0", 2: "0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 12: "# ?/?", 13: "# ??/??",
    **dict.fromkeys((3, 5, 6, 37, 38, 41, 42), "#,##0"),
    **dict.fromkeys((4, 7, 8, 39, 40, 43, 44), "#,##0.00"),
}  # fmt: skip

#: A quoted text, an escaped sign, a gap, a part in brackets, a mark, or another sign.
_PART = re.compile(
    r'"([^"]*)"|[\\!](.)|[_*].|\[([^\]]*)\]|(General|E[+-]0+|[0#?.,%;])|(.)',
    re.IGNORECASE | re.DOTALL,
)
#: A cell with a style and a value: attributes, style, value.
_STYLED = re.compile(
    rb'<c\b([^<>]*?\ss="(\d+)"[^<>]*)>(?:<f\b[^<>]*(?:/>|>[^<]*</f>))?<v>([^<]*)</v>'
)

_CONDITION = re.compile(r"(<=|>=|<>|<|>|=)(-?\d*\.?\d+)")
_TESTS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq,
    "<>": operator.ne,
}  # fmt: skip
_FRACTION = re.compile(r"(?:([#0?]+)\\? )?[#0?]+\\?/([?#]+|[1-9]\d{0,3})")

_DURATION = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)

#: Signs of dates and times, and of texts.
_OTHERS = frozenset("aymdhsgbe@")

#: Date with the number 0. Source: ECMA-376, part 1, 18.17.4.1.
_FIRST_DAY = datetime(1899, 12, 30)

#: Length of the longest format of Excel.
_MAX_CHARS = 255

#: Numbers of workbooks have 15 digits. Halves are rounded away from zero.
_STORED = decimal.Context(prec=15, rounding=decimal.ROUND_HALF_UP)
_SHOWN = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_UP)


class NumberFormats:
    """The formats of the cells of a workbook.

    :param styles: The workbook's styles, as XML.
    :param room: Maximum number of cells whose format is shown.
    """

    def __init__(self, styles: bytes, room: int) -> None:
        root = ET.fromstring(styles or b"<styles/>")
        codes = {str(number): code for number, code in _BUILT_IN.items()}
        for one in iter_local(root, "numFmt"):
            codes[one.get("numFmtId", "")] = one.get("formatCode", "")
        cells = [one for part in iter_local(root, "cellXfs") for one in part]
        used = [one.get("numFmtId", "") for one in cells]
        known = {number: read_format(codes[number]) for number in codes.keys() & used}
        self._formats = {b"%d" % at: known.get(number) for at, number in enumerate(used)}
        self._room = room

    def show(self, sheet: bytes) -> bytes:
        """Return a sheet in which the numbers with a format are texts."""
        return _STYLED.sub(self._write, sheet) if any(self._formats.values()) else sheet

    def _write(self, cell: re.Match[bytes]) -> bytes:
        attributes, style, value = cell.groups()
        write = self._formats.get(style)
        if write is None or self._room <= 0 or b' t="' in attributes.replace(b' t="n"', b""):
            return cell[0]
        self._room -= 1
        return b'<c%s t="str"><v>%s</v>' % (
            attributes.replace(b' t="n"', b""),
            escape(write(value.decode())).encode(),
        )


@lru_cache
def read_format(code: str) -> Callable[[str], str] | None:
    """Return the function that writes a stored number, or None for dates and texts."""
    fraction = _FRACTION.fullmatch(code)
    sections = [_Section()]
    for part in _PART.finditer((code or "General")[:_MAX_CHARS]):
        if part[4] == ";":
            sections.append(_Section())
        elif not fraction and len(sections) < 4 and not sections[-1].add(part):
            return None
    first, *others = sections = sections[:3]
    if others and not first.condition:
        first.condition = ">" if others[1:] else ">="
        others[0].condition = others[0].condition or "<"
    for one in sections:  # only its colour may show that a number is negative
        one.is_signed = sum(one.texts == other.texts for other in sections) > 1

    def write(stored: str) -> str:
        try:
            value = _STORED.create_decimal(stored)
            if fraction and value.adjusted() < _STORED.prec:
                return _write_fraction(value, fraction[1], fraction[2])
            return next((one for one in sections if one.accepts(value)), sections[-1]).write(value)
        except (ArithmeticError, ValueError):  # no number, or a very large one
            return stored

    return write


def show_number(stored: str, code: str) -> str:
    """Return a number as its format shows it, and dates in a form for all languages."""
    write = read_format(code)
    if write is not None:
        return write(stored)
    if "@" in code.partition(";")[0]:
        return stored
    try:
        passed = timedelta(milliseconds=round(float(stored) * 86_400_000))
        if _DURATION.search(code):
            return to_cell(passed)
        shown = str(_FIRST_DAY + passed).removesuffix(" 00:00:00")
    except (OverflowError, ValueError):
        return stored
    return shown.removeprefix("1899-12-30 ")  # only a time


def _write_fraction(value: Decimal, whole: str | None, denominator: str) -> str:
    if denominator.isdigit():
        parts = int(abs(value) * int(denominator) + Decimal("0.5"))
        count, rest = divmod(parts, int(denominator)) if whole else (0, parts)
        shown = f"{rest}/{denominator}"
    else:
        nearest = Fraction(abs(value)).limit_denominator(10 ** len(denominator) - 1)
        count, left = divmod(nearest, 1) if whole else (0, nearest)
        rest, shown = left.numerator, f"{left.numerator}/{left.denominator}"
    sign = "-" if value < 0 and (count or rest) else ""
    return sign + " ".join([str(count)] * bool(count or not rest) + [shown] * bool(rest))


class _Section:
    """A part of a format, for the numbers that fulfil its condition."""

    def __init__(self) -> None:
        self.condition = ""
        self.is_signed = False
        self._operand = Decimal(0)
        #: Places of digits, which are true if they show 0, and texts between them.
        self._whole: list[bool | str] = []
        self._decimals = self._tail = self._head = self._grouping = ""
        self._is_after_point = False
        self._power = self._commas = 0
        self._style = "f"

    def add(self, part: re.Match[str]) -> bool:
        """Add a part of the format. Return False if it is of a date or a text."""
        quoted, sign, bracket, mark, letter = part.groups()
        text = quoted or sign or letter or ""
        if bracket:
            condition = _CONDITION.fullmatch(bracket)
            if condition is not None:
                self.condition, self._operand = condition[1], Decimal(condition[2])
            text = bracket[1:].partition("-")[0] if bracket.startswith("$") else ""
        if _OTHERS.issuperset((letter or bracket or "0").lower()):
            return False
        if mark == "%":
            self._power += 2
            text = mark
        elif mark:
            self._add_mark(mark)
        if self._is_after_point:
            self._tail += text
        elif self._whole:
            self._whole.append(text)
        else:
            self._head += text
        return True

    def _add_mark(self, mark: str) -> None:
        if mark == ",":
            self._commas += 1
        elif mark == ".":
            self._is_after_point = True
        elif mark not in "0#?":
            self._style = "E" if mark[0] in "Ee" else "g"
            self._whole += [True] if self._style == "g" else []
        elif self._is_after_point:
            self._decimals += mark
        else:
            self._grouping = "," if self._commas else self._grouping
            self._commas = 0  # at the end, each one divides by a thousand
            self._whole.append(mark == "0")

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts around the number, and in it."""
        within = "".join(one for one in self._whole if isinstance(one, str))
        return self._head.strip(), within.strip(), self._tail.strip()

    def accepts(self, value: Decimal) -> bool:
        return not self.condition or _TESTS[self.condition](value, self._operand)

    def write(self, value: Decimal) -> str:
        """Return a number with the texts around it.

        :raises ArithmeticError: when it has too many digits.
        """
        if not self._whole and not self._is_after_point:
            return self._head
        number = abs(value).scaleb(self._power - 3 * self._commas)
        places = len(self._decimals)
        if self._style == "f":
            number = number.quantize(Decimal(1).scaleb(-places), context=_SHOWN)
            whole, _, decimals = f"{number:{self._grouping}f}".partition(".")
            kept = len(self._decimals.rstrip("#?"))
            decimals = decimals[:kept] + decimals[kept:].rstrip("0")
        elif self._style == "g":
            whole, decimals = f"{float(number):.15g}", ""
        else:
            whole, _, decimals = f"{float(number):.{places}E}".partition("." if places else "E")
        digits = list("" if whole == "0" else whole)
        pieces = [self._tail, decimals, "." if decimals else ""]
        for one in reversed(self._whole):
            if isinstance(one, str):
                pieces.append(one)
            elif digits or one:
                pieces.append(digits.pop() if digits else "0")
        pieces += reversed(digits)
        is_signed = value < 0 and (self.is_signed or self.condition not in ("<", "<="))
        pieces += [self._head, "-" if is_signed and (whole + decimals).strip("0") else ""]
        return "".join(reversed(pieces))
