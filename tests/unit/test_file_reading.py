"""Extraction from files: text as Markdown, pictures in a format for all models."""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import html
import io
import json
import lzma
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL
import pytest
from PIL import Image

from astrbot_api.errors import Unreadable
from astrbot_api.files.kinds import detect_kind
from astrbot_api.files.reading import ebooks, numbering, opendocument, package, pages, tables
from astrbot_api.files.reading.documents import extract_text
from astrbot_api.files.reading.pictures import prepare_picture
from astrbot_api.files.reading.reader import EXTRACT_TEXT, PREPARE_PICTURE
from astrbot_api.files.reading.shown import show_pages
from astrbot_api.runtime.aside import Aside, Job, Limits
from astrbot_api.runtime.decoding import decode

from .. import samples

#: The job with its limits of CPU time and memory. Another job may need the processor meanwhile.
_READ = Job(EXTRACT_TEXT.name, Limits(wall_s=600.0))


def read(data: bytes, name: str = "file", mime: str = "application/octet-stream") -> str:
    return extract_text(io.BytesIO(data), mime, name)[1].decode()


@pytest.mark.parametrize(
    ("data", "name", "wanted"),
    [
        (samples.make_docx(), "a.docx", ["# Quarterly report", "is marmalade."]),
        (samples.make_docx(), "b.docx", ["| item | price |", "| pencil | 4711 |"]),
        (samples.make_xlsx(), "a.xlsx", ["## Prices", "| item | price |", "| marmalade | 4711 |"]),
        (samples.make_pptx(), "a.pptx", ["## Slide 1\nmarmalade\nNotes: say it slowly", "the end"]),
        (samples.make_odt(), "a.odt", ["## Breakfast", "with marmalade", "- bread"]),
        (samples.make_odt(), "b.odt", ["| tea | 4711 |"]),
        (samples.make_epub(), "a.epub", ["# First\n\nmarmalade\n\nthe end"]),
        (samples.HTML, "a.html", ["## Prices", "- marmalade", "| item |", "| 4711 |"]),
        (samples.RTF, "a.rtf", ["The word is café 日."]),
        (rb"{\rtf1 \u-10179?\u-8704? yes}", "b.rtf", ["\N{GRINNING FACE} yes"]),
        (samples.MAIL, "a.eml", ["Subject: 报告", "is **café**"]),
        (samples.MAIL, "b.eml", ["[attached: bill.pdf, application/pdf]"]),
        (
            samples.make_archive({"a/b.txt": "hello", "c": ""}), "a.zip",
            ["with 2 files", "a/b.txt, 5"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_text_of_a_document_is_read_as_markdown(
    data: bytes, name: str, wanted: list[str]
) -> None:
    text = read(data, name)
    for one in wanted:
        assert one in text
    assert "alert" not in text


def word_table(*rows: list[str]) -> str:
    """Return a Word table of cells given as XML."""
    cells = ("".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows)
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in cells) + "</w:tbl>"


def word(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


_DOWN = "<w:tcPr><w:vMerge/></w:tcPr><w:p/>"
_TALL = '<w:tcPr><w:vMerge w:val="restart"/></w:tcPr>'
_NOTED = (
    '<w:p><w:r><w:t>Claim</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r>'
    "<w:ins><w:r><w:t> added</w:t></w:r></w:ins>"
    "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
    '<w:r><w:commentReference w:id="0"/></w:r></w:p>'
)


@pytest.mark.parametrize(
    ("data", "wanted", "unwanted"),
    [
        (
            samples.make_docx(word_table([word("A"), word_table([word("x"), word("y")])])),
            ["A\n\n| x | y |"],
            ["| A"],
        ),
        (
            samples.make_docx(word_table([_TALL + word("tall"), word("x")], [_DOWN, word("y")])),
            ["| tall | x |", "|  | y |"],
            [],
        ),
        (
            samples.make_docx(
                _NOTED,
                footnotes=f'<w:footnote w:id="2">{word("See there.")}</w:footnote>',
                comments=f'<w:comment w:id="0" w:initials="Ann">{word("Check this.")}</w:comment>',
            ),
            ["Claim[1] added[Ann1]", "1. See there.", "Check this."],
            ["gone", "(#", "↑"],
        ),
        (
            samples.make_xlsx(
                '<row r="4"><c r="A4"><v>3.0000000000000004</v></c></row>',
                "hidden",
                comments='<comment ref="B2"><text><r><t>Ann:</t></r><r><t>\nToo much</t></r></text>'
                "</comment>",
                boxes="<txBody><p><t>Next</t><t>:</t></p><p/><p><t>pay</t></p></txBody>" * 2,
            ),
            ["## Prices (hidden)", "| 3 |", "Comments in Prices:\n- B2: Ann: Too much",
             "Text boxes in Prices:\n- Next: pay"],
            ["pay\n- Next"],
        ),
        (
            samples.make_pptx(
                '<p:grpSp><a:p><a:r><a:t>grouped</a:t></a:r></a:p></p:grpSp><p:pic><p:cNvPr id="1" '
                'descr="A red bicycle"/></p:pic><p:sp><p:ph type="sldNum"/><a:p><a:r><a:t>4711'
                "</a:t></a:r></a:p></p:sp>"
            ),
            ["marmalade\ngrouped\n[picture: A red bicycle]\nNotes: "],
            ["4711"],
        ),
        (
            samples.make_odt(
                "<text:p>a<text:note><text:note-citation>1</text:note-citation><text:note-body>"
                "<text:p>foot</text:p></text:note-body></text:note></text:p><table:table>"
                '<table:table-row><table:table-cell table:number-columns-repeated="2">'
                "<text:p>twice</text:p></table:table-cell>"
                '<table:table-cell table:number-columns-repeated="999"/>'
                "</table:table-row></table:table>"
            ),
            ["a [foot]", "| twice | twice |\n"],
            [],
        ),
        (
            samples.MAIL.replace(b"=?utf-8?B?5oql5ZGK?=", "关于会议的报告".encode("gbk")),
            ["Subject: 关于会议的报告"],
            [],
        ),
        (
            samples.MAIL.replace(b"--b--", b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
                                 b"Subject: inner\r\n\r\ntext\r\n--b--"),
            ["[attached: inner, message/rfc822]\nSubject: inner\n\ntext"],
            [],
        ),
        (
            b"From: a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nbefore\n--b\n"
            b"Content-Type: image/png; name=a.png\n\nx\n--b\n\nafter\n--b\n"
            b"Content-Type: text/css\nContent-Location: cid:css\n\nstyle\n--b\n"
            b"Content-Type: text/html\nContent-Location: cid:frame\n\nframe\n--b--",
            ["before\n[attached: a.png, image/png]\nafter"],
            ["style", "frame"],
        ),
        (
            b"From: a\nContent-Type: text/plain; charset=Shift_JIS\n\n" + "東京①㈱".encode("cp932"),
            ["東京①㈱"],
            [],
        ),
        (
            b"From: a\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\n\n--b\n"
            b"Content-Type: text/html\n\n<p>news</p>\n--b--",
            ["news"],
            [],
        ),
        (
            b"<ul><li>one<ul><li>a<li>b</ul><li>two</ul><table><tr><td>A<td>B<tr><td>1<td>2</table>",
            ["- one\n  - a\n  - b\n- two", "| A | B |\n| --- | --- |\n| 1 | 2 |"],
            [],
        ),
        (
            b"<table><colgroup><col><col></colgroup><tr><td>A<td>B<tr><td>1|2<td>3</table>",
            ["| A | B |\n| --- | --- |\n| 1\\|2 | 3 |"],
            [],
        ),
        (
            "<p><ruby>漢<rp>(</rp><rt>かん</rt>字<rt>じ</rt></ruby></p><table><thead><tr><th>A</thead>"
            "<tbody><tr><td>1</tbody><tfoot><tr><td>2</tfoot></table>".encode(),
            ["漢字\n", "| A |\n| --- |\n| 1 |\n| 2 |"],
            ["かん", "| 2 |\n| ---"],
        ),
        (
            b'<?xml version="1.0" encoding="UTF-8"?><html><body><p>chapter</p></body></html>',
            ["chapter"],
            ["xml"],
        ),
        (
            '<meta charset="gb2312"><h1>你好</h1><a href="#top">up</a>'.encode("gbk"),
            ["# 你好", "up"],
            ["#top"],
        ),
    ],
    ids=["nested", "merged", "notes", "sheet", "slide", "odt", "mail", "mail in mail",
         "mail of Apple", "Japanese mail", "empty text", "implied ends", "columns", "foot",
         "xhtml", "html"],
)  # fmt: skip
def test_what_real_documents_have_is_read(
    data: bytes, wanted: list[str], unwanted: list[str]
) -> None:
    text = read(data, "a.eml" if data.startswith(b"From") else "a.html")
    assert [one for one in wanted if one not in text] == [], text
    assert [one for one in unwanted if one in text] == [], text


#: A run as Word writes it.
_RUN = (
    '<w:r w:rsidRPr="00A77B3E"><w:rPr>%s<w:rFonts w:ascii="Times New Roman" w:cs="Arial" '
    'w:eastAsia="SimSun"/><w:sz w:val="24"/><w:lang w:val="en-US"/></w:rPr>'
    '<w:t xml:space="preserve">%s</w:t></w:r><w:proofErr w:type="spellStart"/>'
)


def test_a_long_document_of_word_is_read_within_the_limits() -> None:
    runs = "".join(_RUN % ("", f"Sentence {number} of the report. ") for number in range(8))
    data = samples.make_docx(f"<w:p><w:pPr><w:jc/></w:pPr>{runs}</w:p>" * 4000)
    with contextlib.closing(Aside()) as aside:
        _, text = aside.run(_READ, data, {"mime": "", "name": "a.docx"})
    assert text.count(b"Sentence 1 of the report. Sentence 2 of the report. ") == 4000


_RUBY = "<w:r><w:ruby><w:rubyPr/><w:rt>{}</w:rt><w:rubyBase>{}</w:rubyBase></w:ruby></w:r>"
_BOX = (
    '<w:sdt><w:sdtPr><w14:checkbox xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml">'
    '<w14:checked w14:val="{}"/></w14:checkbox></w:sdtPr><w:sdtContent><w:r><w:t>x</w:t></w:r>'
    "</w:sdtContent></w:sdt>"
)


def test_characters_with_a_reading_and_check_boxes_are_read() -> None:
    run = "<w:r><w:t>{}</w:t></w:r>".format
    parts = (
        _RUBY.format(run("とうきょう"), run("東京")),
        run("都 "),
        _BOX.format(1),
        run("yes "),
        _BOX.format(0),
    )
    text = read(samples.make_docx(f"<w:p>{''.join(parts)}{run('no')}</w:p>"))
    assert "東京都 [x] yes [ ] no" in text
    assert "とうきょう" not in text


_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def numbered(number: int, level: int, text: str) -> str:
    properties = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def test_fields_directions_and_page_breaks_of_word_are_read() -> None:
    run = "<w:r><w:t>{}</w:t></w:r>".format
    figure = f"<w:fldSimple w:instr=' SEQ Figure '>{run('7')}</w:fldSimple>"
    breaks = (
        '<w:r><w:t>a</w:t><w:br w:clear="all" w:type="page"/><w:t>b</w:t><w:cr/><w:t>c</w:t></w:r>'
    )
    turned = f"<w:dir w:val='rtl'>{run('שלום')}</w:dir>"
    data = samples.make_docx(f"<w:p>{run('Figure')}{figure}{turned}</w:p><w:p>{breaks}</w:p>")
    assert read(data).endswith("Figure7שלום\n\na  \nb  \nc")


def test_notes_and_boxes_of_rtf_are_read_but_no_deleted_text() -> None:
    rtf = (
        rb"{\rtf1 a{\super\chftn}{\footnote\pard {\super\chftn} see \{there\}} b"
        rb"{\*\atnid X}{\*\annotation{\*\atnref 1}too dear}.{\shp{\*\shpinst{\shptxt in a box}}} c}"
    )
    assert read(rtf, "a.rtf").split("\n") == ["a [ see {there}] b [too dear]. c", " in a box"]
    assert read(rb"{\rtf1 a{\footnote b", "a.rtf") == "a"
    hidden = (
        rb"{\rtf1\v0 a{\b\deleted\revauthdel1 gone} b{\fs20\v secret}{\v x\v0 c}{\b\viewkind1 d}}"
    )
    assert read(hidden, "a.rtf") == "a bxcd"


def test_a_row_of_an_rtf_table_is_one_line() -> None:
    cells = [b"{{\\pard\\intbl %s\\par}\n\\cell}\n" % one for one in (b"tea", b"4711")]
    row = b"{\\trowd \\cellx1\\cellx2\n{\n%s%s}\\intbl\\row}\n" % (*cells,)
    assert (
        read(b"{\\rtf1 %s%s{\\pard end\\par}}" % (row, row), "a.rtf")
        == "tea |4711 |\n" * 2 + "end\n"
    )


def test_an_rtf_table_without_an_end_keeps_its_paragraphs() -> None:
    text = read(b"{\\rtf1 %s}" % (b"\\trowd a\\par " * 9), "a.rtf")
    assert text.split("\n")[:2] == ["a"] * 2


def alternatives(new: str, old: str) -> str:
    """Return an element of Office in its new and in its old form."""
    space = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    inner = f"<mc:Choice>{new}</mc:Choice>{old and f'<mc:Fallback>{old}</mc:Fallback>'}"
    return f"<mc:AlternateContent {space}>{inner}</mc:AlternateContent>"


def test_the_places_of_old_formulas_of_word_are_shown() -> None:
    formula, sheet = (
        f'<w:r><w:object><o:OLEObject xmlns:o="x:o" ProgID="{one}"/></w:object></w:r>'
        for one in ("Equation.DSMT4", "Excel.Sheet.12")
    )
    text = "<w:r><w:t>{}</w:t></w:r>".format
    body = f"<w:p>{text('If ')}{sheet}{formula}{text(', then ')}{formula}</w:p>"
    assert "If [formula], then [formula]" in read(samples.make_docx(body), "a.docx")


def test_the_text_of_a_shape_of_word_is_read_once() -> None:
    def show(text: str) -> str:
        return f"<w:txbxContent><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:txbxContent>"

    def draw(content: str) -> str:
        return f'<w:drawing><wps:txbx xmlns:wps="x:wps">{content}</wps:txbx></w:drawing>'

    old = f'<w:pict><v:t xmlns:v="v">{show("tea")}</v:t></w:pict>'
    for fallback in (old, "<w:pict/>", ""):
        run = f"<w:r>{alternatives(draw(show('tea')), fallback)}</w:r>"
        assert read(samples.make_docx(f"<w:p>{run}</w:p>"), "a.docx").count("tea") == 1
    run = f"<w:r>{draw(show('tea'))}</w:r>"
    assert read(samples.make_docx(f"<w:p>{run}</w:p>"), "a.docx").count("tea") == 1


@pytest.mark.parametrize(
    ("instruction", "shown"),
    [
        (r"eq \o\ac(○,3)", "(3)"),
        (r"EQ \* jc0 \* &quot;Font:宋体&quot; \* hps16 \o(\s\up 19(にがつ),二月)", "二月"),
        (r" eq \f(1,2) ", "(1)/(2)"),
        (r"EQ \r(3,x)", r"\r(3,x)"),
        (r"PAGE \* MERGEFORMAT", ""),
    ],
)
def test_signs_that_a_field_of_word_draws_are_read(instruction: str, shown: str) -> None:
    first, last = instruction[:6], instruction[6:]
    runs = "".join(
        f"<w:r>{one}</w:r>"
        for one in (
            "<w:t>a</w:t>", '<w:fldChar w:fldCharType="begin"/>',
            f"<w:instrText>{first}</w:instrText>", f"<w:instrText>{last}</w:instrText>",
            '<w:fldChar w:fldCharType="end"/>', "<w:t>b</w:t>",
        )
    )  # fmt: skip
    assert f"\n\na{shown}b" in read(samples.make_docx(f"<w:p>{runs}</w:p>"), "a.docx")


def test_a_document_that_mammoth_rejects_is_read() -> None:
    note = '<w:r><w:footnoteReference w:id="9"/></w:r>'
    assert "marmalade" in read(samples.make_docx(f"<w:p>{note}</w:p>"))


def test_hidden_text_of_word_and_opendocument_is_left_out() -> None:
    run = "<w:r><w:rPr><w:vanish{}/></w:rPr><w:t>{}</w:t></w:r>"
    document = samples.make_docx(
        "<w:p>" + run.format("", "secret") + run.format(' w:val="0"', "shown") + "</w:p>"
    )
    assert read(document).endswith("| 4711 |\n\nshown")
    style = '<x:style xmlns:x="x" x:name="S"><x:p x:display="none"/></x:style>'
    line = '<text:p>seen <text:span text:style-name="S">secret</text:span>here</text:p>'
    assert "\n\nseen here\n\n" in read(samples.make_odt(style + line))


def test_a_document_of_word_in_one_xml_file_is_read() -> None:
    body = f"<w:body>{word('before')}{word_table([word('A'), word('B')])}</w:body>"
    old = f'<?mso-application progid="Word.Document"?><w:wordDocument {_W}>{body}</w:wordDocument>'
    new = (
        f'<pkg:package xmlns:pkg="x"><pkg:part pkg:name="/word/document.xml"><pkg:xmlData>'
        f"<w:document {_W}>{body}</w:document></pkg:xmlData></pkg:part></pkg:package>"
    )
    for document in (old, new):
        assert read(document.encode(), "a.xml", "text/xml") == (
            "before\n\n| A | B |\n| --- | --- |"
        )
    assert "<w:p>" in read(old[:-5].encode(), "a.xml", "text/xml")


def test_clauses_of_a_contract_have_the_numbers_that_word_shows() -> None:
    formats = [[("chineseCounting", "第%1条"), ("lowerLetter", "(%2)"), ("decimal", "%1.%2.%3")],
               [("bullet", "·"), ("upperRoman", "%2.")]]  # fmt: skip
    lists = "".join(
        f'<w:abstractNum w:abstractNumId="{name}">'
        + "".join(
            f'<w:lvl w:ilvl="{at}"><w:start w:val="{1 + at // 2 * 2}"/><w:numFmt w:val="{kind}"/>'
            f'{"<w:isLgl/>" if at == 2 else ""}<w:lvlText w:val="{text}"/></w:lvl>'
            for at, (kind, text) in enumerate(levels)
        )
        + "</w:abstractNum>"
        for name, levels in enumerate(formats)
    )
    restarted, late = (
        f'<w:lvlOverride w:ilvl="{at}"><w:startOverride w:val="{start}"/></w:lvlOverride>'
        for at, start in ((1, 1), (0, 7))
    )
    nums = "".join(
        f'<w:num w:numId="{at}"><w:abstractNumId w:val="{name}"/>{more}</w:num>'
        for at, (name, more) in enumerate([(0, ""), (0, restarted), (1, ""), (0, late)], 1)
    )
    clauses = [
        (1, 0, "甲"), (1, 1, "one"), (1, 1, "two"), (2, 1, "again"), (1, 2, "deep"),
        (1, 0, "乙"), (1, 1, "x"), (3, 0, "point"), (3, 1, "roman"), (9, 0, "no"),
        (4, 2, "late"),
    ]  # fmt: skip
    body = word("before") + "".join(numbered(*one) for one in clauses)
    document = samples.make_docx(body)
    with zipfile.ZipFile(io.BytesIO(document)) as parts:
        files = {name: parts.read(name) for name in parts.namelist()}
    files["word/numbering.xml"] = f"<w:numbering {_W}>{lists}{nums}</w:numbering>".encode()
    files["word/_rels/document.xml.rels"] = (
        b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        b'<Relationship Id="n" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        b'relationships/numbering" Target="numbering.xml"/></Relationships>'
    )
    text = read(samples.make_archive(files))
    assert text.partition("before\n\n")[2].split("\n\n") == [
        "第一条 甲", "(a) one", "(b) two", "(a) again", "1.1.3 deep", "第二条 乙", "(a) x",
        "- point", "I. roman", "no", "7.1.3 late",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (9, "九"),
        (10, "十"),
        (21, "二十一"),
        (110, "一百一十"),
        (205, "二百零五"),
        (1260, "一千二百六十"),
        (1005, "一千零五"),
        (10_000, "10000"),
    ],
)
def test_a_clause_has_a_chinese_number(number: int, written: str) -> None:
    assert numbering._to_chinese(number) == written


@pytest.mark.parametrize(
    ("format", "number", "written"),
    [
        ("ideographTraditional", 2, "乙"),
        ("ideographTraditional", 11, "11"),
        ("decimalEnclosedCircleChinese", 12, "⑫"),
        ("aiueoFullWidth", 1, "ア"),
        ("russianUpper", 10, "К"),
        ("ideographDigital", 20, "二〇"),
        ("chineseLegalSimplified", 23, "贰拾叁"),
        ("japaneseCounting", 12, "十二"),
        ("unknown", 3, "3"),
    ],
)
def test_a_clause_is_counted_in_the_signs_of_its_format(
    format: str, number: int, written: str
) -> None:
    assert numbering.find_format(format)(number) == written


@pytest.mark.parametrize(
    ("suffix", "chunk", "shown"),
    [
        ("mht", "MIME-Version: 1.0\nContent-Type: text/html\n\n<h1>报告</h1>", "# 报告"),
        ("docx", samples.make_docx("<w:p><w:r><w:t>报告</w:t></w:r></w:p>"), "报告"),
        ("xlsx", samples.make_xlsx(), "## Prices\n\n| item | price |"),
    ],
)
def test_a_document_in_a_document_is_read(suffix: str, chunk: Any, shown: str) -> None:
    kind = "package" if suffix == "xlsx" else "aFChunk"
    assert shown in read(_embed(chunk, suffix, kind), "a.docx")


@pytest.mark.parametrize(
    "chunk", [b"PK\x03\x04damaged", samples.make_archive({"xl/a": "", "[Content_Types].xml": "<"})]
)
def test_a_damaged_sheet_does_not_hide_the_document_around_it(chunk: bytes) -> None:
    document = io.BytesIO(_embed(chunk, "xlsx", "package"))
    meta, data = extract_text(document, "", "a.docx")
    assert data == "报告".encode()
    assert meta["notes"] == ["A document in it was not read: it is damaged."]


def test_a_document_with_an_empty_document_in_it_has_text() -> None:
    empty = samples.make_archive(
        {"word/document.xml": "<document/>", "[Content_Types].xml": "<x/>"}
    )
    meta, data = extract_text(io.BytesIO(_embed(empty, "docx", "package")), "", "a.docx")
    assert (data, meta["notes"]) == ("报告".encode(), [])
    meta, _ = extract_text(io.BytesIO(empty), "", "a.docx")
    assert meta["notes"] == ["It has no text."]


def _embed(chunk: Any, suffix: str, kind: str) -> bytes:
    body = "<w:body><w:p><w:r><w:t>报告</w:t></w:r></w:p></w:body>"
    return samples.make_archive(
        {
            "[Content_Types].xml": "<Types/>",
            "word/document.xml": f"<w:document {_W}>{body}</w:document>",
            "word/_rels/document.xml.rels": '<Relationships><Relationship Id="a" '
            f'Type="x/{kind}" Target="/word/chunk.{suffix}"/></Relationships>',
            f"word/chunk.{suffix}": chunk,
        }
    )


@contextlib.contextmanager
def has_no_time() -> Iterator[None]:
    raise TimeoutError
    yield


def test_a_conversion_ends_when_it_has_used_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        while True:
            pass

    monkeypatch.setattr(pages, "_ENOUGH_S", 0.01)
    with pytest.raises(TimeoutError), pages.limit_cpu():
        run()


@pytest.mark.parametrize(
    ("depth", "limit"), [(1, has_no_time), (1000, contextlib.nullcontext)], ids=["large", "deep"]
)
def test_the_tables_of_a_large_or_deep_document_are_read(
    depth: int, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astrbot_api.files.reading.word.limit_cpu", limit)
    inner = "<w:tbl><w:tr><w:tc>" * depth + word("in it") + "</w:tc></w:tr></w:tbl>" * depth
    row = [
        word("one") + word("two"),
        word("x") + inner + word("more"),
        "<w:p><w:r><w:tab/></w:r></w:p>",
    ]
    text = read(samples.make_docx(word_table(row) + word("end")))
    assert "| pencil | 4711 |" in text
    assert "| one two | x in it more |  |" in text
    assert text.endswith("end")


def test_runs_of_word_keep_their_meaning() -> None:
    runs = _RUN % ("", "a ") + _RUN % ("<w:b/>", "bold") + _RUN % ("", " b") + _RUN % ("", "c")
    assert "a **bold** bc" in read(samples.make_docx(f"<w:p>{runs}</w:p>"))


_MATH = (
    '<m:oMathPara xmlns:m="math"><m:oMath><m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den>'
    "<m:rad><m:radPr/><m:deg/><m:e><m:r><m:t>b</m:t></m:r></m:e></m:rad></m:den></m:f>"
    '<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub><m:r><m:t>i</m:t></m:r></m:sub><m:sup/>'
    "<m:e><m:sSup><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
    "</m:e></m:nary></m:oMath></m:oMathPara>"
)
_LATEX = r"$\frac{a}{\sqrt{b}}∑_{i} x^{2}$"
_CHART = (
    "<ser><tx><pt><v>Sales</v></pt></tx><cat><pt idx='0'><v>Q1</v></pt><pt idx='1'><v>Q2</v></pt>"
    "</cat><val><pt idx='1'><v>12</v></pt></val></ser>"
)


@pytest.mark.parametrize(
    "data",
    [
        samples.make_docx(f"<w:p>{_MATH}</w:p>"),
        samples.make_pptx(f"<a:p>{_MATH}</a:p>"),
        f'<math><semantics><mi>x</mi><annotation encoding="application/x-tex">{_LATEX[1:-1]}'
        "</annotation></semantics></math>".encode(),
    ],
    ids=["docx", "pptx", "html"],
)  # fmt: skip
def test_equations_are_read_as_latex(data: bytes) -> None:
    assert _LATEX in read(data, "a.html")


def _math(tag: str, properties: str = "", **parts: str) -> str:
    """Return an element of an equation. A part without markup is a text."""
    inner = "".join(
        f"<m:{name}>{part if '<' in part else f'<m:r><m:t>{part}</m:t></m:r>'}</m:{name}>"
        for name, part in parts.items()
    )
    return f"<m:{tag}><m:{tag}Pr>{properties}</m:{tag}Pr>{inner}</m:{tag}>"


_BARS = '<m:begChr m:val="|"/><m:endChr m:val="|"/>'
_BRACE = '<m:begChr m:val="{"/><m:endChr m:val=""/>'


@pytest.mark.parametrize(
    ("math", "latex"),
    [
        (_math("d", e=_math("d", _BARS, e="x")), "(|x|)"),
        (_math("nary", e=_math("nary", '<m:chr m:val="∑"/>', e="x")), "∫ ∑ x"),
        (
            _math("d", _BRACE, e="<m:eqArr><m:e><m:r><m:t>0</m:t></m:r></m:e><m:e><m:r><m:t>1"
            "</m:t></m:r></m:e></m:eqArr>"),
            r"\{\begin{matrix}0 \\ 1\end{matrix}",
        ),
        (_math("bar", '<m:pos m:val="top"/>', e="x"), r"\overline{x}"),
        (_math("acc", e="x"), r"\hat{x}"),
        (_math("acc", '<m:chr m:val="\u20d7"/>', e="v"), r"\vec{v}"),
        (_math("f", '<m:type m:val="noBar"/>', num="n", den="k"), r"{n \atop k}"),
        (_math("sPre", sub="2", sup="3", e="T"), "{}_{2}^{3}T"),
    ],
    ids=["brackets", "operators", "cases", "bar", "hat", "vector", "binomial", "before"],
)  # fmt: skip
def test_signs_of_an_equation_keep_their_meaning(math: str, latex: str) -> None:
    equation = f'<w:p><m:oMath xmlns:m="math">{math}</m:oMath></w:p>'
    assert f"${latex}$" in read(samples.make_docx(equation))


@pytest.mark.parametrize(
    ("math", "latex"),
    [
        ("<mfrac><mn>1</mn><mn>2</mn></mfrac>", r"\frac{1}{2}"),
        ("<msubsup><mo>∫</mo><mn>0</mn><mn>1</mn></msubsup><mi>x</mi>", "∫_{0}^{1}x"),
        ("<msqrt><msup><mi>x</mi><mn>2</mn></msup></msqrt>", r"\sqrt{x^{2}}"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt[3]{x}"),
        (
            "<mtable><mtr><mtd>1</mtd><mtd>2</mtd></mtr><mtr><mtd>3</mtd></mtr></mtable>",
            r"\begin{matrix}1 & 2 \\ 3\end{matrix}",
        ),
        ("<msup><mi>x</mi></msup>&nbsp;", "x"),
    ],
)
def test_formulas_of_a_page_are_read_as_latex(math: str, latex: str) -> None:
    assert read(f"<p>a <math>{math}</math> b".encode(), "a.html") == f"a ${latex}$ b"


def test_the_numbers_of_opendocument_are_read() -> None:
    spaces = "".join(f' xmlns:{one}="x:{one}"' for one in ("office", "style", "text"))
    level = (
        '<text:list-level-style-number text:level="{}" style:num-format="{}" style:num-suffix="{}"'
    )
    styles = (
        f"<office:document-styles{spaces}><text:outline-style><text:outline-level-style "
        'text:level="1" style:num-prefix="§ " style:num-format="1"/></text:outline-style>'
        "</office:document-styles>"
    )
    content = (
        f"<office:document-content{spaces}><office:automatic-styles>"
        f'<text:list-style style:name="L">{level.format(1, "甲", "、")}/>'
        f'{level.format(2, "1", ".")} text:display-levels="2"/>'
        "</text:list-style></office:automatic-styles><office:body><office:text>"
        '<text:h text:outline-level="1">Scope</text:h><text:list text:style-name="L">'
        "<text:list-header><text:p>Intro</text:p></text:list-header>"
        "<text:list-item><text:p>one</text:p><text:p>more</text:p><text:list><text:list-item>"
        "<text:p>inner</text:p></text:list-item></text:list></text:list-item></text:list>"
        '<text:list text:style-name="L" text:continue-numbering="true"><text:list-item><text:p>two'
        '</text:p></text:list-item></text:list><text:list text:style-name="L"><text:list-item '
        'text:start-value="5"><text:p>five</text:p></text:list-item></text:list>'
        '<text:list text:style-name="X"><text:list-item><text:p>point</text:p></text:list-item>'
        '</text:list><text:h text:outline-level="1">Price</text:h></office:text></office:body>'
        "</office:document-content>"
    )
    parts = {"content.xml": content, "styles.xml": styles, "mimetype": "text"}
    assert read(samples.make_archive(parts)).split("\n\n") == [
        "# § 1 Scope", "  Intro\n甲、 one\n  more\n  甲.1. inner", "乙、 two", "戊、 five",
        "- point", "# § 2 Price",
    ]  # fmt: skip


def test_comments_of_slides_are_read() -> None:
    body = "<txBody><p><t>{}</t></p></txBody>".format
    comments = f"<cm><text>Old</text></cm><cm>{body('New')}<reply>{body('Right')}</reply></cm>"
    wanted = "Notes: say it slowly\nComment: Old\nComment: New\nComment: Right\n\n## Slide 2"
    assert wanted in read(samples.make_pptx(comments=comments))


def test_charts_and_diagrams_are_read() -> None:
    table = "[chart]\n|  | Sales |\n| --- | --- |\n| Q1 |  |\n| Q2 | 12 |"
    diagram = "<p><t>Step one</t></p><p><t>Step two</t></p>"
    text = read(samples.make_docx(chart=_CHART, diagramData=diagram))
    assert "- Step one\n- Step two" in text
    assert table in text
    assert table in read(samples.make_pptx(chart=f"<x:a xmlns:x='x'>{_CHART}</x:a>"))


def test_each_value_of_a_chart_stands_beside_its_own_label() -> None:
    def part(name: str, *levels: dict[int, str]) -> str:
        points = (
            "".join(f"<pt idx='{at}'><v>{v}</v></pt>" for at, v in one.items()) for one in levels
        )
        return f"<{name}>{''.join(f'<lvl>{one}</lvl>' for one in points)}</{name}>"

    def series(name: str, *parts: str) -> str:
        return f"<ser>{part('tx', {0: name})}{''.join(parts)}</ser>"

    quarters = part("cat", {0: "Q3", 1: "Q4", 2: "Q1"}, {0: "2025", 2: "2026"})
    bars = series("a", quarters, part("val", {0: "1"})) + series("b", part("val", {2: "2"}))
    text = read(samples.make_docx(chart=f"<x>{bars}</x>"))
    assert (
        "|  | a | b |\n| --- | --- | --- |\n| 2025 Q3 | 1 |  |\n| Q4 |  |  |\n| 2026 Q1 |  | 2 |"
        in text
    )
    first, second = (
        series(name, part("xVal", {0: x}), part("yVal", {0: y})) for name, x, y in ("a12", "b34")
    )
    text = read(samples.make_docx(chart=f"<x>{first}{second}</x>"))
    assert "|  | a |\n| --- | --- |\n| 1 | 2 |\n\n|  | b |\n| --- | --- |\n| 3 | 4 |" in text


def test_the_numbers_of_a_chart_are_read_as_they_are_shown() -> None:
    chart = (
        "<x><title><t>Growth</t></title><ser><cat><formatCode>d/m/yy;@</formatCode><pt><v>45325</v>"
        "</pt></cat><val><formatCode>0.0%</formatCode><pt><v>0.153</v></pt>"
        '<pt idx="1" formatCode="General"><v>4.4000000000000004</v></pt></val></ser></x>'
    )
    text = read(samples.make_docx(chart=chart))
    assert "[chart: Growth]" in text
    assert "| 2024-02-03 | 15.3% |\n|  | 4.4 |" in text
    assert read(samples.make_xlsx(chart=chart)).endswith("[chart in Prices: Growth]")


def test_the_header_and_the_footer_of_a_letter_are_read_once() -> None:
    box = f"<w:r><w:txbxContent>{word('Tel. 12')}</w:txbxContent></w:r>"
    boxed = f"<w:p><w:r><w:t>ACME</w:t></w:r>{alternatives(box, box)}</w:p>"
    parts = {"header1": boxed, "header2": boxed, "footer1": word("Bank 34")}
    assert read(samples.make_docx(**parts)).endswith("\n\nHeader: ACME\nTel. 12\n\nFooter: Bank 34")


def test_notices_for_older_programs_are_left_out() -> None:
    shape = "<{0}:sp xmlns:{0}='x:{0}'><txBody><p><t>{1}</t></p></txBody></{0}:sp>"
    sheet = samples.make_xlsx(
        boxes=alternatives(shape.format("xdr", "Tea"), shape.format("xdr", "A slicer needs 2010"))
    )
    assert read(sheet).endswith("Text boxes in Prices:\n- Tea")


def test_formulas_without_a_value_and_errors_of_a_sheet_are_shown() -> None:
    row = (
        '<row r="3"><c r="A3" t="n"><f>SUM(B1:B2)</f><v></v></c><c r="B3"><f>A1&amp;"x"</f></c>'
        '<c r="C3"><f>1+1</f><v>2</v></c><c r="D3" t="e"><f>1/0</f><v>#DIV/0!</v></c>'
        '<c r="E3" t="str"><f>IF(A1="","",A1)</f><v></v></c><c r="F3"><v>7</v></c></row>'
    )
    assert '| =SUM(B1:B2) | =A1&"x" | 2 | #DIV/0! |  | 7 |' in read(samples.make_xlsx(row))


def test_formulas_of_a_program_that_does_not_calculate_are_shown() -> None:
    row = '<row r="3"><c r="A3"><f>B1*2</f><v>0</v></c><c r="B3"><f>B2</f><v>4711</v></c></row>'
    sheet = samples.make_xlsx(row, settings='<calcPr fullCalcOnLoad="1"/>')
    assert "| =B1*2 | 4711 |" in read(sheet)
    assert "| 0 | 4711 |" in read(samples.make_xlsx(row))


def test_a_formula_that_cells_share_is_shown_in_each_of_them() -> None:
    row = (
        '<row r="3"><c r="A3"><f t="shared" ref="A3:B3" si="0">A1*2</f></c>'
        '<c r="B3"><f t="shared" si="0"/></c><c r="C3"><f t="shared" si="0"/><v>7</v></c></row>'
    )
    assert "| =A1*2 | =A1*2 (of another row or column) | 7 |" in read(samples.make_xlsx(row))


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("General", ["0.153", "-1234567.891", "0"]),
        ("", ["0.153", "-1234567.891", "0"]),
        ("0.0%", ["15.3%", "-123456789.1%", "0.0%"]),
        (
            '[$€-407] #,##0.00;[Red]([$€-407] #,##0.00);"none"',
            ["€ 0.15", "(€ 1,234,567.89)", "none"],
        ),
        ('_-* #,##0.00\\ "zł"_-', ["0.15 zł", "-1,234,567.89 zł", "0.00 zł"]),
        ('[>=0.1]0.0##,"K";[<0]0.0,,"M";General" x"', ["0.0K", "1.2M", "0 x"]),
        ("0.00_ ;[Red]0.00\\ ", ["0.15", "-1234567.89", "0.00"]),
        ("#,##0;#,##0-", ["0", "1,234,568-", "0"]),
        ("# ?/?", ["1/7", "-1234567 8/9", "0"]),
        ("0.00E+00", ["1.53E-01", "-1.23E+06", "0.00E+00"]),
        ("00000", ["00000", "-1234568", "00000"]),
        ("000-00", ["000-00", "-12345-68", "000-00"]),
        (";;", ["", "", ""]),
        ("#.##", [".15", "-1234567.89", ""]),
        ('d.m.yy" G"', ["2024-02-03", "2023-12-25 12:00:00", "1900-01-01"]),
        ("[h]:mm", ["1087800:00:00", "1086852:00:00", "24:00:00"]),
        ("[$-804]aaaa;@", ["2024-02-03", "2023-12-25 12:00:00", "1900-01-01"]),
        ("aaa", ["2024-02-03", "2023-12-25 12:00:00", "1900-01-01"]),
    ],
)
def test_the_numbers_of_a_sheet_are_read_as_they_are_shown(code: str, shown: list[str]) -> None:
    numbers = ["0.153", "-1234567.891", "0"]
    if any(letter in code for letter in ("y", "h", "aaa")):
        numbers = ["45325", "45285.5", "1"]
    cells = "".join(f'<c r="{"ABC"[at]}3" s="1"><v>{one}</v></c>' for at, one in enumerate(numbers))
    styles = (
        f'<numFmts><numFmt numFmtId="170" formatCode="{html.escape(code)}"/></numFmts>'
        '<cellXfs><xf numFmtId="0"/><xf numFmtId="170"/></cellXfs>'
    )
    row = f'<row r="3">{cells}<c r="D3" s="1" t="str"><v>7</v></c></row>'
    text = read(samples.make_xlsx(row, styles=styles))
    assert text.splitlines()[-1] == f"| {' | '.join([*shown, '7'])} |"


def test_a_comment_with_replies_is_read_without_the_notice_for_older_programs() -> None:
    notice = "[Threaded comment] Learn more: https://go.microsoft.com/fwlink/?linkid=870924"
    thread = f'<comment ref="B2"><t>{notice}\n\nComment:\n  Why?\nReply:\n  So</t></comment>'
    text = read(samples.make_xlsx(comments=thread))
    assert text.endswith("Comments in Prices:\n- B2: Comment: Why? Reply: So")


def test_the_links_of_a_sheet_are_read_unless_they_are_shown() -> None:
    link = '<hyperlinks><hyperlink ref="B2" r:id="rId3" xmlns:r="r"/></hyperlinks>'
    sheet = samples.make_xlsx(f"</sheetData>{link}<sheetData>")
    assert read(sheet).endswith("Links in Prices:\n- B2: https://example.com/terms")
    row = '<row r="3"><c r="A3" t="str"><v>https://example.com/terms</v></c></row>'
    assert "Links" not in read(samples.make_xlsx(f"{row}</sheetData>{link}<sheetData>"))


def test_a_sheet_whose_elements_have_a_prefix_is_read_as_it_is_shown() -> None:
    row = (
        '<row r="3" hidden="1"><c r="A3" s="0"><v>0.153</v></c><c r="B3" t="e"><v>#N/A</v></c>'
        '</row></sheetData><hyperlinks><hyperlink ref="B2" r:id="rId3" xmlns:r="r"/></hyperlinks>'
        "<sheetData>"
    )
    sheet = samples.make_xlsx(row, styles='<cellXfs><xf numFmtId="10"/></cellXfs>')
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sheet)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            part = source.read(name).decode()
            if name in ("xl/worksheets/sheet1.xml", "xl/styles.xml", "xl/workbook.xml"):
                part = re.sub(r"<(/?)(\w)", r"<\1x:\2", part).replace("xmlns=", "xmlns:x=")
            target.writestr(name, part)
    assert read(out.getvalue()) == read(sheet)
    assert "| 15.30% | #N/A |" in read(sheet)
    assert "hidden, such as by a filter: 1." in read(sheet)
    assert read(sheet).endswith("- B2: https://example.com/terms")


def test_rows_that_a_filter_hides_are_counted() -> None:
    row = '<row r="{}" hidden="1"><c r="A{}"><v>7</v></c></row>'
    rows = row.format(3, 3) + row.format(4, 4) + '<row r="5" hidden="1"/>'
    noted = "[Rows of Prices that are hidden, such as by a filter: 2.]"
    assert read(samples.make_xlsx(rows)).endswith(f"| 7 |  |\n| 7 |  |\n\n{noted}")
    spaces = "".join(f' xmlns:{one}="x:{one}"' for one in ("office", "table", "text"))
    cell = "<table:table-cell><text:p>7</text:p></table:table-cell>"
    hidden = f'<table:table-row table:visibility="filter">{cell}</table:table-row>'
    rows = f"<table:table-row>{cell}</table:table-row>{hidden}{hidden}"
    data = (
        f"<office:document{spaces}><office:body><office:spreadsheet>"
        f'<table:table table:name="Prices">{rows}</table:table>'
        "</office:spreadsheet></office:body></office:document>"
    )
    assert read(data.encode()).endswith(f"| 7 |\n\n{noted}")


def test_a_sheet_with_a_cell_far_away_is_read() -> None:
    far = '<row r="1048576"><c r="XFD1048576"><v>7</v></c></row>'
    assert "| marmalade | 4711 |  |\n|  |  | 7 |" in read(samples.make_xlsx(far))


def test_all_files_of_a_mail_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrbot_api.files.reading.texts.MAX_TEXT_BYTES", 100)
    monkeypatch.setattr("astrbot_api.files.reading.texts._END_CHARS", 10)
    mail = EmailMessage()
    mail.set_content("See the files.")
    for name in ("a.pdf", "b.pdf"):
        mail.add_attachment(bytes(500), maintype="application", subtype="pdf", filename=name)
    text = read(mail.as_bytes(), "a.eml", "message/rfc822")
    assert text.endswith("[attached: a.pdf, application/pdf]\n[attached: b.pdf, application/pdf]")


def test_the_topics_of_a_mind_map_are_read() -> None:
    notes = {"plain": {"content": "ask\nBob"}}
    topics = [{"title": "买 菜", "labels": ["P1"], "notes": notes, "children": None}, 5]
    callouts = [{"title": "note"}]
    root = {"title": "计划", "children": {"attached": topics, "callout": callouts}}
    sheets = [{"title": "One", "rootTopic": root}, {"title": "Two"}, None]
    parts = {"metadata.json": "{}", "content.json": json.dumps(sheets)}
    assert read(samples.make_archive(parts), "plan.xmind") == (
        "# One\n\n- 计划\n  - 买 菜; P1; ask Bob\n  - note\n\n# Two"
    )


def test_the_texts_of_a_visio_drawing_are_read_page_by_page() -> None:
    page = "<PageContents><Shape><Text>{}<cp IX='0'/> {}\n</Text></Shape></PageContents>"
    rel = '<Relationship Id="{}" Type="x/page" Target="page{}.xml"/>'
    pages = '<Page Name="{}"><Rel xmlns:r="r" r:id="{}"/></Page>'
    parts = {
        "[Content_Types].xml": "<Types/>",
        "visio/pages/pages.xml": f"<x>{pages.format('审批', 'b')}{pages.format('P2', 'a')}</x>",
        "visio/pages/_rels/pages.xml.rels": f"<x>{rel.format('a', 1)}{rel.format('b', 2)}</x>",
        "visio/pages/page1.xml": page.format("Pay", "it"),
        "visio/pages/page2.xml": page.format("Ask", "Bob"),
    }
    text = read(samples.make_archive(parts), "flow.vsdx")
    assert text == "## 审批\n- Ask Bob\n\n## P2\n- Pay it"


def test_the_reason_of_a_returned_mail_is_read() -> None:
    mail = (
        "Subject: Returned\nContent-Type: multipart/report; boundary=b\n\n--b\n\nNot sent.\n--b\n"
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx\n\nAction: failed\n"
        "Diagnostic-Code: smtp; 550\n user unknown\n\n--b\n"
        "Content-Type: text/rfc822-headers\n\nSubject: =?gbk?B?xOO6ww==?=\n\n--b--\n"
    )
    assert read(mail.encode(), "a.eml").split("\n\n") == [
        "Subject: Returned", "Not sent.\nReporting-MTA: dns; mx",
        "Action: failed\nDiagnostic-Code: smtp; 550 user unknown", "Subject: 你好\n",
    ]  # fmt: skip


@pytest.mark.parametrize("most_bytes", [0, 1_000_000])
def test_a_sheet_of_sheetjs_is_read(monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> None:
    monkeypatch.setattr(opendocument, "_MAX_TREE_BYTES", most_bytes)
    spaces = "".join(
        f' xmlns:{one}="urn:oasis:names:tc:opendocument:xmlns:{one}:1.0"'
        for one in ("office", "table", "text")
    )
    sheet = (
        f"<office:document-content{spaces}>\n <office:body>\n<office:spreadsheet>\n"
        '<table:table table:name="Sales">\n <table:table-row>\n'
        '  <table:table-cell office:value-type="string"><text:p>item</text:p></table:table-cell>\n'
        '  <table:table-cell office:value-type="float" office:value="7"><text:p>7</text:p>'
        "</table:table-cell>\n </table:table-row>\n</table:table>\n</office:spreadsheet>\n"
        "</office:body>\n</office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    archive = samples.make_archive({"content.xml": sheet, "mimetype": kind})
    assert read(archive, "a.ods") == "## Sales\n\n| item | 7 |\n| --- | --- |"


def test_a_sheet_of_opendocument_is_read_as_it_is_shown() -> None:
    names = ("calcext", "dc", "office", "style", "table", "text")
    spaces = "".join(f' xmlns:{one}="x:{one}"' for one in names)
    cells = (
        '<table:table-cell office:value-type="string" office:string-value="" '
        'calcext:value-type="error"><text:p>#N/A</text:p></table:table-cell>'
        '<table:table-cell office:value-type="date" office:date-value="2026-02-03T14:05:00">'
        "<office:annotation><dc:creator>Ann</dc:creator><text:p>Late</text:p></office:annotation>"
        "<text:p>03.02.26 14:05</text:p></table:table-cell>"
        '<table:table-cell office:value-type="currency" office:value="12.5">'
        "<text:p>12,50 €</text:p></table:table-cell>"
        '<table:table-cell office:value="-5"><text:p>5,00 €</text:p></table:table-cell>'
        '<table:table-cell office:value="-5"><text:p>(5)</text:p></table:table-cell>'
    )
    sheet = (
        f"<office:document-content{spaces}><office:automatic-styles>"
        '<style:style style:name="ta2" style:family="table"><style:table-properties '
        'table:display="false"/></style:style></office:automatic-styles><office:body>'
        '<office:spreadsheet><table:table table:name="Old" table:style-name="ta2">'
        f"<table:table-row>{cells}</table:table-row></table:table></office:spreadsheet>"
        "</office:body></office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    archive = samples.make_archive({"content.xml": sheet, "mimetype": kind})
    assert read(archive, "a.ods").startswith(
        "## Old (hidden)\n\n| #N/A | [Ann: Late] 2026-02-03 14:05:00 | 12,50 € | -5,00 € | (5) |\n"
    )


def test_the_notes_and_the_hidden_slides_of_opendocument_are_marked() -> None:
    names = ("draw", "office", "presentation", "style", "text")
    spaces = "".join(f' xmlns:{one}="x:{one}"' for one in names)
    slides = (
        f"<office:document{spaces}><office:automatic-styles>"
        '<style:style style:name="dp1"><style:drawing-page-properties '
        'presentation:visibility="hidden"/></style:style></office:automatic-styles><office:body>'
        '<office:presentation><draw:page draw:name="p1"><text:p>shown</text:p><presentation:notes>'
        "<text:p>slowly</text:p><text:p><text:page-number>&lt;number&gt;</text:page-number></text:p>"
        '</presentation:notes></draw:page><draw:page draw:name="p2" draw:style-name="dp1">'
        "<text:p>old</text:p><presentation:notes/></draw:page></office:presentation>"
        "</office:body></office:document>"
    )
    assert read(slides.encode(), "a.fodp", "text/plain").split("\n\n") == [
        "## p1", "shown", "Notes: slowly", "## p2 (hidden)", "old",
    ]  # fmt: skip


def test_an_xml_workbook_is_read() -> None:
    space = "urn:schemas-microsoft-com:office:spreadsheet"
    book = (
        f'<?xml version="1.0"?>\n<Workbook xmlns="{space}" xmlns:ss="{space}"><Styles>'
        '<Style ss:ID="a"><NumberFormat ss:Format="Percent"/></Style><Style ss:ID="b">'
        '<NumberFormat ss:Format="Short Date"/></Style></Styles>'
        '<Worksheet ss:Name="Sales"><Table><Row><Cell><Data ss:Type="String">item</Data></Cell>'
        '<Cell ss:Index="3"><Data ss:Type="Number">7</Data></Cell></Row>'
        '<Row><Cell ss:MergeAcross="1"><Data>all</Data></Cell><Cell><Data>8</Data></Cell></Row>'
        '<Row><Cell ss:MergeAcross="1"><Data>all</Data></Cell><Cell ss:Index="3"><Data>9</Data>'
        '</Cell></Row><Row><Cell ss:StyleID="a"><Data ss:Type="Number">0.153</Data></Cell>'
        '<Cell ss:StyleID="b"><Data ss:Type="Number">45325</Data></Cell><Cell>'
        '<Data ss:Type="DateTime">2024-02-03T14:05:00.000</Data></Cell></Row>'
        "</Table></Worksheet></Workbook>"
    )
    assert read(book.encode(), "a.xls", "text/plain") == (
        "## Sales\n\n| item |  | 7 |\n| --- | --- | --- |\n| all |  | 8 |\n| all |  | 9 |"
        "\n| 15.30% | 2024-02-03 | 2024-02-03 14:05:00 |"
    )
    damaged = book.removesuffix("</Workbook>")
    assert read(damaged.encode(), "a.xls", "text/plain") == damaged


def test_a_single_xml_file_is_read_in_its_own_encoding() -> None:
    start = '<?xml version="1.0" encoding="GB2312"?>'
    book = (
        '<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet><Table><Row>'
        "<Cell><Data>数量</Data></Cell></Row></Table></Worksheet></Workbook>"
    )
    assert "| 数量 |" in read(f"{start}{book}".encode("gbk"), "a.xls", "text/plain")
    page = (
        '<office:document xmlns:office="o"><office:body><p>数量</p></office:body></office:document>'
    )
    assert read(f"{start}{page}".encode("gbk"), "a.fodt", "text/plain") == "数量"


def test_an_export_with_the_name_of_another_document_is_read() -> None:
    page = (
        b"MIME-Version: 1.0\nContent-Type: multipart/related; boundary=b\n\n--b\n"
        b"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
        b"<h1>=E6=8A=A5=E5=91=8A</h1>\n--b\nContent-Type: image/png\n"
        b"Content-Location: http://localhost/a.png\n\nx\n--b--\n"
    )
    for name in ("Confluence.doc", "saved.mhtml"):
        kind = detect_kind(b"Subject: Export\n" + page, name)
        assert read(b"Subject: Export\n" + page, name, kind.mime) == "Subject: Export\n\n# 报告"
    table = "<table><tr><th>姓名</th></tr><tr><td>王小明</td></tr></table>".encode("gbk")
    kind = detect_kind(table, "export.xls")
    assert read(table, "export.xls", kind.mime) == "| 姓名 |\n| --- |\n| 王小明 |"


@pytest.mark.parametrize("name", ["page.php", "App.vue", "notes.md", "mail.txt"])
def test_source_code_is_read_as_it_is(name: str) -> None:
    for code in ("<!DOCTYPE html>\n<?php echo 1; ?>\n<p>x</p>", "From: a\nMIME-Version: 1.0\n\nx"):
        kind = detect_kind(code.encode(), name)
        assert read(code.encode(), name, kind.mime) == code


@pytest.mark.parametrize("is_flat", [True, False])
def test_comments_formulas_and_charts_of_opendocument_are_read(is_flat: bool) -> None:
    spaces = "".join(f' xmlns:{one}="x:{one}"' for one in ("dc", "draw", "office", "table", "text"))
    document = f"<office:document{spaces}><office:body>{{}}</office:body></office:document>"
    objects = [
        "<math><mi>E</mi><annotation>E = m c^2</annotation></math>",
        document.format(
            "<office:chart><table:table><table:table-row><table:table-cell><text:p>May</text:p>"
            "<draw:g><draw:desc>'Sheet 1'.B2:'Sheet 1'.B6</draw:desc></draw:g></table:table-cell>"
            "</table:table-row></table:table></office:chart>"
        ),
    ]
    parts = {f"Object {at}/content.xml": one for at, one in enumerate(objects)}
    links = [
        f"<draw:object>{one}</draw:object>"
        if is_flat
        else f'<draw:object draw:href="./Object {at}"/>'
        for at, one in enumerate(objects)
    ]
    main = document.format(
        "<text:p><text:ruby><text:ruby-base>Price</text:ruby-base><text:ruby-text>prais"
        "</text:ruby-text></text:ruby><office:annotation><dc:creator>Ann</dc:creator>"
        "<text:p>Too expensive</text:p>"
        f"</office:annotation>{''.join(links)}<office:binary-data>iVBOR</office:binary-data></text:p>"
    )
    archive = samples.make_archive({"mimetype": "text", "content.xml": main} | parts)
    text = read(main.encode() if is_flat else archive, "a.fodt", "text/plain")
    assert text == "Price [Ann: Too expensive] [formula: E = m c^2]\n\n[chart]\n| May |\n| --- |"


def test_a_formula_on_a_slide_of_opendocument_is_read() -> None:
    slide = (
        '<office:document xmlns:office="x:office" xmlns:draw="x:draw"><office:body>'
        '<office:presentation><draw:page draw:name="One"><draw:frame><draw:object><math><mi>E</mi>'
        "</math></draw:object></draw:frame></draw:page></office:presentation></office:body>"
        "</office:document>"
    )
    assert read(slide.encode(), "a.fodp", "text/plain") == "## One\n\n[formula: E]"


def test_a_mail_over_the_limit_says_that_its_end_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mail = EmailMessage()
    mail.set_content("See the file.")
    mail.add_attachment(bytes(2**20), maintype="application", subtype="pdf", filename="a.pdf")
    data = mail.as_bytes()
    cases = ((len(data), []), (2**20, ["Only its first 1 MiB were read."]))
    for limit, notes in cases:
        monkeypatch.setattr("astrbot_api.files.reading.text_files.MAX_WHOLE_BYTES", limit)
        facts, _ = extract_text(io.BytesIO(data), "message/rfc822", "a.eml")
        assert facts["notes"] == notes


def test_a_notebook_is_read_as_its_cells_without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrbot_api.files.reading.texts.MAX_TEXT_BYTES", 500)
    monkeypatch.setattr("astrbot_api.files.reading.texts._END_CHARS", 10)
    output = {"output_type": "display_data", "data": {"image/png": "A" * 999, "text/plain": "<F>"}}
    code = {"cell_type": "code", "source": ["a = 1\n", "a"], "outputs": [output]}
    cells = [{"cell_type": "markdown", "source": "# Title"}, code]
    notebook = json.dumps({"cells": cells, "metadata": {}}).encode()
    text = "# Title\n\n```\na = 1\na\n```\n\nOutput:\n```\n<F>\n```"
    assert read(notebook, "a.ipynb", "text/plain") == text
    assert read(b"no JSON", "a.ipynb", "text/plain") == "no JSON"


def read_output(**output: Any) -> str:
    """Return what is read of one output of a notebook."""
    cells = [{"cell_type": "code", "source": "x", "outputs": [output]}]
    text = read(json.dumps({"cells": cells}).encode(), "a.ipynb", "text/plain")
    return text.removeprefix("```\nx\n```\n\nOutput:\n```\n").removesuffix("\n```")


@pytest.mark.parametrize(
    ("plain", "form", "source", "shown"),
    [
        ("<IPython.core.display.HTML object>", "html", ["<p>4711", "<script>x</script>"], "4711"),
        ("<pandas.io.formats.style.Styler at 0x7f>", "html", "<td>a<td>b", "| a | b"),
        ("<IPython.core.display.Markdown object>", "markdown", "**4711**", "**4711**"),
        ("<IPython.core.display.Math object>", "latex", "$x^2$", "$x^2$"),
        ("\n   a\n0  1\n", "html", "<table>", "   a\n0  1"),
        ("<Figure size 640x480 with 1 Axes>", "jpeg", "", "<Figure size 640x480 with 1 Axes>"),
    ],
)
def test_an_output_that_only_has_another_form_is_read(
    plain: str, form: str, source: Any, shown: str
) -> None:
    data = {"text/plain": plain, f"text/{form}": source}
    assert read_output(output_type="display_data", data=data) == shown


def test_the_end_of_a_long_output_and_of_a_progress_bar_is_read() -> None:
    lines = ["\r10%", "\r99%\r\n", *["epoch\n"] * 5000, "accuracy 0.97\n"]
    text = read_output(output_type="stream", text=lines)
    assert text.startswith("99%\r\nepoch\n")
    assert text.endswith("epoch\naccuracy 0.97")
    assert "\n[…]\n" in text


def test_of_a_pdf_the_pages_that_can_be_drawn_in_time_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pdf = samples.make_pdf(*[_PICTURE] * 4).replace(b" 8 0 R", b" 99 0 R")
    meta, data = show_pages(io.BytesIO(pdf), range(4), 40)
    assert meta["note"] == "The pictures are its pages 1, 3 to 4 of 4."
    assert len(meta["sizes"]) == 3
    assert sum(meta["sizes"]) == len(data)
    monkeypatch.setattr("astrbot_api.files.reading.shown._ENOUGH_S", -1.0)
    meta, _ = show_pages(io.BytesIO(pdf), range(4), 40)
    assert meta["note"] == "The pictures are its pages 1 of 4."


def test_a_transparent_picture_of_a_document_is_shown_on_white() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (40, 40)).save(out, "PNG")
    media = {"image1.png": out.getvalue() + bytes(3000)}
    document = samples.make_docx(media=media)
    _, shown = show_pages(io.BytesIO(document), [0], 40)
    assert Image.open(io.BytesIO(shown)).getpixel((20, 20)) == (255, 255, 255)


def test_a_page_with_large_pictures_is_read_to_its_end() -> None:
    picture = base64.b64encode(bytes(7_500_000)).decode()
    page = f"<html><img src=data:image/png;charset=utf-8;base64,{picture}><p>marmalade</p>"
    assert read(page.encode(), "a.html") == "marmalade"


def test_a_large_page_is_read_without_its_formatting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "limit_cpu", has_no_time)
    row = "<tr><td>A &amp; B</td><td><script>alert(1)</script><b>1</b></td></tr>\n"
    text = read(
        f"<table><style>b</style>{row * 2}</table><p>end".encode(), "export.xls", "text/plain"
    )
    assert text == "| A & B | 1\n" * 2 + "end"


@pytest.mark.parametrize("name", ["a.html", "a.eml"])
def test_the_text_of_a_deep_page_is_read(name: str) -> None:
    head = b"Content-Type: text/html\n\n" if name == "a.eml" else b""
    quotes = b"".join(b"<blockquote><div>reply %d" % number for number in range(500))
    text = read(head + b"<style>x</style>" + quotes, name, "text/plain")
    assert text.split() == " ".join(f"reply {number}" for number in range(500)).split()


def test_a_page_over_the_limit_says_that_its_end_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("astrbot_api.files.reading.text_files._MAX_PAGE_CHARS", 22)
    page = io.BytesIO(b"<html><p>marmalade</p><p>the end</p>")
    meta, text = extract_text(page, "text/html", "a.html")
    assert text == b"marmalade"
    assert meta["notes"] == ["Only its beginning was read, because it is a very long page."]


@pytest.mark.parametrize("name", ["a.latex", "a.csh", "a.webmanifest"])
def test_each_file_that_is_downloaded_as_a_text_is_read_as_one(name: str) -> None:
    kind = detect_kind(b"marmalade", name)
    assert kind.charset == "utf-8"
    assert read(b"marmalade", name, kind.mime) == "marmalade"


def test_a_picture_within_a_text_is_left_out() -> None:
    text = f"# T\n![x](data:image/png;base64,{'A' * 999})\nend"
    assert read(text.encode(), "a.md") == "# T\n![x](data:image/png;base64,…)\nend"


_TEXT = "BT /F1 12 Tf 72 700 Td (Cover letter) Tj ET"
_STRIP = "600 0 0 150"
_PICTURE = "600 0 0 800 0 0 cm /I1 Do"
_FIELDS = [
    "<</Subtype/Widget/FT/Tx/T(name)/TU(Full name)/V(Greta)/Rect[0 0 9 9]>>",
    "<</Subtype/Widget/FT/Btn/T(member)/V/On/AS/On/AP<</N<</On 3 0 R>>>>/Rect[0 0 9 9]>>",
    "<</Subtype/Text/T(Ann)/Contents(Too expensive)/Rect[0 0 9 9]>>",
    "<</Subtype/Link/Contents(no comment)/Rect[0 0 9 9]>>",
]


def test_the_fields_of_a_form_and_the_comments_of_a_pdf_are_read() -> None:
    assert read(samples.make_pdf(_TEXT, fields=_FIELDS)) == (
        "Cover letter\n\nForm fields:\n- Full name: Greta\n- member: checked\n\n"
        "Comments:\n- Ann: Too expensive"
    )


def test_ligatures_that_ghostscript_writes_are_read() -> None:
    cmap = (
        "begincmap 1 begincodespacerange <00> <ff> endcodespacerange 4 beginbfrange "
        "<01> <01> <66006900> <02> <02> <6600cf00> <03> <03> <66006600> <04> <04> <6600> "
        "endbfrange endcmap"
    )
    page = r"BT /F1 12 Tf 72 700 Td (\001rst o\003 o\002ce  \004\004) Tj ET"
    pdf = samples.make_pdf(page, fields=[f"<</Length {len(cmap)}>>stream\n{cmap}\nendstream"])
    pdf = pdf.replace(b"/BaseFont/Helvetica", b"/BaseFont/Helvetica/ToUnicode 6 0 R")
    assert read(pdf).split() == ["first", "off", "office", "昀昀"]


def test_single_digits_of_a_row_and_split_words_of_a_pdf_are_read() -> None:
    page = (
        "BT /F1 12 Tf 72 700 Td (1) Tj 200 0 Td (2) Tj 100 0 Td (3) Tj -300 -20 Td (a func-) Tj "
        "0 -14 Td (tion of Anglo-) Tj 0 -14 Td (Saxons) Tj ET"
    )
    assert read(samples.make_pdf(page)) == "1 2 3\na function of Anglo-Saxons"
    raised = "BT /F1 12 Tf 72 700 Td (x) Tj /F1 8 Tf 7 5 Td (2) Tj /F1 12 Tf 6 -5 Td (= 9) Tj ET"
    assert read(samples.make_pdf(raised)) == "x^2= 9"


def test_a_digit_after_a_letter_with_a_tail_is_no_power() -> None:
    raised = "BT /F1 12 Tf 72 700 Td (step1 y2 Q3 cg) Tj /F1 8 Tf 81 5 Td (2) Tj ET"
    assert read(samples.make_pdf(raised)) == "step1 y2 Q3 cg^2"


@pytest.mark.parametrize("columns", [1, 2])
def test_marks_of_a_list_that_were_written_later_stand_before_its_texts(columns: int) -> None:
    """As WeasyPrint writes them. A page with two columns stays as it is."""
    rows = [(f"{at}.", f"thing number {at} of a list", 700 - 15 * at) for at in range(1, 8)]

    def show(x: float, y: float, text: str) -> str:
        return f"1 0 0 1 {x} {y} Tm ({text}) Tj "

    texts = "".join(show(86 + 200 * at, y, text) for at in range(columns) for _, text, y in rows)
    marks = "".join(show(72, y, mark) for mark, _, y in rows)
    text = read(samples.make_pdf(f"BT /F1 10 Tf {texts}{marks}ET"))
    second = "2. thing" if columns == 1 else "thing number 2"
    assert f"thing number 1 of a list\n{second}" in text


def test_the_values_of_a_form_are_read_beside_their_labels() -> None:
    def show(x: int, y: int, text: str, turn: str = "1 0 0 1") -> str:
        return f"{turn} {x} {y} Tm ({text}) Tj "

    rows = range(700, 660, -12)
    labels = "".join(show(72, y, f"name {y}:") + show(300, y, "sum:") for y in rows)
    values = "".join(show(150, y, f"a_{y}") + show(350, y, f"{y}.00") for y in rows)
    turned = show(40, 600, "copy", "0 1 -1 0")
    text = read(samples.make_pdf(f"BT /F1 10 Tf {labels}{turned}{values}ET"))
    assert text == "\n".join([*(f"name {y}: a_{y} sum: {y}.00" for y in rows), "copy"])
    columns = "".join(show(x, y, f"word {x} {y}") for x in (72, 300) for y in rows)
    text = read(samples.make_pdf(f"BT /F1 10 Tf {columns}ET"))
    assert text.splitlines()[:2] == ["word 72 700", "word 72 688"]


def make_hebrew_pdf(page: str, more: str = "") -> bytes:
    """Return a PDF with a page on which ``/F1`` shows the bytes 1 to 27 as Hebrew letters."""
    cmap = (
        "begincmap 1 begincodespacerange <00> <ff> endcodespacerange 2 beginbfrange "
        "<01> <1b> <05d0> <20> <7e> <0020> endbfrange endcmap"
    )
    pdf = samples.make_pdf(
        page, fields=[f"<</Length {len(cmap)}>>stream\n{cmap}\nendstream"], more=more
    )
    return pdf.replace(b"/BaseFont/Helvetica", b"/BaseFont/Helvetica/ToUnicode 6 0 R")


def test_letters_from_right_to_left_are_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # Glyphs that step to the left, as Chromium prints them.
    page = r"BT /F1 12 Tf 300 700 Td [(\001)1400(\002)1400(\003)] TJ 0 -20 Td (one, two) Tj ET"
    assert read(make_hebrew_pdf(page)).split("\n") == ["אבג", "one, two"]
    monkeypatch.setattr("astrbot_api.files.reading.pdf_rtl._MAX_CHARS", 5)
    assert "one, two" in read(make_hebrew_pdf(page))


def test_words_of_a_document_from_right_to_left_are_in_their_order() -> None:
    lines = ["one, two three", r"\003\002\001 \001\001", r".four five \002\002"]
    page = "BT /F1 12 Tf 200 700 Td " + " 0 -20 Td ".join(f"({one}) Tj" for one in lines) + " ET"
    pdf = make_hebrew_pdf(page, ">>/ViewerPreferences<</Direction/R2L")
    assert read(pdf).split("\n") == ["one, two three", "אא אבג", "בב four five."]


def test_only_pages_that_were_not_read_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrbot_api.files.reading.pdf._ENOUGH_CHARS", 0)
    for count, notes in ((1, []), (2, ["Only 1 of its 2 pages were read."])):
        pdf = samples.make_pdf(*[_TEXT] * count)
        assert extract_text(io.BytesIO(pdf), "application/pdf", "a.pdf")[0]["notes"] == notes


def test_what_a_pdf_has_beside_its_pages_is_named() -> None:
    file = "<</Type/Filespec/F(bill.xml)/UF(bill.xml)/EF<</F 5 0 R>>>>"
    names = f"/Names<</EmbeddedFiles<</Names[(bill.xml) {file} (removed.xml) 99 0 R]>>"
    more = f"/XFA[(template) 5 0 R]>>/NeedsRendering true{names}"
    pdf = samples.make_pdf(_TEXT, more=more)
    notes = extract_text(io.BytesIO(pdf), "application/pdf", "a.pdf")[0]["notes"]
    assert [one.partition(":")[0] for one in notes] == [
        "It is an XFA form", "Files are attached to it, which are not read (2)",
    ]  # fmt: skip
    assert "bill.xml" in notes[1]


def test_the_notes_about_a_file_are_short() -> None:
    name = "A" * 10_000
    file = f"<</Type/Filespec/F({name})/UF({name})/EF<</F 5 0 R>>>>"
    more = f">>/Names<</EmbeddedFiles<</Names[({name}) {file}]>>"
    pdf = samples.make_pdf(*[_TEXT] * 40, more=more)
    for number in range(8, 86, 2):  # the pages after the first
        pdf = pdf.replace(b" %d 0 R" % number, b" 99 0 R")
    notes = extract_text(io.BytesIO(pdf), "application/pdf", "a.pdf")[0]["notes"]
    assert notes[1:] == ["These pages are damaged: 2 to 40."]
    assert len(notes[0]) == 500


def test_a_sheet_of_many_full_rows_is_read_within_the_limits() -> None:
    rows = "".join(
        f'<row r="{row}">'
        + "".join(f'<c r="{column}{row}" s="0"><v>{row}.5</v></c>' for column in "ABCDEFGHIJ")
        + "</row>"
        for row in range(3, 75_000)
    )
    link = '<hyperlinks><hyperlink ref="B2" r:id="rId3" xmlns:r="r"/></hyperlinks>'
    sheet = samples.make_xlsx(
        f"{rows}</sheetData>{link}<sheetData>", styles='<cellXfs><xf numFmtId="4"/></cellXfs>'
    )
    with contextlib.closing(Aside()) as aside:
        _, text = aside.run(_READ, sheet, {"mime": "", "name": "a.xlsx"})
    assert b"| 20,000.50 |\n\n[Only its first 20000 rows are shown.]" in text
    assert text.endswith(b"- B2: https://example.com/terms")


def test_the_beginning_of_a_very_large_sheet_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_MAX_PART_BYTES", 2000)
    row = '<x:row r="{0}"><x:c r="A{0}" s="0"><x:v>{0}</x:v></x:c></x:row>'
    rows = "".join(row.format(at) for at in range(3, 999))
    sheet = samples.make_xlsx(styles='<cellXfs><xf numFmtId="2"/></cellXfs>')
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sheet)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            part = source.read(name).decode()
            if name == "xl/worksheets/sheet1.xml":
                part = re.sub(r"<(/?)(\w)", r"<\1x:\2", part).replace("xmlns=", "xmlns:x=")
                part = part.replace("</x:sheetData>", f"{rows}</x:sheetData>")
            target.writestr(name, part)
    text = read(out.getvalue())
    assert "| marmalade | 4711 |\n| 3.00 |  |\n| 4.00 |  |\n" in text
    assert "| 20.00 |" in text
    assert "| 998.00 |" not in text


@pytest.mark.parametrize(
    "page",
    [
        _PICTURE,
        f"q {_PICTURE} Q {_TEXT}",
        f"q {_STRIP} 0 0 cm /I1 Do Q {_STRIP} 0 150 cm /I1 Do",
        "BT /F2 9 Tf 9 9 Td <00120034> Tj ET",
        "0 0 m 9 9 l S",
    ],
    ids=["picture", "picture with a stamp", "strips", "font without Unicode", "drawing"],
)
def test_the_pages_of_a_pdf_that_only_their_image_shows_are_named(page: str) -> None:
    on_letterhead = f"q {_PICTURE} Q BT /F1 2 Tf 9 700 Td ({'Dear Ann, ' * 30}) Tj ET"
    pdf = samples.make_pdf(_TEXT, page, "", page, page, on_letterhead)
    meta, text = extract_text(io.BytesIO(pdf), "application/pdf", "a.pdf")
    assert meta["images"] == [1, 3, 4]
    assert "as in a scan: 2, 4 to 5." in meta["notes"][0]
    assert text.startswith(b"Cover letter")


def test_a_long_sheet_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MAX_ROWS", 1)
    assert read(samples.make_xlsx()).endswith("[Only its first 1 rows are shown.]")


def test_a_book_with_drm_is_said_to_be_protected_and_one_with_own_fonts_is_read() -> None:
    reference = '<encryption><CipherReference URI="OEBPS/{}"/></encryption>'
    with pytest.raises(Unreadable, match="DRM"):
        read(samples.make_epub(encryption=reference.format("two.xhtml")))
    assert "marmalade" in read(samples.make_epub(encryption=reference.format("font.otf")))


def test_the_rest_of_a_long_book_is_read_without_formatting_or_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(process_time=iter([0.0, 4.5, 8.5]).__next__)
    monkeypatch.setattr(ebooks, "time", clock)
    text = read(samples.make_epub())
    assert text == "First\nmarmalade\n\n[Only its first 1 chapters were read.]"


def test_a_document_is_known_by_its_bytes_whatever_its_name() -> None:
    assert "marmalade" in read(samples.make_docx(), "photo.png")


@pytest.mark.parametrize(
    "data", [samples.make_docx(), samples.make_xlsx(), samples.make_pptx(), samples.make_odt()]
)
def test_a_truncated_document_is_said_to_be_damaged(data: bytes) -> None:
    with pytest.raises(Unreadable, match="damaged"):
        read(data[: len(data) // 2])


def test_what_cannot_be_read_is_said_in_words() -> None:
    encrypted = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le")
    with pytest.raises(Unreadable, match="password"):
        read(encrypted)
    with pytest.raises(Unreadable, match="not supported"):
        read(encrypted[:8])
    old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le")
    with pytest.raises(Unreadable, match="old format of Word"):
        read(old)
    with pytest.raises(Unreadable, match="content is binary"):
        read(bytes(range(1, 32)) * 50, "notes.txt")


def read_old(name: str) -> bytes:
    """Return a document that LibreOffice has written, or a mail like those of Outlook."""
    packed = json.loads((Path(__file__).parent.parent / "data" / "old_office.json").read_bytes())
    return lzma.decompress(base64.b64decode(packed[name]))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("old.doc", "# 季度报告\n\nThe word is marmalade.\n\n| item | price |"),
        ("old.ppt", "## Slide 1\n\n### 季度报告\n\nmarmalade"),
    ],
)
def test_an_old_document_of_office_is_read(name: str, wanted: str) -> None:
    pytest.importorskip("office_oxide")
    assert wanted in read(read_old(name), name)


def test_an_old_workbook_is_read_as_excel_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xlrd")
    text = read(read_old("old.xls"), "a.xls")
    assert "| 15.3% | ¥1,234,567.89 | 2024-02-03 | 18:00:00 | 36:00:00 | #DIV/0! |\n| 10 |" in text
    # It stands below 30,000 empty rows.
    assert "## b (hidden)\n\n| far |\n| --- |\n\nComments in 价格:\n- A2: as agreed" in text
    assert text.endswith("Links in 价格:\n- B1: https://example.com/terms")
    monkeypatch.setitem(sys.modules, "xlrd", None)
    assert "| 0.153 | 1234567.891 | 2024-02-03 |" in read(read_old("old.xls"), "a.xls")


def test_a_sheet_without_a_workbook_around_it_is_read() -> None:
    pytest.importorskip("xlrd")
    begin, end = bytes.fromhex("0900 0400 0200 1000"), bytes.fromhex("0a00 0000")
    cells = bytes.fromhex("0300 0f00 0000 0000 000000 000000000000f03f")
    label = bytes.fromhex("0400 0b00 0000 0100 000000 03") + b"tea"
    assert "| 1 | tea |" in read(begin + cells + label + end, "a.xls")


def test_a_mail_of_outlook_is_read() -> None:
    pytest.importorskip("olefile")
    assert read(read_old("mail.msg"), "a.msg") == (
        "From: Ann Öz <ann@example.com>\nTo: Bob; Kari\nDate: 2026-02-03 14:05 UTC\nSubject: 报告\n"
        "\nDear **Bob**, café\n\n| item | price |\n| --- | --- |\n| tea | 4711 |\n"
        "[attached: bill.pdf]\n[attached: old mail, a mail]\nFrom: Kari <kari@example.com>\n"
        "Date: Mon, 02 Feb 2026 09:00:00 +0100\nSubject: 图片\n\ninner text"
    )


def test_an_old_document_with_a_password_is_said_to_have_one() -> None:
    pytest.importorskip("office_oxide")
    data = bytearray(read_old("old.doc"))
    data[data.index(b"\xec\xa5\1\1M") + 11] |= 1  # the bit fEncrypted (MS-DOC, 2.5.1)
    with pytest.raises(Unreadable, match="password"):
        read(bytes(data))


def test_an_old_document_without_a_reader_says_what_to_ask_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "office_oxide", None)
    monkeypatch.setitem(sys.modules, "olefile", None)
    with pytest.raises(Unreadable, match="ask for it as pptx or PDF"):
        read(read_old("old.ppt"))
    with pytest.raises(Unreadable, match="ask for it as eml or PDF"):
        read(read_old("mail.msg"))


def test_an_old_workbook_with_a_password_is_said_to_have_one() -> None:
    head = bytes.fromhex("d0cf11e0a1b11ae1") + "Workbook".encode("utf-16-le")
    begin, lock = bytes.fromhex("0908 1000") + bytes(16), bytes.fromhex("2f00 3600") + bytes(54)
    with pytest.raises(Unreadable, match="protected by a password"):
        read(head + bytes(400) + begin + lock)


def test_headers_and_embedded_sheets_of_opendocument_are_read() -> None:
    spaces = "".join(
        f' xmlns:{one}="x:{one}"' for one in ("draw", "office", "style", "table", "text")
    )
    document = f"<office:document{spaces}><office:body>{{}}</office:body>{{}}</office:document>"
    sheet = (
        '<office:spreadsheet><table:table table:name="Costs"><table:table-row><table:table-cell>'
        "<text:p>tea</text:p></table:table-cell></table:table-row></table:table>"
        "</office:spreadsheet>"
    )
    page = (
        "<style:master-page><style:header><text:p>ACME</text:p></style:header>"
        '<style:footer-left style:display="false"><text:p>no</text:p></style:footer-left>'
        "<style:footer><text:p>Bank</text:p></style:footer></style:master-page>"
    )
    main = '<office:text><text:p>Hi<draw:object draw:href="./Object"/></text:p></office:text>'
    number = "<style:style><text:text> €</text:text></style:style>"  # a number:text in files
    archive = {
        "mimetype": "text",
        "content.xml": document.format(main, number),
        "styles.xml": document.format("", page * 2),
        "Object/content.xml": document.format(sheet, ""),
    }
    table = "## Costs\n\n| tea |\n| --- |"
    shown = read(samples.make_archive(archive), "a.odt")
    assert shown == f"Hi\n\n{table}\n\nHeader: ACME\n\nFooter: Bank"
    archive |= {"mimetype": "spreadsheet", "content.xml": document.format(sheet, number)}
    assert read(samples.make_archive(archive), "a.ods") == table


def test_an_empty_file_is_said_to_be_empty() -> None:
    assert extract_text(io.BytesIO(), "text/plain", "a.txt")[0]["notes"] == ["It is empty."]


def test_an_invoice_in_ofd_is_read_in_lines() -> None:
    def text(place: str, said: str, more: str = "") -> str:
        codes = "".join(
            f'<o:TextCode X="0" Y="{3 + 4 * at}">{one}</o:TextCode>'
            for at, one in enumerate(said.split("/"))
        )
        return f'<o:TextObject Boundary="{place}" Size="3"{more}>{codes}</o:TextObject>'

    def page(*texts: str, more: str = "") -> str:
        layer = f"<o:Content><o:Layer>{''.join(texts)}</o:Layer></o:Content>"
        return f'<o:Page xmlns:o="x">{more}{layer}</o:Page>'

    labels = page(text("10 20 20 4", "发票号码:"), text("10 5 30 4", "电子发票"))
    values = page(
        text("35 120 30 4", "合计", ' CTM="1 0 0 1 0 -60"'), text("66 60 9 4", "¥47.11"),
        text("31 20.5 30 4", "0471"), text("61 20 9 4", "1"), text("10 90 9 9", "备注/二行"),
        text("10 99 9 9", "hidden", ' Visible="false"'), more='<o:Template TemplateID="9"/>',
    )  # fmt: skip
    parts = {
        "OFD.xml": '<o:OFD xmlns:o="x"><o:DocRoot>/Doc_0/Document.xml</o:DocRoot></o:OFD>',
        "Doc_0/Document.xml": '<o:Document xmlns:o="x"><o:TemplatePage ID="9" '
        'BaseLoc="/Doc_0/T.xml"/><o:Pages><o:Page ID="1" BaseLoc="Pages/P.xml"/></o:Pages>'
        "</o:Document>",
        "Doc_0/T.xml": labels,
        "Doc_0/Pages/P.xml": values,
    }
    assert read(samples.make_archive(parts), "a.ofd").split("\n") == [
        "电子发票", "发票号码: 04711", "合计 ¥47.11", "备注", "二行",
    ]  # fmt: skip


def test_the_contacts_of_a_phone_are_read_without_pictures() -> None:
    card = (
        "BEGIN:VCARD\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=E7=8E=8B;=E6=\r\n=98=8E;;;\r\n"
        "TEL;CELL:+86 10\r\nitem1.PHOTO;ENCODING=b;TYPE=JPEG:AAAA\r\n AAAA\r\nNOTE:tea\r\nEND:VCARD"
    )
    assert read(card.encode(), "a.vcf", "text/x-vcard").split("\n") == [
        "BEGIN:VCARD", "N:王;明;;;", "TEL;CELL:+86 10", "item1.PHOTO;ENCODING=b;TYPE=JPEG:…",
        "NOTE:tea", "END:VCARD",
    ]  # fmt: skip


def test_a_folded_line_of_a_calendar_is_whole() -> None:
    said = "会议室预定与季度总结".encode()
    folded = b"SUMMARY:" + said[:20] + b"\r\n " + said[20:] + b"\r\nEND:VEVENT\r\n"
    assert "SUMMARY:会议室预定与季度总结\r\nEND:VEVENT" in read(folded, "a.ics", "text/calendar")
    assert "NOTE:green tea" in read(b"NOTE:gre\r\n en tea\r\n", "a.vcf", "text/x-vcard")


def test_a_compressed_text_or_document_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(gzip.compress("Öl, 5\n".encode()), "sales.csv.gz") == "Öl, 5\n"
    assert "marmalade" in read(gzip.compress(samples.make_docx()), "a.docx.gz")
    pair = {"d/sales.csv": "Öl, 5", "__MACOSX/d/._sales.csv": "x", "d/": ""}
    assert read(samples.make_archive(pair), "a.zip") == "Öl, 5"
    photo = samples.make_archive({"photo.png": samples.save(samples.make_picture(), "PNG")})
    meta, listed = extract_text(io.BytesIO(photo), "application/zip", "a.zip")
    assert (meta["notes"], b"- photo.png, " in listed) == ([], True)
    with pytest.raises(Unreadable, match="its compression is not supported"):
        read(photo.replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x5d\0"), "a.zip")
    scan = samples.save(samples.make_picture(), "PDF")
    meta, _ = extract_text(io.BytesIO(gzip.compress(scan)), "application/gzip", "a.pdf.gz")
    assert meta["images"] == []
    with pytest.raises(Unreadable, match="damaged"):
        read(gzip.compress(b"x" * 999)[:-9], "a.log.gz")
    assert read(b"BZh9: the beginning of a text", "a.txt") == "BZh9: the beginning of a text"
    assert extract_text(io.BytesIO(bz2.compress(b"")), "application/x-bzip2", "a.bz2")[1] == b""
    monkeypatch.setattr("astrbot_api.files.reading.documents.MAX_WHOLE_BYTES", 2**20)
    bomb = gzip.compress(b"a\n" * 2**20)
    meta, text = extract_text(io.BytesIO(bomb), "application/gzip", "a.log.gz")
    assert (len(text), meta["notes"]) == (2**20, ["Only its first 1 MiB were unpacked."])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    ("form", "encoding"), [(tarfile.PAX_FORMAT, "utf-8"), (tarfile.GNU_FORMAT, "gbk")]
)
def test_the_files_of_a_tar_archive_are_listed(
    pack: Callable[[bytes], bytes], form: int, encoding: str
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding=encoding) as archive:
        for name in ("a/b.txt", "报告.txt"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    listed = "An archive with 2 files, which are not read:\n- a/b.txt, 0 bytes\n- 报告.txt, 0 bytes"
    assert read(pack(out.getvalue()), "a.tar") == listed
    assert "with 1 files" in read(pack(out.getvalue()[:700]), "a.tar")


def test_a_tar_archive_with_very_many_files_says_what_was_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("astrbot_api.files.reading.package._MAX_MEMBERS", 2)
    out, notes = io.BytesIO(), []
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in "abc":
            archive.addfile(tarfile.TarInfo(name))
            meta, _ = extract_text(io.BytesIO(out.getvalue()), "application/x-tar", "a.tar")
            notes.append(meta["notes"])
    assert notes == [[], [], ["Only its first 2 files and folders were counted."]]


def test_a_book_in_fictionbook_is_read() -> None:
    book = (
        '<?xml version="1.0" encoding="windows-1251"?><FictionBook xmlns="x"><description>'
        "<title-info><genre>sf</genre><author><first-name>Иван</first-name><last-name>П</last-name>"
        "</author><book-title>Книга</book-title></title-info></description><body><section><title>"
        '<p>Глава</p><p>первая</p></title><p>Один <image href="#1"/><emphasis>два</emphasis></p>'
        "<p>(<image/> три)</p><table><tr><td>a</td>"
        "<td>b</td></tr></table></section></body><binary>iVBOR</binary></FictionBook>"
    )
    assert read(book.encode("cp1251"), "a.fb2") == (
        "Иван П\n\n# Книга\n\n## Глава первая\n\nОдин *два*\n\n( три)\n\n| a | b |\n| --- | --- |"
    )


def test_the_time_of_an_invitation_is_read() -> None:
    event = "BEGIN:VEVENT\nSUMMARY:Lunch\nDTSTART:20260203T120000Z\nEND:VEVENT"
    mail = EmailMessage()
    mail.set_content("See you")
    mail.add_alternative(f"BEGIN:VCALENDAR\n{event}\nEND:VCALENDAR", subtype="calendar")
    assert read(mail.as_bytes(), "a.eml").strip() == f"See you\n\n{event}"


@pytest.mark.parametrize("before", ["\n", "\r\n\r\n", "217       \n"])
def test_a_mail_below_empty_lines_or_its_length_is_read(before: str) -> None:
    mail = f"{before}Subject: =?gbk?B?xOO6ww==?=\n\nFirst\n"
    assert read(mail.encode(), "a.emlx") == "Subject: 你好\n\nFirst\n"


def test_a_single_mail_below_a_line_of_a_mailbox_is_whole() -> None:
    mail = "Subject: Hi\n\nFirst\n\nFrom 2019 to 2023 we grew.\nLast"
    for line in ("From a@b", "From a@b Mon Feb  2 10:00:00 2026"):
        assert read(f"{line}\n{mail}".encode(), "a.eml") == mail


def test_the_mails_of_a_mailbox_are_read_within_the_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mail = EmailMessage()
    mail["Subject"] = "Bill"
    mail.set_content("See the file.\nFrom here on it is paid.")
    mail.add_attachment(bytes(500), maintype="application", subtype="pdf", filename="a.pdf")
    box = b"".join(b"From a@b Mon Feb 2 10:00:00 2026\n%s\n" % mail.as_bytes() for _ in range(3))
    text = "See the file.\nFrom here on it is paid.\n\n[attached: a.pdf, application/pdf]"
    assert read(box, "a.mbox") == "\n\n---\n\n".join([f"Subject: Bill\n\n{text}"] * 3)
    monkeypatch.setattr("astrbot_api.files.reading.mails._ENOUGH_CHARS", 100)
    meta, data = extract_text(io.BytesIO(box), "text/plain", "a.mbox")
    assert (meta["notes"], data.count(b"Bill")) == (["Only 2 of its 3 mails were read."], 2)


def test_the_end_of_a_long_log_is_read() -> None:
    lines = [f"line {number} of a long log" for number in range(400_000)]
    meta, data = extract_text(io.BytesIO("\n".join(lines).encode()), "text/plain", "a.log")
    first, last = data.decode().split("\n[…]\n")
    assert (len(first), len(last)) == (1_500_000, 500_000)
    assert first.startswith(lines[0])
    assert last.endswith(lines[-1])
    assert meta["notes"] == ["Only its first 1500000 and its last 500000 characters were read."]


def test_a_long_text_with_pictures_says_that_its_middle_was_not_read() -> None:
    picture = base64.b64encode(bytes(range(256)) * 3000).decode()
    parts = (f"Part {number}\n![p](data:image/png;base64,{picture})\n" for number in range(10))
    meta, data = extract_text(io.BytesIO("".join(parts).encode()), "text/markdown", "a.md")
    assert [b"Part %d" % one in data for one in (0, 6, 9)] == [True, False, True]
    assert meta["notes"] == ["Only its first 6 and its last 2 MB were read."]


@pytest.mark.parametrize(
    "shown",
    [
        "\x1b[1;31mERROR\x1b[0m disk full\n", "\x1b[2K\x1b[1GERROR\x1b(B\x1b[?25l disk full\n",
        "\x1b]0;~/src\x07ERROR \x1b]8;;http://x\x1b\\disk\x1b]8;;\x1b\\ full\n",
        "".join(f"{sign}\b{sign}" for sign in "ERROR") + " _\bd_\bi_\bs_\bk full\n",
    ],
)  # fmt: skip
def test_what_a_terminal_does_not_print_is_left_out_of_a_log(shown: str) -> None:
    assert read(shown.encode() * 30, "a.log") == "ERROR disk full\n" * 30


def test_base64_within_a_text_is_left_out() -> None:
    data = base64.b64encode(bytes(range(256)) * 20).decode()
    folded = "\n ".join(data[at : at + 74] for at in range(0, len(data), 74))
    text = f"ATTACH:{folded}\nEND\n{{'image': '{data}'}}\n{'ACGT' * 500}\n"
    shown = "AAECAwQFBgcICQoLDA0O… ({} characters of base64)"
    assert read(text.encode(), "a.txt") == (
        f"ATTACH:{shown.format(len(folded))}\nEND\n{{'image': '{shown.format(len(data))}'}}\n"
        f"{'ACGT' * 500}\n"
    )


def test_letters_that_json_names_by_their_codes_are_shown() -> None:
    text = r'{"name": "\u5f20\u4E09\n\"\ud83d\ude00\u0000", "path": "C:\\u5f20", "half": "\ud83d"}'
    shown = r'{"name": "张三\n\"😀\u0000", "path": "C:\\u5f20", "half": "�"}'
    for name in ("a.json", "a.jsonl", "a.ndjson", "a.geojson", "a.har"):
        assert read(text.encode(), name, "text/plain") == shown
    assert read(text.encode(), "a.py") == text


def test_what_a_browser_does_not_show_of_a_page_is_left_out() -> None:
    page = (
        '<body style="display:none"><p>News</p><div style="color:red; Display: none">spam '
        "<b hidden>x</b></div><p hidden>more</p><select><option>One<option selected>Two</select> "
        "<select><option>A</option><option>B</option></select>"
    )
    assert read(page.encode(), "a.html") == "News\n\nTwo A"
    assert read(b"<div hidden>all of the page</div>", "a.html") == "all of the page"
    menu = "<div hidden>" * 9 + "menu" + "</div>" * 9
    assert read(f"<p>A short page</p>{menu}".encode(), "a.html") == "A short page"


def test_an_article_of_wechat_is_read_though_a_script_shows_it() -> None:
    page = (
        '<h1>Party</h1><div id="js_content" style="visibility: hidden; opacity: 0;"><p>At two.</p>'
        '</div><p>Scan to follow this account</p><div style="display: none">Got it</div>'
    )
    assert read(page.encode(), "a.html") == "# Party\n\nAt two.\n\nScan to follow this account"


_LINKS = (
    ("https://shop.example/a", "our shop"), ("mailto:ann@shop.example", "ann@shop.example"),
    ("#top", "top"),
)  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        samples.make_pptx(
            "".join(
                f'<a:p><a:r><a:rPr><a:hlinkClick r:id="L{at}"/></a:rPr><a:t>{text}</a:t></a:r>'
                "</a:p>"
                for at, (_, text) in enumerate(_LINKS)
            ),
            links=[url for url, _ in _LINKS],
        ),
        samples.make_odt(
            "".join(
                f'<text:p><text:a xmlns:x="x" x:href="{url}">{text}</text:a></text:p>'
                for url, text in _LINKS
            )
        ),
        b"{\\rtf1 %s}"
        % "".join(
            f'{{\\field{{\\*\\fldinst {{HYPERLINK "{url}" }}{{\\*\\datafield 00d0}}}}'
            f"{{\\fldrslt {{\\ul {text}}}}}}}\\par "
            for url, text in _LINKS
        ).encode(),
        "".join(f'<p><a x:href="{url}">{text}</a></p>' for url, text in _LINKS)
        .join(('<FictionBook xmlns:x="x"><body>', "</body></FictionBook>"))
        .encode(),
    ],
    ids=["pptx", "odt", "rtf", "fb2"],
)
def test_links_keep_their_addresses(data: bytes) -> None:
    text = read(data)
    assert "[our shop](https://shop.example/a)" in text or (
        "our shop (https://shop.example/a)" in text
    )
    assert text.count("ann@shop.example") == 1
    assert "#top" not in text


