"""Messages with files and albums: stored first, then confirmed to the platform, then fetched.

A platform waits only a few seconds for the response and does not redeliver a confirmed
message. The message is therefore stored first. If a worker dies while it fetches the files,
another worker continues. Later messages of the conversation wait, so that they are answered
in order. Other conversations do not wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial, reduce

import orjson
import peewee

from ..db import inbound
from ..db.inbound import PendingRow
from ..db.store import Store
from ..errors import ApiError, StorageError
from ..runtime.clock import now_us
from ..worker.lease import WorkerLease
from .adapter import InFile, InMessage

log = logging.getLogger(__name__)

#: Maximum number of conversations whose files this worker fetches at once.
_MAX_FETCHING = 20

#: Maximum number of waiting messages of a conversation.
_MAX_WAITING = 50
_TOO_MANY = "Too many messages of this conversation are waiting; try again later."

#: Wait for further parts of an album after its last one, in microseconds, and the maximum number
#: of waits. The platform sends each part as a message.
_ALBUM_WAIT_US = 1_000_000
_MAX_ALBUM_WAITS = 10

#: Time limit for retries after temporary errors, such as a disabled bot.
_RETRY_LIMIT_US = 3_600_000_000


class PendingMessages:
    """The messages whose files are being fetched, and those that wait for them.

    :param begin: Fetches the files of a bot's message and starts its turn. It raises
        ``ApiError`` or ``StorageError`` for temporary errors.
    """

    def __init__(
        self, store: Store, lease: WorkerLease, begin: Callable[[str, InMessage], None]
    ) -> None:
        self._store = store
        self._lease = lease
        self._begin = begin
        self._lock = threading.Lock()
        self._fetching: set[str] = set()

    def add(self, bot_id: str, umo: str, message: InMessage) -> None:
        """Store a message, once per platform message id, and start to fetch its files.

        If the files of many conversations are being fetched, it waits for one of them.

        :raises ApiError: ``too_many_turns`` if too many messages of its conversation wait.
        :raises StorageError: if it cannot be stored. The platform then redelivers it.
        """
        claimed = self._claim(umo)
        try:
            worker_id, text = self._lease.get_worker_id(), write_message(message)

            def job(db: peewee.Database) -> None:
                inbound.add_pending(
                    db, bot_id, message.event_id, umo=umo, worker_id=worker_id, message=text
                )
                if len(inbound.list_waiting(db, umo, _MAX_WAITING + 1)) > _MAX_WAITING:
                    raise ApiError("too_many_turns", _TOO_MANY)

            self._store.write(job)
        except BaseException:
            if claimed:
                self._leave(umo)
            raise
        # The thread that had the conversation may have ended before the message was stored.
        if claimed or self._claim(umo):
            self._start(umo)

    def check(self) -> None:
        """Resume messages after a failure or a worker's death. A periodic task."""
        if not self._lease.can_declare_dead():
            return
        worker_id = self._lease.get_worker_id()
        with self._store.read() as db:
            found = inbound.list_conversations(db, worker_id, 2 * _MAX_FETCHING)
        for umo, holder in found:
            if self._claim(umo):
                self._resume(umo, holder, worker_id)

    def _resume(self, umo: str, holder: str, worker_id: str) -> None:
        started = False
        try:
            started = holder == worker_id or self._store.write(
                lambda db: inbound.claim_conversation(db, umo, holder, worker_id)
            )
        finally:
            if not started:
                self._leave(umo)
        if started:
            self._start(umo)

    def _claim(self, umo: str) -> bool:
        with self._lock:
            if umo in self._fetching or len(self._fetching) >= _MAX_FETCHING:
                return False
            self._fetching.add(umo)
            return True

    def _leave(self, umo: str) -> bool:
        """Return whether other conversations may have waited for this one's place."""
        with self._lock:
            was_full = len(self._fetching) >= _MAX_FETCHING
            self._fetching.discard(umo)
            return was_full

    def _start(self, umo: str) -> None:
        try:
            threading.Thread(target=self._work, args=(umo,), name="inbound", daemon=True).start()
        except RuntimeError:  # no thread can be started; the periodic check tries again
            self._leave(umo)
            raise

    def _work(self, umo: str) -> None:
        """Process the messages of a conversation, until there are none or one must wait."""
        is_done = False
        try:
            while (rows := self._find_next(umo)) and self._process(rows):
                self._store.write(partial(inbound.drop_pending, rows=rows))
            is_done = not rows
        except StorageError as error:
            log.warning("the messages of %s will be processed later: %s", umo, error)
        finally:
            was_full = self._leave(umo)
        # Not after a failure: conversations that fail would begin again at once.
        if was_full and is_done:
            with suppress(StorageError):  # the periodic check tries again
                self.check()

    def _find_next(self, umo: str) -> list[PendingRow]:
        """Return the oldest message of a conversation, if it is this worker's.

        An album is returned when it is complete.
        """
        rows = self._list_next(umo)
        for _ in range(_MAX_ALBUM_WAITS):
            left_us = rows[-1].received_at + _ALBUM_WAIT_US - now_us() if rows else 0
            if left_us <= 0 or not read_message(rows[0].message).album:
                break
            time.sleep(min(left_us, _ALBUM_WAIT_US) / 1e6)
            rows = self._list_next(umo)
        return rows

    def _list_next(self, umo: str) -> list[PendingRow]:
        worker_id = self._lease.get_worker_id()
        with self._store.read() as db:
            first = inbound.list_waiting(db, umo, 1)
            if not first or first[0].worker_id != worker_id:
                return []
            album = read_message(first[0].message).album
            later = inbound.list_waiting(db, umo, _MAX_WAITING)[1:] if album else []
        return [*first, *(one for one in later if read_message(one.message).album == album)]

    def _process(self, rows: list[PendingRow]) -> bool:
        """Return whether a message is done: it has its turn, or will never have one."""
        row = rows[0]
        # The parts of an album may arrive in any order.
        parts = sorted((read_message(one.message) for one in rows), key=_order)
        try:
            self._begin(row.bot_id, reduce(_join, parts))
        except (ApiError, StorageError) as error:
            if now_us() - row.received_at <= _RETRY_LIMIT_US:
                log.warning("a message to the bot %s will be retried: %s", row.bot_id, error)
                return False
            log.error("a message to the bot %s is dropped after 1 h of failures", row.bot_id)
        except Exception:
            log.exception("a message to the bot %s is lost", row.bot_id)
        return True


def write_message(message: InMessage) -> str:
    """Return a message as JSON. Its files must have no ``data``."""
    return orjson.dumps(asdict(message)).decode()


def read_message(text: str) -> InMessage:
    """Parse the JSON of :func:`write_message`."""
    fields = orjson.loads(text)
    fields["files"] = tuple(InFile(**one) for one in fields["files"])
    return InMessage(**fields)


def _order(message: InMessage) -> tuple[int, str]:
    """Return the key that sorts the messages of a conversation by their ids, which count up."""
    return len(message.event_id), message.event_id


def _join(first: InMessage, more: InMessage) -> InMessage:
    """Join two parts of an album. Any may have the caption, and each names a forward's author."""
    short, long = sorted((first.text, more.text), key=len)
    text = long if long.startswith(short) else f"{first.text}\n{more.text}"
    return replace(
        first,
        text=text,
        files=first.files + more.files,
        addressed=first.addressed or more.addressed,
        quoted=first.quoted or more.quoted,
    )
