"""Processing of untrusted data in child processes that can be killed.

:meth:`Aside.run` parses untrusted formats: documents, images, audio, archives, patterns. A
file can make a parser run for hours, use gigabytes, or crash. A process can be limited and
killed, but a native thread cannot.

A job is a function named ``module:function``, whose module is imported only in the child
process. It takes a binary file and keyword arguments of JSON types. It returns a JSON value
and bytes. It raises :class:`~astrbot_api.errors.Unreadable` to reject a file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import AstrBotError, Unreadable
from .calls import Cancellable, wait_for
from .fork_client import ForkServer
from .fork_server import (
    FAILED,
    FRAME,
    FRAME_END,
    REQUEST,
    RESULT,
    UNREADABLE,
    read_exactly,
    send_frame,
)
from .lru_cache import LruCache
from .per_process import PerProcess

log = logging.getLogger(__name__)

#: Number of concurrent jobs of a worker. Other jobs wait for a seat.
_SEATS = 2

#: Maximum wait for a seat, in seconds.
MAX_WAIT_S = 60.0

#: Maximum number of remembered failures of a worker.
_MAX_FAILURES = 10_000

#: Seconds before a job that exceeded its wall time may be retried: the machine may have been busy.
_SLOW_S = 600.0

Cause = Literal["cpu", "memory", "time", "output", "crash", "damaged", "busy", "unavailable"]

#: Texts for the caller and the model, which complete "It could not be read: …".
_WORDS: dict[Cause, str] = {
    "cpu": "reading it takes too long",
    "memory": "reading it takes too much memory",
    "time": "reading it takes too long",
    "output": "there is too much in it",
    "crash": "it is damaged",
    "damaged": "it is damaged",
    "busy": "the server is busy with other files",
    "unavailable": "the server cannot read such files now",
}


class AsideError(AstrBotError):
    """Raised when a job has no result.

    :param cause: The exceeded limit or another cause.
    :param detail: Text for the log.
    :ivar words: Text for the caller and the model.
    """

    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
        self.words = _WORDS[cause]


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of one job.

    :param memory_bytes: Memory beyond that of the new process.
    :param output_bytes: Size of the result.
    """

    cpu_s: int = 10
    wall_s: float = 30.0
    memory_bytes: int = 256 * 2**20
    output_bytes: int = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Job:
    """A function that runs in a child process, and its limits.

    :param name: ``module:function``.
    """

    name: str
    limits: Limits = field(default_factory=Limits)


class Aside:
    """Runs jobs in separate processes, with limited concurrency.

    The processes are children of the worker's fork server (:mod:`.fork_server`), which starts
    with the first job and exits after some idle minutes.
    """

    def __init__(self) -> None:
        self._seats = _Seats(_SEATS)
        self._failures = _Failures()
        self._server = PerProcess(ForkServer)

    def run(
        self,
        job: Job,
        source: bytes | int | Callable[[], bytes],
        arguments: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        owner: str = "",
        cancel: Cancellable | None = None,
    ) -> tuple[Any, bytes]:
        """Run a job and return its result. Other greenlets run meanwhile.

        :param source: The bytes, the descriptor of an open file that the job reads from its
            start, or a function that returns the bytes. The function is called when the job has a
            seat, so that waiting jobs hold no data in memory.
        :param key: Id of the content, for example its SHA-256. If a content has failed for this
            job, later calls fail at once, with any arguments.
        :param owner: Owner of the job. The owner with the fewest running jobs gets the next seat.
        :param cancel: Kills the job's process.
        :raises Unreadable: when the job rejects the file.
        :raises AsideError: when the job exceeds a limit, crashes, or gets no seat in time.
        """
        request = {
            "job": job.name,
            "arguments": dict(arguments or {}),
            "cpu_s": job.limits.cpu_s,
            "memory_bytes": job.limits.memory_bytes,
            "output_bytes": job.limits.output_bytes,
        }
        known = f"{job.name} {key}" if key else ""
        self._failures.raise_known(known)
        with self._seats.take(owner, cancel):
            # Another turn may have failed with the same file meanwhile.
            self._failures.raise_known(known)
            if callable(source):
                source = source()
            try:
                return self._try(job, json.dumps(request).encode(), source, cancel)
            except (AsideError, Unreadable) as error:
                log.info("a job failed: %s: %s", job.name, error)
                self._failures.remember(known, error)
                raise

    def close(self) -> None:
        """Kill all jobs of this process and stop the fork server."""
        server = self._server.take()
        if server is not None:
            server.close()

    def _try(
        self, job: Job, request: bytes, source: bytes | int, cancel: Cancellable | None
    ) -> tuple[Any, bytes]:
        module = job.name.partition(":")[0]
        for attempt in (1, 2):
            if cancel is not None:
                cancel.raise_if_cancelled()
            server = self._server.get()
            try:
                connection = server.open(module, source if isinstance(source, int) else None)
            except OSError as error:
                raise AsideError("unavailable", str(error)) from error
            try:
                with connection, _end_on_cancel(cancel, connection):
                    data = b"" if isinstance(source, int) else source
                    return _exchange(connection, request, data, job.limits)
            except OSError as error:
                if cancel is not None:
                    cancel.raise_if_cancelled()
                # The idle fork server may have exited during the request.
                if attempt == 2 or server.closed:
                    raise AsideError("unavailable", str(error)) from error
        raise AssertionError("unreachable")


