"""Detection of text encodings, for attachments, tools and previews; and decoding of base64."""

from __future__ import annotations

import base64
import codecs
import re
import string

from chardetng_py import EncodingDetector

#: Byte order marks. UTF-32 comes first, because its mark starts with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_SAMPLE_BYTES = 256 * 1024

#: The part of a line with bytes outside ASCII, and the letter before them.
_ODD_LINE = re.compile(rb"[ -~]?[\x80-\xff][^\n]*")

#: Average length of the lines of a text that is decoded line by line. Others take too long.
_MIN_LINE_BYTES = 16

#: Number of East Asian characters that are not UTF-8 by accident.
_SURE_CHARS = 10
_EAST_ASIAN = re.compile(rb"[\xe3-\xed][\x80-\xbf]{2}")

#: A multibyte character in UTF-8 without overlong forms (Source: RFC 3629, 4).
_UTF8_CHAR = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)

#: Supersets, which Windows writes under the name of the subset.
_WIDER = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "big5": "big5hkscs",
}

#: Accepted declared charsets, by Python's names. All decode in linear time, while some of
#: Python's codecs take minutes.
_DECLARED = frozenset(
    (
        "ascii", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "gb2312", "gbk", "gb18030", "big5",
        "big5hkscs", "shift_jis", "cp932", "euc_jp", "iso2022_jp", "euc_kr", "cp949", "koi8-r",
        "koi8-u", "mac-roman", "mac-cyrillic",
    )
)  # fmt: skip
_ONE_BYTE = re.compile(r"iso8859-\d+|cp125\d|cp86[26]|cp874|tis-620|koi8-[ru]|mac-.*")

#: Declarations in HTML and XML (Source: HTML, 13.2.3.2, "prescan a byte stream"; XML, 4.3.3).
_IN_PAGE = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})"""
    rb"""|\A\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{1,40})["']""",
    re.IGNORECASE,
)
_PRESCAN_BYTES = 2048

#: Signs of windows-1252 whose codes are letters in windows-1250 and similar encodings.
_SIGNS = re.compile("[£°§©®±µ·«»€–—‘’“”„•…™ªº¹²³¼½¾¿¡×]+\\Z")

_WEST = re.compile("[àâäáãåæçèéêëìíîïñòóôõöøùúûüýÿßœÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝ]+\\Z")

#: Control bytes, which occur in UTF-16 and hardly ever in single-byte text.
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")

_UNPRINTABLE = re.compile(r"[\x01-\x08\x0b\x0e-\x1f\x7f]")

_LETTERS = (
    "\t\n\r\\x20-\\x7e\xa0-\u024f\u0370-\u04ff\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f"
    "\u1e00-\u1eff\u2010-\u203b\u20ac\u2116\u2122\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3"
    "\uff00-\uffef"
)
_NO_LETTER = re.compile(f"[^{_LETTERS}]")
_HAN = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]+\\Z")

#: The long vowel mark after half-width kana. Its byte is a degree sign in other encodings.
_KANA = re.compile(rb"[\xb1-\xdf]\xb0")


