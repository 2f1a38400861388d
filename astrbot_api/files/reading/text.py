"""Bytes of unknown encoding become text: the one decoder of attachments, tools and previews."""

from __future__ import annotations

import codecs
import re

from chardetng_py import detect

#: Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

#: What is looked at to find out an encoding, in bytes.
_SAMPLE_BYTES = 256 * 1024

#: A character of more than one byte in UTF-8 (Source: RFC 3629, 4; overlong forms left out).
_UTF8_CHAR = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)

#: The wider encodings, which Windows writes under the narrower names.
_WIDER = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "big5": "big5hkscs",
}

#: Signs of windows-1252 at whose codes windows-1250 and its like have letters.
_SIGNS = re.compile("[£°§©®±µ·«»€–—‘’“”„•…™ªº¹²³¼½¾¿¡×]+\\Z")


def decode(data: bytes) -> tuple[str, str]:
    """Decode text.

    In this order: byte order marks; UTF-16 and UTF-32 by their zero bytes; UTF-8; UTF-8 with
    a few wrong bytes; what the letters say.

    :returns: The text without NUL characters, and what was assumed, in words: empty where
        nothing was.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _clean(data[len(mark) :].decode(encoding, "replace")), ""
    encoding = _find_wide(data)
    if encoding:
        return _clean(data.decode(encoding, "replace")), f"read as {encoding.upper()}"
    is_escaped = b"\x1b$" in data and detect(data[:_SAMPLE_BYTES]) == "ISO-2022-JP"
    if not is_escaped:
        try:
            return _clean(data.decode("utf-8")), ""
        except UnicodeDecodeError:
            pass
        if _is_mostly_utf8(data[:_SAMPLE_BYTES]):
            text = _clean(data.decode("utf-8", "replace"))
            return text, "read as UTF-8, with wrong bytes shown as \N{REPLACEMENT CHARACTER}"
    name = _guess(data[:_SAMPLE_BYTES])
    return _clean(data.decode(_WIDER.get(name.lower(), name), "replace")), f"read as {name}"


def _clean(text: str) -> str:
    return text.replace("\x00", "")


def _find_wide(data: bytes) -> str:
    """Return the encoding of two or four bytes a character; "" for any other."""
    sample = data[: 4096 - 4096 % 4]
    zeros = [sample[at::4].count(0) * 4 / max(1, len(sample)) for at in range(4)]
    low, high = 0.05, 0.4
    if len(data) % 4 == 0 and zeros[3] > 0.95 and zeros[2] > 0.8 and zeros[0] < low:
        return "utf-32-le"
    if len(data) % 4 == 0 and zeros[0] > 0.95 and zeros[1] > 0.8 and zeros[3] < low:
        return "utf-32-be"
    if max(zeros[0], zeros[2]) < low and min(zeros[1], zeros[3]) > high:
        return "utf-16-le"
    if max(zeros[1], zeros[3]) < low and min(zeros[0], zeros[2]) > high:
        return "utf-16-be"
    return ""


def _is_mostly_utf8(sample: bytes) -> bool:
    """Return whether characters of UTF-8 outnumber the bytes that are none, four to one.

    Letters of ASCII say nothing: a long log in English with one ``é`` of Latin-1 has them all.
    """
    rest = _UTF8_CHAR.sub(b"", sample)
    right = sum(1 for _ in _UTF8_CHAR.finditer(sample))
    wrong = sum(1 for byte in rest if byte >= 0x80)
    return right >= 4 * wrong and right > 0


def _guess(sample: bytes) -> str:
    """Return the name of the encoding that the letters speak for."""
    name: str = detect(sample)
    high = bytes(byte for byte in sample if byte >= 0x80)
    if name in ("windows-1250", "windows-1257", "windows-1254", "ISO-8859-2"):
        signs = high.decode("windows-1252", "replace")
        return "windows-1252" if _SIGNS.match(signs) else name
    if name == "EUC-KR" and len(high) <= 4:
        # Two characters fit either; the common ones of Chinese are in these rows
        # (Source: GB/T 2312, level 1).
        leads = high[::2]
        if all(0xB0 <= lead <= 0xD7 for lead in leads):
            return "GBK"
    return name
