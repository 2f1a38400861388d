"""``search_history``: what was said earlier in this session."""

from __future__ import annotations

from ...agent.schema import tool
from ...agent.tools import Tool, ToolContext
from ...db.messages import MessageRow
from ...db.search import search_messages
from ...db.sessions import find_session
from ...messages import plain_text
from ...runtime.clock import to_iso
from ..context import Host
from ..hookspecs import hookimpl

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
        return [tool(self.search_history)]

    def search_history(self, context: ToolContext, words: str) -> str:
        """Search the earlier messages of this conversation, newest first.

        :param words: Text that the message has, as it was written.
        """
        words = words.strip()
        if not words:
            return "error: say what to search for"
        with self._store.read() as db:
            session = find_session(db, context.session_id)
            rows = search_messages(db, session, words) if session else []
        found = [row for row in rows if words.casefold() in _text(row).casefold()][:MAX_FOUND]
        if not found:
            return "Nothing was found."
        return "\n".join(
            f"{to_iso(row.created_at)} {row.sender_name}: {_cut(_text(row), words)}"
            for row in found
        )


def _text(row: MessageRow) -> str:
    return " ".join(plain_text(row.content.get("message", [])).split())


def _cut(text: str, words: str) -> str:
    """Return the piece of a text that has the words in its middle."""
    at = max(0, text.casefold().find(words.casefold()))
    start = max(0, min(at - _EXCERPT_CHARS // 2, len(text) - _EXCERPT_CHARS))
    piece = text[start : start + _EXCERPT_CHARS]
    before, after = "…" if start else "", "…" if start + len(piece) < len(text) else ""
    return f"{before}{piece}{after}"
