"""Messages pushed into a session outside any turn, and the open streams that show them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import peewee

from .. import events
from ..db import messages, sessions
from ..db.attachments import AttachmentRow, find_attachments
from ..db.locks import lock_name
from ..db.messages import MessageRow
from ..db.pushes import find_last_pushed, find_newest_pushed, list_pushed, list_pushed_sessions
from ..db.sessions import NOBODY, WEBCHAT
from ..db.store import Store
from ..deliveries.webhooks import Announcer
from ..errors import ApiError, StorageError
from ..events import Event
from ..keys.files import check_attachments
from ..keys.quotas import Quotas
from ..keys.rules import KeyGuard
from ..messages import Media, Segment, resolve_media
from ..runlog.signals.signals import PUSHED, Signals
from ..runtime.clock import to_iso

#: Maximum number of pushed messages that one read returns.
_AT_ONCE = 100

#: Messages by which a poll overlaps the last one, since transactions of other workers may commit
#: out of order.
_MARGIN = 100


class Board:
    """Sessions watched on this worker, with the streams to notify.

    It stores no messages. A notified stream reads new messages itself, so that a slow stream delays
    no other and needs no buffer.
    """

    def __init__(self, store: Store, signals: Signals) -> None:
        self._store = store
        self._signals = signals
        self._lock = threading.Lock()
        self._open: dict[int, set[Pushes]] = defaultdict(set)
        self._seen = -1
        self._listeners: list[Callable[[], None]] = []
        signals.subscribe(PUSHED, lambda payload: self._wake(int(payload)))

    def announce(self, session: int) -> None:
        """Notify all workers of a message pushed into a session, after its commit."""
        self._wake(session)
        self._signals.publish(PUSHED, str(session))
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Register a function to call for each push on any worker."""
        self._listeners.append(listener)

    def open(self, session: int, waiter: threading.Event, after: int | None = None) -> Pushes:
        """Begin to watch a session's pushed messages.

        :param after: Number of the last known message, or None for the newest.
        """
        self._signals.start()
        if after is None:
            with self._store.read() as db:
                after = find_last_pushed(db, session)
        pushes = Pushes(self, self._store, session, waiter, after)
        with self._lock:
            self._open[session].add(pushes)
        return pushes

    def look(self) -> None:
        """Wake the streams whose signal was lost. Runs four times a second."""
        if not self._open:
            self._seen = -1  # a worker may be without streams for days, and miss a million messages
            return
        with self._store.read() as db:
            if self._seen < 0:
                self._seen = find_newest_pushed(db)
            found = list_pushed_sessions(db, max(0, self._seen - _MARGIN))
        for number, session in found:
            if number > self._seen:
                self._seen = number
            self._wake(session)

    def forget(self, session: int, pushes: Pushes) -> None:
        """Stop notifying a stream."""
        with self._lock:
            self._open[session].discard(pushes)
            if not self._open[session]:
                del self._open[session]

    def _wake(self, session: int) -> None:
        with self._lock:
            for pushes in self._open.get(session, ()):
                pushes.wake()


class Pushes:
    """Position of one stream in the pushed messages of its session."""

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
        """Mark that there may be new messages."""
        self._pending = True
        self._waiter.set()

    def read(self) -> list[MessageRow]:
        """Return a bounded number of new messages; set the waiter if there are more.

        It queries the database only after :meth:`wake`, since it is called for each token of a
        reply. While the database is unavailable the reply continues, and pushed messages come
        later.
        """
        if not self._pending:
            return []
        self._pending = False
        try:
            with self._store.read() as db:
                found, more = list_pushed(db, self._session, self._after, _AT_ONCE)
        except StorageError:  # already logged
            self._pending = True
            return []
        if found:
            self._after = found[-1].id
        if more:
            self.wake()
        return found

    def close(self) -> None:
        """Stop watching."""
        self._board.forget(self._session, self)


def list_push_events(message: MessageRow) -> list[Event]:
    """Return the events of a pushed message, which is separate from any reply.

    There is no ``complete`` event, which clients take for the end of the running reply.
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


@dataclass(frozen=True, slots=True)
class PushedMessage:
    """A stored message: its id, its time in microseconds, and its session's number."""

    id: int
    created_at: int
    session: int


def resolve_stored(
    db: peewee.Database, segments: Sequence[Segment], guard: KeyGuard | None
) -> tuple[list[Segment], list[AttachmentRow]]:
    """Return segments with the types and names of their stored files, and the files' rows.

    :param guard: The sending key's guard, which limits the files it may use.
    :raises ApiError: ``attachment_not_found``.
    """
    rows = find_attachments(db, [one.attachment_id for one in segments if isinstance(one, Media)])
    if guard is not None:
        check_attachments(db, guard, list(rows.values()))
    found = {key: Media(key, row.type, row.name) for key, row in rows.items()}
    return resolve_media(segments, found), list(rows.values())


class Pusher:
    """Pushes messages into sessions of the web chat."""

    def __init__(self, board: Board, announcer: Announcer, quotas: Quotas) -> None:
        self.quotas = quotas
        self._announcer = announcer
        self._board = board

    def push(
        self,
        db: peewee.Database,
        *,
        username: str,
        session_id: str,
        segments: Sequence[Segment],
        guard: KeyGuard | None = None,
        payer: str | None = None,
    ) -> PushedMessage:
        """Store a message of the bot, and create the session if it does not exist.

        Call :meth:`announce` after the commit. The caller checks the quotas.

        :param username: Required owner of the session, or empty for any. A new session without a
            username belongs to its first user.
        :param guard: The sending key's guard, or None for no restrictions.
        :param payer: The key whose quota counts the message.
        :raises ApiError: ``session_of_another_user`` or ``attachment_not_found``. Nothing is
            stored then.
        """
        resolved, rows = resolve_stored(db, segments, guard)
        lock_name(db, "session", session_id)
        session = sessions.find_session(db, session_id)
        if session is None:
            session = sessions.create_session(db, session_id, username or NOBODY, key_id=payer)
        elif username and session.creator == NOBODY:
            session = sessions.claim_session(db, session, username)
        elif session.platform_id != WEBCHAT or username not in ("", session.creator):
            raise ApiError("session_of_another_user", "session_id belongs to another username")
        else:
            sessions.touch_session(db, session, session.config_id)
        content = {"type": "bot", "message": [one.to_wire() for one in resolved]}
        saved = messages.add_message(
            db, session.id, WEBCHAT, messages.BOT, content, None, pushed=True, payer=payer,
            attachments=[row.id for row in rows],
        )  # fmt: skip
        self._announcer.message_stored(
            db, session_id=session_id, platform_id=WEBCHAT, sender=messages.BOT,
            saved=saved, content=content, payer=payer,
        )  # fmt: skip
        return PushedMessage(*saved, session.id)

    def announce(self, pushed: PushedMessage) -> None:
        """Show a committed message in the open streams of its session."""
        self._board.announce(pushed.session)