@pytest.mark.parametrize(
    ("data", "line_end"),
    [
        (
            samples.make_docx(
                '<w:p><w:r><w:t>if x:</w:t><w:br/><w:t xml:space="preserve">    return  </w:t>'
                "<w:t>1</w:t><w:br/></w:r><w:r><w:tab/><w:t>return 2</w:t></w:r></w:p>"
            ),
            "  \n",
        ),
        (
            samples.make_odt(
                '<text:p>if x:</text:p><text:p>\n<text:s text:c="4"/>return<text:s/> 1</text:p>'
                "<text:p><text:tab/>return 2</text:p>"
            ),
            "\n\n",
        ),
        (
            samples.make_pptx(
                "<a:p><a:r><a:t>if x:</a:t></a:r><a:br/><a:r><a:t>    return 1</a:t></a:r><a:br/>"
                "<a:r><a:t>    return 2</a:t></a:r></a:p>"
            ),
            "\n",
        ),
    ],
    ids=["docx", "odt", "pptx"],
)
def test_code_in_a_document_keeps_its_lines(data: bytes, line_end: str) -> None:
    assert line_end.join(("if x:", "    return 1", "    return 2")) in read(data)


def test_headers_of_rtf_are_read_once() -> None:
    data = (
        b"{\\rtf1{\\header\\pard Offer 7\\par}{\\headerl\\pard Offer 7\\par}"
        b"{\\footerf Page {\\field{\\*\\fldinst PAGE}{\\fldrslt 1}}}Hello\\par}"
    )
    assert read(data).split() == ["Hello", "Header:", "Offer", "7", "Footer:", "Page", "1"]


