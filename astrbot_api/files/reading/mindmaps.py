"""Text extraction from XMind's mind maps, for jobs.

Source: files of XMind 2020 and later. A topic has a ``title``, ``notes`` and ``labels``, and its
``children`` are lists of topics by kind, such as ``attached`` and ``callout``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from .package import Package

#: The part with the sheets.
XMIND_PART = "content.json"

#: Topics below this level are not indented further, since the text could otherwise fill the memory.
_MAX_INDENT = 20


def read_xmind(package: Package) -> str:
    """Return the topics of all sheets as nested lists."""
    sheets = [one for one in orjson.loads(package.read(XMIND_PART)) if isinstance(one, dict)]
    found = ("\n".join(_iter_topics(one.get("rootTopic"))) for one in sheets)
    titles = (_to_line(one.get("title")) for one in sheets)
    return "\n\n".join(
        f"# {title}\n\n{topics}" for title, topics in zip(titles, found, strict=True)
    )


def _iter_topics(root: Any) -> Iterator[str]:
    """Yield a topic and all topics below it."""
    waiting = [(root, 0)]
    while waiting:
        topic, depth = waiting.pop()
        if not isinstance(topic, dict):
            continue
        notes, labels, children = (topic.get(key) for key in ("notes", "labels", "children"))
        plain = notes.get("plain") if isinstance(notes, dict) else None
        comment = plain.get("content") if isinstance(plain, dict) else None
        words = [topic.get("title"), *(labels if isinstance(labels, list) else ()), comment]
        yield "  " * min(depth, _MAX_INDENT) + "- " + "; ".join(filter(None, map(_to_line, words)))
        if isinstance(children, dict):
            lists = [one for one in children.values() if isinstance(one, list)]
            below = [(one, depth + 1) for topics in lists for one in topics]
            waiting += reversed(below)


def _to_line(text: Any) -> str:
    return " ".join(text.split()) if isinstance(text, str) else ""
