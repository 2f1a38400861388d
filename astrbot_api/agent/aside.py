"""Calls that may never return, run aside so that they hold nobody up."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import AstrBotError, RunCancelled
from .cancel import Cancellation

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Calls of one name that were given up and have not returned yet. Each holds
#: a thread, and a thread cannot be ended from outside.
MAX_ABANDONED = 20


class CallTimedOut(AstrBotError):
    """A call did not return in its time."""


class TooManyAbandoned(AstrBotError):
    """So many calls of this name never returned that no more are made."""


class _Call:
    """One call: what it returned or raised, and whether anybody still waits."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.over = False
        self.abandoned = False
        self.result: Any = None
        self.error: BaseException | None = None


class AbandonableCalls:
    """Runs calls in threads of their own (greenlets under gevent).

    One of these lives as long as its application, so that what was given up
    in earlier turns still counts.

    :param max_abandoned: Most calls of one name that were given up.
    """

    def __init__(self, max_abandoned: int = MAX_ABANDONED) -> None:
        self._max_abandoned = max_abandoned
        self._abandoned: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(
        self,
        name: str,
        job: Callable[[Cancellation], T],
        *,
        timeout_s: float,
        cancel: Cancellation,
    ) -> T:
        """Run a job, and leave it behind when it takes too long.

        :param name: What is called, for the log and for counting.
        :param job: Is given a cancellation of its own, which fires when the
            turn is cancelled and also when the time is up.
        :returns: What the job returned; what it raises is raised here.
        :raises CallTimedOut: when the time is up.
        :raises TooManyAbandoned: when too many calls of this name are still out.
        :raises RunCancelled: when the turn is cancelled meanwhile.
        """
        if self._abandoned[name] >= self._max_abandoned:
            raise TooManyAbandoned(
                f"{name} is out of order: {self._max_abandoned} earlier calls have not returned"
            )
        own, call = Cancellation(), _Call()
        threading.Thread(
            target=self._work, args=(name, job, own, call), name=name, daemon=True
        ).start()
        with cancel.on_cancel(call.done.set):
            call.done.wait(timeout_s)
        with self._lock:
            if not call.over:
                call.abandoned = True
                self._abandoned[name] += 1
        if call.abandoned:
            own.cancel(cancel.reason or "timeout")
            cancel.raise_if_cancelled()
            raise CallTimedOut(f"{name} did not answer within {timeout_s:g} s")
        if call.error is not None:
            raise call.error
        result: T = call.result
        return result

    def _work(
        self, name: str, job: Callable[[Cancellation], Any], own: Cancellation, call: _Call
    ) -> None:
        try:
            call.result = job(own)
        except BaseException as error:
            call.error = error
        with self._lock:
            call.over = True
            if call.abandoned:
                self._abandoned[name] -= 1
        call.done.set()
        if call.abandoned and call.error and not isinstance(call.error, RunCancelled):
            log.warning("%s failed after it was given up: %r", name, call.error)
