"""Group commit: jobs of several callers share a transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from ..runtime.threads import NativeThread, start_beside, wait_until_idle

T = TypeVar("T")

Job = Callable[..., Any]

#: Maximum time for which quick jobs run in the event loop before their transaction ends.
_QUICK_S = 0.005

#: Maximum time for which a batch waits for the event loop to be idle.
_GATHER_S = 0.05


class Transaction(Protocol):
    """The transactions of one connection. Any thread may call it, one at a time."""

    def begin(self, *, wait: bool) -> bool:
        """Begin a transaction. False if another process has the lock and ``wait`` is false."""
        ...

    def run(self, jobs: Sequence[Job], until: float | None) -> list[Any | BaseException]:
        """Run jobs, and return the result or the exception of each.

        :param until: Time (``time.monotonic``) after which the remaining jobs do not run.
        """
        ...

    def commit(self) -> None:
        """Commit it. If this or another method fails, the transaction is rolled back."""
        ...


class _Ticket:
    """A job that a caller waits for, and its outcome."""

    __slots__ = ("done", "error", "job", "quick", "result")

    def __init__(self, job: Job, quick: bool) -> None:
        self.job = job
        self.quick = quick
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class BatchWriter:
    """Runs jobs in batches, each in one transaction.

    Jobs submitted during a batch form the next batch. A batch begins when the event loop is idle,
    so that under load more jobs share one: their callers would wait for the busy loop anyway.

    A native thread waits for the lock and commits, since both may take long. It also runs a batch
    with a job that may take long. The other jobs run in the caller's thread. Each statement
    releases the GIL, and two busy threads that take it from each other would need a tenth more CPU
    time for each turn (Source: measured, 32 clients).
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._thread = NativeThread()
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._busy = False
        #: The exception that interrupted the leading caller, or None.
        self._interruption: BaseException | None = None

    def submit(self, job: Callable[..., T], *, quick: bool = False) -> T:
        """Run a job, wait for it, and return its result or raise its exception.

        :param quick: Whether it takes less than a millisecond.
        """
        ticket = _Ticket(job, quick)
        with self._lock:
            self._waiting.append(ticket)
            leads = not self._busy
            self._busy = True
        if leads:
            self._lead(ticket)
        ticket.done.wait()
        if ticket.error is not None:
            raise ticket.error
        result: T = ticket.result
        return result

    def close(self) -> None:
        """Stop the native thread after its current batch."""
        self._thread.close()

    def _lead(self, own: _Ticket) -> None:
        """Run batches until the caller's own job is done, then hand over.

        The first caller that finds the writer idle leads. If others still wait
        after its own job, it hands the lead to a new thread, so that no caller
        is delayed by the jobs of others.
        """
        leads: _Ticket | None = own
        interruption: BaseException | None = None
        while leads is not None:
            try:
                while not leads.done.is_set():
                    wait_until_idle(_GATHER_S)
                    with self._lock:
                        batch, self._waiting = self._waiting, []
                    self._serve(batch)
            except BaseException as error:  # must not stop the other jobs
                interruption = interruption or error
            interruption, self._interruption = interruption or self._interruption, None
            with self._lock:
                self._busy = bool(self._waiting)
                leads = self._waiting[0] if self._waiting else None
            with suppress(RuntimeError):  # no thread can be started, so this one continues
                if leads is not None:
                    start_beside(self._lead, leads, name="astrbot-writer")
                    leads = None
        if interruption is not None:
            raise interruption

    def _serve(self, batch: list[_Ticket]) -> None:
        run = self._run_here if all(ticket.quick for ticket in batch) else self._run_aside
        try:
            outcomes = run([ticket.job for ticket in batch])
        except BaseException as error:
            outcomes = [error] * len(batch)
        with self._lock:
            self._waiting[:0] = batch[len(outcomes) :]
        for ticket, outcome in zip(batch, outcomes, strict=False):
            if isinstance(outcome, BaseException):
                ticket.error = outcome
            else:
                ticket.result = outcome
            ticket.done.set()

    def _run_here(self, jobs: list[Job]) -> list[Any | BaseException]:
        """Run quick jobs in this thread: as many as there is time for, and at least one."""
        transaction = self._transaction
        if not transaction.begin(wait=False):
            self._finish(lambda: transaction.begin(wait=True))
        outcomes = transaction.run(jobs, time.monotonic() + _QUICK_S)
        self._finish(transaction.commit)
        return outcomes

    def _run_aside(self, jobs: list[Job]) -> list[Any | BaseException]:
        def run() -> list[Any | BaseException]:
            self._transaction.begin(wait=True)
            outcomes = self._transaction.run(jobs, None)
            self._transaction.commit()
            return outcomes

        return self._finish(run)

    def _finish(self, job: Callable[[], T]) -> T:
        """Run a job in the native thread. An interruption of this caller waits for its end."""
        result, interruption = self._thread.finish(job)
        self._interruption = self._interruption or interruption
        return result
