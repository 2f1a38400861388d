"""Text extraction from RTF, for jobs. striprtf leaves out notes, comments and text boxes."""

from __future__ import annotations

import re

from striprtf.striprtf import rtf_to_text

#: Beginning of the group of a footnote, a comment or the text of a box, or of a text that is
#: deleted or hidden. Source: RTF 1.9.1.
_NOTE = re.compile(
    rb"\{(?:\\\*)?\\(footnote|annotation|shptxt)(?![a-z])"
    rb"|\{(?!\\rtf)(?:\\[a-z]+-?\d*\s?)*?\\(?:deleted|v)(?![a-z\d])"
)
#: A row of a table, and the ends of paragraphs in its cells.
_ROW = re.compile(rb"\\trowd(?![a-z]).*?(\\row(?![a-z])|\Z)", re.DOTALL)
_PARAGRAPH = re.compile(rb"\\par(?![a-z])\s?")

#: A raised number or letter.
_POWER = re.compile(rb"(\\super(?![a-z\d])(?:\\[a-z]++-?\d*+){0,20}+\s?)([-+]?(?:\d+|[a-z]))\}")

_BRACE = re.compile(rb"\\[\\{}]|([{}])")


def read_rtf(data: bytes) -> str:
    """Return the text, with notes and comments in brackets, and text boxes at the end.

    A row of a table is one line. Deleted and hidden texts are left out.
    """
    data = _POWER.sub(rb"\1^\2}", _show_notes(data))
    data = _ROW.sub(lambda row: _PARAGRAPH.sub(b" ", row[0]) if row[1] else row[0], data)
    text: str = rtf_to_text(data.decode("latin-1"), errors="replace")
    return text


def _show_notes(data: bytes) -> bytes:
    pieces, boxes, at = [], [], 0
    for note in _NOTE.finditer(data):
        if note.start() < at:
            continue
        end = _find_end(data, note.end())
        if end is None:
            break
        content = data[note.end() : end]
        if note[1] is None and b"\\v0" in content:  # its end is shown
            continue
        if note[1] == b"shptxt":  # within groups that striprtf leaves out
            boxes.append(b"\\par {%s}" % content)
        if note[1] in (b"shptxt", None):
            content = b""
        pieces += [data[at : note.start()], b"{ [%s]" % content if content else b"{"]
        at = end
    head, brace, tail = data[at:].rpartition(b"}")
    return b"".join([*pieces, head, *boxes, brace, tail])


def _find_end(data: bytes, start: int) -> int | None:
    """Return the position of the brace that ends a group, or None."""
    depth = 1
    for brace in _BRACE.finditer(data, start):
        depth += {b"{": 1, b"}": -1}.get(brace[1], 0)
        if not depth:
            return brace.start()
    return None
