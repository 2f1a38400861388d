"""``search_history``: search the earlier messages of this session."""

from __future__ import annotations

from bisect import bisect_right
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

#: Number of messages, newest first, and total characters that one search reads.
MAX_MESSAGES = 5000
MAX_CHARS = 2_000_000
_MAX_WORDS_CHARS = 200

_PAGE = 20

#: Maximum number of results, and their length.
_MAX_FOUND = 10
_EXCERPT_CHARS = 400


class History:
    """Searches only the session of the current turn."""

    name = "history"

    @hookimpl
    def startup(self, host: Host) -> None:
        """Keep the database."""
        self._store = host.store

    @hookimpl
    def register_tools(self) -> list[Tool]:
        return [tool(retry="safe")(self.search_history)]

    def search_history(self, context: ToolContext, words: str) -> str:
        """Search the earlier messages of this conversation, newest first.

        :param words: Text that the message contains, exactly as written.
        """
        words = words.strip()
        if len(words) > _MAX_WORDS_CHARS:
            return f"error: words must have at most {_MAX_WORDS_CHARS} characters"
        found = [
            f"{to_iso(one.created_at)} {one.sender_name}: {_cut(one.text, words)}"
            for one in islice(self._iter_found(context, words), _MAX_FOUND)
        ]
        return "\n".join(found) or "Nothing was found."

    def _iter_found(self, context: ToolContext, words: str) -> Iterator[SearchedMessage]:
        """Yield matching messages, newest first, up to the limits of a search.

        Pages are small and read aside, so that no query or text blocks a worker. Stopping the turn
        stops the search.
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
    """Return the part of a text around the words."""
    folded = text.casefold().find(words.casefold())
    # Folding changes lengths: "ß" becomes "ss".
    at = bisect_right(range(len(text)), folded, key=lambda end: len(text[:end].casefold())) - 1
    start = max(0, min(at - _EXCERPT_CHARS // 2, len(text) - _EXCERPT_CHARS))
    piece = text[start : start + _EXCERPT_CHARS]
    before, after = "…" if start else "", "…" if start + len(piece) < len(text) else ""
    return f"{before}{piece}{after}"
