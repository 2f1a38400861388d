"""Conversion of HTML to Markdown, for jobs."""

from __future__ import annotations

import gc
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

from bs4 import BeautifulSoup, Tag
from bs4.element import ProcessingInstruction
from markdownify import MarkdownConverter

from .mathml import write_mathml, write_power

#: Tag -> tags whose end it implies, and the tags that contain them.
#: Source: https://html.spec.whatwg.org/multipage/syntax.html#optional-tags
_IMPLIED = {
    "li": (("li",), ("ul", "ol")),
    "dt": (("dt", "dd"), ("dl",)),
    "dd": (("dt", "dd"), ("dl",)),
    "td": (("td", "th"), ("table",)),
    "th": (("td", "th"), ("table",)),
    "tr": (("tr",), ("table",)),
    "p": (("p",), ("td", "th", "li", "div", "body")),
}

#: Seconds of CPU time of a conversion with formatting, of the 10 that the job has.
_ENOUGH_S = 6.0

#: Elements whose text is not shown, and those that begin a line.
_HIDDEN = ("script", "style", "template", "title")
_LINES = ("p", "div", "br", "li", "tr", "dt", "dd", "pre", "h1", "h2", "h3", "h4", "h5", "h6")

#: Style of an element that a browser does not show. WeChat's articles have ``visibility: hidden``
#: until a script shows them.
_HIDING = re.compile(r"display\s*:\s*none", re.IGNORECASE)

#: Part of a page above which hidden elements are read.
_MAX_HIDDEN = 0.9

#: Maximum number of open tags that are examined.
_MAX_OPEN = 20

#: Beginning of a link within a page or a book, and the text of one to a note or back from it. The
#: number of a note would become digits of the number before it.
_WITHIN = re.compile(r"(?:[\w.-]+\.x?html?)?#", re.IGNORECASE)
_NOTE = re.compile(r"\^?(\d{1,3}|[*\u2020\u2021])|[\u2191\u21a9]\ufe0e?")


class _Soup(BeautifulSoup):
    """A page in which end tags may be left out, as HTML allows and old programs do."""

    def handle_starttag(self, name: str, *details: Any, **more: Any) -> Tag | None:
        """Close the tags that a tag ends, then open it."""
        closed, containers = _IMPLIED.get(name, ((), ()))
        for one in reversed(self.tagStack[-_MAX_OPEN:] if closed else ()):
            if one.name in closed:
                self.handle_endtag(one.name)
                break
            if one.name in containers:
                break
        return super().handle_starttag(name, *details, **more)


@contextmanager
def limit_cpu() -> Iterator[None]:
    """Raise TimeoutError in the block when it has used most of the job's CPU time.

    Only for the main thread of a job's process.
    """

    def stop(*_: object) -> None:
        raise TimeoutError

    earlier = signal.signal(signal.SIGPROF, stop)
    # Repeated, because Python ignores an exception in a destructor.
    signal.setitimer(signal.ITIMER_PROF, _ENOUGH_S, _ENOUGH_S / 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, earlier)


def read_page(html: str) -> str:
    """Convert a page to Markdown, or to its text if it is very large."""
    try:
        with limit_cpu():
            return html_to_markdown(html)
    except (TimeoutError, MemoryError):
        pass
    gc.collect()  # the elements refer to each other
    return strip_tags(html)


def strip_tags(html: str) -> str:
    """Return the text of a page without formatting, in a tenth of the time of Markdown."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    lines = map(str.strip, "".join(parser.pieces).splitlines())
    return "\n".join(filter(None, lines))


class _Text(HTMLParser):
    """The text of a page, with a line for each paragraph or row."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden = self._hidden or (tag if tag in _HIDDEN else "")
        self.pieces.append("\n" if tag in _LINES else " | " if tag in ("td", "th") else "")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


class _Converter(MarkdownConverter):
    """Converts elements that models read better in another form."""

    def convert_img(self, el: Any, text: str, parent_tags: Any) -> str:
        alt = " ".join(str(el.attrs.get("alt") or "").split())
        return f"[picture: {alt}]" if alt else ""

    def convert_input(self, el: Any, text: str, parent_tags: Any) -> str:
        if el.get("type") not in ("checkbox", "radio"):
            return ""
        return "[x] " if el.has_attr("checked") else "[ ] "

    def convert_a(self, el: Any, text: str, parent_tags: Any) -> str:
        href = str(el.get("href") or "")
        if _WITHIN.match(href):
            note = _NOTE.fullmatch(text.strip())
            return text if note is None else f"[{note[1]}]" if note[1] else ""
        if href == f"mailto:{text.strip()}":
            return text
        linked: str = super().convert_a(el, text, parent_tags)  # type: ignore[misc]
        return linked

    def convert_td(self, el: Any, text: str, parent_tags: Any) -> str:
        text = text.replace("|", r"\|")
        cell: str = super().convert_td(el, text, parent_tags)  # type: ignore[misc]
        return cell

    convert_th = convert_td

    def convert_sup(self, el: Any, text: str, parent_tags: Any) -> str:
        return write_power(text)


