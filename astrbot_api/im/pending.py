"""Messages with files: stored first, then confirmed to the platform, then fetched.

A platform waits only a few seconds for the response and does not redeliver a confirmed
message. The message is therefore stored first. If a worker dies while it fetches the files,
another worker continues.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict

import orjson

from ..db import inbound
from ..db.inbound import PendingRow, to_key
from ..db.store import Store
from ..errors import ApiError, StorageError
from ..runtime.clock import now_us
from ..worker.lease import WorkerLease
from .adapter import InFile, InMessage

log = logging.getLogger(__name__)

#: Maximum number of messages whose files this worker fetches at once.
_MAX_FETCHING = 20

#: Time limit for retries after temporary errors, such as a disabled bot.
_RETRY_LIMIT_US = 3_600_000_000


class PendingMessages:
    """The messages whose files are being fetched.

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
        self._fetching: set[tuple[str, str]] = set()

    def add(self, bot_id: str, message: InMessage) -> None:
        """Store a message and start to fetch its files, once per platform message id.

        :raises ApiError: ``server_busy`` or a storage error. The message is then not stored.
        """
        key = (bot_id, to_key(message.event_id))
        mine = self._claim(key)
        try:
            worker_id, text = self._lease.get_worker_id(), write_message(message)
            stored = self._store.write(
                lambda db: inbound.add_pending(db, bot_id, message.event_id, worker_id, text)
            )
        except BaseException:
            if mine:
                self._leave(key)
            raise
        # Of two simultaneous deliveries, both wait for the write and only one starts fetching.
        if mine and stored:
            self._start(key, message)
        elif mine:
            self._leave(key)

    def check(self) -> None:
        """Resume messages after a failure or a worker's death. A periodic task."""
        if not self._lease.can_declare_dead():
            return
        worker_id = self._lease.get_worker_id()
        with self._store.read() as db:
            rows = inbound.list_pending(db, worker_id, 2 * _MAX_FETCHING)
        for row in rows:
            key = (row.bot_id, row.event_key)
            if key in self._fetching:
                continue
            if now_us() - row.received_at > _RETRY_LIMIT_US:
                log.error("a message to the bot %s is dropped after 1 h of failures", row.bot_id)
                self._drop(key)
            elif len(self._fetching) < _MAX_FETCHING:
                self._resume(key, row, worker_id)

    def _resume(self, key: tuple[str, str], row: PendingRow, worker_id: str) -> None:
        if not self._claim(key):
            return
        claimed = False
        try:
            claimed = self._store.write(lambda db: inbound.claim_pending(db, row, worker_id))
        finally:
            if not claimed:
                self._leave(key)
        if claimed:
            self._start(key, read_message(row.message))

    def _claim(self, key: tuple[str, str]) -> bool:
        with self._lock:
            if key in self._fetching:
                return False
            if len(self._fetching) >= _MAX_FETCHING:
                raise ApiError("server_busy", "Too many files are being fetched; try again later.")
            self._fetching.add(key)
            return True

    def _leave(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._fetching.discard(key)

    def _start(self, key: tuple[str, str], message: InMessage) -> None:
        threading.Thread(
            target=self._work, args=(key, message), name="inbound", daemon=True
        ).start()

    def _work(self, key: tuple[str, str], message: InMessage) -> None:
        try:
            try:
                self._begin(key[0], message)
            except (ApiError, StorageError) as error:
                log.warning("a message to the bot %s will be retried: %s", key[0], error)
                return
            except Exception:
                log.exception("a message to the bot %s is lost", key[0])
            self._drop(key)
        except StorageError as error:
            log.warning("a message to the bot %s will be processed again: %s", key[0], error)
        finally:
            self._leave(key)

    def _drop(self, key: tuple[str, str]) -> None:
        self._store.write(lambda db: inbound.drop_pending(db, *key))


def write_message(message: InMessage) -> str:
    """Return a message as JSON. Its files must have no ``data``."""
    return orjson.dumps(asdict(message)).decode()


def read_message(text: str) -> InMessage:
    """Parse the JSON of :func:`write_message`."""
    fields = orjson.loads(text)
    fields["files"] = tuple(InFile(**one) for one in fields["files"])
    return InMessage(**fields)
