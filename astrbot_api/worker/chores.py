"""Periodic background jobs of a worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import peewee

from ..db import (
    audit,
    deliveries,
    filetexts,
    inbound,
    keys,
    keyuse,
    ratecounts,
    responses,
    session_keys,
    visits,
)
from ..db.store import Store
from ..errors import AstrBotError, StoreClosed
from ..runtime.clock import now_us
from ..runtime.per_process import PerProcess

log = logging.getLogger(__name__)

#: Seconds between two polls for due jobs.
_TICK_S = 0.25

#: Maximum number of transactions, per table, in one call of :func:`remove_old_rows`.
_MAX_ROUNDS = 50


@dataclass(slots=True)
class _Chore:
    job: Callable[[], object]
    every_s: float
    due_at: float = 0.0


class Chores:
    """Runs all periodic jobs in one thread per worker (a greenlet under gevent).

    The thread starts with :meth:`start`. Every worker calls it on its first
    authenticated request, and again after a fork.
    """

    def __init__(self) -> None:
        self._chores: list[_Chore] = []
        self._closed = PerProcess(self._begin)

    def add(self, job: Callable[[], object], every_s: float = 5.0) -> None:
        """Run a job every ``every_s`` seconds. The job must be short."""
        self._chores.append(_Chore(job, every_s))

    def run_soon(self, job: Callable[[], object]) -> None:
        """Run a job at the next poll, at most a quarter of a second from now."""
        for chore in self._chores:
            if chore.job == job:
                chore.due_at = 0.0

    def start(self) -> None:
        """Start the thread in this process. Later calls do nothing."""
        self._closed.get()

    def close(self) -> None:
        """Stop running jobs."""
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
                if chore.due_at <= now and not closed.is_set():
                    chore.due_at = now + chore.every_s
                    self._do(chore)

    def _do(self, chore: _Chore) -> None:
        try:
            chore.job()
        except StoreClosed:
            pass  # the application was closed meanwhile
        except AstrBotError as error:
            log.error("a chore of the worker failed, and will be tried again: %s", error)
        except Exception:
            # An exception in one job must not stop the other jobs.
            log.exception("a chore of the worker failed")


def remove_old_rows(store: Store, keep_days: int, response_days: int, im_keep_days: float) -> None:
    """Remove rows that are too old, so that tables do not grow without limit. A chore.

    :param keep_days: Maximum age of audit entries and key usage, in days.
    :param response_days: Maximum age of responses of the OpenAI API, in days.
    :param im_keep_days: Maximum age of finished deliveries and of messengers' events, in days.
    """
    now = now_us()
    oldest = now - keep_days * keys.DAY_US
    im_keep_us = int(im_keep_days * keys.DAY_US)

    def remove_all(db: peewee.Database) -> None:
        audit.forget_before(db, oldest)
        keyuse.forget_before(db, oldest)
        ratecounts.forget_counts(db, now / 1_000_000)
        filetexts.remove_orphans(db)
        visits.settle_ended(db)

    store.write(remove_all)
    some: tuple[Callable[[peewee.Database], object], ...] = (
        lambda db: responses.forget_old(db, response_days),
        session_keys.purge_session_keys,
        visits.purge_visits,
        lambda db: deliveries.prune(db, keep_us=im_keep_us),
        # No messenger redelivers events that are older.
        lambda db: inbound.prune_events(db, im_keep_us),
    )
    for remove_some in some:
        for _ in range(_MAX_ROUNDS):
            if not store.write(remove_some):
                break
