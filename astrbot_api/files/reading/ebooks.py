"""E-books: EPUB and FictionBook (fb2). Source: the schema of FictionBook 2.0."""

from __future__ import annotations

import posixpath
import time
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from ...errors import Unreadable
from ...runtime.decoding import decode
from .package import Package, iter_local, local_name, read_attribute
from .pages import read_page, strip_tags

#: Number of characters of a book after which reading stops, and seconds of CPU time after which its
#: chapters are read without their formatting.
_ENOUGH_CHARS = 2_000_000
_BUSY_S = 4.0

#: Elements of FictionBook that have no readable text, or repeat it.
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


def read_epub(package: Package) -> str:
    """Return the chapters of an e-book, in reading order.

    After some seconds, the other chapters are read without their formatting.
    """
    root = next(iter_local(package.parse("META-INF/container.xml"), "rootfile"), None)
    if root is None:
        raise Unreadable("it is damaged: a part is missing")
    path = root.get("full-path", "")
    book = package.parse(path)
    items = {one.get("id"): one.get("href", "") for one in iter_local(book, "item")}
    encrypted = _list_encrypted(package)
    chapters: list[str] = []
    chars, began = 0, time.process_time()
    for reference in iter_local(book, "itemref"):
        spent_s = time.process_time() - began
        if chars > _ENOUGH_CHARS or spent_s > 2 * _BUSY_S:
            chapters.append(f"[Only its first {len(chapters)} chapters were read.]")
            break
        href = unquote(items.get(reference.get("idref"), ""))
        name = posixpath.normpath(posixpath.join(posixpath.dirname(path), href))
        if name in encrypted:
            raise Unreadable("it is protected against copying (DRM)")
        if name in package.names:
            read = strip_tags if spent_s > _BUSY_S else read_page
            chapters.append(read(decode(package.read(name))[0]))
            chars += len(chapters[-1])
    return "\n\n".join(one for one in chapters if one)


def _list_encrypted(package: Package) -> set[str]:
    """Return the encrypted parts of a book. Encrypted fonts are common and harmless."""
    name = "META-INF/encryption.xml"
    if name not in package.names:
        return set()
    references = iter_local(package.parse(name), "CipherReference")
    return {unquote(one.get("URI", "")) for one in references}


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
        if name == "a":
            child.set("href", read_attribute(child, "href"))
        if name in ("title", "author"):  # each line or name is an element
            text = " ".join(" ".join(child.itertext()).split())
            child.clear()
            child.text = text
            child.tag = f"h{min(depth, 6)}" if name == "title" else "p"
    element.tag = local_name(element)
