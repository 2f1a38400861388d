"""Small generated files of many types."""

from __future__ import annotations

import io
import math
import struct
import wave
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_OFFICE = "application/vnd.openxmlformats-officedocument."
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def make_archive(files: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def _relations(*targets: tuple[str, str]) -> str:
    rows = "".join(
        f'<Relationship Id="rId{number}" Type="{_RELATIONS}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{rows}</Relationships>'


def _make_office(main: str, type: str, parts: Mapping[str, str | bytes]) -> bytes:
    types = (
        f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/{main}" ContentType="{_OFFICE}{type}.main+xml"/></Types>'
    )
    return make_archive(
        {
            "[Content_Types].xml": types,
            "_rels/.rels": _relations(("officeDocument", main)),
            **parts,
        }
    )


def _word(text: str, style: str = "") -> str:
    head = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{head}<w:r><w:t>{text}</w:t></w:r></w:p>"


_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def make_docx(more: str = "", media: Mapping[str, bytes] | None = None, **notes: str) -> bytes:
    """Return a document with a heading, a paragraph in two runs and a table.

    :param more: Appended to the body.
    :param media: Pictures by their names.
    :param notes: Further parts, such as ``comments``, with the content of their root.
    """
    namespace = _WORD
    parts = {
        f"word/{name}.xml": f'{_XML}<w:{name} xmlns:w="{namespace}">{body}</w:{name}>'
        for name, body in notes.items()
    }
    rows = "".join(
        "<w:tr>" + "".join(f"<w:tc>{_word(cell)}</w:tc>" for cell in row) + "</w:tr>"
        for row in (("item", "price"), ("pencil", "4711"))
    )
    body = (
        _word("Quarterly report", "Heading1")
        + "<w:p><w:r><w:t>The word is marma</w:t></w:r><w:r><w:t>lade.</w:t></w:r></w:p>"
        + f"<w:tbl>{rows}</w:tbl>{more}"
    )
    styles = (
        f'{_XML}<w:styles xmlns:w="{namespace}"><w:style w:type="paragraph" w:styleId="Heading1">'
        '<w:name w:val="heading 1"/></w:style></w:styles>'
    )
    return _make_office(
        "word/document.xml",
        "wordprocessingml.document",
        {
            "word/document.xml": f'{_XML}<w:document xmlns:w="{namespace}">'
            f"<w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": _relations(
                ("styles", "styles.xml"), *((name, f"{name}.xml") for name in notes)
            ),
            "word/styles.xml": styles,
            **parts,
            **{f"word/media/{name}": data for name, data in (media or {}).items()},
        },
    )


def make_xlsx(
    more: str = "",
    state: str = "visible",
    settings: str = "",
    comments: str = "",
    boxes: str = "",
    styles: str = "",
    chart: str = "<chart/>",
) -> bytes:
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    cells = (
        '<row r="1"><c r="A1" t="inlineStr"><is><t>item</t></is></c>'
        '<c r="B1" t="inlineStr"><is><t>price</t></is></c></row>'
        '<row r="2"><c r="A2" t="inlineStr"><is><t>marmalade</t></is></c>'
        '<c r="B2"><v>4711</v></c></row>'
    )
    return _make_office(
        "xl/workbook.xml",
        "spreadsheetml.sheet",
        {
            "xl/workbook.xml": f'{_XML}<workbook xmlns="{namespace}" xmlns:r="{_RELATIONS}">'
            f'<sheets><sheet name="Prices" sheetId="1" state="{state}" r:id="rId1"/></sheets>'
            f"{settings}</workbook>",
            "xl/_rels/workbook.xml.rels": _relations(("worksheet", "worksheets/sheet1.xml")),
            "xl/worksheets/sheet1.xml": f'{_XML}<worksheet xmlns="{namespace}">'
            f"<sheetData>{cells}{more}</sheetData></worksheet>",
            "xl/worksheets/_rels/sheet1.xml.rels": _relations(
                ("comments", "../comments1.xml"),
                ("drawing", "../drawings/drawing1.xml"),
                ("hyperlink", 'https://example.com/terms" TargetMode="External'),
            ),
            "xl/drawings/drawing1.xml": f"<wsDr>{boxes}</wsDr>",
            "xl/drawings/_rels/drawing1.xml.rels": _relations(("chart", "../charts/chart1.xml")),
            "xl/charts/chart1.xml": chart,
            "xl/styles.xml": f'<styleSheet xmlns="{namespace}">{styles}</styleSheet>',
            "xl/comments1.xml": f'<comments xmlns="{namespace}">{comments}</comments>',
        },
    )


def make_pptx(
    more: str = "", chart: str = "<chart/>", comments: str = "", links: Sequence[str] = ()
) -> bytes:
    """Return two slides, whose file names are not in their order, a note and a chart.

    :param more: Appended to the first slide.
    :param links: Addresses with the ids ``L0``, ``L1`` and so on.
    :param chart: A chart of the first slide.
    :param comments: Comments on the first slide.
    """
    drawing = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    main = (
        'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        f'xmlns:r="{_RELATIONS}"'
    )

    def slide(text: str) -> str:
        return f"{_XML}<p:sld {main} {drawing}><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sld>"

    return _make_office(
        "ppt/presentation.xml",
        "presentationml.presentation",
        {
            "ppt/presentation.xml": f"{_XML}<p:presentation {main}><p:sldIdLst>"
            '<p:sldId id="256" r:id="rId2"/><p:sldId id="257" r:id="rId1"/>'
            "</p:sldIdLst></p:presentation>",
            "ppt/_rels/presentation.xml.rels": _relations(
                ("slide", "slides/slide1.xml"), ("slide", "slides/slide2.xml")
            ),
            "ppt/slides/slide1.xml": slide("the end"),
            "ppt/slides/slide2.xml": slide("marmalade").replace("</p:sld>", f"{more}</p:sld>"),
            "ppt/slides/_rels/slide2.xml.rels": _relations(
                ("notesSlide", "../notesSlides/notesSlide1.xml"),
                ("chart", "../charts/chart1.xml"),
                ("comments", "../comments/comment1.xml"),
            ).replace(
                "</Relationships>",
                "".join(
                    f'<Relationship Id="L{at}" Type="x/hyperlink" Target="{url}"'
                    ' TargetMode="External"/>'
                    for at, url in enumerate(links)
                )
                + "</Relationships>",
            ),
            "ppt/comments/comment1.xml": f"<cmLst>{comments}</cmLst>",
            "ppt/charts/chart1.xml": chart,
            "ppt/notesSlides/notesSlide1.xml": slide("say it slowly"),
        },
    )


def make_odt(more: str = "") -> bytes:
    text = 'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
    office = 'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
    table = 'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
    return make_archive(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f"{_XML}<office:document-content {office} {text} {table}><office:body>"
            '<office:text><text:h text:outline-level="2">Breakfast</text:h>'
            "<text:p>with<text:s/><text:span>marmalade</text:span></text:p>"
            f"{more}<text:list><text:list-item><text:p>bread</text:p></text:list-item></text:list>"
            "<table:table><table:table-row><table:table-cell><text:p>tea</text:p>"
            "</table:table-cell><table:table-cell><text:p>4711</text:p></table:table-cell>"
            "</table:table-row></table:table></office:text></office:body>"
            "</office:document-content>",
        }
    )


def make_epub(**more: str) -> bytes:
    """Return a book.

    :param more: Content of other parts of ``META-INF``.
    """
    return make_archive(
        {
            **{f"META-INF/{name}.xml": text for name, text in more.items()},
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": "<container><rootfiles>"
            '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": "<package><manifest>"
            '<item id="b" href="two.xhtml"/><item id="a" href="one%20.xhtml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
            "OEBPS/one .xhtml": "<html><body><h1>First</h1><p>marmalade</p></body></html>",
            "OEBPS/two.xhtml": "<html><body><p>the end</p></body></html>",
        }
    )


MAIL = (
    b"From: Ann <ann@example.org>\r\nSubject: =?utf-8?B?5oql5ZGK?=\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>the word is <b>caf\xe9</b></p>\r\n"
    b"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; "
    b"filename=bill.pdf\r\n\r\nx\r\n--b--\r\n"
)

RTF = rb"{\rtf1\ansi\ansicpg1252 {\fonttbl\f0 Arial;}The word is caf\'e9 \u26085?.\par}"

HTML = (
    b"<!DOCTYPE html><html><head><title>t</title><style>p {}</style></head><body><h2>Prices</h2>"
    b"<script>alert(1)</script><ul><li>marmalade</li></ul>"
    b"<table><tr><th>item</th></tr><tr><td>4711</td></tr></table></body></html>"
)


def make_picture(size: tuple[int, int] = (200, 120)) -> Image.Image:
    """Return a white picture with a red bar along the top."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle((0, 0, size[0], 20), fill="red")
    return picture


def save(picture: Image.Image, format: str, **more: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **more)
    return out.getvalue()


def make_turned(orientation: int, format: str = "JPEG") -> bytes:
    """Return a picture with an orientation tag and a location."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker of the phone"
    return save(make_picture(), format, exif=exif)


def make_animated(format: str) -> bytes:
    frames = [make_picture() for _ in range(3)]
    for number, frame in enumerate(frames):
        ImageDraw.Draw(frame).rectangle((10 + 40 * number, 60, 40 + 40 * number, 90), fill="blue")
    return save(frames[0], format, save_all=True, append_images=frames[1:], duration=200)


def make_wav(seconds: float = 0.5, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        for number in range(int(seconds * rate)):
            file.writeframes(struct.pack("<h", int(9000 * math.sin(number / 5))))
    return out.getvalue()


def make_sound(container: str, codec: str, seconds: float = 0.5) -> bytes:
    """Return a recording in any format that FFmpeg can write."""
    rates = {"libopus": 48_000}
    import av

    out = io.BytesIO()
    with (
        av.open(io.BytesIO(make_wav(seconds, 16_000))) as source,
        av.open(out, "w", format=container) as target,
    ):
        stream = target.add_stream(codec, rate=rates.get(codec, 16_000), layout="mono")
        for frame in source.decode(audio=0):
            frame.pts = None
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return out.getvalue()


def make_amr(seconds: float = 0.5) -> bytes:
    """Return a voice message of phones: frames of 20 ms with 4.75 kbit/s (Source: RFC 4867)."""
    return b"#!AMR\n" + (b"\x04" + bytes(12)) * int(seconds / 0.02)


def make_silk(seconds: float = 0.5) -> bytes:
    """Return a voice message of QQ (Silk)."""
    import pilk_nogil

    with wave.open(io.BytesIO(make_wav(seconds, 24_000))) as file:
        samples = file.readframes(file.getnframes())
    made: bytes = pilk_nogil.encode(samples, None, pcm_rate=24_000, tencent=True)
    return made


#: The first numbers of the matrix of an upright and a turned track (ISO/IEC 14496-12, 8.3.2).
_MATRICES = ((0x10000, 0, 0, 0, 0x10000), (0, 0x10000, 0, -0x10000, 0))


def make_video(seconds: int = 2, *, is_turned: bool = False) -> bytes:
    """Return a video with one key frame that changes from red to blue in its middle.

    :param is_turned: Whether players turn it clockwise, as the videos of phones.
    """
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream = target.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"g": "250", "sc_threshold": "1000000000"}
        for number in range(5 * seconds):
            color = "red" if number < 5 * seconds / 2 else "blue"
            picture = Image.new("RGB", (64, 48), color)
            picture.paste("green", (0, 0, 16, 16))
            target.mux(stream.encode(av.VideoFrame.from_image(picture)))
        target.mux(stream.encode(None))
    if not is_turned:
        return out.getvalue()
    head, mark, track = out.getvalue().partition(b"tkhd")
    upright, turned = (struct.pack(">5i", *one) for one in _MATRICES)
    return head + mark + track.replace(upright, turned, 1)


def make_pdf(*pages: str, fields: Sequence[str] = (), more: str = "") -> bytes:
    """Return a PDF with a page for each content stream.

    :param pages: Content streams. ``/F1`` is Helvetica, ``/F2`` a font without Unicode and ``/I1``
        a picture.
    :param fields: Annotations of the first page, which are the fields of the form too.
    :param more: Further keys of the form and, after ``>>``, of the catalogue.
    """
    first = 6 + len(fields)
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(pages)))
    listed = " ".join(f"{6 + number} 0 R" for number in range(len(fields)))
    objects = [
        f"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[{listed}]{more}>>>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}/MediaBox[0 0 600 800]"
        "/Resources<</Font<</F1 3 0 R/F2 4 0 R>>/XObject<</I1 5 0 R>>>>>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        "<</Type/Font/Subtype/Type0/BaseFont/A/Encoding/Identity-H/DescendantFonts[<</Type/Font"
        "/Subtype/CIDFontType2/BaseFont/A/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
        "/Supplement 0>>>>]>>",
        "<</Type/XObject/Subtype/Image/Width 1/Height 1/BitsPerComponent 8/ColorSpace/DeviceGray"
        "/Length 1>>stream\nx\nendstream",
        *fields,
    ]
    for number, stream in enumerate(pages):
        own = "" if number else f"/Annots[{listed}]"
        objects.append(f"<</Type/Page/Parent 2 0 R/Contents {first + 1 + 2 * number} 0 R{own}>>")
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    body = "".join(f"{number} 0 obj\n{one}\nendobj\n" for number, one in enumerate(objects, 1))
    end = f"trailer\n<</Root 1 0 R/Size {len(objects) + 1}>>\nstartxref\n0\n%%EOF\n"
    return f"%PDF-1.4\n{body}{end}".encode("latin-1")
