"""Inboxes: streams of all new messages in a user's sessions, from any worker."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from ...config.settings import Settings
from ...db import inbox as rows
from ...db.store import Store
from ...errors import AstrBotError, StoreClosed
from ...events import encode_event, inbox_message, inbox_opened
from ...runlog.signals.signals import PUSHED, Signals
from ...runtime.lru_cache import LruCache
from ...runtime.threads import let_others_run
from ..pushes import Board
from .seats import Holder, Seat, Seats
from .watch import Numbered

log = logging.getLogger(__name__)

#: Seconds between two polls for new messages. Pushed messages are signalled at once.
_LOOK_S = 0.25

#: Maximum number of messages in one poll, which blocks the worker meanwhile.
_AT_ONCE = 1000

#: Messages by which a poll overlaps the last one, since transactions of other workers may commit
#: out of order on PostgreSQL.
_MARGIN = 100

#: Maximum number of unsent messages of one inbox. Beyond it the client must resume.
_MAX_WAITING = 1000

#: Maximum number of messages, of all users, that a resuming client may have missed.
MAX_MISSED = 20_000

_READ_AT_ONCE = 20

#: Maximum number of overlong messages to remember per worker. SQLite needs milliseconds to skip
#: each of them, for each inbox.
_MAX_LONG = 1000


class InboxFeed:
    """Polls for new messages, once for all inboxes of this worker.

    :param is_draining: Returns whether this worker is about to stop.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        signals: Signals,
        board: Board,
        is_draining: Callable[[], bool],
    ) -> None:
        self.seats = Seats(settings, "inboxes")
        self.is_draining = is_draining
        self._store = store
        self._signals = signals
        self._lock = threading.Lock()
        self._open: dict[str, set[Inbox]] = defaultdict(set)
        self._seen = 0
        self._shown: set[int] = set()
        #: Sizes of messages that are too long for one event, so that each is measured once.
        self._long = LruCache[int, int](_MAX_LONG)
        self._running = False
        self._wake = threading.Event()
        signals.subscribe(PUSHED, lambda payload: self.wake())
        board.listen(self.wake)

    def open(
        self,
        username: str,
        holder: Holder,
        *,
        after: int | None,
        abort: Callable[[], None] | None = None,
    ) -> Inbox:
        """Open an inbox for a user's messages.

        :param after: Number of the last known message, or None for future messages only.
        :param abort: Closes the connection.
        :raises ApiError: ``too_many_streams`` or ``server_busy``.
        """
        self._signals.start()
        inbox = Inbox(self, self._store, username, self.seats.take(holder, abort))
        try:
            inbox.begin(self._enter(inbox), after)
        except BaseException:
            inbox.close()
            raise
        return inbox

    def wake(self) -> None:
        """Poll at once, after a message was pushed."""
        self._wake.set()

    def forget(self, inbox: Inbox) -> None:
        """Stop delivering to an inbox."""
        with self._lock:
            self._open[inbox.username].discard(inbox)
            if not self._open[inbox.username]:
                del self._open[inbox.username]

    def look(self) -> None:
        """Deliver new messages to the inboxes of their users."""
        with self._store.read() as db:
            until = min(rows.find_newest(db), self._seen + _AT_ONCE)
            found = rows.list_new(db, max(0, self._seen - _MARGIN), until)
        with self._lock:
            for message in found:
                if message.number in self._shown:
                    continue
                self._shown.add(message.number)
                for inbox in self._open.get(message.creator, ()):
                    inbox.add(message.number)
            self._seen = until
            self._shown = {number for number in self._shown if number > until - _MARGIN}

    def read(self, numbers: list[int], username: str) -> list[tuple[str, dict[str, Any]]]:
        """Return messages of a username, each with its session.

        :raises StorageError: if the messages cannot be read.
        """
        known = {one: size for one in numbers if (size := self._long.get(one))}
        with self._store.read() as db:
            found = rows.read_messages(db, numbers, username, long=known)
        for one in found:
            if one.message["content"] is None:
                self._long.put(one.message["id"], one.size_bytes)
        return [(one.session_id, one.message) for one in found]

    def _enter(self, inbox: Inbox) -> int:
        """Register an inbox; return the number of the message after which it gets everything."""
        with self._lock:
            # Register first, so that no message falls between the missed and the new ones.
            self._open[inbox.username].add(inbox)
            if not self._running:
                with self._store.read() as db:
                    self._seen = rows.find_newest(db)
                    known = rows.list_new(db, max(0, self._seen - _MARGIN), self._seen)
                self._shown = {message.number for message in known}
                threading.Thread(target=self._run, name="inbox", daemon=True).start()
                self._running = True
            return self._seen

    def _run(self) -> None:
        while True:
            self._wake.wait(_LOOK_S)
            self._wake.clear()
            with self._lock:
                if not self._open:
                    self._running = False
                    return
            try:
                self.look()
            except StoreClosed:
                return
            except AstrBotError as error:
                log.warning("cannot poll for new messages: %s", error)
            except Exception:
                # All inboxes of this worker depend on this thread.
                log.exception("cannot poll for new messages")