def decode(data: bytes, declared: str = "") -> tuple[str, str]:
    """Decode text of unknown encoding.

    It tries, in this order:

    - byte order marks,
    - UTF-16 and UTF-32 by their zero bytes,
    - UTF-8,
    - the declared charset, of the argument or of the page itself,
    - UTF-8 with some lines in another encoding, as in logs of several programs,
    - UTF-8 with a few invalid bytes,
    - statistical detection.

    :param declared: Charset that the sender names, for example in ``Content-Type``.
    :returns: The text without NUL characters, and a note about an assumed encoding, or an empty
        string if nothing was assumed.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _clean(data[len(mark) :].decode(encoding, "replace")), ""
    encoding = _find_wide(data)
    if encoding:
        return _clean(data.decode(encoding, "replace")), f"read as {encoding.upper()}"
    declared = find_codec(declared) or find_codec(_find_declared(data))
    sample = data[:_SAMPLE_BYTES]
    if not declared and b"\x1b$" in sample and _detect(sample) == "ISO-2022-JP":
        declared = "iso2022_jp"
    known = _decode_declared(data, declared)
    if known is not None:
        return _clean(known), ""
    return _decode_guessed(data)


def _decode_guessed(data: bytes) -> tuple[str, str]:
    """Decode text that is neither UTF-8 nor in the declared charset."""
    right, wrong = _sample_lines(data)
    is_mixed = (
        bool(wrong)
        and len(_EAST_ASIAN.findall(right)) >= _SURE_CHARS
        and data.count(b"\n") < len(data) / _MIN_LINE_BYTES
    )
    if not is_mixed and _is_mostly_utf8(right + wrong):
        text = _clean(data.decode("utf-8", "replace"))
        return text, "read as UTF-8, with invalid bytes shown as \N{REPLACEMENT CHARACTER}"
    name = _guess(wrong if is_mixed else right + wrong, data[:4096])
    codec = _WIDER.get(name.lower(), name)
    if not is_mixed:
        return _clean(data.decode(codec, "replace")), f"read as {name}"

    def to_utf8(line: re.Match[bytes]) -> bytes:
        is_utf8 = _is_utf8(line[0])
        if is_utf8 or (_EAST_ASIAN.search(line[0]) and _is_mostly_utf8(line[0], 2)):
            return line[0]
        return line[0].decode(codec, "replace").encode("utf-8", "replace")

    text = _ODD_LINE.sub(to_utf8, data).decode("utf-8", "replace")
    return _clean(text), f"read as UTF-8, some lines as {name}"


def _sample_lines(data: bytes) -> tuple[bytes, bytes]:
    """Return the first lines with bytes outside ASCII that are UTF-8, and those that are not."""
    right, wrong = bytearray(), bytearray()
    for line in _ODD_LINE.finditer(data):
        left = _SAMPLE_BYTES - len(right) - len(wrong)
        if left <= 0:
            break
        lines = right if _is_utf8(line[0]) else wrong
        lines += line[0][:left]
        if len(line[0]) < left:  # else its last character may be half, which no end may follow
            lines += b"\n"
    return bytes(right), bytes(wrong)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _find_declared(data: bytes) -> str:
    """Return the charset declared in an HTML page or XML file, or an empty string."""
    found = _IN_PAGE.search(data[:_PRESCAN_BYTES])
    return (found[1] or found[2]).decode("ascii", "replace") if found else ""


def find_codec(name: str) -> str:
    """Return Python's name of an accepted charset, or an empty string."""
    try:
        found = codecs.lookup(name).name if name.isascii() else ""
    except (LookupError, ValueError):
        return ""
    if found in ("utf-16", "utf-16-le", "utf-16-be"):
        return ""  # the declaration was readable as ASCII, so the page is not UTF-16
    if found in ("ascii", "iso8859-1"):
        return "cp1252"  # Source: WHATWG, Encoding, 4.2
    found = _WIDER.get(found, found)
    return found if found in _DECLARED or _ONE_BYTE.fullmatch(found) else ""


def _decode_declared(data: bytes, declared: str) -> str | None:
    """Decode as UTF-8 or as the declared charset, or return None if neither fits."""
    one_byte = bool(_ONE_BYTE.fullmatch(declared))
    # Many UTF-8 pages declare Latin-1. GBK text is hardly ever valid UTF-8.
    order = ("utf-8", declared) if one_byte or not declared else (declared, "utf-8")
    for one in order:
        try:
            return data.decode(one) if one else None
        except UnicodeDecodeError:
            continue
    if one_byte:
        return data.decode(declared, "replace")
    if declared and declared != "utf-8":
        text = data.decode(declared, "replace")
        if text.count("\ufffd") * 50 <= len(text):
            return text
    return None


def is_binary(text: str) -> bool:
    """Return whether over a tenth of the characters are control characters."""
    return len(_UNPRINTABLE.findall(text[:10_000])) > len(text[:10_000]) / 10


def _clean(text: str) -> str:
    return text.replace("\x00", "")


def _find_wide(data: bytes) -> str:
    """Return UTF-16 or UTF-32 with its byte order, or an empty string."""
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
    return "" if len(data) % 2 else _find_wide_letters(sample)


