"""What a file is, from its bytes; the client's word on it is not asked."""

from __future__ import annotations

import codecs
import mimetypes
import re
from dataclasses import dataclass

import filetype

#: How much of a file is looked at.
HEAD_BYTES = 64 * 1024

#: The built-in table alone: what the system adds to it differs by machine.
_BY_EXTENSION = mimetypes.MimeTypes()
for _mime, _extension in (  # what some versions of Python lack
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

#: Characters that no text has, but for tab, line ends, form feed and escape.
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")

#: The library's words for what has a registered name.
_REGISTERED = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
}

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is. ``charset`` is known of text in UTF-8, 16 or 32 alone."""

    type: str
    mime: str
    charset: str | None = None


def detect_kind(head: bytes, name: str) -> Kind:
    """Return what a file is.

    :param head: Its first :data:`HEAD_BYTES` bytes, or all of it.
    :param name: Decides only which text a text is, never that it is one.
    """
    charset = _charset_of(head)
    found = filetype.guess_mime(head)
    # Some signatures are two letters: "BM" would make many a text a picture.
    if charset is not None and found != "application/pdf":
        return Kind("file", _text_mime(name), charset)
    if found is None:
        if _says_text(name) and not _CONTROLS.search(head):
            # An older encoding, such as GB 18030; which one is unknown.
            return Kind("file", _text_mime(name))
        return Kind(*_without_signature(head))
    mime = _refine(head, _REGISTERED.get(found, found))
    return Kind(_type_of(mime), mime)


def _type_of(mime: str) -> str:
    return {"image": "image", "audio": "record", "video": "video"}.get(
        mime.partition("/")[0], "file"
    )


def _charset_of(head: bytes) -> str | None:
    for mark, charset in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return charset
    if _CONTROLS.search(head):
        return None
    try:
        # Not final: the head may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(head, len(head) < HEAD_BYTES)
    except UnicodeDecodeError:
        return None
    return "utf-8"


def _says_text(name: str) -> bool:
    guessed, _ = _BY_EXTENSION.guess_type(f"x/{name}")
    return guessed is not None and _TEXT_LIKE.match(guessed) is not None


def _text_mime(name: str) -> str:
    guessed, _ = _BY_EXTENSION.guess_type(f"x/{name}")
    if guessed is None or not _TEXT_LIKE.match(guessed):
        return "text/plain"
    return guessed


def _without_signature(head: bytes) -> tuple[str, str]:
    """Name sound that the library does not know and messengers send."""
    if head[:10].lstrip(b"\x02").startswith(b"#!SILK_V3"):
        return "record", "audio/silk"
    if head.startswith(b"#!AMR-WB\n"):
        return "record", "audio/amr-wb"
    if head.startswith(b"caff\0\1"):  # of iMessage
        return "record", "audio/x-caf"
    return "file", "application/octet-stream"


def _refine(head: bytes, mime: str) -> str:
    """Distinguish sound from pictures where one container holds either."""
    if mime in ("video/webm", "video/x-matroska"):
        # The codec of each track stands in the clear (Source: RFC 9559, 5.1.4.1.21).
        if b"A_" in head and b"V_" not in head:
            return "audio/webm" if mime == "video/webm" else "audio/x-matroska"
    elif mime == "audio/ogg":
        return "video/ogg" if b"theora" in head[:256] else mime
    elif mime == "video/mp4" and b"soun" in head and b"vide" not in head:
        # The handlers of the tracks (Source: ISO/IEC 14496-12, 8.4.3).
        return "audio/mp4"
    return mime
