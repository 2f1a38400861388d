"""Read a session's messages for the model, and keep the recent ones in memory.

The next turn of a session usually runs in the same worker. It then reads only the messages that
were stored since. The session's ``edition`` changes when a stored message is edited or
deleted, by any worker, so what is kept never differs from the database.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from ...db.messages import MessageRow, list_messages_before
from ...db.store import Store, read_patiently
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


@dataclass(slots=True)
class _Kept:
    """The newest messages of a session, newest first.

    :param after: Number of a message; only later ones were read.
    :param more: Whether there are older messages after that one.
    :param settled: Finished turns, by the number of the answer, as :class:`Reading` has them.
    """

    edition: int
    after: int
    rows: list[MessageRow]
    more: bool
    size_bytes: int
    settled: dict[int, PastTurn | None]


@dataclass(slots=True)
class Reading:
    """The messages of a session for one turn.

    :param pages: The messages, newest first, and whether there are more. Every page that is read
        costs the same, and other greenlets run between pages.
    :param settled: Turns that earlier readings have converted for the model, by the number of
        their answer; None at the number of their question. The reader adds to it. For turns
        that look the same to every model.
    """

    pages: Iterator[tuple[list[MessageRow], bool]]
    settled: dict[int, PastTurn | None] = field(default_factory=dict)


class RecentMessages:
    """Messages for the model, of one application in one worker.

    The rows are shared between turns, so nobody may change them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._sessions: OrderedDict[int, _Kept] = OrderedDict()
        self._bytes = 0

    def read(self, session: int, edition: int, after: int) -> Reading:
        """Read the messages with ``id > after``.

        :param edition: The session's edition, read in this turn.
        """
        kept = self._take(session, edition, after)
        settled = {} if kept is None else kept.settled
        return Reading(self._iter_pages(session, edition, after, kept, settled), settled)

    def _iter_pages(
        self,
        session: int,
        edition: int,
        after: int,
        kept: _Kept | None,
        settled: dict[int, PastTurn | None],
    ) -> Iterator[tuple[list[MessageRow], bool]]:
        read: list[MessageRow] = []
        page, more = self._read(session, 2**63 - 1, kept.rows[0].id if kept else after)
        size_bytes = _count_bytes(page)
        if kept and not more:
            page, more, size_bytes = page + kept.rows, kept.more, size_bytes + kept.size_bytes
        while True:
            read = [*read, *page]
            self._keep(session, _Kept(edition, after, read, more, size_bytes, settled))
            yield page, more
            let_others_run()
            page, more = self._read(session, page[-1].id if page else 0, after)
            size_bytes += _count_bytes(page)

    def count_bytes(self) -> int:
        """Return the estimated memory of all kept messages."""
        with self._lock:
            return sum(kept.size_bytes for kept in self._sessions.values())

    def _read(self, session: int, before: int, after: int) -> tuple[list[MessageRow], bool]:
        look = partial(
            list_messages_before, session=session, before=before, after=after, limit=_PAGE
        )
        return read_patiently(self._store, look)

    def _take(self, session: int, edition: int, after: int) -> _Kept | None:
        """Remove what is kept of a session and return it if it is still right and not empty."""
        with self._lock:
            kept = self._sessions.pop(session, None)
            if kept is None:
                return None
            self._bytes -= kept.size_bytes
        if kept.edition != edition or kept.after > after:
            return None
        if kept.rows[-1].id <= after:  # the user has run /reset meanwhile
            rows = [row for row in kept.rows if row.id > after]
            kept = _Kept(edition, after, rows, False, _count_bytes(rows), {})
        return kept if kept.rows else None

    def _keep(self, session: int, kept: _Kept) -> None:
        if not kept.rows or kept.size_bytes > _MAX_SESSION_BYTES:
            return
        with self._lock:
            earlier = self._sessions.pop(session, None)
            self._bytes += kept.size_bytes - (earlier.size_bytes if earlier else 0)
            self._sessions[session] = kept
            while self._bytes > _MAX_BYTES:
                self._bytes -= self._sessions.popitem(last=False)[1].size_bytes


def _count_bytes(rows: list[MessageRow]) -> int:
    return sum(_ROW_BYTES + _CHAR_BYTES * row.size_chars for row in rows)
