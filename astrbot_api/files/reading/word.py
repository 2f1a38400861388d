"""Text extraction from Word documents, for jobs."""

from __future__ import annotations

import gc
import io
import re
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from .charts import read_charts
from .equations import replace_equations
from .numbering import NUMBERING, write_numbers
from .package import Package, iter_local, local_name
from .pages import html_to_markdown, limit_cpu
from .tables import to_markdown_table

_MAIN = "word/document.xml"

#: Elements with a text, and those that separate words.
_SHOWN = ("t", "tab", "br", "cr")

#: Maximum size of a document whose paragraphs are numbered.
_MAX_NUMBERED_BYTES = 8 * 2**20

#: Part with a header or footer.
_MARGIN = re.compile(r"word/(header|footer)\d*\.xml")

#: Namespace of WordprocessingML. Source: ECMA-376, part 1.
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"

#: Elements and attributes without meaning: fonts, sizes, borders, marks of editing and spelling.
_LOOK = re.compile(
    rb"<w:(?:rFonts|sz|szCs|lang|color|spacing|ind|jc|kern|w|position|bCs|iCs|shd|bdr|snapToGrid"
    rb"|noProof|proofErr|lastRenderedPageBreak|widowControl|keepNext|keepLines|contextualSpacing"
    rb"|bidi|rtl|textAlignment|adjustRightInd|autoSpaceD[EN]|gridCol|tblW|tblInd|tblLook|tblLayout"
    rb"|cantSplit|trHeight|tcW|vAlign|noWrap|top|left|bottom|right|start|end|insideH|insideV)"
    rb'(?: [^<>]*)?/>| (?:w:rsid\w*|w14:(?:para|text)Id)="[^"]*"'
)
_EMPTY = re.compile(rb"<w:(?:(\w*Pr|\w+Borders|\w+Mar|pBdr|tblGrid)(?:/>|></w:\1>))")
_RUNS = re.compile(rb'(?:<w:r><w:t(?: xml:space="preserve")?>[^<]*</w:t></w:r>){2,}+')
_TEXT = re.compile(rb">([^<]+)</w:t>")


#: The reading of characters (furigana, pinyin), and the tags around the characters themselves,
#: around fields such as the numbers of figures, and around text with a direction.
_READING = re.compile(
    rb"<w:ruby>(?:(?!<w:ruby(?:Base)?>).)*<w:rubyBase>|</w:rubyBase></w:ruby>"
    rb"|</?w:(?:fldSimple|bdo|dir)\b[^<>]*>",
    re.DOTALL,
)

#: A formula of MathType, which is stored as a picture.
_OLD_FORMULA = re.compile(
    rb'<w:object\b(?:(?!</w:object>).)*?\sProgID="Equation\.(?:(?!</w:object>).)*</w:object>',
    re.DOTALL,
)

#: A field without a result, and its instruction.
_FIELD = re.compile(
    rb'<w:fldChar\b[^<>]*"begin"[^<>]*/>((?:(?!<w:fldChar\b).)*)<w:fldChar\b[^<>]*"end"[^<>]*/>',
    re.DOTALL,
)
_INSTRUCTION = re.compile(rb"<w:instrText\b[^<>]*>([^<]*)</w:instrText>")

#: Parts of the instruction EQ: its formats, a sign in a circle, characters with a reading, and a
#: fraction. Source: ECMA-376, part 1, 17.16.5.17.
_EQ = (
    (re.compile(rb'\\\* *(?:"[^"]*"|&quot;.*?&quot;|\w+)\s*'), b""),
    (re.compile(rb"\\o *\\ac *\([^,()]*,([^()]*)\)", re.IGNORECASE), rb"(\1)"),
    (
        re.compile(rb"\\o *(?:\\a\w)? *\(\\s *\\up *\d+ *\([^()]*\),([^()]*)\)", re.IGNORECASE),
        rb"\1",
    ),
    (re.compile(rb"\\f *\(([^(),]*),([^(),]*)\)", re.IGNORECASE), rb"(\1)/(\2)"),
)

