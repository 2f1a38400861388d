"""Every message of all of a user's sessions, as it is stored, by whichever worker."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

from ...config.settings import Settings
from ...db import inbox as rows
from ...db.store import Store
from ...errors import ApiError, AstrBotError
from ...runlog.signals.signals import PUSHED, Signals
from .pushes import Board

log = logging.getLogger(__name__)

#: How long a message may go unnoticed, in seconds; a pushed one is signalled.
_LOOK_S = 0.25

#: Messages that one look takes, most of them: it holds the worker meanwhile.
_AT_ONCE = 1000

#: How far behind the newest message a look begins: on PostgreSQL the
#: transactions of other workers may commit a little out of order.
_MARGIN = 100

#: Messages that wait for one inbox, most of them. Beyond, its client is told to resume.
_MAX_WAITING = 1000

#: How many messages, of all users, a client that resumes may have missed.
MAX_MISSED = 20_000

#: Messages that are read at a time, and their length together.
_READ_AT_ONCE = 20


class InboxFeed:
    """Looks for new messages, once for all inboxes of this worker."""

    def __init__(self, settings: Settings, store: Store, signals: Signals, board: Board) -> None:
        self._settings = settings
        self._store = store
        self._signals = signals
        self._lock = threading.Lock()
        self._open: dict[str, set[Inbox]] = defaultdict(set)
        self._of_key: Counter[str] = Counter()
        self._seen = 0
        self._shown: set[int] = set()
        self._running = False
        self._wake = threading.Event()
        signals.subscribe(PUSHED, lambda payload: self.wake())
        board.listen(self.wake)

    @property
    def open_count(self) -> int:
        """How many inboxes are open."""
        return sum(self._of_key.values())

    def open(
        self,
        username: str,
        key_id: str,
        *,
        after: int | None,
        abort: Callable[[], None] | None = None,
    ) -> Inbox:
        """Begin to show a user's messages.

        :param after: The last one that is known; None: only those to come.
        :param abort: Breaks the connection off.
        :raises ApiError: ``too_many_streams`` or ``server_busy``.
        """
        self._signals.start()
        with self._lock:
            self._check_room(key_id)
            inbox = Inbox(self, self._store, username, key_id, abort)
            # Listed first, so that nothing falls between what was missed and what comes.
            self._open[username].add(inbox)
            self._of_key[key_id] += 1
            begin, self._running = not self._running, True
            if begin:
                with self._store.read() as db:
                    self._seen = rows.find_newest(db)
                    known = rows.list_new(db, max(0, self._seen - _MARGIN), self._seen)
                self._shown = {one.number for one in known}
            newest = self._seen
        if begin:
            threading.Thread(target=self._run, name="inbox", daemon=True).start()
        try:
            inbox.begin(newest, after)
        except BaseException:
            self.forget(inbox)
            raise
        return inbox

    def wake(self) -> None:
        """Look at once: a message was pushed."""
        self._wake.set()

    def forget(self, inbox: Inbox) -> None:
        """Show no more in an inbox."""
        with self._lock:
            if inbox not in self._open.get(inbox.username, ()):
                return
            self._open[inbox.username].discard(inbox)
            if not self._open[inbox.username]:
                del self._open[inbox.username]
            self._of_key[inbox.key_id] -= 1
            if not self._of_key[inbox.key_id]:
                del self._of_key[inbox.key_id]

    def look(self) -> None:
        """Take what is new to those whose it is."""
        with self._store.read() as db:
            newest = rows.find_newest(db)
            until = min(newest, self._seen + _AT_ONCE)
            found = rows.list_new(db, max(0, self._seen - _MARGIN), until)
        with self._lock:
            for one in found:
                if one.number in self._shown:
                    continue
                self._shown.add(one.number)
                for inbox in self._open.get(one.creator, ()):
                    inbox.add(one.number)
            self._seen = until
            self._shown = {number for number in self._shown if number > until - _MARGIN}
        if until < newest:
            self._wake.set()

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
            except AstrBotError as error:
                log.warning("new messages could not be looked for: %s", error)
            self._close_stuck()

    def _close_stuck(self) -> None:
        limit_s = self._settings.max_stream_lag_s
        now = time.monotonic()
        with self._lock:
            every = [inbox for inboxes in self._open.values() for inbox in inboxes]
        for inbox in every:
            if inbox.sending_since is not None and now - inbox.sending_since > limit_s:
                inbox.break_off()

    def _check_room(self, key_id: str) -> None:
        limit = self._settings.max_streams_per_key
        if limit and self._of_key[key_id] >= limit:
            raise ApiError(
                "too_many_streams",
                f"{limit} inboxes of this API key are open on this worker; close one first",
                headers={"Retry-After": "5"},
            )
        if self.open_count >= self._settings.max_streams_per_worker:
            raise ApiError(
                "server_busy", "too many inboxes are open on this worker; try again later",
                headers={"Retry-After": "5"},
            )  # fmt: skip


class Inbox:
    """What one client is shown. Its thread calls :meth:`take` and sends what it gets."""

    def __init__(
        self,
        feed: InboxFeed,
        store: Store,
        username: str,
        key_id: str,
        abort: Callable[[], None] | None,
    ) -> None:
        self._feed = feed
        self._store = store
        self._abort = abort
        self._waiting: deque[int] = deque()
        self._new = threading.Event()
        self._missed: list[int] = []
        self._known: set[int] = set()
        self.username = username
        self.key_id = key_id
        #: The message that the stream begins after.
        self.cursor = 0
        #: Whether the client had missed too much to be shown it.
        self.reset = False
        #: Whether more came than may wait: the client must resume.
        self.overrun = False
        #: When the piece that is being sent was handed over; None: none is.
        self.sending_since: float | None = None

    def begin(self, newest: int, after: int | None) -> None:
        """Find what was missed since a message.

        :param newest: From here on the feed shows what comes.
        """
        self.cursor = newest if after is None else min(after, newest)
        if newest - self.cursor > MAX_MISSED:
            self.cursor, self.reset = newest, True
        at = self.cursor
        while at < newest:
            until = min(newest, at + _AT_ONCE)
            with self._store.read() as db:
                found = rows.list_new(db, at, until)
            self._missed += [one.number for one in found if one.creator == self.username]
            at = until
            time.sleep(0)
        self._known = {number for number in self._missed if number > newest - _MARGIN}
        self._new.set()

    def add(self, number: int) -> None:
        """Have a message shown; for the feed."""
        if number in self._known:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self.overrun = True
        else:
            self._waiting.append(number)
        self._new.set()

    def take(self, timeout_s: float) -> list[tuple[str, dict[str, Any], int]]:
        """Return new messages: session, message, its length. None when none came in time.

        :raises StorageError: when they cannot be read.
        """
        if not self._new.wait(timeout_s):
            return []
        self._new.clear()
        while self._waiting and len(self._missed) < _READ_AT_ONCE:
            self._missed.append(self._waiting.popleft())
        numbers, self._missed = self._missed[:_READ_AT_ONCE], self._missed[_READ_AT_ONCE:]
        if self._missed or self._waiting:
            self._new.set()
        if not numbers:
            return []
        with self._store.read() as db:
            return rows.read_messages(db, numbers, self.username)

    def break_off(self) -> None:
        """Cut the connection: its client can come back and resume."""
        if self._abort is not None:
            self._abort()
            self._abort = None

    def close(self) -> None:
        """Give back what the inbox holds."""
        self._feed.forget(self)
