"""File names as metadata: what a client calls a file, made harmless to show."""

from __future__ import annotations

import binascii
import re
import unicodedata
from email.errors import HeaderParseError
from email.header import decode_header
from urllib.parse import unquote_to_bytes

from ..runtime.decoding import decode, find_codec

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


#: Parts that a name may come in.
_MAX_PIECES = 10

#: One parameter of a header. Only a quote is escaped in it: a backslash of a Windows path, which
#: some clients send, is not an escape.
_PARAMETER = re.compile(
    rb"""\s*+;?+\s*+([\w*!#$&+.^`|~-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*))?[^;]*"""
)


def find_file_name(disposition: bytes) -> str | None:
    """Return the file name of a ``Content-Disposition``; None where it has none.

    Names come in UTF-8 (browsers), in ``filename*`` (RFC 5987), percent-encoded (RFC 7578, 4.2),
    as encoded words (RFC 2047) and, from old clients, in an older encoding.
    """
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(disposition) and (one := _PARAMETER.match(disposition, at)) and one.end() > at:
        found.setdefault(one[1].lower(), (one[2] or b"").strip())
        at = one.end()
    pieces = [f"filename*{number}".encode() for number in range(_MAX_PIECES)]
    if pieces[0] in found or pieces[0] + b"*" in found:  # Source: RFC 2231, 3
        values = [found.get(one + b"*") or found.get(one) or b"" for one in pieces]
        kind = b"filename*" if pieces[0] + b"*" in found else b"filename"
        found.setdefault(kind, b"".join(map(_unquote, values)))
    if b"filename*" in found:  # Source: RFC 6266, 4.3: it comes first wherever it stands
        name = _decode_extended(_unquote(found[b"filename*"]))
        if name or b"filename" not in found:
            return name
    if b"filename" not in found:
        return None
    return decode_name(decode(_unquote(found[b"filename"]))[0])


def _unquote(value: bytes) -> bytes:
    if value[:1] != b'"':
        return value
    return value[1:].removesuffix(b'"').replace(b'\\"', b'"')


def _decode_extended(value: bytes) -> str:
    """Return the text of a value as ``UTF-8'en'%E2%82%AC``; "" for one that cannot be read."""
    charset, _, rest = value.partition(b"'")
    text = unquote_to_bytes(rest.partition(b"'")[2])
    codec = find_codec(charset.decode("latin-1"))
    try:
        return text.decode(codec) if codec else ""
    except UnicodeDecodeError:
        return ""


def decode_name(name: str) -> str:
    """Return the name that the sender saw, from the text of a ``filename``.

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