@pytest.mark.parametrize(
    "mark",
    [
        '<a href="#fn1"><sup>1</sup></a>',
        '<sup id="r1"><a href="#fn1">1</a></sup>',
        '<a href="notes.xhtml#fn1">1</a>',
    ],
)
def test_the_number_of_a_note_is_no_digit_of_a_year(mark: str) -> None:
    page = f'<p>In 2019{mark} it rained.</p><p>1. A note.<a href="#r1">\u21a9\ufe0e</a></p>'
    assert read(page.encode(), "a.html") == "In 2019[1] it rained.\n\n1. A note."


_POWERS = (("", "10"), ("super", "5"), ("", " m"), ("super", "-2"), ("", ", 4"), ("super", "th"))


@pytest.mark.parametrize(
    "data",
    [
        "".join(f"<{kind[:3] or 'i'}>{text}</{kind[:3] or 'i'}>" for kind, text in _POWERS)
        .replace("i>", "span>").encode(),
        samples.make_docx(
            "".join(
                f'<w:r><w:rPr><w:vertAlign w:val="{kind or "base"}script"/></w:rPr>'
                f'<w:t xml:space="preserve">{text}</w:t></w:r>'
                for kind, text in _POWERS
            ).join(("<w:p>", "</w:p>"))
        ),
        samples.make_pptx(
            "".join(
                f'<a:r><a:rPr baseline="{30000 if kind else 0}"/><a:t>{text}</a:t></a:r>'
                for kind, text in _POWERS
            ).join(("<a:p>", "</a:p>"))
        ),
        *(samples.make_odt(
            f'<x:style xmlns:x="x" x:name="S"><x:p x:text-position="{position} 58%"/></x:style>'
            + "".join(
                f'<text:span text:style-name="{kind and "S"}">{text.replace(" ", "<text:s/>")}'
                "</text:span>"
                for kind, text in _POWERS
            ).join(("<text:p>", "</text:p>"))
        )
        for position in ("super", "33%")),
        samples.make_pdf(
            "BT /F1 12 Tf 72 700 Td "
            + " ".join(
                f"/F1 {8 if kind else 12} Tf {4 if kind else 0} Ts ({text}) Tj"
                for kind, text in _POWERS
            )
            + " ET"
        ),
        b"{\\rtf1 %s}"
        % "".join(f"{{\\{kind or 'f1'} {text}}}" for kind, text in _POWERS).encode(),
    ],
    ids=["html", "docx", "pptx", "odt", "odt of a page", "pdf", "rtf"],
)  # fmt: skip
def test_a_power_of_a_number_is_no_digit_of_it(data: bytes) -> None:
    assert "10^5 m^-2, 4th" in read(data, "a.html")


