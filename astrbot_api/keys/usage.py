"""Usage of keys by this worker's requests, collected in memory and written every few seconds."""

from __future__ import annotations

from collections.abc import Collection

import peewee

from ..db import key_secrets, keys, owners
from ..db.audit import AuditEntry
from ..db.key_usage import add_requests
from ..db.store import Store
from ..errors import OutcomeUnknown, StorageError
from ..runtime.clock import now_us

#: Minimum interval between two writes of a key's ``last_used_at``, in microseconds.
_USE_INTERVAL_US = 60_000_000


class KeyUsage:
    """Requests, errors and times of use that are not yet written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: dict[str, list[int]] = {}
        self._used: dict[str, int] = {}
        self._addresses: dict[str, str] = {}

    def count_request(self, key_id: str, is_error: bool) -> None:
        """Count a request. Runs on every request: it is two additions."""
        counts = self._counts.get(key_id)
        if counts is None:
            counts = self._counts.setdefault(key_id, [0, 0])
        counts[0] += 1
        counts[1] += is_error

    def note_use(self, key: key_secrets.KeyRow, address: str | None = None) -> None:
        """Record the use of a key. It is written later, outside the request.

        :param address: The client's address, for the audit entry of a key's first use.
        """
        now = now_us()
        if key.last_used_at is None or now - key.last_used_at >= _USE_INTERVAL_US:
            self._used[key.key_id] = now
            self._addresses.setdefault(key.key_id, address or "")

    def list_valid(self, secrets: Collection[str]) -> set[str]:
        """Return the valid ones of some secrets and logins; see :func:`key_secrets.list_valid`."""
        with self._store.read() as db:
            return key_secrets.list_valid(db, secrets) | owners.list_valid(db, secrets)

    def flush(self) -> None:
        """Write the collected usage. A chore.

        :raises StorageError: when the write fails; the next call retries it.
        """
        counts, self._counts = self._counts, {}
        used, self._used = self._used, {}
        addresses, self._addresses = self._addresses, {}
        if not counts and not used:
            return

        def job(db: peewee.Database) -> list[AuditEntry]:
            add_requests(db, counts)
            entries = [
                AuditEntry("key_first_used", "key", addresses.get(key_id, ""), key_id, known_as)
                for key_id, known_as in keys.note_use(db, used).items()
            ]
            for entry in entries:
                entry.store(db)
            return entries

        try:
            entries = self._store.write(job)
        except OutcomeUnknown:
            raise  # rather count too little than twice
        except StorageError:
            for key_id, (requests, errors) in counts.items():
                own = self._counts.setdefault(key_id, [0, 0])
                own[0] += requests
                own[1] += errors
            self._used = used | self._used
            self._addresses |= addresses
            raise
        for entry in entries:
            entry.log()
