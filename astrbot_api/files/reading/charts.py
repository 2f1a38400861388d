"""Text extraction from charts and diagrams (SmartArt) of Office documents, for jobs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from xml.etree import ElementTree as ET

from .number_formats import show_number
from .package import Package, iter_local, list_targets, local_name
from .tables import to_markdown_table

#: Maximum number of values of a series.
_MAX_VALUES = 1000

_MAX_SERIES = 50

#: Pairs of an index and a text.
_Values = tuple[tuple[int, str], ...]


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
    """Return the title of a chart, and a table with a column for each series.

    Series with other labels, such as those of a scatter plot, have a table of their own.
    """
    groups: dict[_Values, list[ET.Element]] = {}
    labels: _Values = ()
    for one in islice(iter_local(chart, "ser"), _MAX_SERIES):
        labels = _read_values(one, "cat") or _read_values(one, "xVal") or labels
        groups.setdefault(labels, []).append(one)
    tables = [_write_series(dict(labels), series) for labels, series in groups.items()]
    shown = read_title(chart)
    written = "\n\n".join(filter(None, tables))
    return f"{f'[chart: {shown}]' if shown else '[chart]'}\n{written}" if written else ""


def read_title(chart: ET.Element) -> str:
    title = next(iter_local(chart, "title"), None)
    return "" if title is None else "".join(one.text or "" for one in iter_local(title, "t"))


def _write_series(labels: dict[int, str], series: list[ET.Element]) -> str:
    names = [next((value for _, value in _read_values(one, "tx")), "") for one in series]
    columns = [dict(_read_values(one, "val") or _read_values(one, "yVal")) for one in series]
    columns.insert(0, labels)
    places = sorted({at for column in columns for at in column})
    rows = [[column.get(at, "") for column in columns] for at in places]
    return to_markdown_table([["", *names], *rows]) if rows else ""


def _read_values(series: ET.Element, name: str) -> _Values:
    """Return the index and the text of each stored value of a part of a series.

    A label may have several levels, such as a year and a quarter, the innermost first.
    """
    found: dict[int, str] = {}
    for part in (one for one in series if local_name(one) == name):
        code = next((one.text for one in iter_local(part, "formatCode")), None)
        for number, point in enumerate(islice(iter_local(part, "pt"), _MAX_VALUES)):
            index = point.get("idx", "")
            at = int(index) if index.isdecimal() else number
            shown = point.get("formatCode") or code
            texts = [one.text or "" for one in iter_local(point, "v")]
            texts = [show_number(one, shown) if shown else one for one in texts]
            found[at] = " ".join(filter(None, (*texts, found.get(at))))
    return tuple(found.items())
