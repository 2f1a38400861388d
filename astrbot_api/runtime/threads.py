"""Native threads for blocking work, with and without gevent.

A SQLite call blocks its thread. Under gevent this is the hub, and with it all
streams of the worker. So writes run in one native thread. The hub then never
waits for more than a few milliseconds (Source: measured). Without gevent,
under waitress or Flask's own server, the same classes use ordinary threads.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def is_gevent_patched() -> bool:
    """Return whether this process runs greenlets instead of threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


#: Number of native threads per kind of work. The hub's own pool is used for name resolution.
_POOLS = {"work": 2, "hash": 2, "disk": 8}


def run_native(job: Callable[..., T], *arguments: Any) -> T:
    """Run CPU-bound work without blocking the hub.

    Under gevent it runs in a pool of native threads, otherwise in the caller's thread. Each kind
    of work has its own pool. So a login does not wait for images, and an upload waits for neither.

    :param job: Must not use objects patched by gevent, such as locks and sockets.
    """
    return _run("work", job, arguments)


def run_hash(job: Callable[..., T], *arguments: Any) -> T:
    """Run a slow password or secret hash, see :func:`run_native`."""
    return _run("hash", job, arguments)


def run_disk(job: Callable[..., T], *arguments: Any) -> T:
    """Run disk I/O, see :func:`run_native`."""
    return _run("disk", job, arguments)