class Inbox:
    """The stream of one client. Its thread calls :meth:`take` and sends the result."""

    #: An inbox has no last event.
    ended = False

    def __init__(self, feed: InboxFeed, store: Store, username: str, seat: Seat) -> None:
        self.username = username
        self.seat = seat
        self._feed = feed
        self._store = store
        self._waiting: deque[int] = deque()
        self._new = threading.Event()
        self._missed: list[int] = []
        self._known: set[int] = set()
        self._lead: list[Numbered] = []
        # Whether too many messages waited, so that the client must resume.
        self._overrun = False

    @property
    def leaving(self) -> bool:
        """Whether the client must resume, on another worker or from its last message."""
        overrun = self._overrun and not (self._waiting or self._missed)
        return not self._lead and (overrun or self._feed.is_draining())

    def begin(self, newest: int, after: int | None) -> None:
        """Find the messages that the client missed.

        :param newest: Number of the message after which the feed delivers.
        """
        cursor = newest if after is None else min(after, newest)
        reset = newest - cursor > MAX_MISSED
        at = cursor = newest if reset else cursor
        self._lead = [(cursor, encode_event(inbox_opened(cursor, reset)))]
        while at < newest:
            until = min(newest, at + _AT_ONCE)
            with self._store.read() as db:
                found = rows.list_new(db, at, until)
            self._missed += [one.number for one in found if one.creator == self.username]
            at = until
            let_others_run()
        self._known = {number for number in self._missed if number > newest - _MARGIN}
        self._new.set()

    def add(self, number: int) -> None:
        """Queue a message. Called by the feed."""
        if number in self._known:
            return
        # After a message that is left out, none may follow: the client resumes after its last one.
        self._overrun = self._overrun or len(self._waiting) >= _MAX_WAITING
        if not self._overrun:
            self._waiting.append(number)
        self._new.set()

    def take(self, timeout_s: float) -> list[Numbered]:
        """Return new messages as events, or an empty list if none came in time.

        :raises StorageError: if the messages cannot be read.
        """
        if self._lead:
            lead, self._lead = self._lead, []
            return lead
        self._new.wait(timeout_s)
        self._new.clear()
        while self._waiting and len(self._missed) < _READ_AT_ONCE:
            self._missed.append(self._waiting.popleft())
        numbers, self._missed = self._missed[:_READ_AT_ONCE], self._missed[_READ_AT_ONCE:]
        if self._missed or self._waiting:
            self._new.set()
        if not numbers:
            return []
        # The stream of a fast client would otherwise never wait.
        let_others_run()
        return [
            (message["id"], encode_event(inbox_message(session_id, message)))
            for session_id, message in self._feed.read(numbers, self.username)
        ]

    def close(self) -> None:
        """Release the inbox's resources."""
        self._feed.forget(self)
        self.seat.release()
