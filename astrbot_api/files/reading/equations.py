"""Conversion of Office equations to LaTeX, for jobs.

Source: ECMA-376, part 1, 22.1.
"""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

#: Element -> LaTeX of its parts, which are elements with these names.
_FORMS: dict[str, Callable[[Callable[..., str]], str]] = {
    "f": lambda part: rf"\frac{{{part('num')}}}{{{part('den')}}}",
    "sSup": lambda part: f"{part('e')}^{{{part('sup')}}}",
    "sSub": lambda part: f"{part('e')}_{{{part('sub')}}}",
    "sSubSup": lambda part: f"{part('e')}_{{{part('sub')}}}^{{{part('sup')}}}",
    "limLow": lambda part: f"{part('e')}_{{{part('lim')}}}",
    "limUpp": lambda part: f"{part('e')}^{{{part('lim')}}}",
    "func": lambda part: f"{part('fName')} {part('e')}",
}

_MAX_DEPTH = 50


def replace_equations(root: ET.Element, run: str, text: str, block: str = "") -> None:
    """Replace each equation in a tree by a run of text with its LaTeX between ``$``.

    :param run: Name of the element of a run.
    :param text: Name of the element of its text.
    :param block: New name of the elements that contain the equations of a line.
    """
    for one in list(root.iter()):
        local = _local(one)
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
    local = _local(element)
    if local == "t":
        return element.text or ""
    if depth > _MAX_DEPTH or (local.endswith("Pr") and local != "oMathPr"):
        return ""

    def part(name: str) -> str:
        found = next((one for one in element if _local(one) == name), None)
        return "" if found is None else _write(found, depth + 1)

    def sign(name: str, default: str) -> str:
        found = next((one for one in element.iter() if _local(one) == name), None)
        return default if found is None else _value(found, default)

    if local in _FORMS:
        return _FORMS[local](part)
    if local == "rad":
        degree = part("deg")
        return rf"\sqrt[{degree}]{{{part('e')}}}" if degree else rf"\sqrt{{{part('e')}}}"
    if local == "nary":
        limits = ((mark, part(name)) for mark, name in (("_", "sub"), ("^", "sup")))
        shown = "".join(f"{mark}{{{limit}}}" for mark, limit in limits if limit)
        return f"{sign('chr', '∫')}{shown} {part('e')}"
    inner = [_write(one, depth + 1) for one in element]
    if local == "d":
        inside = "|".join(filter(None, inner))
        return f"{sign('begChr', '(')}{inside}{sign('endChr', ')')}"
    if local == "m":
        rows = r" \\ ".join(filter(None, inner))
        return rf"\begin{{matrix}}{rows}\end{{matrix}}"
    if local == "mr":
        return " & ".join(inner)
    return "".join(inner)


def _value(element: ET.Element, default: str) -> str:
    return next((value for name, value in element.items() if name.endswith("val")), default)


def _local(element: ET.Element) -> str:
    return str(element.tag).rpartition("}")[2]
