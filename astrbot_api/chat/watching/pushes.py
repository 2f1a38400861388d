"""Messages pushed into a session, and the open streams that show them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

from ... import events
from ...db import messages
from ...db.messages import MessageRow
from ...db.store import Store
from ...errors import StorageError
from ...events import Event
from ...runlog.signals.signals import PUSHED, Signals
from ...runtime.clock import to_iso

#: Pushed messages that one look takes, most of them; the next takes more.
_AT_ONCE = 100

#: How far behind the newest push a look begins, in messages: transactions of
#: other workers may commit a little out of order.
_MARGIN = 100


class Board:
    """Sessions watched on this worker, with the streams to notify.

    It keeps no messages: a stream that is woken reads what is new for itself,
    so a slow one holds nobody up and nothing piles up.
    """

    def __init__(self, store: Store, signals: Signals) -> None:
        self._store = store
        self._signals = signals
        self._lock = threading.Lock()
        self._open: dict[int, set[Pushes]] = defaultdict(set)
        self._seen = -1
        self._listeners: list[Callable[[], None]] = []
        signals.subscribe(PUSHED, self._hear)

    def announce(self, session: int) -> None:
        """Say that a message was pushed into a session; after it is committed."""
        self._wake(session)
        self._signals.publish(PUSHED, str(session))
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Have something called for each push of this worker; the others' are signalled."""
        self._listeners.append(listener)

    def open(self, session: int, waiter: threading.Event, after: int | None = None) -> Pushes:
        """Begin to show a session's pushed messages.

        :param after: The last message that is known already; None: the
            newest there is.
        """
        self._signals.start()
        if after is None:
            with self._store.read() as db:
                after = messages.find_last_pushed(db, session)
        pushes = Pushes(self, self._store, session, waiter, after)
        with self._lock:
            self._open[session].add(pushes)
        return pushes

    def look(self) -> None:
        """Wake the streams whose signal was lost. A chore, four times a second."""
        if not self._open:
            return
        with self._store.read() as db:
            if self._seen < 0:
                self._seen = messages.find_newest_pushed(db)
            found = messages.list_pushed_sessions(db, max(0, self._seen - _MARGIN))
        for number, session in found:
            if number > self._seen:
                self._seen = number
            self._wake(session)

    def forget(self, session: int, pushes: Pushes) -> None:
        """Forget a stream."""
        with self._lock:
            self._open[session].discard(pushes)
            if not self._open[session]:
                del self._open[session]

    def _hear(self, payload: str) -> None:
        for word in payload.split():
            if word.isdecimal():
                self._wake(int(word))

    def _wake(self, session: int) -> None:
        with self._lock:
            for pushes in self._open.get(session, ()):
                pushes.wake()


class Pushes:
    """The place of one stream in the pushed messages of its session."""

    def __init__(
        self, board: Board, store: Store, session: int, waiter: threading.Event, after: int
    ) -> None:
        self._board = board
        self._store = store
        self._session = session
        self._waiter = waiter
        self._after = after
        self._pending = False

    def wake(self) -> None:
        """Note that there may be something new."""
        self._pending = True
        self._waiter.set()

    def read(self) -> list[MessageRow]:
        """Return what is new, a bounded number; the waiter is set where there is more.

        It asks the database only after a wake-up, since it is called for each
        token of a reply. While the database is away the reply goes on, and
        what was pushed is shown later.
        """
        if not self._pending:
            return []
        self._pending = False
        try:
            with self._store.read() as db:
                found, more = messages.list_pushed(db, self._session, self._after, _AT_ONCE)
        except StorageError:  # which has been logged
            self._pending = True
            return []
        if found:
            self._after = found[-1].id
        if more:
            self.wake()
        return found

    def close(self) -> None:
        """Show no more."""
        self._board.forget(self._session, self)


def list_push_events(message: MessageRow) -> list[Event]:
    """Return the events that show a pushed message: one of its own, not a piece of a reply.

    There is no ``complete``: clients take that for the end of the reply that
    runs.
    """
    own = f"push-{message.id}"
    shown: list[Event] = []
    for part in message.content["message"]:
        if part["type"] == "plain":
            shown += events.plain_pieces(own, part["text"], streaming=False)
        elif "attachment_id" in part:
            kind = part["type"]
            shown.append(events.media(own, kind, part.get("filename", ""), streaming=False))
            shown.append(events.attachment_saved(part["attachment_id"], kind))
    saved = events.message_saved(
        message.id, to_iso(message.created_at), message.llm_checkpoint_id or None
    )
    return [*shown, {**saved, "message_id": own}]
