"""Run calls that may never return, without blocking their caller."""

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

#: Maximum number of abandoned calls of one name that have not returned. Each holds a thread, which
#: cannot be killed.
_MAX_ABANDONED = 20


class CallTimedOut(AstrBotError):
    """Raised when a call exceeds its time limit."""


class TooManyAbandoned(AstrBotError):
    """Raised when too many calls of this name have never returned."""


class _Call:
    """One call: its result or exception, and whether the caller still waits."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.over = False
        self.abandoned = False
        self.result: Any = None
        self.error: BaseException | None = None


class AbandonableCalls:
    """Runs calls in threads of their own (greenlets under gevent).

    An instance lives as long as its application, so that it counts calls abandoned in earlier
    turns.
    """

    def __init__(self) -> None:
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
        """Run a job, and abandon it when it exceeds its time limit.

        :param name: Name of the call, for the log and for counting.
        :param job: Gets a cancellation of its own, which fires when the turn is cancelled or the
            time is over.
        :returns: The job's result. Its exceptions are raised here.
        :raises RuntimeError: if the job raises an exception that is no ``Exception``.
        :raises CallTimedOut: if the time is over.
        :raises TooManyAbandoned: if too many calls of this name have not returned.
        :raises RunCancelled: if the turn is cancelled meanwhile.
        """
        if self._abandoned[name] >= _MAX_ABANDONED:
            raise TooManyAbandoned(
                f"{name} is disabled: {_MAX_ABANDONED} earlier calls have not returned"
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
        if isinstance(call.error, Exception):
            raise call.error
        if call.error is not None:
            # SystemExit of argparse or CancelledError of asyncio would end the caller's thread.
            raise RuntimeError(f"{name} raised {call.error!r}") from call.error
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
            log.warning("%s failed after it was abandoned: %r", name, call.error)
