"""Runs the periodic background jobs of a worker. :mod:`astrbot_api.chores` lists them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import AstrBotError, StoreClosed
from ..runtime.per_process import PerProcess

log = logging.getLogger(__name__)

#: Seconds between two polls for due jobs.
_TICK_S = 0.25


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
