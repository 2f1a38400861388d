"""Quotas of stored data and of its growth: for one key, the whole server, and the disk.

They are checked when something new starts: a turn, a pushed message, a session, an edit, a
note, an upload. Data that completes something earlier, such as the reply of a turn, is
always stored.
"""

from __future__ import annotations

import logging
import math
import shutil
import time

import peewee

from ..config.settings import Settings
from ..db.counting import check_at_end, count_pending, find_account
from ..db.store import Store
from ..db.stored import Account, Growth, Stored, sum_growth, sum_stored
from ..errors import ApiError
from ..runtime.metrics import Metrics
from .rules import NO_RULES, KeyRules, load_rules

log = logging.getLogger(__name__)

#: Seconds between two reads of the totals of the whole server. A chore reads them, because for
#: 100,000 keys that takes 0.1 s.
REFRESH_S = 5.0

#: Age in seconds from which a check reads them itself.
_STALE_S = 20.0

#: Remedies in the error messages: for rows and for files.
_DELETE_SESSIONS = "delete sessions or notes that are not needed"
_DELETE_FILES = "delete some of them"


class Quotas:
    """Checks the quotas of one application.

    The totals of the whole server are cached for some seconds, so these seconds may exceed
    its quota. The totals of a key are exact.
    """

    def __init__(self, settings: Settings, store: Store, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._all = Stored()
        self._growth = Growth()
        self._free_bytes: int | None = None
        self._was_low = False
        self._refreshed_at = float("-inf")

    def check_at_end(self, db: peewee.Database, payer: str | None) -> None:
        """Check the quotas at the end of a transaction, including the data it stores.

        If a quota is exceeded, ``write`` raises ``quota_exceeded`` and nothing is stored.

        :param payer: The key whose quota counts, or None.
        """
        check_at_end(db, lambda db: self.check(db, payer))

    def check(self, db: peewee.Database, payer: str | None) -> None:
        """Check that the stored data is within the quotas.

        :raises ApiError: ``quota_exceeded``, or ``rate_limited`` if the data grows too fast.
        """
        self._refresh(db)
        settings = self._settings
        limit, name = settings.max_stored_bytes, "ASTRBOT_MAX_STORED_BYTES"
        _check_stored(self._all, limit, name, of="all keys")
        self._check_free(self._free_bytes)
        own = count_pending(db, payer) if payer else 0
        _check_growth(self._growth, settings.max_growth_bytes, "ASTRBOT_MAX_GROWTH_BYTES", own)
        if not payer:
            return
        account = find_account(db, payer)
        stored, rules = account.stored, _load_rules(account)
        limit, name = self._limit_of(rules, "stored_bytes", settings.max_stored_bytes_per_key)
        _check_stored(stored, limit, name)
        limit, name = self._limit_of(rules, "sessions", settings.max_sessions_per_key)
        if limit and stored.sessions > limit:
            raise ApiError(
                "quota_exceeded",
                f"the API key has {limit} sessions ({name}); delete some of them",
            )
        limit, name = self._limit_of(rules, "growth_bytes", settings.max_growth_bytes_per_key)
        if limit:
            _check_growth(account.growth, limit, name, own, of="the API key")

    def check_file(self, db: peewee.Database, payer: str | None, size_bytes: int) -> None:
        """Check the file quotas in the transaction that adds a file of ``size_bytes``.

        :raises ApiError: ``quota_exceeded``.
        """
        self.check(db, payer)
        left, refusal = self._find_room(db, payer)
        if left is not None and size_bytes > left:
            raise refusal

    def find_room(self, payer: str | None) -> tuple[int | None, ApiError]:
        """Return how many bytes of files a key may still upload (None: any), and the error beyond.

        :raises ApiError: ``quota_exceeded`` if a quota is exceeded already.
        """
        with self._store.read() as db:
            self.check(db, payer)
            return self._find_room(db, payer)

    def refresh(self) -> None:
        """Update the cached totals of the whole server. A chore."""
        self._note(*self._store.read_aside(_read_totals))

    def _find_room(self, db: peewee.Database, payer: str | None) -> tuple[int | None, ApiError]:
        settings, rooms = self._settings, []
        if settings.max_all_file_bytes:
            room = settings.max_all_file_bytes - self._all.files_bytes
            name = "ASTRBOT_MAX_ALL_FILE_BYTES"
            rooms.append((room, settings.max_all_file_bytes, name, "all keys"))
        if payer:
            account = find_account(db, payer)
            rules, default = _load_rules(account), settings.max_bytes_per_key
            limit = rules.upload_bytes or default
            name = "its rule upload_bytes" if rules.upload_bytes else "ASTRBOT_MAX_BYTES_PER_KEY"
            if limit:
                rooms.append((limit - account.files_bytes, limit, name, "the API key"))
        if not rooms:
            return None, _exceeded(0, "files", "", _DELETE_FILES)
        room, limit, name, of = min(rooms)
        return max(0, room), _exceeded(limit, "files", name, _DELETE_FILES, of)

    def _limit_of(self, rules: KeyRules, rule: str, default: int) -> tuple[int, str]:
        own: int | None = getattr(rules, rule)
        if own is not None:
            return own, f"its rule {rule}"
        return default, f"ASTRBOT_MAX_{rule.upper()}_PER_KEY"

    def check_disk(self) -> None:
        """Check the free space of the disk now, while a file is received. Any thread may call it.

        :raises ApiError: ``quota_exceeded``.
        """
        self._check_free(self._read_free_bytes())

    def _check_free(self, free_bytes: int | None) -> None:
        if self._is_low(free_bytes):
            raise ApiError(
                "quota_exceeded",
                f"the server's disk has less than {self._settings.min_free_bytes} bytes of free "
                "space (ASTRBOT_MIN_FREE_BYTES); its owner must make room",
            )

    def _is_low(self, free_bytes: int | None) -> bool:
        return free_bytes is not None and free_bytes < self._settings.min_free_bytes

    def _refresh(self, db: peewee.Database) -> None:
        if time.monotonic() - self._refreshed_at > _STALE_S:
            self._note(*_read_totals(db))

    def _note(self, stored: Stored, growth: Growth) -> None:
        self._refreshed_at = time.monotonic()
        self._all, self._growth = stored, growth
        self._free_bytes = self._read_free_bytes()
        was_low, self._was_low = self._was_low, self._is_low(self._free_bytes)
        if self._was_low and not was_low:
            log.error(
                "the disk of %s has less free space than ASTRBOT_MIN_FREE_BYTES: new data is "
                "rejected until there is room",
                self._settings.data_dir,
            )
        if self._metrics is not None:
            self._metrics.note_stored(stored, growth.size_bytes, self._free_bytes)

    def _read_free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._settings.data_dir).free
        except OSError:
            return None  # an unreadable disk must not stop the server


