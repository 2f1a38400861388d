"""A request that is sent again is not done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import peewee

from .db import idempotency, runs
from .db.idempotency import ClientKey, EarlierRequest
from .db.store import Store
from .errors import ApiError, AstrBotError

#: Rows that one pruning takes, at most.
_PRUNED_AT_ONCE = 1000


class TurnExists(AstrBotError):
    """The turn that is asked for was begun before, under the same key."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What an earlier request was answered with; ``body`` is its JSON."""

    status: int
    body: str


class Idempotency:
    """Remembers requests that are no turns: uploads and pushed messages.

    :param get_worker_id: Whose they are while they are answered.
    """

    def __init__(self, store: Store, get_worker_id: Callable[[], str]) -> None:
        self._store = store
        self._get_worker_id = get_worker_id

    def begin(self, key: ClientKey) -> StoredAnswer | None:
        """Note a request.

        What is still to be read (a key without a hash) is for the caller to
        compare, with :meth:`check`.

        :returns: The answer that it had before; None: it is to be answered.
        :raises ApiError: ``idempotency_mismatch`` or ``idempotency_in_flight``.
        """
        worker_id = self._get_worker_id()
        earlier = self._store.write(lambda db: idempotency.claim(db, key, worker_id=worker_id))
        if earlier is None:
            return None
        check_same(key, earlier)
        if earlier.status is None or earlier.answer is None:
            raise _in_flight()
        return StoredAnswer(earlier.status, earlier.answer)

    def check(self, key: ClientKey) -> None:
        """Compare what was sent with what the earlier request sent.

        :raises ApiError: ``idempotency_mismatch``.
        """
        with self._store.read() as db:
            earlier = idempotency.find(db, key)
        if earlier is not None:
            check_same(key, earlier)

    def finish(self, key: ClientKey, answer: StoredAnswer) -> None:
        """Keep an answer for whoever sends the request again."""
        self._store.write(lambda db: idempotency.finish(db, key, answer.status, answer.body))

    def finish_within(self, key: ClientKey) -> Callable[[peewee.Database, StoredAnswer], None]:
        """Return what keeps the answer in the transaction that does what was asked for.

        Where the worker dies after that, whoever sends the request again has
        the answer, and it is not done twice. It raises ``idempotency_in_flight``
        when this worker was taken for dead, and another is at the request.
        """
        worker_id = self._get_worker_id()

        def finish(db: peewee.Database, answer: StoredAnswer) -> None:
            if not idempotency.finish_first(db, key, worker_id, answer.status, answer.body):
                raise _in_flight()

        return finish

    def release(self, key: ClientKey, *, even_if_answered: bool = True) -> None:
        """Forget a request that was refused.

        :param even_if_answered: False: keep it where :meth:`finish_within` has kept its answer.
        """
        worker_id = self._get_worker_id()
        self._store.write(
            lambda db: idempotency.release(db, key, worker_id, even_if_answered=even_if_answered)
        )

    def prune(self) -> None:
        """Forget what is older than a day. A chore."""
        while self._store.write(lambda db: idempotency.prune(db, _PRUNED_AT_ONCE)):
            pass


def _in_flight() -> ApiError:
    return ApiError(
        "idempotency_in_flight",
        "a request with this Idempotency-Key is being answered; try again soon",
        headers={"Retry-After": "1"},
    )


def claim_turn(db: peewee.Database, key: ClientKey, run_id: str, worker_id: str) -> None:
    """Note a request that begins a run, in the transaction that does.

    :raises TurnExists: when an earlier request has begun one.
    :raises ApiError: ``idempotency_mismatch``.
    """
    earlier = idempotency.claim(db, key, worker_id=worker_id, run_id=run_id)
    if earlier is None:
        return
    check_same(key, earlier)
    if earlier.run_id is not None and runs.find_run(db, earlier.run_id) is not None:
        raise TurnExists(earlier.run_id)
    # The run went with its session: there is nothing left to show.
    idempotency.forget(db, key)
    idempotency.claim(db, key, worker_id=worker_id, run_id=run_id)


def check_same(key: ClientKey, earlier: EarlierRequest) -> None:
    """:raises ApiError: ``idempotency_mismatch`` when something else is asked for."""
    if not earlier.is_same(key):
        raise ApiError(
            "idempotency_mismatch",
            "this Idempotency-Key was sent with another request in the last 24 hours; "
            "use a new one for a new request",
        )
