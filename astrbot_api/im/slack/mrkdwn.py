"""Writes and parses Slack's markup.

Source: https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..rich_text import BOLD, CODE, ITALIC, LINK, PRE, QUOTE, STRIKE, RichText, Span, iter_pieces

#: Delimiters of each kind of span.
_MARKS = {
    BOLD: ("*", "*"),
    ITALIC: ("_", "_"),
    STRIKE: ("~", "~"),
    CODE: ("`", "`"),
    PRE: ("```\n", "\n```"),
}

_INLINE = (BOLD, ITALIC, STRIKE, CODE)

#: A zero-width space. Slack formats only what stands between spaces or ASCII punctuation.
_BOUNDARY = "\u200b"

#: Other addresses in ``<…>`` are no links but mentions, such as ``!channel``, or stay as text.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.ASCII | re.IGNORECASE)

_REFERENCE = re.compile(r"<([^<>]*)>")


def escape(text: str) -> str:
    """Escape a text so that it contains no mentions, links or escapes."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write_mrkdwn(rich: RichText) -> str:
    """Return a text with its formatting as Slack markup."""
    rich = rich.show_links(_ADDRESS.match)
    spans = [_trim(rich.text, one) for one in rich.spans if one.kind != QUOTE]
    spans = [one for one in spans if one.start < one.stop]
    quotes = [one for one in rich.spans if one.kind == QUOTE]
    pieces = []
    at = quoted = 0
    for ending, beginning, text in iter_pieces(rich.text, [*spans, *quotes]):
        pieces += [_end(one) for one in ending if one.kind != QUOTE]
        if _needs_boundary(rich.text, at, ending, beginning):
            pieces.append(_BOUNDARY)
        begun = sum(one.kind == QUOTE for one in beginning)
        quoted += begun - sum(one.kind == QUOTE for one in ending)
        if begun:
            pieces.append("> ")
        pieces += [_begin(one) for one in beginning if one.kind != QUOTE]
        piece = escape(text)
        pieces.append(piece.replace("\n", "\n> ") if quoted else piece)
        at += len(text)
    return "".join(pieces)


def _needs_boundary(text: str, at: int, ending: Sequence[Span], beginning: Sequence[Span]) -> bool:
    """Return whether a delimiter at a position touches a letter, which would disable it."""
    before = text[at - 1 : at] if any(one.kind in _INLINE for one in beginning) else ""
    after = text[at : at + 1] if any(one.kind in _INLINE for one in ending) else ""
    return any(one.isalnum() or (one > "\x7f" and not one.isspace()) for one in (before, after))


def read_mrkdwn(text: str, own_id: str) -> tuple[str, bool]:
    """Return the text of an event as users see it.

    :param own_id: The bot's user id, whose mentions are removed.
    :returns: The text, and whether the bot was mentioned.
    """
    mentioned = False

    def replace(found: re.Match[str]) -> str:
        nonlocal mentioned
        target, _, label = found[1].partition("|")
        if target.startswith("@"):
            if own_id and target[1:] == own_id:
                mentioned = True
                return ""
            return f"@{label or target[1:]}"
        if target.startswith("#"):
            return f"#{label or target[1:]}"
        if target.startswith("!"):
            return label or f"@{target[1:].partition('^')[0]}"
        address = target.removeprefix("mailto:")
        return address if not label or label == address else f"{label} ({address})"

    shown = _REFERENCE.sub(replace, text)
    for name, letter in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        shown = shown.replace(name, letter)
    return shown.strip(), mentioned


def _trim(text: str, span: Span) -> Span:
    """Exclude white space at a span's ends, because Slack would show the delimiters."""
    if span.kind == PRE:
        return span
    words = text[span.start : span.stop].rstrip()
    start = span.start + len(words) - len(words.lstrip())
    return Span(span.kind, start, span.start + len(words), span.value)


def _begin(span: Span) -> str:
    if span.kind == LINK:
        # Percent-encode the characters that would end the reference.
        address = span.value.replace("|", "%7C").replace("<", "%3C").replace(">", "%3E")
        return f"<{address.replace('&', '&amp;')}|"
    return _MARKS[span.kind][0]


def _end(span: Span) -> str:
    return ">" if span.kind == LINK else _MARKS[span.kind][1]