def _read_totals(db: peewee.Database) -> tuple[Stored, Growth]:
    return sum_stored(db), sum_growth(db)


def _load_rules(account: Account) -> KeyRules:
    return load_rules(account.rules) if account.rules else NO_RULES


def _check_stored(stored: Stored, limit: int, name: str, of: str = "the API key") -> None:
    if limit and stored.total_bytes > limit:
        raise _exceeded(limit, "messages and sessions", name, _DELETE_SESSIONS, of)


def _check_growth(growth: Growth, limit: int, name: str, own: int, of: str = "all keys") -> None:
    """Check the growth before this transaction. The transaction itself may exceed the limit.

    A message larger than a minute's growth is thus stored, and the next one must wait.

    :param own: The bytes that this transaction has added.
    """
    if limit and growth.size_bytes - own >= limit:
        wait_s = max(1, math.ceil(growth.find_wait(limit)))
        raise ApiError(
            "rate_limited",
            f"the messages and sessions of {of} have grown by {limit} bytes within a minute "
            f"({name}); wait {wait_s} s",
            retry_after_s=wait_s,
        )


def _exceeded(limit: int, what: str, name: str, remedy: str, of: str = "the API key") -> ApiError:
    return ApiError(
        "quota_exceeded",
        f"the {what} of {of} would take more than {limit} bytes ({name}); {remedy}",
    )
