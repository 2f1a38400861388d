"""Parsing and sanitising of file names sent by clients."""

from __future__ import annotations

import binascii
import re
import unicodedata
from email.errors import HeaderParseError
from email.header import decode_header
from urllib.parse import unquote_to_bytes

from ..runtime.decoding import decode, find_codec

MAX_NAME_CHARS = 255

#: Maximum length of an extension that is kept when a name is truncated.
_MAX_EXTENSION_CHARS = 32

#: Marks that change the text direction, and the byte order mark. For example,
#: ``evil\u202egpj.exe`` would be displayed as ``evilexe.jpg``.
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

_DRIVE = re.compile(r"[A-Za-z]:")

#: Categories of control characters, lone surrogates and line separators.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})

#: Default name of a file without a name.
_NAMELESS = "file"


#: Maximum length of a name that is decoded. Longer names are truncated anyway.
_MAX_ENCODED_CHARS = 16 * MAX_NAME_CHARS

_PERCENT = re.compile("%[0-9A-Fa-f]{2}")

_ENCODED_WORD = re.compile(r"=\?[\w.:-]{1,40}\?[BbQq]\?[^? ]*\?=")


#: Maximum number of parts of a name (RFC 2231).
_MAX_PIECES = 10

#: One parameter of a header. A backslash escapes only a quote, because some clients send Windows
#: paths.
_PARAMETER = re.compile(
    rb"""\s*+;?+\s*+([\w*!#$&+.^`|~-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*))?[^;]*"""
)


def find_file_name(disposition: bytes) -> str | None:
    """Return the file name of a ``Content-Disposition``, or None without a name.

    Supported are names in UTF-8 (browsers), ``filename*`` (RFC 5987), percent-encoding (RFC 7578,
    4.2), encoded words (RFC 2047) and legacy encodings of old clients.
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
    if b"filename*" in found:  # Source: RFC 6266, 4.3: it takes precedence
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
    """Decode a value like ``UTF-8'en'%E2%82%AC``, or return an empty string if it is invalid."""
    charset, _, rest = value.partition(b"'")
    text = unquote_to_bytes(rest.partition(b"'")[2])
    codec = find_codec(charset.decode("latin-1"))
    try:
        return text.decode(codec) if codec else ""
    except UnicodeDecodeError:
        return ""


def decode_name(name: str) -> str:
    """Decode percent-encoding or encoded words in a ``filename``.

    Percent-encoding is decoded if the result is UTF-8 with non-ASCII characters. It is also
    decoded if all special characters are escaped. A browser's ``50%25 off.png`` is kept.

    Source: RFC 7578, 4.2; RFC 2047, which mail programs use here too.
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
        is_all_escaped = "%" not in _PERCENT.sub("", name)
        if not text.isascii() or (" " not in name and is_all_escaped):
            return text
    return name


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
    """Return the last part of a path, without characters that are unsafe to display.

    Characters of all scripts are kept. The result is not empty, ``.`` or ``..``,
    has no separator and at most :data:`MAX_NAME_CHARS` characters. It must still
    not be used as a path.
    """
    # Bound the cost of names of megabytes.
    name = name[-16 * MAX_NAME_CHARS :] if len(name) > 64 * MAX_NAME_CHARS else name
    text = "".join(char for char in name if unicodedata.category(char) not in _UNPRINTABLE)
    text = _DIRECTIONS.sub("", text)
    text = re.split(r"[/\\]", text)[-1]
    text = _DRIVE.sub("", text, count=1) if _DRIVE.match(text) else text
    text = text.strip()
    if not text.strip(". "):
        return _NAMELESS
    return _cut(text)


def _cut(name: str) -> str:
    """Truncate a name before its extension."""
    if len(name) <= MAX_NAME_CHARS:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > _MAX_EXTENSION_CHARS:
        return name[:MAX_NAME_CHARS]
    return stem[: MAX_NAME_CHARS - len(extension) - 1] + dot + extension
