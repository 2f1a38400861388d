"""Conversion of e-books in FictionBook (fb2), for jobs. Source: the schema of FictionBook 2.0."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from ...runtime.decoding import decode
from .office import local_name
from .pages import read_page

#: Elements that have no readable text, or repeat it.
_LEFT_OUT = {
    "binary", "coverpage", "custom-info", "date", "document-info", "genre", "id", "image", "lang",
    "publish-info", "src-lang", "src-title-info", "stylesheet",
}  # fmt: skip

#: Element -> element of HTML.
_AS_HTML = {
    "book-title": "h1", "cite": "blockquote", "emphasis": "em", "empty-line": "br", "stanza": "p",
    "strikethrough": "s", "subtitle": "h6", "text-author": "p", "title-info": "div", "v": "div",
}  # fmt: skip

_MAX_DEPTH = 100


def read_fb2(data: bytes) -> str:
    """Return the title, the chapters and the notes of a book as Markdown, without pictures."""
    root = ET.fromstring(decode(data)[0])
    _to_html(root, 0)
    return read_page(ET.tostring(root, encoding="unicode", method="html"))


def _to_html(element: ET.Element, depth: int) -> None:
    for child in element:
        name = local_name(child)
        if name in _LEFT_OUT or depth > _MAX_DEPTH:
            # Text may follow it, such as a picture in a sentence. remove() takes quadratic time.
            tail = child.tail
            child.clear()
            child.tag, child.tail = "span", tail
            continue
        _to_html(child, depth + 1)
        child.tag = _AS_HTML.get(name, name)
        if name in ("title", "author"):  # each line or name is an element
            text = " ".join(" ".join(child.itertext()).split())
            child.clear()
            child.text = text
            child.tag = f"h{min(depth, 6)}" if name == "title" else "p"
    element.tag = local_name(element)
