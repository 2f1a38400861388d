"""Conversion of Office equations to LaTeX, for jobs.

Source: ECMA-376, part 1, 22.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

from .package import local_name

#: Returns the LaTeX of the child with a name, or "".
_Part = Callable[[str], str]

#: Returns a character of the element's properties, or a default.
_Sign = Callable[[str, str], str]

#: Combining character -> LaTeX.
_ACCENTS = {
    "\u0303": r"\tilde", "\u0304": r"\bar", "\u0305": r"\bar", "\u0307": r"\dot",
    "\u0308": r"\ddot", "\u20d7": r"\vec",
}  # fmt: skip
_HAT = r"\hat"

#: Element -> LaTeX of its parts.
_FORMS: dict[str, Callable[[_Part, _Sign], str]] = {
    "sSup": lambda part, sign: f"{part('e')}^{{{part('sup')}}}",
    "sSub": lambda part, sign: f"{part('e')}_{{{part('sub')}}}",
    "sSubSup": lambda part, sign: f"{part('e')}_{{{part('sub')}}}^{{{part('sup')}}}",
    "sPre": lambda part, sign: f"{{}}_{{{part('sub')}}}^{{{part('sup')}}}{part('e')}",
    "limLow": lambda part, sign: f"{part('e')}_{{{part('lim')}}}",
    "limUpp": lambda part, sign: f"{part('e')}^{{{part('lim')}}}",
    "func": lambda part, sign: f"{part('fName')} {part('e')}",
    "acc": lambda part, sign: rf"{_ACCENTS.get(sign('chr', ''), _HAT)}{{{part('e')}}}",
    "bar": lambda part, sign: (
        rf"\{'over' if sign('pos', 'bot') == 'top' else 'under'}line{{{part('e')}}}"
    ),
    "f": lambda part, sign: (
        rf"{{{part('num')} \atop {part('den')}}}"  # of a binomial coefficient
        if sign("type", "bar") == "noBar"
        else rf"\frac{{{part('num')}}}{{{part('den')}}}"
    ),
}

_MAX_DEPTH = 50


def replace_equations(root: ET.Element, run: str, text: str, block: str = "") -> None:
    """Replace each equation in a tree by a run of text with its LaTeX between ``$``.

    :param run: Name of the element of a run.
    :param text: Name of the element of its text.
    :param block: New name of the elements that contain the equations of a line.
    """
    for one in list(root.iter()):
        local = local_name(one)
        if local == "oMathPara" and block:
            one.tag = block
        elif local == "oMath":
            latex = _write(one, 0).strip()
            tail = one.tail
            one.clear()
            one.tag, one.tail = run, tail
            ET.SubElement(one, text).text = f"${latex}$" if latex else ""


def _write(element: ET.Element, depth: int) -> str:
    """Return the LaTeX of an element."""
    local = local_name(element)
    if local == "t":
        return element.text or ""
    if depth > _MAX_DEPTH or local.endswith("Pr"):
        return ""
    children = {local_name(one): one for one in reversed(element)}

    def part(name: str) -> str:
        return _write(children[name], depth + 1) if name in children else ""

    def sign(name: str, default: str) -> str:
        properties = children.get(f"{local}Pr", ())
        found = next((one for one in properties if local_name(one) == name), None)
        return default if found is None else _value(found, default)

    if local in _FORMS:
        return _FORMS[local](part, sign)
    if local == "rad":
        degree = part("deg")
        return rf"\sqrt[{degree}]{{{part('e')}}}" if degree else rf"\sqrt{{{part('e')}}}"
    if local == "nary":
        limits = ((mark, part(name)) for mark, name in (("_", "sub"), ("^", "sup")))
        shown = "".join(f"{mark}{{{limit}}}" for mark, limit in limits if limit)
        return f"{sign('chr', '∫')}{shown} {part('e')}"
    inner = [_write(one, depth + 1) for one in element]
    if local == "d":
        begin, end = (
            re.sub(r"[{}]", r"\\\g<0>", sign(name, default))
            for name, default in (("begChr", "("), ("endChr", ")"))
        )
        return f"{begin}{sign('sepChr', '|').join(filter(None, inner))}{end}"
    if local in ("m", "eqArr"):
        rows = r" \\ ".join(filter(None, inner))
        return rf"\begin{{matrix}}{rows}\end{{matrix}}"
    if local == "mr":
        return " & ".join(inner)
    return "".join(inner)


def _value(element: ET.Element, default: str) -> str:
    return next((value for name, value in element.items() if name.endswith("val")), default)