def _run(kind: str, job: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    if not is_gevent_patched():
        return job(*arguments)
    done, error = _get_pool(kind).apply(_catch, (job, *arguments))
    if error is not None:
        raise error
    result: T = done
    return result


def _get_pool(kind: str) -> Any:
    """Return a pool of this thread's hub, whose threads start on demand.

    Pools are kept per process, because a forked child has its parent's hub but not its threads.
    """
    from gevent import get_hub
    from gevent.threadpool import ThreadPool

    hub, pid = get_hub(), os.getpid()
    pools: dict[tuple[int, str], Any] = hub.__dict__.setdefault("astrbot_pools", {})
    if (pid, kind) not in pools:
        pools[pid, kind] = ThreadPool(_POOLS[kind], hub=hub)
    return pools[pid, kind]


def _catch(job: Callable[..., Any], *arguments: Any) -> tuple[Any, BaseException | None]:
    """Run a job in gevent's pool and return its result or its exception.

    gevent writes the traceback of an uncaught exception to stderr. If that fails,
    for example on a full disk, the thread ends and the caller never wakes up.
    """
    try:
        return job(*arguments), None
    except BaseException as error:
        return None, error


def start_beside(job: Callable[..., Any], *arguments: Any, name: str) -> None:
    """Start a job in the background: in a greenlet under gevent, else in a daemon thread.

    A plain greenlet starts several times as fast as a patched thread.

    :param name: Name of the thread.
    :raises RuntimeError: when no thread can be started.
    """
    if is_gevent_patched():
        from gevent import spawn

        spawn(job, *arguments)
    else:
        threading.Thread(target=job, args=arguments, name=name, daemon=True).start()


def native_poll() -> select.poll:
    """Return an unpatched ``select.poll`` object. Call it with timeout 0 only."""
    return _find_native_poll()()


@cache
def _find_native_poll() -> Callable[[], select.poll]:
    # A result cached before patching is the original, too.
    if not is_gevent_patched():
        return select.poll
    from gevent.monkey import get_original

    found: Callable[[], select.poll] = get_original("select", "poll")
    return found


#: Maximum time since the hub last checked sockets and timers, and a sleep that makes it check.
_FRESH_S = 0.002
_SOON_S = 1e-6


def let_others_run() -> None:
    """Yield to other greenlets, including greenlets that wait for sockets or timers.

    Without gevent it does nothing.
    """
    if is_gevent_patched():
        from gevent import get_hub, sleep

        # sleep(0) checks sockets and timers only after fifty switches, so a loop that uses only
        # sleep(0) starves new requests (Source: gevent 26.9, loop._run_callbacks).
        stale_s = time.time() - get_hub().loop.now()
        sleep(0 if 0.0 <= stale_s < _FRESH_S else _SOON_S)


class NativeThread:
    """One native thread that runs one job at a time."""

    def __init__(self) -> None:
        self._submit: Callable[..., Any]
        self._end: Callable[[], None]
        if is_gevent_patched():
            # gevent's ThreadPoolExecutor would turn a host's gevent.Timeout into an OSError.
            from gevent.threadpool import ThreadPool

            greenlets = ThreadPool(1)
            self._submit, self._end = greenlets.spawn, greenlets.kill
        else:
            threads = ThreadPoolExecutor(1, thread_name_prefix="astrbot-writer")
            self._submit, self._end = threads.submit, threads.shutdown

    def call(self, job: Callable[[], T]) -> T:
        """Run a job in the thread and wait for it. Other greenlets run meanwhile."""
        done, error = self._submit(_catch, job).result()
        if error is not None:
            raise error
        result: T = done
        return result

    def close(self) -> None:
        """Stop the thread after its current job."""
        self._end()


class _Ticket:
    """A job that a caller waits for, and its outcome."""

    __slots__ = ("done", "error", "job", "result")

    def __init__(self, job: Callable[..., Any]) -> None:
        self.job = job
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


#: Weight of the newest measurement in the average lag of :class:`BatchWriter`.
_LAG_WEIGHT = 0.1

#: Lag without load, in seconds.
_IDLE_LAG_S = 0.001

#: The pause between two batches, as a multiple of the lag beyond that, and its maximum.
_LAG_TIMES = 4.0
_MAX_PAUSE_S = 0.02


class BatchWriter:
    """Runs jobs in batches in one native thread.

    Jobs submitted during a batch form the next batch (group commit). Under load there is a short
    pause between two batches, so that more jobs share one: their callers would wait for the busy
    event loop anyway. The measure of load is how long callers wait after their batch has ended.

    :param run_batch: Called in the native thread with the jobs. Returns the
        result or the exception of each job.
    """

    def __init__(
        self, run_batch: Callable[[Sequence[Callable[..., Any]]], list[Any | BaseException]]
    ) -> None:
        self._run_batch = run_batch
        self._pool = NativeThread()
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._busy = False
        #: Average time in seconds from the end of a batch until its callers run.
        self._lag_s = 0.0
        self._ended_at = time.monotonic()

    def submit(self, job: Callable[..., T]) -> T:
        """Run a job, wait for it, and return its result or raise its exception."""
        ticket = _Ticket(job)
        with self._lock:
            self._waiting.append(ticket)
            leads = not self._busy
            self._busy = True
        if leads:
            self._lead(ticket)
        ticket.done.wait()
        self._lag_s += _LAG_WEIGHT * (time.monotonic() - self._ended_at - self._lag_s)
        if ticket.error is not None:
            raise ticket.error
        result: T = ticket.result
        return result

    def close(self) -> None:
        """Stop the native thread after its current batch."""
        self._pool.close()

    def _lead(self, own: _Ticket) -> None:
        """Run batches until the caller's own job is done, then hand over.

        The first caller that finds the writer idle leads. If others still wait
        after its own job, it hands the lead to a new thread, so that no caller
        is delayed by the jobs of others.
        """
        while True:
            try:
                self._pause()
            except BaseException:  # a timeout of this caller must not stop the other jobs
                start_beside(self._lead, own, name="astrbot-writer")
                raise
            with self._lock:
                batch, self._waiting = self._waiting, []
                if not batch:
                    self._busy = False
                    return
            self._serve(batch)
            if own.done.is_set():
                with self._lock:
                    if not self._waiting:
                        self._busy = False
                        return
                    follower = self._waiting[0]
                start_beside(self._lead, follower, name="astrbot-writer")
                return

    def _pause(self) -> None:
        pause_s = min(_LAG_TIMES * (self._lag_s - _IDLE_LAG_S), _MAX_PAUSE_S)
        left_s = self._ended_at + pause_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)

    def _serve(self, batch: list[_Ticket]) -> None:
        def run() -> list[Any | BaseException]:
            try:
                return self._run_batch([one.job for one in batch])
            finally:
                self._ended_at = time.monotonic()

        try:
            outcomes = self._pool.call(run)
        except BaseException as error:
            outcomes = [error] * len(batch)
        for ticket, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                ticket.error = outcome
            else:
                ticket.result = outcome
            ticket.done.set()
