"""HTML as Markdown. It runs aside."""

from __future__ import annotations

import re
from typing import Any

from bs4 import BeautifulSoup
from markdownify import MarkdownConverter


def html_to_markdown(html: str) -> str:
    """Return a page as Markdown, without scripts, styles and embedded pictures."""

    class Converter(MarkdownConverter):
        def convert_img(self, el: Any, text: str, parent_tags: Any) -> str:
            alt = " ".join(str(el.attrs.get("alt") or "").split())
            return f"[picture: {alt}]" if alt else ""

    converter = Converter(
        heading_style="ATX", bullets="-", escape_asterisks=False, escape_underscores=False,
        escape_misc=False, table_infer_header=True,
    )  # fmt: skip
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup(["script", "style", "noscript", "template", "head"]):
        tag.decompose()
    text: str = converter.convert_soup(soup)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