#: Spaces that may indent a line of code, and the same in Markdown: at its beginning or within it.
_SPACES = re.compile(rb'<w:tab/>|(?<=<w:t xml:space="preserve">) {2,}+')
_SHOWN_SPACES = re.compile("^(\xa0+)|\xa0{2,}", re.MULTILINE)

#: Ends of a line, a column or a page.
_BREAK = re.compile(rb"<w:(?:br|cr)\b[^<>]*/>")


def read_docx(package: Package) -> str:
    """Return the text of a Word document with headings, lists, tables, notes and comments.

    Charts, headers and footers follow the text. Of a very large document, the paragraphs and
    tables are read without their formatting.
    """
    text = _read_formatted(package)
    if text is None:
        gc.collect()  # the objects of mammoth refer to each other
        text = "\n\n".join(filter(None, iter_blocks(package.read(_MAIN))))
    more = (*read_charts(package, _MAIN), *_iter_margins(package))
    return "\n\n".join(filter(None, (text, *more)))


def _read_formatted(package: Package) -> str | None:
    """Return the text as Markdown, or None if mammoth cannot read it, or in time."""
    import mammoth

    no_picture = mammoth.images.img_element(lambda _: {})
    try:
        with limit_cpu():
            # mammoth uses the file's name as a path, and an open descriptor has no path.
            page = mammoth.convert_to_html(
                io.BytesIO(_simplify(package)), convert_image=no_picture,
                style_map="comment-reference => sup",
            )  # fmt: skip
            markdown = html_to_markdown(page.value)
            return _SHOWN_SPACES.sub(lambda found: " " * len(found[1] or " "), markdown)
    except Exception:  # also for documents that Word itself opens, such as without a needed style
        return None


def iter_blocks(main: bytes) -> Iterator[str]:
    """Yield the paragraphs and tables of a document, or of a file with all its parts.

    Tables in a cell become its text.
    """
    rows: list[list[str]] = []
    cells: list[str] = []
    paragraphs: list[str] = []
    depth = 0
    for event, one in ET.iterparse(io.BytesIO(main), ("start", "end")):
        name = local_name(one)
        if event == "start":
            depth += name == "tbl"
            continue
        if name == "p":
            text = "".join(part.text or " " for part in one.iter() if local_name(part) in _SHOWN)
            if depth:
                paragraphs.append(text)
            else:
                yield text
        elif name == "tc" and depth == 1:
            cells.append(" ".join(paragraphs))
            paragraphs = []
        elif name == "tr" and depth == 1:
            rows.append(cells)
            cells = []
        elif name == "tbl":
            depth -= 1
            if not depth:
                yield to_markdown_table(rows)
                rows = []
        if name in ("p", "tr", "tbl"):
            one.clear()


def _simplify(package: Package) -> bytes:
    """Return the document in a form that mammoth can read in seconds.

    Equations become text, because mammoth leaves them out.
    """
    if _MAIN not in package.names:
        package.source.seek(0)
        return package.source.read()
    main = _READING.sub(b"", package.read(_MAIN))  # mammoth leaves out all of them
    main = _FIELD.sub(_show_field, _OLD_FORMULA.sub(b"<w:t>[formula]</w:t>", main))
    main = _join_runs(_BREAK.sub(b"<w:br/>", main.replace(b"<w:ptab", b"<w:tab")))
    main = _SPACES.sub(_write_spaces, main)
    is_numbered = NUMBERING in package.names and len(main) < _MAX_NUMBERED_BYTES
    if is_numbered or any(one in main for one in (b"oMath", b"<w:vanish", b"<wps:txbx")):
        root = ET.fromstring(main)
        _remove_hidden(root)
        _show_boxes(root)
        replace_equations(root, f"{_W}r", f"{_W}t", f"{_W}smartTag")
        if is_numbered:
            write_numbers(package, root, _W)
        main = ET.tostring(root)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in package.names:
            if name == _MAIN:
                file.writestr(name, main)
            elif name.endswith((".xml", ".rels")):
                file.writestr(name, package.read(name))
    return out.getvalue()


