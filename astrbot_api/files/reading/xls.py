"""Text extraction from old workbooks (xls), for jobs: numbers and errors as Excel shows them.

calamine, which reads them without the extra ``office``, shows errors as empty cells and numbers
without their format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from .number_formats import show_number
from .tables import write_hidden, write_links, write_remarks, write_sheets

#: Number of days from the first day of other workbooks to that of old ones of a Macintosh.
_DAYS_TO_1904 = 1462


def read_xls(data: bytes) -> str:
    """Return the sheets as tables, followed by the comments and links of their cells.

    :raises ImportError: without the extra ``office``.
    :raises Exception: any error of the library for a damaged or encrypted workbook.
    """
    import xlrd

    with open(os.devnull, "w", encoding="utf-8") as log:
        book = xlrd.open_workbook(
            file_contents=data, logfile=log, on_demand=True, formatting_info=True, ragged_rows=True
        )
        remarks: list[str] = []
        links: dict[str, list[tuple[str, str]]] = {}
        text = write_sheets(_iter_sheets(book, remarks, links))
    shown = (write_links(f"Links in {name}", found, text) for name, found in links.items())
    return "\n\n".join(filter(None, (text, *remarks, *shown)))


def _iter_sheets(
    book: Any, remarks: list[str], links: dict[str, list[tuple[str, str]]]
) -> Iterator[tuple[str, bool, Iterator[list[str]]]]:
    import xlrd

    codes = [book.format_map[one.format_key].format_str for one in book.xf_list]

    def show(cell: Any) -> str:
        if cell.ctype == xlrd.XL_CELL_NUMBER:
            return show_number(f"{cell.value:.15g}", codes[cell.xf_index])
        if cell.ctype == xlrd.XL_CELL_DATE:
            days = _DAYS_TO_1904 if book.datemode and cell.value >= 1 else 0
            return show_number(repr(cell.value + days), codes[cell.xf_index])
        if cell.ctype == xlrd.XL_CELL_ERROR:
            return str(xlrd.error_text_from_code.get(cell.value, "#ERROR"))
        return str(bool(cell.value) if cell.ctype == xlrd.XL_CELL_BOOLEAN else cell.value)

    for number, name in enumerate(book.sheet_names()):
        sheet = book.sheet_by_index(number)
        rows = (list(map(show, sheet.row(at))) for at in range(sheet.nrows))
        yield name, sheet.visibility > 0, rows
        hidden = (at for at, one in sheet.rowinfo_map.items() if one.hidden and at < sheet.nrows)
        remarks.append(write_hidden(name, sum(any(sheet.row_values(at)) for at in hidden)))
        notes = sorted(sheet.cell_note_map.items())
        found = ((xlrd.cellname(*at), note.text) for at, note in notes)
        remarks.append(write_remarks(f"Comments in {name}", found))
        links[name] = [
            (xlrd.cellname(one.frowx, one.fcolx), one.url_or_path)
            for one in sheet.hyperlink_list
            if isinstance(one.url_or_path, str)  # bytes are paths of the author's computer
        ]
        book.unload_sheet(number)
