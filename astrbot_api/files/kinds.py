"""Detection of file types from content. The client's media type is ignored."""

from __future__ import annotations

import codecs
import mimetypes
import re
from dataclasses import dataclass

import filetype

#: Number of bytes at the start of a file that are examined.
HEAD_BYTES = 64 * 1024

#: Python's built-in table, without the system's additions, which differ by machine.
_BY_EXTENSION = mimetypes.MimeTypes()
for _mime, _extension in (  # missing in some versions of Python
    ("text/markdown", ".md"),
    ("text/javascript", ".js"),
    ("application/yaml", ".yaml"),
    ("application/yaml", ".yml"),
    ("application/toml", ".toml"),
):
    _BY_EXTENSION.add_type(_mime, _extension)

_TEXT_LIKE = re.compile(
    r"(text/.*|application/(json|javascript|x-javascript|x-sh|x-csh|sql|rtf|x-tex|x-latex|xml"
    r"|toml|yaml|x-yaml|postscript)|.*\+(json|xml))\Z"
)

#: Control characters except tab, line ends, form feed and escape. Text does not contain them.
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")

#: Number of bytes without control characters that are hardly ever binary.
_CLEARLY_BYTES = 32

#: Length of a packet of an MPEG transport stream, and its first byte. Source: ISO/IEC 13818-1.
_PACKET_BYTES, _SYNC = 188, b"G"

#: Type of a video stream. Source: Advanced Systems Format (ASF) Specification, 10.4.
_WMV_STREAM = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")

#: Codec id of a track of video in Matroska: element, length, text. Source: RFC 9559, 5.1.4.1.21.
_VIDEO_TRACK = re.compile(rb"\x86[\x80-\xff]V_")

#: Media types of the library -> registered media types.
_REGISTERED = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
}

#: Top-level media type -> type of an attachment. Others are files.
_TYPES = {"image": "image", "audio": "record", "video": "video"}

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """Type of a file. ``charset`` is set for text in UTF-8, UTF-16 and UTF-32 only."""

    type: str
    mime: str
    charset: str | None = None


def detect_kind(head: bytes, name: str) -> Kind:
    """Return the type of a file.

    :param head: The first :data:`HEAD_BYTES` bytes, or the whole file if it is shorter.
    :param name: Name of the file. It selects the media type of text.
    """
    charset = _charset_of(head)
    found = filetype.guess_mime(head) or _find_brand(head)
    # Text is checked first, because some signatures are short: a text may start with "BM".
    if charset is not None and found != "application/pdf":
        return Kind("file", _text_mime(name) or "text/plain", charset)
    if found is None:
        mime = _text_mime(name)
        if (mime or len(head) >= _CLEARLY_BYTES) and not _CONTROLS.search(head):
            # In an unknown legacy encoding, such as GB 18030.
            return Kind("file", mime or "text/plain")
        return Kind(*_without_signature(head))
    mime = _refine(head, _REGISTERED.get(found, found))
    return Kind(_TYPES.get(mime.partition("/")[0], "file"), mime)


def _charset_of(head: bytes) -> str | None:
    for mark, charset in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return charset
    if _CONTROLS.search(head):
        return None
    try:
        # Not final if the file is longer, because the head may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(head, len(head) < HEAD_BYTES)
    except UnicodeDecodeError:
        return None
    return "utf-8"


def _text_mime(name: str) -> str | None:
    """Return the media type of a text with this name, or None if the name is not that of a text."""
    guessed, _ = _BY_EXTENSION.guess_type(f"x/{name}")
    return guessed if guessed and is_text_type(guessed) else None


def is_text_type(mime: str) -> bool:
    """Return whether files of a media type are texts."""
    return _TEXT_LIKE.match(mime) is not None


def _without_signature(head: bytes) -> tuple[str, str]:
    """Detect formats that the library does not know, such as audio of messengers."""
    if head[:10].lstrip(b"\x02").startswith(b"#!SILK_V3"):
        return "record", "audio/silk"
    if head.startswith(b"#!AMR-WB\n"):
        return "record", "audio/amr-wb"
    if head.startswith(b"caff\0\1"):  # iMessage
        return "record", "audio/x-caf"
    if len(head) > 2 * _PACKET_BYTES and head[: 2 * _PACKET_BYTES + 1 : _PACKET_BYTES] == _SYNC * 3:
        return "video", "video/mp2t"
    return "file", "application/octet-stream"


def _find_brand(head: bytes) -> str | None:
    """Return the media type of an MP4 or picture whose brand the library does not know.

    Such as pictures with 10 bits of cameras, animated AVIF and recordings of old phones.
    Source: ISO/IEC 14496-12, 4.3; the registry at https://mp4ra.org/registered-types/brands.
    """
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in (b"heix", b"heim", b"heis", b"hevc", b"hevx"):
        return "image/heic"
    if brand == b"avis":
        return "image/avif"
    return (
        "video/mp4" if brand.startswith((b"3g", b"iso", b"M4", b"mp", b"avc1", b"dash")) else None
    )


def _refine(head: bytes, mime: str) -> str:
    """Distinguish audio from video in containers that can hold either."""
    if mime in ("video/webm", "video/x-matroska"):
        if b"A_" in head and not _VIDEO_TRACK.search(head):
            return "audio/webm" if mime == "video/webm" else "audio/x-matroska"
    elif mime == "audio/ogg":
        return "video/ogg" if b"theora" in head[:256] else mime
    elif mime == "video/mp4":
        # Brand of audio books, and handler types of the tracks (Source: ISO/IEC 14496-12, 8.4.3).
        is_book = head.startswith(b"M4B ", 8)
        return "audio/mp4" if is_book or (b"soun" in head and b"vide" not in head) else mime
    elif mime == "video/x-ms-wmv" and _WMV_STREAM not in head:
        return "audio/x-ms-wma"
    return mime