def _find_wide_letters(sample: bytes) -> str:
    """Detect UTF-16 of letters outside ASCII, or return an empty string."""
    if not _CONTROLS.search(sample):
        return ""
    best, fewest = "", len(sample) / 40
    for encoding in ("utf-16-le", "utf-16-be"):
        odd = len(_NO_LETTER.findall(sample.decode(encoding, "replace")))
        if odd < fewest:
            best, fewest = encoding, odd
    return best


def _is_wide_han(sample: bytes) -> bool:
    """Return whether bytes are UTF-16 of Han characters and kana only.

    About half of the low bytes are above 0x80 then. In legacy encodings all of them are, and in
    Latin text few of them are.
    """
    text = sample.decode("utf-16-le", "replace")
    above = sum(byte >= 0x80 for byte in sample[::2])
    is_mixed = len(text) >= 5 and 0.2 < above / len(text) < 0.85
    return is_mixed and len(sample) % 2 == 0 and _HAN.match(text) is not None


def _is_mostly_utf8(sample: bytes, at_least: int = 4) -> bool:
    """Return whether there are ``at_least`` times as many multibyte characters as invalid bytes.

    ASCII letters do not count: a long English log may contain one ``é`` in Latin-1.
    """
    rest = _UTF8_CHAR.sub(b"", sample)
    right = sum(1 for _ in _UTF8_CHAR.finditer(sample))
    wrong = sum(1 for byte in rest if byte >= 0x80)
    return right >= at_least * wrong and right > 0


def _detect(sample: bytes) -> str:
    """Return the detector's guess for the beginning of a text."""
    detector = EncodingDetector()
    detector.feed(sample, last=False)
    guess: str = detector.guess(tld=None, allow_utf8=False)
    return guess


def _guess(sample: bytes, head: bytes) -> str:
    """Return the name of the most likely legacy encoding.

    :param sample: Lines with bytes outside ASCII.
    :param head: The beginning of the text.
    """
    name = _detect(sample)
    high = bytes(byte for byte in sample if byte >= 0x80)
    signs = high.decode("windows-1252", "replace")
    if name.startswith(("windows-", "ISO-8859-")) and _is_wide_han(head):
        return "UTF-16-LE"
    if name in ("windows-1250", "windows-1257", "windows-1254", "ISO-8859-2"):
        return "windows-1252" if _SIGNS.match(signs) else name
    if name in ("ISO-8859-4", "ISO-8859-10", "ISO-8859-14"):
        return "windows-1252" if _WEST.match(signs) else name
    if name == "windows-1252":
        return _guess_western(sample, high, signs)
    # A few characters are valid in each of these encodings. Common Chinese characters are in
    # these rows (Source: GB/T 2312, level 1).
    is_chinese = all(0xB0 <= lead <= 0xD7 for lead in high[::2])
    if is_chinese and len(high) <= {"EUC-KR": 4, "EUC-JP": 8}.get(name, 0):
        return "GBK"
    return name


def _guess_western(sample: bytes, high: bytes, signs: str) -> str:
    """Return windows-1252, or an encoding that the detector confuses with it."""
    if min(high, default=0) >= 0xA1:
        if max(high) <= 0xDF and _KANA.search(sample):
            return "Shift_JIS"
        if b"\xa4" in high or re.search(rb"[\xbc\xbd][a-z\xe0-\xff]", sample):
            return "ISO-8859-15"  # these codes are the euro sign and the oe ligature
        if min(high) >= 0xC0 and not re.search(rb"[A-Za-z]", sample):
            return "windows-1251"  # no Latin word consists of accented letters only
    if "û" in signs and "õ" in signs:
        return "windows-1250"  # Hungarian
    return "windows-1252"


#: Converts the URL-safe alphabet (RFC 4648, 5), and removes line breaks (RFC 2045).
_TO_BASE64 = str.maketrans("-_", "+/", string.whitespace)


def decode_base64(text: str) -> bytes:
    """Decode base64, also with line breaks, without padding, URL-safe or in a ``data:`` URL.

    :raises ValueError: if it is not base64.
    """
    head, comma, rest = text.partition(",")
    if comma and head[:5].lower() == "data:" and head.lower().endswith(";base64"):
        text = rest
    data = text.translate(_TO_BASE64).rstrip("=")  # padding may be missing (RFC 4648, 3.2)
    return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
