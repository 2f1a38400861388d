"""File names as metadata: what a client calls a file, made harmless to show."""

from __future__ import annotations

import binascii
import re
import unicodedata
from email.errors import HeaderParseError
from email.header import decode_header
from urllib.parse import unquote_to_bytes

#: Longest name that is kept, in characters.
MAX_NAME_CHARS = 255

#: An extension longer than this is none, and may be cut off.
_MAX_EXTENSION_CHARS = 32

#: Marks that turn the direction of writing around: ``evil\u202egpj.exe`` would
#: be shown as ``evilexe.jpg``. And the byte order mark.
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

_DRIVE = re.compile(r"[A-Za-z]:")

#: Control characters, lone surrogates, the two line separators.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})

#: The name of a file that has none.
NAMELESS = "file"


#: Most characters of a name that are looked at for an encoding: longer names are cut anyway.
_MAX_ENCODED_CHARS = 16 * MAX_NAME_CHARS

_PERCENT = re.compile("%[0-9A-Fa-f]{2}")

_ENCODED_WORD = re.compile(r"=\?[\w.:-]{1,40}\?[BbQq]\?[^? ]*\?=")


def decode_name(name: str) -> str:
    """Return the name that the sender saw, from a ``filename`` of a multipart body.

    Percent-encoding counts as one where it becomes UTF-8 with at least one character beyond
    ASCII, or escapes what a quoted name cannot hold: ``50%25 off.png`` of a browser stays.

    Source: RFC 7578, 4.2; RFC 2047, which mail writers use there too.
    """
    if len(name) > _MAX_ENCODED_CHARS:
        return name
    if _ENCODED_WORD.search(name):
        return _decode_words(name)
    if _PERCENT.search(name) and name.isascii():
        try:
            text = unquote_to_bytes(name).decode()
        except UnicodeDecodeError:
            return name
        if not text.isascii() or (" " not in name and _is_all_escaped(name)):
            return text
    return name


def _is_all_escaped(name: str) -> bool:
    """Return whether every ``%`` begins an escape, and what must be escaped is."""
    return "%" not in _PERCENT.sub("", name)


def _decode_words(name: str) -> str:
    try:
        pieces = [
            piece.decode(charset or "latin-1") if isinstance(piece, bytes) else piece
            for piece, charset in decode_header(name)
        ]
    except (HeaderParseError, LookupError, UnicodeDecodeError, ValueError, binascii.Error):
        return name
    return "".join(pieces)


def clean_name(name: str) -> str:
    """Return the last part of a path, without what cannot be shown safely.

    Any script stays. The result is never empty, has at most
    :data:`MAX_NAME_CHARS` characters, no separator and is not ``.`` or ``..``;
    all the same it is never used as a path.
    """
    # Most names are short; one of megabytes must not cost as much.
    name = name[-16 * MAX_NAME_CHARS :] if len(name) > 64 * MAX_NAME_CHARS else name
    text = "".join(char for char in name if unicodedata.category(char) not in _UNPRINTABLE)
    text = _DIRECTIONS.sub("", text)
    text = re.split(r"[/\\]", text)[-1]
    text = _DRIVE.sub("", text, count=1) if _DRIVE.match(text) else text
    text = text.strip()
    if not text.strip(". "):
        return NAMELESS
    return _cut(text)


def _cut(name: str) -> str:
    """Shorten a name in its middle, so that its extension stays."""
    if len(name) <= MAX_NAME_CHARS:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > _MAX_EXTENSION_CHARS:
        return name[:MAX_NAME_CHARS]
    return stem[: MAX_NAME_CHARS - len(extension) - 1] + dot + extension
