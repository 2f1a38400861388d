"""Idempotency keys: a repeated request gets the first response and is not executed twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import peewee

from .db import idempotency, runs
from .db.idempotency import ClientKey, EarlierRequest
from .db.store import Store
from .errors import ApiError, AstrBotError, StorageError

log = logging.getLogger(__name__)

#: Maximum number of rows that one transaction prunes or releases.
_ROWS_AT_ONCE = 1000

#: Maximum number of claims that are kept while the database cannot release them.
_MAX_UNRELEASED = 10_000


class TurnExists(AstrBotError):
    """An earlier request with the same key has already started the turn."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The response to an earlier request; ``data`` is JSON."""

    status: int
    data: str


@dataclass(frozen=True, slots=True)
class AnswerToStore:
    """A response that is stored in the same transaction as the effects of its request.

    If the worker dies after the commit, the repeated request gets this response, and
    nothing is executed twice.
    """

    key: ClientKey
    worker_id: str
    status: int
    data: str

    def store(self, db: peewee.Database) -> None:
        """Store the response.

        :raises ApiError: ``idempotency_in_flight`` when this worker's lease expired
            and another worker handles the request.
        """
        if not idempotency.finish_first(db, self.key, self.worker_id, self.status, self.data):
            raise _in_flight()


@dataclass(frozen=True, slots=True)
class Claim:
    """A request with an ``Idempotency-Key``.

    :param earlier: The stored response, or None if this worker handles the request now.
    """

    key: ClientKey
    worker_id: str
    earlier: StoredAnswer | None = None

    def answer(self, data: Any, status: int = 200) -> AnswerToStore:
        """Return a response in its stored form; ``data`` is the envelope's content."""
        return AnswerToStore(self.key, self.worker_id, status, orjson.dumps(data).decode())


class Idempotency:
    """Stores the responses of requests that are not turns: uploads and pushed messages.

    :param get_worker_id: Returns the id of the worker that handles the request.
    """

    def __init__(self, store: Store, get_worker_id: Callable[[], str]) -> None:
        self._store = store
        self._get_worker_id = get_worker_id
        #: Claims to release when the database accepts writes again, and ``even_if_answered``.
        #: Without the hash of the request, because another one may claim the key in the meantime.
        self._unreleased: dict[tuple[str, str], tuple[Claim, bool]] = {}

    @contextmanager
    def claim(self, key: ClientKey | None) -> Iterator[Claim | None]:
        """Claim a request while it is handled; release the claim if it is rejected.

        After any other failure a stored response stays. When the result of a commit
        is lost, it is unknown whether the commit happened.

        :param key: The key, or None for a request without one, which claims nothing.
        :raises ApiError: ``idempotency_mismatch`` or ``idempotency_in_flight``.
        """
        if key is None:
            yield None
            return
        claim = self._begin(key)
        try:
            yield claim
        except BaseException as error:
            if claim.earlier is None:
                self._release(claim, even_if_answered=isinstance(error, ApiError))
            raise

    def check(self, key: ClientKey) -> None:
        """Compare a request with the earlier request of the same key.

        :param key: The key with the hash of a body that was read after :meth:`claim`.
        :raises ApiError: ``idempotency_mismatch``.
        """
        with self._store.read() as db:
            earlier = idempotency.find(db, key)
        if earlier is not None:
            _check_same(key, earlier)

    def finish(self, answer: AnswerToStore) -> None:
        """Store the final response. It replaces the response that the transaction stored."""
        self._store.write(lambda db: idempotency.finish(db, answer.key, answer.status, answer.data))

    def _begin(self, key: ClientKey) -> Claim:
        worker_id = self._get_worker_id()
        earlier = self._store.write(lambda db: idempotency.claim(db, key, worker_id=worker_id))
        if earlier is None:
            self._unreleased.pop(_name(key), None)  # this worker's lease had expired meanwhile
            return Claim(key, worker_id)
        _check_same(key, earlier)
        if earlier.status is None or earlier.answer is None:
            raise _in_flight()
        return Claim(key, worker_id, StoredAnswer(earlier.status, earlier.answer))

    def _release(self, claim: Claim, *, even_if_answered: bool) -> None:
        """Release a claim, now or later. On a full disk, even a deletion fails."""
        try:
            self._store.write(lambda db: _release(db, claim, even_if_answered))
        except StorageError as error:
            log.error("a request with an Idempotency-Key is released later: %s", error)
            if len(self._unreleased) < _MAX_UNRELEASED:
                self._unreleased[_name(claim.key)] = claim, even_if_answered

    def retry(self) -> None:
        """Release claims that could not be released before. A chore.

        Until then, requests with the same key are rejected, as if this one were still handled.
        """
        released = list(self._unreleased.values())[:_ROWS_AT_ONCE]
        if not released:
            return

        def job(db: peewee.Database) -> None:
            for claim, even_if_answered in released:
                _release(db, claim, even_if_answered)

        try:
            self._store.write(job)
        except StorageError:
            return
        for claim, _ in released:
            self._unreleased.pop(_name(claim.key), None)

    def prune(self) -> None:
        """Remove keys older than a day. A chore."""
        while self._store.write(lambda db: idempotency.prune(db, _ROWS_AT_ONCE)):
            pass


def _name(key: ClientKey) -> tuple[str, str]:
    return key.key_id, key.word


def _release(db: peewee.Database, claim: Claim, even_if_answered: bool) -> None:
    idempotency.release(db, claim.key, claim.worker_id, even_if_answered=even_if_answered)


def _in_flight() -> ApiError:
    return ApiError(
        "idempotency_in_flight",
        "a request with this Idempotency-Key is being answered; try again soon",
        retry_after_s=1,
    )


def claim_turn(db: peewee.Database, key: ClientKey, run_id: str, worker_id: str) -> None:
    """Store the key of a request in the transaction that starts its run.

    :raises TurnExists: when an earlier request has started a run.
    :raises ApiError: ``idempotency_mismatch``.
    """
    earlier = idempotency.claim(db, key, worker_id=worker_id, run_id=run_id)
    if earlier is None:
        return
    _check_same(key, earlier)
    if earlier.run_id is not None and runs.find_run(db, earlier.run_id) is not None:
        raise TurnExists(earlier.run_id)
    # The run was deleted with its session: there is no response to repeat.
    idempotency.forget(db, key)
    idempotency.claim(db, key, worker_id=worker_id, run_id=run_id)


def _check_same(key: ClientKey, earlier: EarlierRequest) -> None:
    """:raises ApiError: ``idempotency_mismatch`` when the requests differ."""
    if not earlier.is_same(key):
        raise ApiError(
            "idempotency_mismatch",
            "this Idempotency-Key was sent with another request in the last 24 hours; "
            "use a new one for a new request",
        )
