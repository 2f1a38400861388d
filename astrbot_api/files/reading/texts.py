"""Limits of long texts, for jobs: their ends are kept, and bytes within them are left out."""

from __future__ import annotations

import io
import re
from typing import BinaryIO

MAX_TEXT_CHARS = 2_000_000

#: The part of a longer text that is its end, which says why a program failed.
_END_CHARS = MAX_TEXT_CHARS // 4

#: Maximum size of a text file that is read, at four bytes per character.
MAX_TEXT_BYTES = 4 * MAX_TEXT_CHARS

#: Maximum size of a page, a notebook or a mail. Most bytes are of files, which are left out.
MAX_WHOLE_BYTES = 32 * 2**20

#: What a terminal does not print: sequences for colours, cursor and title, and signs that another
#: one replaces, such as those of bold text. Source: ECMA-48, 5.4; xterm, ctlseqs.
CONTROLS = re.compile(
    r"\x1b(?:\[[0-?]*+[ -/]*+[@-~]|[\]PX^_][^\x07\x1b\n]*+(?:\x07|\x1b\\)|[ -/]*+[0-Z\\`-~])|.?\x08"
)

#: Length of the longest line at whose end the two parts of a text are cut.
_LINE_BYTES = 64 * 1024

#: The bytes of a file within a text, such as a picture in Markdown.
EMBEDDED = re.compile(
    r"(data:[\w.+-]{1,50}/[\w.+-]{1,50}(?:;[\w=.-]{1,50})?;base64,)[A-Za-z0-9+/=]{200,}+"
)

#: The same without a mark: a long run, or many long lines, such as in an exported calendar.
_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/])"
    r"(?:[A-Za-z0-9+/]{1000,}+|(?:[A-Za-z0-9+/]{60,100}+\r?\n[ \t]?){40,}+[A-Za-z0-9+/]*+)={0,2}"
)

#: An escape of JSON, with the code of a letter outside ASCII.
_ESCAPE = re.compile(r"\\(?:u(?!00[0-7])([0-9A-Fa-f]{4})|.)")


def keep_ends(text: str, notes: list[str]) -> str:
    """Return a text, or its beginning and its end with a note if it is too long."""
    if len(text) <= MAX_TEXT_CHARS:
        return text
    first, last = MAX_TEXT_CHARS - _END_CHARS, _END_CHARS
    notes.append(f"Only its first {first} and its last {last} characters were read.")
    return leave_out_middle(text, first, last)


def leave_out_middle(text: str, first: int, last: int) -> str:
    """Return the beginning and the end of a long text, or all of a shorter one."""
    is_long = len(text) > first + last
    return f"{text[:first]}\n[…]\n{text[-last:]}" if is_long else text


def read_ends(source: BinaryIO) -> bytes:
    """Return a text, or its beginning and its end, whose joint :func:`keep_ends` cuts out."""
    data = source.read(MAX_TEXT_BYTES - 4 * _END_CHARS)
    start = source.seek(0, io.SEEK_END) - 4 * _END_CHARS
    source.seek(max(len(data), start - start % 4))  # a character has up to four bytes
    last = source.read()
    if start > len(data) and b"\0" not in data:
        # Half a character at the joint would make the encoding doubtful.
        data = data[: data.rfind(b"\n", -_LINE_BYTES) + 1] or data
        last = last[last.find(b"\n", 0, _LINE_BYTES) + 1 :]
    return data + last


def leave_out_base64(text: str) -> str:
    """Return a text in which only the beginning of base64 is left."""
    return _BASE64.sub(_shorten, EMBEDDED.sub(r"\1…", text))


def show_letters(json: str) -> str:
    """Return JSON with letters for their codes, which Python's ``json`` writes by default."""
    return _ESCAPE.sub(lambda one: chr(int(one[1], 16)) if one[1] else one[0], json)


def _shorten(run: re.Match[str]) -> str:
    """Return the beginning of base64, but a long word or number as it is."""
    sample = run[0][:1000]
    is_mixed = (
        re.search("[a-z]", sample) and re.search("[A-Z]", sample) and re.search(r"\d", sample)
    )
    return f"{sample[:20]}… ({len(run[0])} characters of base64)" if is_mixed else run[0]
