"""Native threads for blocking work, with and without gevent.

Work that blocks a thread blocks the hub under gevent, and with it all streams of the worker. So
it runs in native threads. Without gevent, under waitress or Flask's own server, the same
functions use ordinary threads.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def is_gevent_patched() -> bool:
    """Return whether this process runs greenlets instead of threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


#: Number of native threads per kind of work. The hub's own pool is used for name resolution.
_POOLS = {"work": 2, "hash": 2, "disk": 8, "async": 32}


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


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own and return its result.

    For asynchronous libraries in tools, commands, hooks, plugin routes and agents::

        def find_weather(city: str) -> str:
            return run_async(fetch_weather(city))

    There, ``asyncio.run`` fails as soon as two turns use it at the same time, since greenlets share
    a thread. At most 32 coroutines run at the same time in a worker process; others wait.

    :param work: Runs in another thread under gevent. It must not use the context of the call.
        Objects of ``asyncio``, such as open connections, cannot be kept for the next call.
        It cannot start processes; use ``subprocess`` in the tool instead.
    """
    result: T = _run("async", _run_loop, (work,))
    return result


def _run_loop(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    with asyncio.Runner(loop_factory=_make_loop if is_gevent_patched() else None) as runner:
        return runner.run(work)


def _make_loop() -> Any:
    """Return an event loop for this greenlet, which others of its thread may wake up.

    The threads of its executor are greenlets of the same thread. Since Python 3.14, asyncio takes
    them for the loop itself, and does not wake it up with their results.
    """
    import asyncio

    from gevent import getcurrent

    class Loop(asyncio.SelectorEventLoop):
        own = getcurrent()

        def call_soon(self, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
            if getcurrent() is self.own:
                return super().call_soon(*args, context=context)
            return self.call_soon_threadsafe(*args, context=context)

    return Loop()


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


#: Maximum time since the hub last checked sockets and timers, and a delay that makes it check.
_FRESH_S = 0.002
_SOON_S = 1e-6

#: Part of the time between two checks for callers of :func:`wait_turn`, beyond the first of them.
_TURNS_PART = 0.125


def let_others_run() -> None:
    """Yield to other greenlets, including greenlets that wait for sockets or timers.

    Without gevent it does nothing.
    """
    if is_gevent_patched():
        from gevent import get_hub, sleep

        # sleep(0) checks sockets and timers only after fifty switches, so a loop that uses only
        # sleep(0) starves new requests (Source: gevent 26.9, loop._run_callbacks).
        hub = get_hub()
        if _has_checked(hub):
            sleep(0)
        else:
            _get_next_check(hub).wait()


def wait_turn() -> None:
    """Yield like :func:`let_others_run`, but resume few callers per check of the hub.

    For jobs that take many milliseconds, and loops that copy a lot in each round. If a hundred of
    them ran between two checks, each step of a small request would wait for all of them. Without
    gevent it does nothing.
    """
    if is_gevent_patched():
        from gevent import get_hub, sleep

        hub = get_hub()
        turns = _get_turns(hub)
        if not turns.waiting and _has_checked(hub):
            sleep(0)
            if _has_checked(hub):  # else other callers have used this check
                return
        turns.wait()


def wait_until_idle(limit_s: float) -> None:
    """Wait until the event loop has nothing else to do, or for this time.

    The work of many greenlets then runs in groups: all of them first reach the point where they
    need it. Each step of a turn is cheaper when the same step of other turns has just run.
    Without gevent it does nothing.
    """
    if is_gevent_patched():
        from gevent import Timeout, idle

        with Timeout(limit_s, False):
            idle()


def _has_checked(hub: Any) -> bool:
    """Return whether the hub checked sockets and timers a moment ago."""
    age_s: float = time.time() - hub.loop.now()
    return 0.0 <= age_s < _FRESH_S


class _NextCheck:
    """Resumes greenlets after the hub's next check of sockets and timers.

    All of them share one timer. With a timer each, a busy worker spent a tenth of its CPU
    time on timers (Source: measured, 32 clients that list the bots).
    """

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._timer = hub.loop.timer(_SOON_S)
        self._asked_at = 0.0
        self.waiting: deque[Any] = deque()

    def wait(self) -> None:
        from gevent.hub import Waiter

        self._ask()
        waiter = Waiter(self._hub)
        self.waiting.append(waiter)
        waiter.get()

    def _ask(self) -> None:
        if not self._timer.active:
            self._asked_at = time.monotonic()
            self._timer.start(self._resume)

    def _resume(self) -> None:
        self._timer.stop()
        waiting, self.waiting = self.waiting, deque()
        for waiter in waiting:
            waiter.switch(None)


class _Turns(_NextCheck):
    """Resumes greenlets in the order of their arrival: one after each check.

    If a worker has so much to do that checks are rare, it resumes more: they get a part of the
    time between two checks.
    """

    def _resume(self) -> None:
        self._timer.stop()
        until = time.monotonic() + (time.monotonic() - self._asked_at) * _TURNS_PART
        for turn in range(len(self.waiting)):  # not those that wait again
            if turn and time.monotonic() > until:
                break
            self.waiting.popleft().switch(None)
        if self.waiting:
            self._ask()


def _get_next_check(hub: Any) -> _NextCheck:
    found: _NextCheck | None = hub.__dict__.get("astrbot_next_check")
    if found is None:
        found = hub.__dict__["astrbot_next_check"] = _NextCheck(hub)
    return found


def _get_turns(hub: Any) -> _Turns:
    found: _Turns | None = hub.__dict__.get("astrbot_turns")
    if found is None:
        found = hub.__dict__["astrbot_turns"] = _Turns(hub)
    return found


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
        result, interruption = self.finish(job)
        if interruption is not None:
            raise interruption
        return result

    def finish(self, job: Callable[[], T]) -> tuple[T, BaseException | None]:
        """Run a job and wait for its end, even if the caller is interrupted.

        :returns: The result, and the interruption, for example a time limit of gevent, or None.
        """
        pending, interruption = self._submit(_catch, job), None
        try:
            done, error = pending.result()
        except BaseException as raised:
            if pending.done():
                raise
            interruption = raised
            done, error = pending.result()
        if error is not None:
            raise error
        return done, interruption

    def close(self) -> None:
        """Stop the thread after its current job."""
        self._end()
