"""``search_history``: what was said earlier in this session."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

import peewee

from ...agent.schema import tool
from ...agent.tools import Tool, ToolContext
from ...db.search import SearchedMessage, SearchedPage, search_page
from ...db.sessions import find_session
from ...runtime.clock import to_iso
from ..context import Host
from ..hookspecs import hookimpl

#: What one search looks at: the newest messages, and characters of them in all.
MAX_MESSAGES = 5000
MAX_CHARS = 2_000_000

#: Longest words to search for.
MAX_WORDS_CHARS = 200

#: Messages that are read at once.
_PAGE = 20

#: Most messages that are shown, and how much of each.
MAX_FOUND = 10
_EXCERPT_CHARS = 400


class History:
    """Looks into the session that asks, and into no other."""

    name = "history"

    @hookimpl
    def startup(self, host: Host) -> None:
        """Remember where the messages are."""
        self._store = host.store

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return ``search_history``."""
        return [tool(retry="safe")(self.search_history)]

    def search_history(self, context: ToolContext, words: str) -> str:
        """Search the earlier messages of this conversation, newest first.

        :param words: Text that the message has, as it was written.
        """
        words = words.strip()
        if not words:
            return "error: say what to search for"
        if len(words) > MAX_WORDS_CHARS:
            return f"error: the words have more than {MAX_WORDS_CHARS} characters"
        found = [
            f"{to_iso(one.created_at)} {one.sender_name}: {_cut(one.text, words)}"
            for one in islice(self._iter_found(context, words), MAX_FOUND)
        ]
        return "\n".join(found) or "Nothing was found."

    def _iter_found(self, context: ToolContext, words: str) -> Iterator[SearchedMessage]:
        """Yield the messages that have the words, newest first, until enough was looked at.

        A few are read at a time, aside: no query and no text holds a worker, and a turn that
        is stopped stops the search.
        """
        left_chars, left_messages = MAX_CHARS, MAX_MESSAGES
        before: int | None = None
        while left_chars > 0 and left_messages > 0:
            context.cancel.raise_if_cancelled()
            page = self._store.read_aside(
                partial(_search, context.session_id, words, before=before, limit=_PAGE)
            )
            if page is None:
                return
            yield from page.found
            if page.last is None:
                return
            before = page.last
            left_messages -= page.messages
            left_chars -= page.chars


def _search(
    session_id: str, words: str, db: peewee.Database, *, before: int | None, limit: int
) -> SearchedPage | None:
    session = find_session(db, session_id)
    return search_page(db, session, words, before=before, limit=limit) if session else None


def _cut(text: str, words: str) -> str:
    """Return the piece of a text that has the words in its middle."""
    at = max(0, text.casefold().find(words.casefold()))
    start = max(0, min(at - _EXCERPT_CHARS // 2, len(text) - _EXCERPT_CHARS))
    piece = text[start : start + _EXCERPT_CHARS]
    before, after = "…" if start else "", "…" if start + len(piece) < len(text) else ""
    return f"{before}{piece}{after}"
