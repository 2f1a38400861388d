"""What a worker does now and then, beside its requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import peewee

from ..db import audit, filetexts, keys, keyuse, ratecounts, responses, session_keys, visits
from ..db.store import Store
from ..runtime.clock import now_us
from ..runtime.per_process import PerProcess

log = logging.getLogger(__name__)

#: Time between two looks at what is due, in seconds.
_TICK_S = 0.25

#: Most transactions of one :func:`remove_old_rows` that remove session keys, responses or visits.
_MAX_ROUNDS = 50


@dataclass(slots=True)
class _Chore:
    job: Callable[[], object]
    every_s: float
    due_at: float = 0.0


class Chores:
    """One thread a worker (a greenlet under gevent) for all of them.

    It begins with :meth:`start`, which every worker calls with its first
    request that a caller is let in with, and again after a fork.
    """

    def __init__(self) -> None:
        self._chores: list[_Chore] = []
        self._closed = PerProcess(self._begin)

    def add(self, job: Callable[[], object], every_s: float = 5.0) -> None:
        """Have something done every so many seconds. It must not take long."""
        self._chores.append(_Chore(job, every_s))

    def hasten(self, job: Callable[[], object]) -> None:
        """Do a chore with the next look, a quarter of a second from now at most."""
        for chore in self._chores:
            if chore.job == job:
                chore.due_at = 0.0

    def start(self) -> None:
        """Begin in this process. Called again, it does nothing."""
        self._closed.get()

    def close(self) -> None:
        """Do nothing any more."""
        if closed := self._closed.current:
            closed.set()

    def _begin(self) -> threading.Event:
        closed = threading.Event()
        threading.Thread(target=self._run, args=(closed,), name="chores", daemon=True).start()
        return closed

    def _run(self, closed: threading.Event) -> None:
        while not closed.wait(_TICK_S):
            now = time.monotonic()
            for chore in self._chores:
                if chore.due_at <= now:
                    chore.due_at = now + chore.every_s
                    self._do(chore)

    def _do(self, chore: _Chore) -> None:
        try:
            chore.job()
        except Exception:
            # One chore's error must not stop the others.
            log.exception("a chore of the worker failed")


def remove_old_rows(store: Store, keep_days: int, response_days: int) -> None:
    """Remove what is too old, so that no table grows without end. A chore.

    :param keep_days: Age of the audit's entries, and of the use of keys.
    :param response_days: Age of responses of OpenAI's API.
    """
    now = now_us()
    oldest = now - keep_days * keys.DAY_US

    def job(db: peewee.Database) -> None:
        audit.forget_before(db, oldest)
        keyuse.forget_before(db, oldest)
        ratecounts.forget_counts(db, now / 1_000_000)
        filetexts.remove_orphans(db)
        visits.settle_ended(db)

    store.write(job)
    for _ in range(_MAX_ROUNDS):
        if not store.write(lambda db: responses.forget_old(db, response_days)):
            break
    for _ in range(_MAX_ROUNDS):
        if not store.write(session_keys.purge_session_keys):
            break
    for _ in range(_MAX_ROUNDS):
        if not store.write(visits.purge_visits):
            break