def test_a_power_on_a_page_with_an_emoji_is_marked() -> None:
    page = "BT /F1 12 Tf 50 700 Td (10) Tj 7 Ts /F1 8 Tf (5) Tj 0 Ts /F1 12 Tf ( m x) Tj ET"
    letters = "1 begincodespacerange <00><ff> endcodespacerange 1 beginbfchar <78> <D83DDE00> "
    stream = f"<</Length {len(letters) + 9}>>stream\n{letters}endbfchar\nendstream"
    pdf = samples.make_pdf(page, fields=[stream]).replace(b"vetica", b"vetica/ToUnicode 6 0 R")
    assert read(pdf) == "10^5 m 😀"


def test_a_table_within_the_cell_of_a_table_is_its_text() -> None:
    inner = "<table><tr><td>tea</td><td>2</td></tr><tr><td>milk</td><td>1</td></tr></table>"
    page = f"<table><tr><th>Order<th>Items<th>Sum<tr><td>1<td>{inner}<td>5</table>"
    wanted = "| Order | Items | Sum |\n| --- | --- | --- |\n| 1 | tea, 2; milk, 1 | 5 |"
    assert read(page.encode(), "a.html") == wanted
    cell = "<table:table-cell>{}</table:table-cell>"
    cells = cell.format("<text:p>1</text:p>") + cell
    row = "<table:table-rows><table:table-row>{}</table:table-row></table:table-rows>"
    table = f"<table:table>{row}</table:table>"
    nested = table.format(cells.format(table.format(cells.format("<text:p>2</text:p>"))))
    assert "\n\n| 1 | 1 2 |\n| --- | --- |\n\n" in read(samples.make_odt(nested))


