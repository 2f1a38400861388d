"""The first use of a key that was imported with another server's hash.

That hash is slow on purpose (100,000 rounds: tens of milliseconds of a core),
so wrong keys must not trigger it without limit. It is computed only if the
first twelve characters match an imported key that is still unused here. Each
worker computes one hash at a time, within a budget. After the first valid use
the key has an ordinary hash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from ..db.key_secrets import KeyRow, find_valid_key, hash_secret
from ..db.legacy_keys import LegacyKey, find_legacy_keys, replace_hash
from ..db.store import Store
from ..errors import ApiError
from ..runtime.lru_cache import LruCache
from ..runtime.threads import run_hash

#: Length of a key's prefix that is stored in the clear.
PREFIX_CHARS = 12

#: Maximum length of a key; longer texts are not hashed.
_MAX_SECRET_CHARS = 256

#: Maximum number of requests of one worker that wait for their check.
_MAX_WAITING = 32

#: Maximum number of remembered wrong keys: a client that repeats one causes no new hash.
_MAX_REMEMBERED = 1024

#: Wrong keys in a burst, and per second, for one imported key and for a worker.
_KEY_BURST, _KEY_PER_S = 5.0, 0.5
_WORKER_BURST, _WORKER_PER_S = 20.0, 2.0


class _Budget:
    """A token bucket: a number that refills with time."""

    __slots__ = ("_burst", "_left", "_now", "_per_s", "_since")

    def __init__(self, burst: float, per_s: float, now: Callable[[], float]) -> None:
        self._burst, self._per_s, self._now = burst, per_s, now
        self._left, self._since = burst, now()

    def has_room(self) -> bool:
        now = self._now()
        self._left = min(self._burst, self._left + (now - self._since) * self._per_s)
        self._since = now
        return self._left >= 1

    def take(self) -> None:
        self._left -= 1


class LegacyKeys:
    """Checks keys against the hashes that they were imported with.

    :param now: A clock in seconds. Tests pass their own.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_MAX_WAITING)
        self._wrong = LruCache[tuple[str, str], bool](_MAX_REMEMBERED)
        self._worker_budget = _Budget(_WORKER_BURST, _WORKER_PER_S, now)
        self._budgets = LruCache[str, _Budget](_MAX_REMEMBERED)

    def find(self, secret: str) -> KeyRow | None:
        """Return the imported key of a secret, and replace its hash by our own.

        :returns: The key, or None if no valid key has this secret.
        :raises ApiError: ``server_busy`` when too many keys are being checked.
        """
        if len(secret) > _MAX_SECRET_CHARS or not secret.isascii() or not secret.isprintable():
            return None  # no key looks like this, and some databases reject such a text
        with self._store.read() as db:
            candidates = find_legacy_keys(db, secret[:PREFIX_CHARS])
            if not candidates:
                # Another request may have replaced the hash since the caller looked.
                return find_valid_key(db, secret)
        fingerprint = hash_secret(secret)
        left = [one for one in candidates if (fingerprint, one.key_id) not in self._wrong]
        if not left:
            return None
        if not self._places.acquire(blocking=False):
            raise _busy()
        try:
            with self._lock:
                return self._check(secret, fingerprint, left)
        finally:
            self._places.release()

    def _check(self, secret: str, fingerprint: str, left: list[LegacyKey]) -> KeyRow | None:
        with self._store.read() as db:
            known = find_valid_key(db, secret)
        if known is not None:
            return known  # another request was first
        for legacy in left:
            if (fingerprint, legacy.key_id) in self._wrong:
                continue  # a parallel request with the same secret has found this out
            budget = self._budget_of(legacy.key_id)
            if not (budget.has_room() and self._worker_budget.has_room()):
                raise _busy()
            if run_hash(legacy.matches, secret):
                self._store.write(partial(replace_hash, key_id=legacy.key_id, secret=secret))
                with self._store.read() as db:
                    return find_valid_key(db, secret)
            budget.take()
            self._worker_budget.take()
            self._wrong.put((fingerprint, legacy.key_id), True)
        return None

    def _budget_of(self, key_id: str) -> _Budget:
        budget = self._budgets.get(key_id)
        return budget or self._budgets.put(key_id, _Budget(_KEY_BURST, _KEY_PER_S, self._now))


def _busy() -> ApiError:
    return ApiError(
        "server_busy",
        "too many imported API keys are being checked; try again in two seconds",
        retry_after_s=2,
    )
