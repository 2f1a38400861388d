"""Text extraction from charts and diagrams (SmartArt) of Office documents, for jobs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from xml.etree import ElementTree as ET

from .office import Package, iter_local, list_targets, local_name, to_markdown_table

#: Maximum number of values of a series.
_MAX_VALUES = 1000

_MAX_SERIES = 50


def read_charts(package: Package, name: str) -> list[str]:
    """Return the diagrams of a part as lists, and its charts as tables."""
    diagrams = list_targets(package, name, "diagramData")
    charts = list_targets(package, name, "chart")
    lists = ["\n".join(_iter_points(package.parse(one))) for one in diagrams]
    tables = [_write_chart(package.parse(one)) for one in charts]
    return [one for one in (*lists, *tables) if one]


def _iter_points(diagram: ET.Element) -> Iterator[str]:
    for paragraph in iter_local(diagram, "p"):
        text = "".join(one.text or "" for one in iter_local(paragraph, "t")).strip()
        if text:
            yield f"- {text}"


def _write_chart(chart: ET.Element) -> str:
    """Return the title of a chart, and a table with a column for each series."""
    series = list(islice(iter_local(chart, "ser"), _MAX_SERIES))
    title = next(iter_local(chart, "title"), None)
    shown = "" if title is None else "".join(one.text or "" for one in iter_local(title, "t"))
    rows: dict[int, list[str]] = {}
    for column, one in enumerate(series, 1):
        for name, to in (("cat", 0), ("xVal", 0), ("val", column), ("yVal", column)):
            for at, value in _iter_values(one, name):
                rows.setdefault(at, [""] * (len(series) + 1))[to] = value
    names = [next((value for _, value in _iter_values(one, "tx")), "") for one in series]
    if not rows:
        return ""
    table = [["", *names], *(rows[at] for at in sorted(rows))]
    return "\n".join([f"[chart: {shown}]" if shown else "[chart]", to_markdown_table(table)])


def _iter_values(series: ET.Element, name: str) -> Iterator[tuple[int, str]]:
    """Yield the index and the text of each stored value of a part of a series."""
    part = next((one for one in series if local_name(one) == name), None)
    if part is None:
        return
    for number, point in enumerate(islice(iter_local(part, "pt"), _MAX_VALUES)):
        value = next(iter_local(point, "v"), None)
        index = point.get("idx", "")
        text = "" if value is None else value.text or ""
        yield int(index) if index.isdecimal() else number, text