def test_names_in_an_archive_of_windows_are_read() -> None:
    archive = samples.make_archive({"AAAA.txt": "hello", "b": ""})
    listed = read(archive.replace(b"AAAA", "中文".encode("gbk")), "a.zip")
    assert listed.startswith("An archive with 2 files, which are not read:\n- 中文.txt, 5 bytes\n")


@pytest.mark.parametrize("name", ["Café.txt", "中文.txt"])
@pytest.mark.parametrize("is_flagged", [True, False])
def test_names_in_utf8_in_an_archive_are_read(name: str, is_flagged: bool) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entry = zipfile.ZipInfo(name if is_flagged else "____")
        if not is_flagged:  # as Info-ZIP writes it
            if sys.version_info < (3, 12):
                pytest.skip("this version of zipfile does not read such names")
            coded = name.encode()
            entry.extra = struct.pack("<HHBL", 0x7075, 5 + len(coded), 1, zlib.crc32(b"____"))
            entry.extra += coded
        archive.writestr("first.txt", b"")
        archive.writestr(entry, b"hello")
    assert read(out.getvalue(), "a.zip").endswith(f"- {name}, 5 bytes")


@pytest.mark.parametrize("name", ["Index/Document.iwa", "Index.zip"])
def test_a_document_of_apple_is_named(name: str) -> None:
    with pytest.raises(Unreadable, match="Pages, Numbers or Keynote; ask for it as PDF"):
        read(samples.make_archive({name: b"\0"}), "a.pages")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"7z\xbc\xaf\x27\x1c", "It is a 7z archive; ask for the files in it."),
        (b"Rar!\x1a\7\1\0", "It is a RAR archive; ask for the files in it."),
        (b"\x28\xb5\x2f\xfd\4", "It is compressed with Zstandard; ask for it uncompressed."),
        (b"PAR1\x15\4", "It is a Parquet table; ask for it as CSV."),
        (b"SQLite format 3\0", "It is an SQLite database; ask for its tables as CSV."),
        (b"\0\1\0\0Standard ACE DB\0", "It is an Access database; ask for its tables as CSV."),
        (
            b"A_book".ljust(60, b"\0") + b"BOOKMOBI",
            "It is a Kindle book; ask for it as EPUB or PDF.",
        ),
        (b"AT&TFORM\0\0", "It is a DjVu document; ask for it as PDF."),
        (b"\x89HDF\r\n\x1a\n", "ask for a common one, such as PDF, docx, CSV, ZIP, PNG or MP3."),
    ],
)
def test_what_to_ask_for_is_said(data: bytes, words: str) -> None:
    meta, text = extract_text(io.BytesIO(data), detect_kind(data, "a").mime, "a")
    assert text == b""
    assert meta["notes"][0].endswith(words)


