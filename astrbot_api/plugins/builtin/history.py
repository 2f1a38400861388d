"""``search_history``: what was said earlier in this session."""

from __future__ import annotations

from collections.abc import Iterator

from ...agent.schema import tool
from ...agent.tools import Tool, ToolContext
from ...db.search import SearchedMessage, list_searchable
from ...db.sessions import find_session
from ...runtime.clock import to_iso
from ...runtime.threads import let_others_run
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
        found = []
        for message in self._iter_messages(context):
            text = " ".join(message.text.split())
            if words.casefold() in text.casefold():
                found.append(f"{to_iso(message.created_at)} {message.sender_name}: ")
                found[-1] += _cut(text, words)
                if len(found) == MAX_FOUND:
                    break
        return "\n".join(found) or "Nothing was found."

    def _iter_messages(self, context: ToolContext) -> Iterator[SearchedMessage]:
        """Yield a session's messages, newest first, until enough was looked at.

        A few are read at a time, and others run between: no query and no text holds a worker.
        """
        left_chars, left_messages = MAX_CHARS, MAX_MESSAGES
        before: int | None = None
        while left_chars > 0 and left_messages > 0:
            context.cancel.raise_if_cancelled()
            with self._store.read() as db:
                session = find_session(db, context.session_id)
                page = list_searchable(db, session, before=before, limit=_PAGE) if session else []
            yield from page
            if len(page) < _PAGE:
                return
            before = page[-1].id
            left_messages -= len(page)
            left_chars -= sum(one.scanned_chars for one in page)
            let_others_run()


def _cut(text: str, words: str) -> str:
    """Return the piece of a text that has the words in its middle."""
    at = max(0, text.casefold().find(words.casefold()))
    start = max(0, min(at - _EXCERPT_CHARS // 2, len(text) - _EXCERPT_CHARS))
    piece = text[start : start + _EXCERPT_CHARS]
    before, after = "…" if start else "", "…" if start + len(piece) < len(text) else ""
    return f"{before}{piece}{after}"
