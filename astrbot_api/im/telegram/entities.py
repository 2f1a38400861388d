"""Formatting in Telegram's form: entities beside the text.

HTML and MarkdownV2 are not used: Telegram refuses the whole message after one missing escape,
and counts the markup towards the limit. Entities need no escapes.
Source: https://core.telegram.org/bots/api#messageentity
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..rich_text import BOLD, CODE, ITALIC, LINK, PRE, QUOTE, STRIKE, RichText, count_units

_TYPES = {
    BOLD: "bold",
    ITALIC: "italic",
    STRIKE: "strikethrough",
    CODE: "code",
    PRE: "pre",
    LINK: "text_link",
    QUOTE: "blockquote",
}

#: Telegram ignores further entities.
_MAX_ENTITIES = 100

#: Telegram refuses a message whose links are relative or name a host without a dot.
_ADDRESS = re.compile(r"https?://(?:[^/?#]*\.[^/?#]|\[)|tg://", re.ASCII | re.IGNORECASE)


def show_other_links(rich: RichText) -> RichText:
    """Return a text with the URLs in parentheses that Telegram accepts in no entity."""
    rich = rich.show_links(_ADDRESS.match)
    links = sum(one.kind == LINK for one in rich.spans)
    return rich if links <= _MAX_ENTITIES else RichText(rich.to_plain())


def make_entities(rich: RichText) -> list[dict[str, Any]]:
    """Return the ``entities`` of a message, in UTF-16 code units."""
    is_plain = count_units(rich.text) == len(rich.text)

    def find_offset(at: int) -> int:
        return at if is_plain else count_units(rich.text[:at])

    made = []
    # Without its entity, a link would lose its URL.
    spans = sorted(rich.spans, key=lambda one: one.kind != LINK)[:_MAX_ENTITIES]
    for span in sorted(spans, key=lambda one: (one.start, -one.stop)):
        start = find_offset(span.start)
        entity: dict[str, Any] = {
            "type": _TYPES[span.kind],
            "offset": start,
            "length": find_offset(span.stop) - start,
        }
        if span.kind == LINK:
            entity["url"] = span.value
        elif span.kind == PRE and span.value:
            entity["language"] = span.value
        made.append(entity)
    return made


def cut_units(text: str, offset: int, length: int) -> str:
    """Return the part of a text that a Telegram entity covers."""
    return text.encode("utf-16-le")[2 * offset : 2 * (offset + length)].decode(
        "utf-16-le", "ignore"
    )


def show_links(text: str, entities: Iterable[Mapping[str, Any]]) -> str:
    """Return a text with the URL in parentheses after each link that hides it."""
    links = [one for one in entities if one["type"] == "text_link"]
    for one in sorted(links, key=lambda one: int(one["offset"]), reverse=True):
        words = cut_units(text, one["offset"], one["length"])
        if words.strip("/") != one["url"].strip("/"):
            end = len(cut_units(text, 0, one["offset"] + one["length"]))
            text = f"{text[:end]} ({one['url']}){text[end:]}"
    return text