def test_a_package_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = samples.make_archive({"word/document.xml": b" " * 2_000_000, "[Content_Types].xml": ""})
    monkeypatch.setattr(package, "_MAX_UNPACKED_BYTES", 1_000_000)
    with pytest.raises(Unreadable, match="unpacks to more"):
        read(bomb)


def test_a_part_that_unpacks_to_more_than_it_says_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(package, "_MAX_PART_BYTES", 1000)
    archive = package.Package(io.BytesIO(samples.make_archive({"a": b" " * 2000})))
    with pytest.raises(Unreadable, match="a part of it"):
        archive.read("a")


def test_a_damaged_archive_is_said_to_be_damaged() -> None:
    with pytest.raises(Unreadable, match="damaged"):
        read(b"PK\x03\x04 and nothing else")


#: Typical texts -> their usual encodings.
TEXTS = {
    "氏名,住所\n山田太郎,東京都千代田区\n鈴木花子,大阪府\n": ["cp932", "euc_jp", "iso2022_jp"],
    "番号,品名\n1,ﾎﾞｰﾙﾍﾟﾝ\n": ["cp932"],
    "姓名,城市\n张三,北京\n李四,上海\n": ["gbk", "utf-16", "utf-32", "utf-8-sig"],
    "姓名,城市\n張三,臺北\n李四,高雄\n": ["big5"],
    "이름,도시\n홍길동,서울\n김철수,부산\n": ["cp949"],
    "имя;город\nИван;Москва\nМария;Санкт-Петербург\n": ["cp1251", "koi8_r", "cp866"],
    "Résumé: café, déjà vu\n": ["latin-1", "cp1252"],
    "Straße;Größe\nMünchen;180 cm\n": ["latin-1"],
    "L’été dernier: ça coûte 5 €.\n": ["cp1252"],
    "Zażółć gęślą jaźń\nŁódź;Kraków\n": ["cp1250", "iso8859_2"],
    "İsim;Şehir\nAyşe;İstanbul\nÇağrı;Iğdır\n": ["cp1254"],
    "Όνομα;Πόλη\nΓιώργος;Αθήνα\n": ["cp1253"],
    "price: 5£ each, 20°C": ["latin-1"],
    "今天天气很好，我们去公园散步。": ["utf-16-le", "utf-16-be", "gbk"],
    "имя;город;Москва\n": ["utf-16-le"],
    "이름,도시\n홍길동,서울\n": ["utf-16-le"],
    "联通": ["gbk"],
    "Да": ["cp1251"],
    "ПРИВЕТ МИР": ["cp1251"],
    "ﾎﾞｰﾙﾍﾟﾝ": ["cp932"],
    "naïve": ["latin-1"],
    "10 € pro Stück, größer": ["iso8859_15", "cp1252"],
    "Árvíztűrő tükörfúrógép": ["cp1250"],
    "台灣的天氣很好,我們去爬山吧。": ["big5"],
    "hello, world": ["utf-16-le", "utf-16-be", "utf-32-le"],
    "2026-11-28 INFO start\n" * 30 + "user café logged in\n": ["latin-1"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "encoding"), [(text, one) for text, found in TEXTS.items() for one in found]
)
def test_text_of_any_encoding_is_read(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding))[0] == text


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<html><head><meta http-equiv="Content-Type" content="text/html; charset=gb2312">', "gbk"),
        ("<html><head><meta charset='windows-1251'>", "cp1251"),
        ('<html><head><meta charset="iso-8859-1">', "utf-8"),  # a common wrong declaration
        ('<?xml version="1.0" encoding="koi8-r"?>', "koi8-r"),
    ],
)
def test_a_page_is_read_as_it_says(head: str, encoding: str) -> None:
    page = head + "<p>тест</p>"
    assert decode(page.encode(encoding)) == (page, "")