def _write_spaces(found: re.Match[bytes]) -> bytes:
    """Return spaces that the conversion to Markdown keeps."""
    if found[0].startswith(b"<"):
        return '<w:t xml:space="preserve">\xa0\xa0\xa0\xa0</w:t>'.encode()
    return "\xa0".encode() * len(found[0])


def _show_field(field: re.Match[bytes]) -> bytes:
    """Return the text of a field that draws signs, such as a number in a circle or a fraction."""
    text = b"".join(_INSTRUCTION.findall(field[1])).strip()
    if text[:3].upper() not in (b"EQ ", b"EQ\\"):
        return field[0]
    text = text[2:]
    for part, shown in _EQ:
        text = part.sub(shown, text)
    return b'<w:t xml:space="preserve">%s</w:t>' % text.strip()


def _remove_hidden(root: ET.Element) -> None:
    """Remove the texts that Word does not show."""
    for parent in list(root.iter()):
        for run in [one for one in parent if one.tag == f"{_W}r"]:
            mark = run.find(f"{_W}rPr/{_W}vanish")
            if mark is not None and mark.get(f"{_W}val") not in ("0", "false", "off"):
                parent.remove(run)


def _show_boxes(root: ET.Element) -> None:
    """Write shapes with text in the old form, the only one that mammoth reads."""
    for parent in list(root.iter()):
        for at, one in enumerate(parent):
            # The first alternative is the new form. Some programs write no other.
            name = local_name(one)
            shapes = one[:1] if name == "AlternateContent" else [one] * (name == "drawing")
            boxes = [box for shape in shapes for box in _iter_boxes(shape)]
            if boxes:
                parent[at] = ET.Element(f"{_W}pict")
                parent[at].extend(boxes)


def _iter_boxes(element: ET.Element) -> Iterator[ET.Element]:
    """Yield the texts of shapes, but not those within others."""
    if element.tag == f"{_W}txbxContent":
        yield element
    else:
        for one in element:
            yield from _iter_boxes(one)


def _join_runs(main: bytes) -> bytes:
    """Remove what only concerns the look, and join the runs that it separates.

    Word splits a sentence into many runs. A document of 250 pages has ten megabytes of XML.
    """
    main = _LOOK.sub(b"", main)
    for _ in range(3):  # levels of nested parts
        main = _EMPTY.sub(b"", main)

    def join(runs: re.Match[bytes]) -> bytes:
        text = b"".join(_TEXT.findall(runs[0]))
        return b'<w:r><w:t xml:space="preserve">%s</w:t></w:r>' % text

    return _RUNS.sub(join, main)


def _iter_margins(package: Package) -> Iterator[str]:
    """Yield the different headers and footers."""
    seen = set()
    for name in sorted(package.names, key=lambda one: ("footer" in one, one)):
        kind = _MARGIN.fullmatch(name)
        if kind is not None:
            text = "\n".join(_list_paragraphs(package.parse(name)))
            if text and text not in seen:
                seen.add(text)
                yield f"{kind[1].capitalize()}: {text}"


def _list_paragraphs(root: ET.Element) -> list[str]:
    """Return the paragraphs with text, also of text boxes."""
    found = []
    taken: set[int] = set()
    for paragraph in reversed(list(iter_local(root, "p"))):  # inner ones first
        texts = [one for one in iter_local(paragraph, "t") if id(one) not in taken]
        taken |= {id(one) for one in texts}
        found.append("".join(one.text or "" for one in texts).strip())
    return [one for one in reversed(found) if one]
