"""Text extraction from workbooks, for jobs. Sheets of xlsx are corrected before they are read.

calamine shows cells without a stored value and errors as empty cells and numbers without their
format, and needs memory for all cells between the first and the last one.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from xml.etree import ElementTree as ET

from ...runtime.decoding import decode
from .charts import read_title
from .number_formats import NumberFormats, show_number
from .package import Package, iter_local, iter_relations, list_targets, read_attribute, to_int
from .tables import (
    MAX_CELLS,
    read_sheets,
    to_markdown_table,
    write_hidden,
    write_links,
    write_remarks,
)

_WORKBOOK = "xl/workbook.xml"
_STYLES = "xl/styles.xml"

#: End of what Excel writes before a comment with replies, for its older versions.
_OF_THREAD = "linkid=870924"

_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")

#: Parts that contain no cells.
_OTHER = re.compile(r"xl/(media|drawings|charts|diagrams|embeddings|pivot\w+)/.*")

#: Number of cells up to the last one. Above it, empty rows and columns are removed.
_MAX_AREA = 2_000_000

#: Formats of an XML workbook by name. The names of others are those of dates.
_NAMED = {
    "Currency": "#,##0.00", "Euro Currency": "€#,##0.00", "Fixed": "0.00", "Percent": "0.00%",
    "Scientific": "0.00E+00", "Standard": "#,##0.00",
    **dict.fromkeys(("General Number", "On/Off", "True/False", "Yes/No"), "General"),
}  # fmt: skip

#: Maximum number of empty cells before a cell of an XML workbook, and of cells merged with it.
_MAX_GAP = 100

#: A cell with a formula: attributes, number of a shared formula, formula, value. Only the first
#: cell with a shared formula contains it. Source: ECMA-376, 18.3.1.4.
_FORMULA = re.compile(
    rb'<c\b([^<>]*)><f\b(?:[^<>]*\ssi="(\d+)")?[^<>]*?(?:/>|>([^<]*)</f>)'
    rb"(?:<v>([^<]*)</v>|<v\s*/>)?</c>"
)
_TYPE = re.compile(rb'\st="[^"]*"')
#: A weekday of Asian languages, which calamine reads as a number.
_WEEKDAY = re.compile(rb'(\sformatCode="[^"]*?)aaaa?(?!a)')
_ERROR = re.compile(rb'(<c\b[^<>]*)\st="e"')
_HIDDEN = re.compile(rb'<row\b[^<>]*\shidden="(?:1|true)"[^<>]*>\s*<c\b')
_LINK = re.compile(rb"<hyperlink\b([^<>]*)>")
_ATTRIBUTE = re.compile(r'\b(\w+)="([^"]*)"')
#: Prefix of all elements of a part, as Microsoft's library for .NET writes them.
_PREFIX = re.compile(rb"\s*(?:<\?[^>]*>\s*)?<(\w{1,20}:)(?:worksheet|workbook|styleSheet)\b")
_ROW = re.compile(rb'(<row\b[^<>]*?\sr=")(\d+)"')
_BEYOND_Z = re.compile(rb'\sr="[A-Z]{2}')
_CELL = re.compile(rb'(<c\b[^<>]*?\sr=")([A-Z]{1,3})(\d+)"')


def read_workbook(package: Package) -> str:
    """Return the sheets of an xlsx, xlsm, xlsb or ods workbook as tables.

    The comments, links, text boxes and titles of charts of an xlsx follow.
    """
    sheets = read_sheets(_correct_workbook(package))
    return "\n\n".join(filter(None, (sheets, *_iter_remarks(package, sheets))))


def read_xml_workbook(data: bytes) -> str:
    """Return the sheets of an XML workbook of Excel 2003, which many programs export as xls.

    :raises ParseError: when it is damaged.
    """
    parts = []
    # expat itself does not know GBK, in which Chinese programs write XML.
    root = ET.fromstring(decode(data)[0])
    codes = {
        read_attribute(style, "ID"): read_attribute(one, "Format")
        for style in iter_local(root, "Style")
        for one in iter_local(style, "NumberFormat")
    }
    formats = {style: _NAMED.get(code, code) for style, code in codes.items() if code}
    for sheet in iter_local(root, "Worksheet"):
        name = read_attribute(sheet, "Name")
        rows = [list(_iter_xml_cells(row, formats)) for row in iter_local(sheet, "Row")]
        parts.append(f"## {name}\n\n{to_markdown_table([row for row in rows if row])}".strip())
    return "\n\n".join(parts)


def _iter_xml_cells(row: ET.Element, formats: Mapping[str, str]) -> Iterator[str]:
    count = 0
    for cell in iter_local(row, "Cell"):
        index, merged = (to_int(read_attribute(cell, name)) for name in ("Index", "MergeAcross"))
        gap = max(index - 1 - count, 0)
        yield from [""] * min(gap, _MAX_GAP)
        value = next(iter_local(cell, "Data"), None)
        text = "" if value is None else "".join(value.itertext())
        kind = "" if value is None else read_attribute(value, "Type")
        if kind == "Number":
            text = show_number(text, formats.get(read_attribute(cell, "StyleID"), "@"))
        elif kind == "DateTime":
            text = text.removesuffix("T00:00:00.000").removesuffix(".000").replace("T", " ")
        yield text
        yield from [""] * min(merged, _MAX_GAP)
        count += gap + 1 + merged


def _iter_remarks(package: Package, shown: str) -> Iterator[str]:
    """Yield the comments, links, text boxes and titles of charts of each sheet of an xlsx."""
    if _WORKBOOK not in package.names:
        return
    relations = dict(iter_relations(package, _WORKBOOK))
    for sheet in iter_local(package.parse(_WORKBOOK), "sheet"):
        link = read_attribute(sheet, "id")
        _, part = relations.get(link, ("", ""))
        for comments in list_targets(package, part, "comments"):
            found = (
                (one.get("ref", ""), "".join(run.text or "" for run in iter_local(one, "t")))
                for one in iter_local(package.parse(comments), "comment")
            )
            notes = ((cell, text.rpartition(_OF_THREAD)[2]) for cell, text in found)
            yield write_remarks(f"Comments in {sheet.get('name')}", notes)
        targets = dict(iter_relations(package, part))
        data = _read(package, part)
        yield write_hidden(sheet.get("name", ""), len(_HIDDEN.findall(data)))
        tags = (one.decode("utf-8", "replace") for one in _LINK.findall(data))
        links = (dict(_ATTRIBUTE.findall(one)) for one in tags)
        found = ((one.get("ref", ""), targets.get(one.get("id", ""), ("", ""))[1]) for one in links)
        yield write_links(f"Links in {sheet.get('name')}", found, shown)
        for drawing in list_targets(package, part, "drawing"):
            boxes = (
                " ".join(filter(None, ("".join(one.itertext()) for one in iter_local(body, "p"))))
                for body in iter_local(package.parse(drawing), "txBody")
            )
            lines = [f"- {one}" for one in dict.fromkeys(boxes) if one]  # some are stored twice
            yield "\n".join([f"Text boxes in {sheet.get('name')}:", *lines]) if lines else ""
            charts = list_targets(package, drawing, "chart")
            titles = filter(None, (read_title(package.parse(one)) for one in charts))
            yield "\n".join(f"[chart in {sheet.get('name')}: {title}]" for title in titles)


def _correct_workbook(package: Package) -> bytes:
    """Return a workbook in which formulas without a value, errors and most numbers are texts.

    Empty rows and columns between distant cells are removed.
    """
    changed, room = {}, MAX_CELLS
    # The writer of the file did not calculate, and wrote 0 as each value.
    is_uncalculated = b'fullCalcOnLoad="1"' in _read(package, _WORKBOOK)
    styles = _read(package, _STYLES)
    dated = _WEEKDAY.sub(rb"\1dddd", styles)
    if dated != styles:
        changed[_STYLES] = dated
    formats = NumberFormats(dated, MAX_CELLS)
    for name in sorted(filter(_SHEET.fullmatch, package.names), key=lambda one: (len(one), one)):
        sheet = _read(package, name)
        corrected = _correct_sheet(sheet, is_uncalculated, formats)
        if corrected != sheet or len(sheet) < package.measure(name):
            changed[name] = corrected
        room -= corrected.count(b"</c>")
        if room < 0:  # hardly any cell of the others is shown
            break
    package.source.seek(0)
    if not changed:
        return package.source.read()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in package.names:
            if not _OTHER.fullmatch(name):
                read = partial(_read, package) if _SHEET.fullmatch(name) else package.read
                file.writestr(name, changed.pop(name, b"") or read(name))
    return out.getvalue()


def _read(package: Package, name: str) -> bytes:
    """Return a part without prefixes and superfluous rows, or nothing if it is missing."""
    if name not in package.names:
        return b""
    part = package.read(name, may_cut=True)
    found = _PREFIX.match(part)
    prefix = found[1] if found else b""
    ends, end = re.finditer(rb"</%sc>" % prefix, part), b"</%srow>" % prefix
    last = next(islice(ends, MAX_CELLS, None), None)
    is_cut = len(part) < package.measure(name)
    if last is not None or is_cut:  # the rows below are not shown
        stop = part.rfind(end) if last is None else part.find(end, last.end())
        closing = b"%s</%ssheetData></%sworksheet>" % (end, prefix, prefix)
        part = part[:stop] + (closing if is_cut else part[part.rfind(end) :])
    if prefix:
        part = part.replace(b"xmlns:%s=" % prefix[:-1], b"xmlns=")
        part = part.replace(b"<" + prefix, b"<").replace(b"</" + prefix, b"</")
    return part


def _correct_sheet(sheet: bytes, is_uncalculated: bool, formats: NumberFormats) -> bytes:
    uncalculated = (None, b"", b"0") if is_uncalculated else ()
    shared: dict[bytes | None, bytes] = {None: b""}

    def show(cell: re.Match[bytes]) -> bytes:
        attributes, number, formula, value = cell.groups()
        formula = formula or shared.get(number, b"")
        shared.setdefault(number, formula + b" (of another row or column)")
        is_text = b't="str"' in attributes  # which may be empty
        if not formula or (value not in uncalculated and (value or is_text)):
            return cell[0]
        return b'<c%s t="str"><v>=%s</v></c>' % (_TYPE.sub(b"", attributes), formula)

    if b"<f" in sheet:
        sheet = _FORMULA.sub(show, sheet)
    sheet = formats.show(sheet)
    if b't="e"' in sheet:
        sheet = _ERROR.sub(rb'\1 t="str"', sheet)
    if not _is_large(sheet):
        return sheet
    rows = dict.fromkeys(row[2] for row in _ROW.finditer(sheet))
    used = sorted(_list_columns(sheet), key=_to_number)
    columns = {column: at for at, column in enumerate(used, 1)}
    numbers = {row: b"%d" % at for at, row in enumerate(rows, 1)}
    letters = {column: _to_letters(at) for column, at in columns.items()}
    sheet = _ROW.sub(lambda row: b'%s%s"' % (row[1], numbers[row[2]]), sheet)
    return _CELL.sub(
        lambda cell: b'%s%s%s"' % (cell[1], letters[cell[2]], numbers.get(cell[3], cell[3])), sheet
    )


def _is_large(sheet: bytes) -> bool:
    """Return whether calamine would need memory for very many cells."""
    last = _ROW.search(sheet, max(sheet.rfind(b"<row "), 0))
    height = int(last[2]) if last else 0
    if height * 26 <= _MAX_AREA and not _BEYOND_Z.search(sheet):
        return False
    return height * max(map(_to_number, _list_columns(sheet)), default=0) > _MAX_AREA


def _list_columns(sheet: bytes) -> set[bytes]:
    return {cell[2] for cell in _CELL.finditer(sheet)}


def _to_number(column: bytes) -> int:
    number = 0
    for letter in column:
        number = number * 26 + letter - 64
    return number


def _to_letters(number: int) -> bytes:
    letters = b""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = bytes([65 + rest]) + letters
    return letters