def test_a_page_that_names_a_codec_of_python_is_guessed() -> None:
    for odd in ("unicode_escape", "idna", "zlib", "nothing"):
        assert decode(f'<meta charset="{odd}">caf\\u00e9'.encode())[0].endswith("caf\\u00e9")


@pytest.mark.parametrize(
    ("line", "encoding"),
    [
        ("错误：连接超时，请稍后再试。\n", "gb18030"),
        ("天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。", "gb18030"),
        ("錯誤：連接超時\n", "big5"),
        ("エラー：接続に失敗しました\n", "shift_jis"),
        ("エラー：接続に失敗しました\n", "euc_jp"),
        ("エラー：接続に失敗しました\n", "iso2022_jp"),
        ("오류: 연결 시간 초과\n", "cp949"),
    ],
)
def test_a_long_text_is_read_wherever_its_sample_ends(line: str, encoding: str) -> None:
    text = line * 20_000
    assert [decode(f"{start}{text}".encode(encoding))[0][:50] for start in ("", "1", "12")] == [
        f"{start}{text}"[:50] for start in ("", "1", "12")
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
@pytest.mark.parametrize("start", ["1 ", "12 ", "123 "])
def test_the_ends_of_a_long_log_are_read_in_its_encoding(encoding: str, start: str) -> None:
    log = start + "错误：连接超时，请稍后再试。\n" * 350_000
    meta, data = extract_text(io.BytesIO(log.encode(encoding)), "text/plain", "a.log")
    first, last = data.decode().split("\n[…]\n")
    assert log.startswith(first)
    assert log.endswith(last)
    assert not any("invalid" in note for note in meta["notes"])


def test_what_was_assumed_of_an_encoding_is_said() -> None:
    meta, _ = extract_text(io.BytesIO("東京都千代田区です".encode("cp932")), "text/plain", "a.txt")
    assert meta["notes"] == ["Its encoding is not marked; it was read as Shift_JIS."]
    meta, _ = extract_text(io.BytesIO("東京都".encode()), "text/plain", "a.txt")
    assert meta["notes"] == []


def test_a_wrong_byte_in_utf8_costs_one_character() -> None:
    text, assumed = decode("日志第一行\n".encode() * 3 + "日志".encode() + b"\xe9 tail")
    assert text.endswith("日志第一行\n日志\ufffd tail")
    assert "UTF-8" in assumed


def test_each_line_of_a_log_is_read_in_its_own_encoding() -> None:
    lines = ["服务器启动完成，端口 6185\n", "正在连接数据库，请稍候\n", "连接失败：拒绝访问\n"] * 9
    log = "".join(lines)
    encodings = ["utf-8", "gbk", "gbk"] * 9
    mixed = b"".join(line.encode(one) for line, one in zip(lines, encodings, strict=True))
    assert decode(mixed) == (log, "read as UTF-8, some lines as gb18030")


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
def test_a_text_that_is_ascii_for_long_is_read(encoding: str) -> None:
    late = "2026-11-30 INFO started\n" * 20_000 + "连接失败：拒绝访问\n"
    cut = b"\xe8" if encoding == "utf-8" else b""  # the beginning of a character
    assert decode(late.encode(encoding) + cut)[0].rstrip("\ufffd") == late


def prepare(data: bytes, side_px: int = 1536) -> tuple[dict[str, Any], Image.Image]:
    meta, made = prepare_picture(io.BytesIO(data), side_px)
    picture = Image.open(io.BytesIO(made))
    picture.load()
    assert meta["mime"] == f"image/{(picture.format or '').lower()}"
    assert picture.mode == "RGB"
    assert getattr(picture, "n_frames", 1) == 1
    assert not picture.getexif()
    return meta, picture


def is_red(picture: Image.Image, x: int, y: int) -> bool:
    red, green, blue = picture.convert("RGB").getpixel((x, y))  # type: ignore[misc]
    return red > 180 and green < 90 and blue < 90


@pytest.mark.parametrize(
    ("orientation", "bar"),
    [(1, (100, 8)), (2, (100, 8)), (3, (100, 112)), (6, (112, 100)), (8, (8, 100))],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_as_it_says(
    format: str, orientation: int, bar: tuple[int, int]
) -> None:
    _, picture = prepare(samples.make_turned(orientation, format))
    assert picture.size == ((120, 200) if orientation in (6, 8) else (200, 120))
    assert is_red(picture, *bar)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM"])
def test_a_picture_of_any_format_becomes_png_or_jpeg(format: str) -> None:
    _, picture = prepare(samples.save(samples.make_picture(), format))
    assert is_red(picture, 100, 8)
    assert not is_red(picture, 100, 100)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(("end", "pages"), [(-300, 2), (6000, 1)])
def test_the_whole_pages_of_a_tiff_that_is_cut_off_are_shown(end: int, pages: int) -> None:
    page = Image.effect_noise((60, 60), 50)
    fax = samples.save(
        page, "TIFF", save_all=True, append_images=[page, page], compression="tiff_lzw"
    )
    meta, picture = prepare(fax[:end])
    assert (meta["pages"], meta["notes"]) == (pages, ["Its later pages are damaged."])
    assert picture.size == (60, 60)
    shown, _ = show_pages(io.BytesIO(fax[:end]), range(8), 100)
    note = f"{pages} of its {pages} pages are shown. Its later pages are damaged."
    assert shown["note"] == note


def test_photos_of_iphones_are_read() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    pillow_heif.from_pillow(samples.make_picture()).save(out)
    assert is_red(prepare(out.getvalue())[1], 100, 8)


def test_a_photo_of_an_iphone_names_the_extra_that_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(Unreadable, match=r"pip install 'astrbot-api\[media\]'"):
        prepare(b"\0\0\0\x18ftypheic" + bytes(100))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_one_picture_is_shown_and_said_to_be_one(format: str) -> None:
    meta, picture = prepare(samples.make_animated(format))
    assert picture.size == (200, 120)
    assert "the first is shown" in meta["notes"][0]


#: Pillow 12 does not read uncompressed YCbCr, which is rare.
_YCBCR = pytest.param("YCbCr", marks=pytest.mark.skipif(PIL.__version__ < "13", reason="Pillow"))


@pytest.mark.parametrize("mode", ["CMYK", "LA", "P", "1", "L", "RGBA", "I;16", "I", "F", _YCBCR])
def test_a_picture_of_any_mode_has_8_bits(mode: str) -> None:
    format = "PNG" if mode in ("LA", "P", "1", "L", "RGBA", "I;16") else "TIFF"
    gradient = Image.linear_gradient("L")
    if mode in ("I;16", "I"):
        data = samples.save(gradient.convert("I").point(lambda v: v * 257).convert(mode), format)
    else:
        data = samples.save(gradient.convert(mode), format)
    _, picture = prepare(data)
    dark, light = (picture.convert("L").getpixel((128, y)) for y in (2, 253))
    assert (dark, light) == (pytest.approx(2, abs=12), pytest.approx(253, abs=12))


def test_a_large_jpeg_is_scaled_down_and_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = samples.save(samples.make_picture((4000, 3000)), "JPEG", exif=exif)
    _, picture = prepare(data, 400)
    assert picture.size == (300, 400)
    assert is_red(picture, 299, 200)


def test_a_transparent_picture_is_on_white() -> None:
    formula = Image.new("RGBA", (40, 40))
    formula.paste((0, 0, 0, 255), (0, 0, 20, 40))
    for format, size in (("PNG", 40), ("WEBP", 40), ("GIF", 40), ("TIFF", 20)):
        _, picture = prepare(samples.save(formula, format), size)
        sides = (picture.getpixel((x, 9)) for x in (2, size - 2))
        assert list(sides) == [(0, 0, 0), (255, 255, 255)]
    chessboard = Image.frombytes("L", (200, 200), (b"\x00\x99" * 100 + b"\x99\x00" * 100) * 100)
    _, picture = prepare(samples.save(chessboard, "PNG", transparency=0), 50)
    assert picture.convert("L").getextrema() == pytest.approx((204, 204), abs=8)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "JPEG2000"])
