"""The type of a file is detected from its bytes."""

from __future__ import annotations

import pytest

from astrbot_api.files.kinds import HEAD_BYTES, Kind, detect_kind

_EBML = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm"
_OGG = b"OggS\0\x02" + bytes(8) + b"abcd" + bytes(4) + b"efgh\x01\x2a"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(40)
_WMV_STREAM = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
_MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\1\0moov"


@pytest.mark.parametrize(
    ("head", "type", "mime"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "image", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image", "image/jpeg"),
        (b"GIF89a\x01\0\x01\0", "image", "image/gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image", "image/webp"),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(28), "record", "audio/wav"),
        (b"ID3\x03" + bytes(20), "record", "audio/mpeg"),
        (b"fLaC\0\0\0\x22" + bytes(40), "record", "audio/flac"),
        (b"#!AMR\n" + b"<\0" * 16, "record", "audio/amr"),
        (b"\x02#!SILK_V3\x10\0", "record", "audio/silk"),
        (_OGG + b"OpusHead\0", "record", "audio/ogg"),
        (_OGG + b"\x80theora\0", "video", "video/ogg"),
        (_EBML + b"\x86\x86A_OPUS\x86\x85V_VP9", "video", "video/webm"),
        (_EBML + b"\x86\x86A_OPUS\0", "record", "audio/webm"),
        (_EBML + b"\x86\x86A_OPUS\xa3\x9eaV_m", "record", "audio/webm"),  # V_ within the sound
        (_MP4 + b"vide soun", "video", "video/mp4"),
        (_MP4 + b"soun", "record", "audio/mp4"),
        (_MP4, "video", "video/mp4"),
        (b"\0\0\0\x18ftypM4B \0\0\2\x00M4B mp42", "record", "audio/mp4"),
        (b"\0\0\0\x18ftyp3gp4\0\0\2\x003gp43gp4soun", "record", "audio/mp4"),
        (b"\0\0\0\x18ftypheix\0\0\0\0mif1heix", "image", "image/heic"),
        (b"\0\0\0\x18ftypavis\0\0\0\0avismsf1", "image", "image/avif"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx crx ", "file", "application/octet-stream"),
        (_ASF + _WMV_STREAM, "video", "video/x-ms-wmv"),
        (_ASF, "record", "audio/x-ms-wma"),
        (b"%PDF-1.4\n", "file", "application/pdf"),
        (b"PK\x03\x04" + bytes(40), "file", "application/zip"),
        ((b"G" + bytes(187)) * 3, "video", "video/mp2t"),
        (b"\0\1\2", "file", "application/octet-stream"),
    ],
)
def test_a_binary_file_is_what_its_bytes_say(head: bytes, type: str, mime: str) -> None:
    for name in ("a.txt", "a.png", "a.mp3", "a.html", "a"):
        assert detect_kind(head, name) == Kind(type, mime)


@pytest.mark.parametrize(
    ("name", "mime"),
    [
        ("a.txt", "text/plain"),
        ("a.md", "text/markdown"),
        ("a.csv", "text/csv"),
        ("a.json", "application/json"),
        ("a.html", "text/html"),
        ("a.svg", "image/svg+xml"),
        ("a.py", "text/x-python"),
        ("a.yml", "application/yaml"),
        ("a", "text/plain"),
        ("a.bin", "text/plain"),
        ("a.png", "text/plain"),
        ("a.mp3", "text/plain"),
    ],
)
def test_a_text_is_a_file_and_its_name_says_which(name: str, mime: str) -> None:
    for head in (b"", b"hello", "你好".encode(), b"BM is no bitmap", b"MZ is no program"):
        assert detect_kind(head, name) == Kind("file", mime, "utf-8")


def test_the_head_may_end_within_a_character() -> None:
    head = ("xx" + "你" * HEAD_BYTES).encode()[:HEAD_BYTES]
    with pytest.raises(UnicodeDecodeError):
        head.decode()
    assert detect_kind(head, "a.txt").charset == "utf-8"
    assert detect_kind("你".encode()[:2], "a.bin") == Kind("file", "application/octet-stream")


def test_other_encodings_are_text_if_the_name_or_the_length_says_so() -> None:
    assert detect_kind("hi".encode("utf-16"), "a.txt") == Kind("file", "text/plain", "utf-16")
    chinese = "你好世界".encode("gb18030")
    assert detect_kind(chinese, "a.csv") == Kind("file", "text/csv")
    assert detect_kind(chinese, "a.bin") == Kind("file", "application/octet-stream")
    assert detect_kind(chinese * 4, "a.bin") == Kind("file", "text/plain")
