"""What is removed now and then, so that no table grows for ever."""

from __future__ import annotations

import peewee

from ..db import audit, keys, keyuse, ratecounts
from ..db.store import Store
from ..runtime.clock import now_us

#: Most transactions of one look that remove session keys.
_MAX_ROUNDS = 50


class Housekeeping:
    """A chore of each worker; what another worker has removed costs it nothing.

    :param keep_days: Age of the audit's entries, and of the use of keys.
    """

    def __init__(self, store: Store, keep_days: int) -> None:
        self._store = store
        self._keep_us = keep_days * keys.DAY_US

    def run(self) -> None:
        """Remove what is too old."""
        now = now_us()

        def job(db: peewee.Database) -> None:
            audit.forget_before(db, now - self._keep_us)
            keyuse.forget_before(db, now - self._keep_us)
            ratecounts.forget_counts(db, now / 1_000_000)

        self._store.write(job)
        for _ in range(_MAX_ROUNDS):
            if not self._store.write(keys.purge_session_keys):
                break
