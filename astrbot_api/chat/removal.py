"""Delete sessions, including those with running turns."""

from __future__ import annotations

from collections.abc import Callable

import peewee

from ..db import removal
from ..db.locks import lock_name
from ..db.sessions import SessionRow, get_owned_session
from ..db.store import Store

#: Messages to delete in one transaction, which then takes a few milliseconds.
_BATCH = 500

#: Transactions that a request waits for. A periodic job does the rest.
_MAX_BATCHES_AT_ONCE = 20

#: Sessions, and transactions in total, that one run of the periodic job handles.
_MAX_SESSIONS = 100
_MAX_BATCHES = 200


class SessionRemover:
    """Deletes the sessions of one application.

    :param stop_runs: Requests that the runs of a session stop, given its number.
    """

    def __init__(self, store: Store, stop_runs: Callable[[int], object]) -> None:
        self._store = store
        self._stop_runs = stop_runs
        self._last_looked_at = 0

    def remove(self, session_id: str, username: str) -> None:
        """Hide a session from its owner at once, stop its turns, and begin to delete it.

        :raises ApiError: ``session_not_found`` or ``session_of_another_user``.
        """

        def job(db: peewee.Database) -> SessionRow:
            lock_name(db, "session", session_id)  # so that no turn begins meanwhile
            session = get_owned_session(db, session_id, username)
            removal.remove_session(db, session)
            return session

        number = self._store.write(job).id
        self._stop_runs(number)
        self.empty(number)

    def empty_removed(self) -> None:
        """Delete the rest of removed sessions. Runs periodically."""
        with self._store.read() as db:
            numbers = removal.list_removed(db, self._last_looked_at, _MAX_SESSIONS)
        left = _MAX_BATCHES
        for number in numbers:
            if left <= 0:
                return
            left -= self.empty(number, left)
            self._last_looked_at = number
        if len(numbers) < _MAX_SESSIONS:
            self._last_looked_at = 0

    def empty(self, number: int, max_batches: int | None = None) -> int:
        """Delete the rest of a removed session, except for parts in use; return the batches."""
        done = 0
        while done < (max_batches or _MAX_BATCHES_AT_ONCE):
            done += 1
            if not self._store.write(lambda db: removal.empty_session(db, number, _BATCH)):
                break
        return done
