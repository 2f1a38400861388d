"""Text extraction from RTF, for jobs.

striprtf leaves out notes, comments, text boxes, headers and footers, and most links.
"""

from __future__ import annotations

import re

from striprtf.striprtf import rtf_to_text

#: Beginning of the group of a footnote, a comment, the text of a box, a header or a footer, or of a
#: text that is deleted or hidden. Source: RTF 1.9.1.
_NOTE = re.compile(
    rb"\{(?:\\\*)?\\(footnote|annotation|shptxt|header|footer)(?:(?<=er)[lrf])?(?![a-z])"
    rb"|\{(?!\\rtf)(?:\\[a-z]+-?\d*\s?)*?\\(?:deleted|v)(?![a-z\d])"
)
#: A row of a table, and the ends of paragraphs in its cells.
_ROW = re.compile(rb"\\trowd(?![a-z]).*?(\\row(?![a-z])|\Z)", re.DOTALL)
_PARAGRAPH = re.compile(rb"\\par(?![a-z])\s?")

#: The instruction of a field, its address if it is a link to another place, and its result.
_INSTRUCTION = re.compile(rb"\\fldinst(?![a-z])")
_ADDRESS = re.compile(rb'HYPERLINK\s+"((?:https?|ftp|mailto):[^"{}\\]+)"')
_RESULT = re.compile(rb"\}\s*\{\\fldrslt(?![a-z]) ?")

#: A raised number or letter.
_POWER = re.compile(rb"(\\super(?![a-z\d])(?:\\[a-z]++-?\d*+){0,20}+\s?)([-+]?(?:\d+|[a-z]))\}")

_BRACE = re.compile(rb"\\[\\{}]|([{}])")


def read_rtf(data: bytes) -> str:
    """Return the text, with notes and comments in brackets; text boxes and margins at the end.

    A row of a table is one line. Deleted and hidden texts are left out.
    """
    data = _POWER.sub(rb"\1^\2}", _show_links(_show_notes(data)))
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
        elif note[1] in (b"header", b"footer"):
            boxes.append(b"\\par %s: {%s}" % (note[1].capitalize(), content))
        if note[1] not in (b"footnote", b"annotation"):
            content = b""
        pieces += [data[at : note.start()], b"{ [%s]" % content if content else b"{"]
        at = end
    head, brace, tail = data[at:].rpartition(b"}")
    return b"".join([*pieces, head, *dict.fromkeys(boxes), brace, tail])


def _show_links(data: bytes) -> bytes:
    """Write the address of each link behind its text, unless the text shows it."""
    pieces, at, read = [], 0, 0
    for field in _INSTRUCTION.finditer(data):
        if field.start() < read:
            continue
        read = _find_end(data, field.end()) or len(data)
        address, result = _ADDRESS.search(data, field.end(), read), _RESULT.match(data, read)
        if address is None or result is None:
            continue
        read = _find_end(data, result.end()) or len(data)
        shown = address[1].removeprefix(b"mailto:").rstrip(b"/")
        if shown not in data[result.end() : read]:
            pieces += [data[at:read], b" (%b)" % address[1]]
            at = read
    return b"".join([*pieces, data[at:]])


def _find_end(data: bytes, start: int) -> int | None:
    """Return the position of the brace that ends a group, or None."""
    depth = 1
    for brace in _BRACE.finditer(data, start):
        depth += {b"{": 1, b"}": -1}.get(brace[1], 0)
        if not depth:
            return brace.start()
    return None