def html_to_markdown(html: str) -> str:
    """Convert a page to Markdown, without scripts, styles and embedded images."""
    converter = _Converter(
        heading_style="ATX", bullets="-", escape_asterisks=False, escape_underscores=False,
        escape_misc=False, table_infer_header=True,
    )  # fmt: skip
    soup = _Soup(html, "html.parser")
    _leave_out_unseen(soup)
    _write_equations(soup)
    _simplify_tables(soup)
    try:
        markdown: str = converter.convert_soup(soup)
    except RecursionError:  # elements without an end, or quotes of a hundred mails
        markdown = soup.get_text("\n", strip=True)
    return re.sub(r"\n{3,}", "\n\n", markdown).strip()


def _leave_out_unseen(soup: _Soup) -> None:
    """Remove what a browser does not show, and the other options of a choice."""
    # The readings of characters (furigana) are left out as in Word documents.
    for tag in soup(["script", "style", "noscript", "template", "head", "rt", "rp"]):
        tag.decompose()
    hidden = [tag for tag in soup.find_all(_is_hidden) if not tag.find_parent(_is_hidden)]
    chars = sum(len(tag.get_text()) for tag in hidden)
    if chars < _MAX_HIDDEN * len(soup.get_text()):  # else a script shows the page
        for tag in hidden:
            tag.decompose()
    for tag in soup("select"):
        options = tag("option")
        chosen = [one for one in options if one.has_attr("selected")] or options[:1]
        tag.string = " ".join(one.get_text(strip=True) for one in chosen)
    for text in soup.find_all(string=lambda one: isinstance(one, ProcessingInstruction)):
        text.extract()


def _write_equations(soup: _Soup) -> None:
    """Replace MathML by LaTeX."""
    for math in soup.find_all("math"):
        latex = math.find("annotation", encoding="application/x-tex")
        if latex is not None:
            math.replace_with(f"${latex.get_text().strip()}$")
            continue
        with suppress(ET.ParseError):
            # Without the prefix of a namespace, which some books use.
            shown = re.sub(r"(</?)\w+:", r"\1", str(math))
            math.replace_with(f"${write_mathml(ET.fromstring(shown)).strip()}$")


def _simplify_tables(soup: _Soup) -> None:
    """Give each table rows of equal length without tables in them."""
    for tag in soup(["colgroup", "col", "tfoot"]):  # else other rows are the table's header
        tag.unwrap()
    for table in soup.find_all("table"):
        if table.find("table") and not _is_grid(table):
            _unwrap(table)
            continue
        for inner in table("table"):
            rows = (", ".join(map(_text_of, row(["td", "th"]))) for row in inner("tr"))
            inner.replace_with(f" {'; '.join(rows)} ")
        _fill_rows(table)


def _is_hidden(tag: Tag) -> bool:
    style = str(tag.get("style") or "")
    return (tag.has_attr("hidden") or bool(_HIDING.search(style))) and tag.name != "body"


def _is_grid(table: Tag) -> bool:
    """Return whether a table with nested tables has rows of texts, and is no layout table."""
    rows = (row for row in table("tr") if row.find_parent("table") is table)
    cells = (row(["td", "th"], recursive=False) for row in rows)
    texts = ([one for one in row if not one.find("table") and _text_of(one)] for row in cells)
    return sum(len(row) > 1 for row in texts) > 1


def _text_of(tag: Tag) -> str:
    return " ".join(tag.get_text(" ").split())


def _unwrap(table: Tag) -> None:
    """Turn the cells of a layout table into blocks."""
    table.name = "div"
    for part in table.find_all(["thead", "tbody", "tfoot", "tr", "td", "th"]):
        if part.find_parent("table") is None:
            part.name = "div"


def _fill_rows(table: Tag) -> None:
    """Insert empty cells below cells with a ``rowspan``, to keep the columns aligned."""
    pending: dict[int, int] = {}
    for row in table.find_all("tr"):
        column = 0
        reaching: dict[int, int] = {}
        for cell in row.find_all(["td", "th"], recursive=False):
            while pending.get(column):
                cell.insert_before(Tag(name="td"))
                column += 1
            width, height = _span(cell, "colspan"), _span(cell, "rowspan")
            if height > 1:
                reaching |= dict.fromkeys(range(column, column + width), height)
            column += width
        pending = {at: left - 1 for at, left in pending.items() if left > 1}
        pending |= {at: height - 1 for at, height in reaching.items()}


def _span(cell: Tag, name: str) -> int:
    value = str(cell.get(name) or "1")
    return max(1, min(int(value), 1000)) if value.isascii() and value.isdigit() else 1
