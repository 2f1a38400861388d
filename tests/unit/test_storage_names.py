"""File names are cleaned before they are stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrbot_api.files.names import MAX_NAME_CHARS, clean_name, decode_name, find_file_name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("photo.png", "photo.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\dir\\evil.exe", "evil.exe"),
        ("C:evil.exe", "evil.exe"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\0b\x1f\x7f\x85.txt", "ab.txt"),
        ("gpj\u202eexe.txt", "gpjexe.txt"),
        ("a\u2028b\ud800.txt", "ab.txt"),
        ("  my file .txt ", "my file .txt"),
        (".bashrc", ".bashrc"),
        ("文件 🦊.txt", "文件 🦊.txt"),
        ("👩\u200d🚀.png", "👩\u200d🚀.png"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        (". .", "file"),
        ("dir/", "file"),
        ("\u202e", "file"),
        ("n" * 300 + ".txt", "n" * 251 + ".txt"),
        ("n" * 300, "n" * 255),
        ("n." + "x" * 300, "n." + "x" * 253),
        ("x/" * 1_000_000 + "deep.png", "deep.png"),
    ],
)
def test_what_is_kept_of_a_name(name: str, kept: str) -> None:
    assert clean_name(name) == kept


@given(st.text(st.characters(codec=None)))
def test_any_name_becomes_one_that_can_be_shown(name: str) -> None:
    kept = clean_name(name)
    assert 0 < len(kept) <= MAX_NAME_CHARS
    assert kept.encode()
    assert clean_name(kept) == kept


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("%E6%8A%A5%E5%91%8A%201.png", "报告 1.png"),
        ("a%20b.png", "a b.png"),
        ("50% off.png", "50% off.png"),
        ("100%.png", "100%.png"),
        ("%FF%FE.png", "%FF%FE.png"),
        ("=?UTF-8?B?5oql5ZGKLnBuZw==?=", "报告.png"),
        ("=?utf-8?q?caf=C3=A9=2Epng?=", "café.png"),
        ("=?x-unknown?B?5oql?=", "=?x-unknown?B?5oql?="),
        ("=?UTF-8?B?5oql5Z", "=?UTF-8?B?5oql5Z"),
        ("报告%20.png", "报告%20.png"),
    ],
)
def test_a_name_is_the_one_that_its_sender_saw(sent: str, seen: str) -> None:
    assert decode_name(sent) == seen


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b'filename="a.txt"', "a.txt"),
        (b"filename=my file.txt", "my file.txt"),
        (b'FileName = "a.txt"', "a.txt"),
        ('filename="报告.txt"'.encode(), "报告.txt"),
        ('filename="报告.txt"'.encode("gbk"), "报告.txt"),
        ('filename="Größe.txt"'.encode("latin-1"), "Größe.txt"),
        ('filename="レポート.txt"'.encode("cp932"), "レポート.txt"),
        ('filename="evil\u202egpj.exe"'.encode(), "evil\u202egpj.exe"),
        (b"filename=\"x\"; filename*=UTF-8''%E6%8A%A5.txt", "报.txt"),
        (b"filename*=UTF-8'zh'%E6%8A%A5.txt; filename=\"x\"", "报.txt"),
        (b"filename*=\"UTF-8''%E6%8A%A5.txt\"", "报.txt"),
        (b"filename*=ISO-8859-1'de'Gr%F6%DFe.txt", "Größe.txt"),
        (b"filename*=GBK''%B1%A8%B8%E6.txt", "报告.txt"),
        (b"filename*=UTF-8''%FF.txt; filename=x.txt", "x.txt"),
        (b"filename*=unicode_escape''x; filename=x.txt", "x.txt"),
        (b"filename*0*=UTF-8''%E6%8A; filename*1*=%A5.txt", "报.txt"),
        (b'filename*0="long "; filename*1="name.txt"', "long name.txt"),
        (b'filename="C:\\Users\\me\\a.txt"', "C:\\Users\\me\\a.txt"),
        (b'filename="say \\"hi\\";.txt"', 'say "hi";.txt'),
        (b'filename=""', ""),
        (b'name="filename=x"', None),
    ],
)
def test_a_name_is_found_in_any_form_of_the_header(sent: bytes, seen: str | None) -> None:
    assert find_file_name(b'form-data; name="file"; ' + sent) == seen


@pytest.mark.parametrize("piece", [b"; filename", b';a="', b'"', b"\\", b"; filename*0*=x", b" ="])
def test_a_header_of_any_length_is_read_in_time(piece: bytes) -> None:
    find_file_name(b'form-data; filename="a' + piece * (120_000 // len(piece)))
