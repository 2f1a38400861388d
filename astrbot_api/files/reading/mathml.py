"""Conversion of MathML and powers to LaTeX, for jobs. Source: MathML Core."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

_MAX_DEPTH = 50

#: Element -> LaTeX of its children, and their number.
_FORMS = {
    "mfrac": (r"\frac{{{0}}}{{{1}}}", 2),
    "msup": ("{0}^{{{1}}}", 2),
    "mover": ("{0}^{{{1}}}", 2),
    "msub": ("{0}_{{{1}}}", 2),
    "munder": ("{0}_{{{1}}}", 2),
    "msubsup": ("{0}_{{{1}}}^{{{2}}}", 3),
    "munderover": ("{0}_{{{1}}}^{{{2}}}", 3),
    "mroot": (r"\sqrt[{1}]{{{0}}}", 2),
}

#: Elements that say the same in another form, or nothing.
_SKIPPED = ("annotation", "annotation-xml", "mspace", "mphantom")


#: A raised text that is no ordinal, mark or note.
_POWER = re.compile(r"[-+\N{MINUS SIGN}]?(?:\d+|[a-z])")


def write_power(text: str) -> str:
    """Return a raised number or letter with a sign for it: 10⁵ is not 105."""
    return f"^{text}" if _POWER.fullmatch(text) else text


def write_mathml(element: ET.Element, depth: int = 0) -> str:
    """Return the LaTeX of an element."""
    local = element.tag.rpartition("}")[2]
    if depth > _MAX_DEPTH or local in _SKIPPED:
        return ""
    text = " ".join((element.text or "").split())
    inner = [write_mathml(one, depth + 1) for one in element]
    form, count = _FORMS.get(local, ("", 0))
    if form and len(inner) == count:
        return form.format(*inner)
    if local == "msqrt":
        return rf"\sqrt{{{''.join(inner)}}}"
    if local == "mtable":
        rows = r" \\ ".join(inner)
        return rf"\begin{{matrix}}{rows}\end{{matrix}}"
    if local == "mtr":
        return " & ".join(inner)
    if local == "mfenced":
        return f"({', '.join(inner)})"
    return text + "".join(inner)