def test_a_photo_of_48_megapixels_is_read_within_the_limits(format: str) -> None:
    data = samples.save(samples.make_picture((8064, 6048)), format)
    with contextlib.closing(Aside()) as aside:
        meta, _ = aside.run(PREPARE_PICTURE, data, {"max_side_px": 1568})
    assert (meta["width"], meta["height"]) == (1568, 1176)


@pytest.mark.parametrize("sizes", [1, 2])
def test_a_picture_that_stores_few_smaller_sizes_is_read(sizes: int) -> None:
    out = io.BytesIO()
    samples.make_picture((1600, 800)).save(out, "JPEG2000", num_resolutions=sizes)
    _, picture = prepare(out.getvalue(), 100)
    assert picture.size == (100, 50)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    bomb = samples.save(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(Unreadable, match="20000 x 20000 pixels"):
        prepare(bomb)


def test_what_is_no_picture_is_refused() -> None:
    for data in (b"%!PS-Adobe-3.0 EPSF-3.0\n", b"", b"\x00\x01"):
        with pytest.raises(Unreadable, match="format is not supported"):
            prepare(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_picture_that_is_cut_off_is_shown_up_to_its_end(kind: str) -> None:
    picture = Image.new("RGB", (200, 200), "blue")
    picture.paste("red", (0, 0, 200, 20))
    picture.paste(Image.effect_noise((200, 100), 90), (0, 100))
    data = samples.save(picture, kind)
    meta, shown = prepare(data[: len(data) * 9 // 10])
    assert meta["notes"] == ["Its file is cut off: a part of it is missing."]
    assert shown.size == (200, 200)
    assert is_red(shown, 100, 10)
    assert prepare(data)[0]["notes"] == []


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "JPEG2000"])
def test_a_picture_that_cannot_be_decoded_in_part_is_damaged(kind: str) -> None:
    data = samples.save(Image.effect_noise((200, 200), 90), kind)
    with pytest.raises(OSError):
        prepare(data[: len(data) // 2])


def test_a_picture_of_which_only_the_header_is_left_is_damaged() -> None:
    data = samples.save(Image.effect_noise((200, 200), 90), "PNG")
    with pytest.raises(OSError):
        prepare(data[:60])
