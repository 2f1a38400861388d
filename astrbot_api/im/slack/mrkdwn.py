"""Slack's own markup, written and read.

Source: https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re

from ..rich_text import BOLD, CODE, ITALIC, LINK, PRE, QUOTE, STRIKE, RichText, Span

#: What encloses a span.
_MARKS = {
    BOLD: ("*", "*"),
    ITALIC: ("_", "_"),
    STRIKE: ("~", "~"),
    CODE: ("`", "`"),
    PRE: ("```\n", "\n```"),
}

_REFERENCE = re.compile(r"<([^<>]*)>")


def escape(text: str) -> str:
    """Return text in which nothing is a mention, a link or an escape."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write_mrkdwn(rich: RichText) -> str:
    """Return a text with its formatting in Slack's markup."""
    spans = [_trim(rich.text, one) for one in rich.spans if one.kind != QUOTE]
    spans = [one for one in spans if one.start < one.stop]
    quotes = [one for one in rich.spans if one.kind == QUOTE]
    places = sorted(
        {0, len(rich.text)} | {at for one in (*spans, *quotes) for at in (one.start, one.stop)}
    )
    pieces = []
    for start, stop in zip(places, [*places[1:], places[-1]], strict=True):
        # The inner one ends first and begins last.
        pieces += [_end(x) for x in sorted(spans, key=lambda x: -x.start) if x.stop == start]
        if any(one.start == start for one in quotes):
            pieces.append("> ")
        pieces += [_begin(x) for x in sorted(spans, key=lambda x: -x.stop) if x.start == start]
        text = escape(rich.text[start:stop])
        if any(one.start <= start < one.stop for one in quotes):
            text = text.replace("\n", "\n> ")
        pieces.append(text)
    return "".join(pieces)


def read_mrkdwn(text: str, own_id: str) -> tuple[str, bool]:
    """Return the text of an event as a reader sees it.

    :param own_id: Id of the bot's user; its mentions are left out.
    :returns: And whether the bot was mentioned.
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
    """Leave white space at its ends out of a span: Slack would show the marks."""
    start, stop = span.start, span.stop
    if span.kind == PRE:
        return span
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return Span(span.kind, start, stop, span.value)


def _begin(span: Span) -> str:
    if span.kind == LINK:
        # What would end the reference is written as a URL writes it.
        address = span.value.replace("|", "%7C").replace("<", "%3C").replace(">", "%3E")
        return f"<{address.replace('&', '&amp;')}|"
    return _MARKS[span.kind][0]


def _end(span: Span) -> str:
    return ">" if span.kind == LINK else _MARKS[span.kind][1]