def _end_on_cancel(
    cancel: Cancellable | None, connection: socket.socket
) -> AbstractContextManager[None]:
    def end() -> None:
        # The fork server then kills the job, and our read returns.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    return cancel.on_cancel(end) if cancel else contextlib.nullcontext()


def _exchange(
    connection: socket.socket, request: bytes, data: bytes, limits: Limits
) -> tuple[Any, bytes]:
    """Send a request and wait for its response."""
    deadline = time.monotonic() + limits.wall_s
    connection.settimeout(limits.wall_s)
    try:
        with contextlib.suppress(ConnectionError):  # a job may fail before reading everything
            send_frame(connection, REQUEST, request, data)
        kind, text_bytes, body_bytes = FRAME.unpack(read_exactly(connection, FRAME.size))
        if text_bytes + body_bytes > limits.output_bytes + 1024:
            raise AsideError("output", f"{text_bytes + body_bytes} bytes")
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        text = read_exactly(connection, text_bytes)
        body = read_exactly(connection, body_bytes)
        if read_exactly(connection, 1) != FRAME_END:
            raise AsideError("crash", "it ended within its response")
    except TimeoutError:
        raise AsideError("time", f"{limits.wall_s:g} s") from None
    if kind == RESULT:
        return json.loads(text), bytes(body)
    if kind == UNREADABLE:
        raise Unreadable(json.loads(text))
    assert kind == FAILED
    answer = json.loads(text)
    raise AsideError(answer["cause"], answer["detail"])


class _Failures:
    """Remembered failures of jobs."""

    def __init__(self) -> None:
        self._known = LruCache[str, tuple[AsideError | Unreadable, float]](_MAX_FAILURES)

    def raise_known(self, known: str) -> None:
        error, until = self._known.get(known) or (None, 0.0)
        if error is None or until < time.monotonic():
            return
        if isinstance(error, Unreadable):
            raise Unreadable(str(error))
        raise AsideError(error.cause, "as before")

    def remember(self, known: str, error: AsideError | Unreadable) -> None:
        cause = "" if isinstance(error, Unreadable) else error.cause
        if not known or cause in ("busy", "unavailable"):
            return
        until = time.monotonic() + _SLOW_S if cause == "time" else float("inf")
        self._known.put(known, (error, until))


@dataclass(slots=True, eq=False)
class _Waiter:
    owner: str
    called: threading.Event = field(default_factory=threading.Event)
    seated: bool = False


class _Seats:
    """Seats for jobs. The owner with the fewest seats is next, then the first in the queue."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []

    @contextmanager
    def take(self, owner: str, cancel: Cancellable | None) -> Iterator[None]:
        waiter = _Waiter(owner)
        with self._lock:
            self._waiting.append(waiter)
            self._call()
        try:
            wait_for(waiter.called, MAX_WAIT_S, cancel)
            if not waiter.seated:
                raise AsideError("busy", f"no seat within {MAX_WAIT_S:g} s")
            yield
        finally:
            with self._lock:
                if waiter.seated:
                    self._free += 1
                    self._taken[owner] -= 1
                    if not self._taken[owner]:
                        del self._taken[owner]
                    self._call()
                else:
                    self._waiting.remove(waiter)

    def _call(self) -> None:
        while self._free and self._waiting:
            waiter = min(self._waiting, key=lambda one: self._taken[one.owner])
            self._waiting.remove(waiter)
            self._free -= 1
            self._taken[waiter.owner] += 1
            waiter.seated = True
            waiter.called.set()
