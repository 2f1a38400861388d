"""Native threads where greenlets are not enough.

A SQLite call blocks the thread that makes it. Under gevent that would be the
hub, and with it every stream of the worker, so writes run in one real thread
(Source: measured, the hub then never waits more than a few milliseconds).
Everything here works without gevent too: under waitress or Flask's own
server the same classes use ordinary threads.
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


#: The native threads of each kind of work. The hub's own pool is left to name resolution.
_POOLS = {"work": 2, "hash": 2, "disk": 8}


def run_native(job: Callable[..., T], *arguments: Any) -> T:
    """Run work that computes where it does not hold the hub.

    Under gevent that is a pool of native threads; elsewhere the caller's own thread is
    one. Each kind of work has a pool of its own and so waits for no other kind: a login
    does not wait for pictures, nor an upload for either.

    :param job: Must not touch what gevent patched: no lock, no socket.
    """
    return _run("work", job, arguments)


def run_hash(job: Callable[..., T], *arguments: Any) -> T:
    """Run :func:`run_native` for passwords and secrets, whose hashes are slow on purpose."""
    return _run("hash", job, arguments)


def run_disk(job: Callable[..., T], *arguments: Any) -> T:
    """Run :func:`run_native` for what waits for a disk."""
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
    """Return a pool of this thread's hub; its threads start when they are needed.

    A process that was forked has the hub of its parent, but none of its threads.
    """
    from gevent import get_hub
    from gevent.threadpool import ThreadPool

    hub, pid = get_hub(), os.getpid()
    pools: dict[tuple[int, str], Any] = hub.__dict__.setdefault("astrbot_pools", {})
    if (pid, kind) not in pools:
        pools[pid, kind] = ThreadPool(_POOLS[kind], hub=hub)
    return pools[pid, kind]


def _catch(job: Callable[..., Any], *arguments: Any) -> tuple[Any, BaseException | None]:
    """Run a job of gevent's pool; return its result, or what it raised.

    gevent writes the traceback of an error that leaves a job to stderr. Where
    that is a file on a full disk, this fails, the thread ends, and the caller
    never wakes up.
    """
    try:
        return job(*arguments), None
    except BaseException as error:
        return None, error


def start_beside(job: Callable[..., Any], *arguments: Any, name: str) -> None:
    """Start a job beside the caller: in a greenlet under gevent, else in a daemon thread.

    A greenlet alone is started several times as fast as a thread object around one.

    :param name: Of the thread.
    :raises RuntimeError: when no thread is to be had.
    """
    if is_gevent_patched():
        from gevent import spawn

        spawn(job, *arguments)
    else:
        threading.Thread(target=job, args=arguments, name=name, daemon=True).start()


def native_poll() -> select.poll:
    """Return what looks at descriptors without the hub; it must not wait."""
    return _find_native_poll()()


@cache
def _find_native_poll() -> Callable[[], select.poll]:
    # What was found before a patch is the original, too.
    if not is_gevent_patched():
        return select.poll
    from gevent.monkey import get_original

    found: Callable[[], select.poll] = get_original("select", "poll")
    return found


#: How long ago the hub may have looked at sockets and timers, and a wait that has it look.
_FRESH_S = 0.002
_SOON_S = 1e-6


def let_others_run() -> None:
    """Let other greenlets in, also those that wait for bytes or for a time.

    Threads need no such thing.
    """
    if is_gevent_patched():
        from gevent import get_hub, sleep

        # Until fifty greenlets have run, sleep(0) does not look at sockets and timers: a loop
        # that alone uses it keeps new requests out (Source: gevent 26.9, loop._run_callbacks).
        stale_s = time.time() - get_hub().loop.now()
        sleep(0 if 0.0 <= stale_s < _FRESH_S else _SOON_S)


class NativeThread:
    """One native thread that runs one job at a time, always the same one."""

    def __init__(self) -> None:
        self._submit: Callable[..., Any]
        self._end: Callable[[], None]
        if is_gevent_patched():
            # Not gevent's ThreadPoolExecutor: it makes a host's gevent.Timeout an OSError.
            from gevent.threadpool import ThreadPool

            greenlets = ThreadPool(1)
            self._submit, self._end = greenlets.spawn, greenlets.kill
        else:
            threads = ThreadPoolExecutor(1, thread_name_prefix="astrbot-writer")
            self._submit, self._end = threads.submit, threads.shutdown

    def call(self, job: Callable[[], T]) -> T:
        """Run a job there; the caller waits, other greenlets run."""
        done, error = self._submit(_catch, job).result()
        if error is not None:
            raise error
        result: T = done
        return result

    def close(self) -> None:
        """End the thread; a job that was taken is finished."""
        self._end()


class _Ticket:
    """What one caller waits for."""

    __slots__ = ("done", "error", "job", "result")

    def __init__(self, job: Callable[..., Any]) -> None:
        self.job = job
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class BatchWriter:
    """Runs jobs in one native thread, those that wait together in one batch.

    While a batch is at work, further jobs gather for the next one: that is
    the group commit, and it needs no timer.

    :param run_batch: Called in the native thread with the jobs; returns, for
        each, its result or the exception that it raised.
    """

    def __init__(
        self, run_batch: Callable[[Sequence[Callable[..., Any]]], list[Any | BaseException]]
    ) -> None:
        self._run_batch = run_batch
        self._pool = NativeThread()
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._busy = False

    def submit(self, job: Callable[..., T]) -> T:
        """Run a job and wait for what it returns or raises."""
        ticket = _Ticket(job)
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
        """End the native thread; jobs that were taken are finished."""
        self._pool.close()

    def _lead(self, own: _Ticket) -> None:
        """Run batches until the caller's own job is done, then hand over.

        The first caller that finds the writer idle leads. It hands the lead
        to a thread of its own when others are still waiting, so that no
        caller works for the others without end.
        """
        while True:
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

    def _serve(self, batch: list[_Ticket]) -> None:
        try:
            outcomes = self._pool.call(lambda: self._run_batch([one.job for one in batch]))
        except BaseException as error:
            outcomes = [error] * len(batch)
        for ticket, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                ticket.error = outcome
            else:
                ticket.result = outcome
            ticket.done.set()
