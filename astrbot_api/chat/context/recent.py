"""Read a session's messages for the model, and keep the recent ones in memory.

The next turn of a session usually runs in the same worker. It then reads only the messages that
were stored since. The session's ``edition`` changes when a stored message is edited or
deleted, by any worker, so what is kept never differs from the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

from ...db.messages import MessageRow, list_messages_before
from ...db.store import Store, read_patiently
from ...runtime.lru_cache import LruCache
from ...runtime.threads import let_others_run
from .budget import PastTurn

#: Messages to read at a time, newest first.
_PAGE = 50

#: Maximum estimated memory of the kept messages: of one session, and of all together, in bytes.
_MAX_SESSION_BYTES = 2 * 2**20
_MAX_BYTES = 16 * 2**20

#: Memory of a message as Python objects: at least, and for each character of its JSON (Source:
#: measured, between 1 and 9).
_ROW_BYTES = 1100
_CHAR_BYTES = 4

#: A message, or a turn that earlier readings have converted for the model.
Item: TypeAlias = MessageRow | PastTurn


class Span(NamedTuple):
    """What a turn reads of a session: its messages with ``id > after``.

    :param edition: The session's edition, read in this turn.
    :param named: Whether messages begin with their sender's name, as in a group.
    """

    edition: int
    after: int
    named: bool = False


@dataclass(slots=True)
class _Kept:
    """The newest messages of a session.

    :param items: Newest first. A settled turn stands at the place of its answer.
    :param newest: Number of the newest message; ``oldest`` that of the oldest.
    :param last_question: Highest number of a settled turn's question, or 0.
    :param more: Whether there are older messages.
    """

    span: Span
    items: list[Item]
    newest: int
    oldest: int
    last_question: int
    more: bool
    size_bytes: int


class RecentMessages:
    """Messages for the model, of one application in one worker.

    The items are shared between turns, so nobody may change them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions = LruCache[int, _Kept](_MAX_BYTES)

    def read(self, session: int, span: Span, own_message: int | None = None) -> Reading:
        """Begin to read messages.

        :param own_message: Number of the turn's user message. Turns whose question came later
            are not settled for it.
        """
        return Reading(self, session, span, self._take(session, span, own_message))

    def count_bytes(self) -> int:
        """Return the estimated memory of all kept messages."""
        return self._sessions.size

    def list_rows(self, session: int, *, before: int, after: int) -> tuple[list[MessageRow], bool]:
        """Read a page from the database: the messages, newest first, and whether there are more."""
        look = partial(
            list_messages_before, session=session, before=before, after=after, limit=_PAGE
        )
        return read_patiently(self._store, look)

    def keep(self, session: int, kept: _Kept) -> None:
        """Keep messages, unless they need too much memory."""
        if kept.items and kept.size_bytes <= _MAX_SESSION_BYTES:
            self._sessions.put(session, kept, kept.size_bytes)

    def _take(self, session: int, span: Span, own_message: int | None) -> _Kept | None:
        """Remove what is kept of a session, and return it if this turn can use it."""
        kept = self._sessions.pop(session)
        if kept is None:
            return None
        waited = own_message is not None and kept.last_question > own_message
        return None if kept.span != span or waited else kept


class Reading:
    """The messages of a session for one turn.

    ``pages`` yields the items, newest first, and whether there are more. Every page that is read
    costs the same, and other greenlets run between pages.
    """

    def __init__(
        self, recent: RecentMessages, session: int, span: Span, kept: _Kept | None
    ) -> None:
        self._recent = recent
        self._session = session
        self._read = _Kept(span, [], span.after, span.after, 0, True, 0)
        self.pages = self._iter_pages(kept)

    def keep(self, settled: Mapping[int, PastTurn | None], beyond: PastTurn | None = None) -> None:
        """Keep what was read for the session's next turn.

        :param settled: Turns that look the same to every model, by the number of their answer;
            None at the number of their question.
        :param beyond: The first turn beyond the budget. Older items are not kept either.
        """
        read, items, size_bytes = self._read, list[Item](), 0
        for item in read.items:
            if item is beyond:
                read.oldest, read.more = beyond.last + 1, True
                break
            made = item if isinstance(item, PastTurn) else settled.get(item.id, item)
            if isinstance(made, PastTurn):
                size_bytes += made.size_bytes
                if made.first > read.last_question:
                    read.last_question = made.first
            elif made is None:
                continue
            else:
                size_bytes += _ROW_BYTES + _CHAR_BYTES * made.size_chars
            items.append(made)
        read.items, read.size_bytes = items, size_bytes
        self._recent.keep(self._session, read)

    def _iter_pages(self, kept: _Kept | None) -> Iterator[tuple[list[Item], bool]]:
        read, before = self._read, 2**63 - 1
        after = kept.newest if kept else read.span.after
        while True:
            rows, more = self._recent.list_rows(self._session, before=before, after=after)
            page: list[Item] = [*rows]
            if rows:
                read.newest = read.newest if read.items else rows[0].id
                read.oldest = before = rows[-1].id
            if kept and not more:
                page += kept.items
                more, before = kept.more, kept.oldest
                read.newest, read.oldest = max(read.newest, kept.newest), kept.oldest
            read.items += page
            read.more = more
            yield page, more
            let_others_run()
            kept, after = None, read.span.after
