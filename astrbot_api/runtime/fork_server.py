"""Fork server of :mod:`.aside`: a small process that forks a child for each job.

It is a separate program, so a fork copies no threads, greenlets or connections of the web
worker. Modules of jobs are imported once in this process. A child starts in a few
milliseconds, processes one file and exits.

When the caller closes the socket of a job or dies, the child is killed. In the same way, the
control socket ends this process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import Unreadable

#: Source code for ``python -c``.
PROGRAM = "from astrbot_api.runtime.fork_server import main; main()"

#: Seconds without a job after which the process exits. The next job starts a new one.
_IDLE_S = 300.0

#: Header of a frame on a job's socket: kind, size of the JSON, size of the binary data.
FRAME = struct.Struct(">cQQ")
REQUEST, RESULT, UNREADABLE, FAILED = b"R", b"=", b"?", b"!"

#: Exit status of a child that has responded. It differs from 0 because a library may call exit(0).
_ANSWERED = 42

#: Exit status of a child without memory, which may not even be able to respond.
_NO_MEMORY = 43

#: End of each frame, to detect a child that was killed while writing.
FRAME_END = b"."

#: Maximum size of a request on the control socket: the module to import, as JSON, with one or
#: two file descriptors.
_MAX_CONTROL_BYTES = 4096

#: Additional address space of a child beyond its memory limit, for mapped files. The job
#: limits the data segment, but not every system enforces that limit.
_MAPPED_BYTES = 2**30

#: Niceness of a child, so that it does not delay the workers' streams.
_NICENESS = 10

#: Exit code -> cause. Codes below 0 are signals.
_CAUSES = {
    _NO_MEMORY: "memory",
    -signal.SIGABRT: "memory",  # of a library in Rust or C++
    -signal.SIGXCPU: "cpu",
    -signal.SIGKILL: "cpu",  # the hard CPU limit, or the kernel's OOM killer
}


@dataclass(frozen=True, slots=True)
class _Child:
    """A running job: its process and our copy of its socket."""

    pid: int
    connection: socket.socket


def main() -> None:
    """Serve until the control socket, descriptor 0, is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C signals all processes of the terminal
    control = socket.socket(fileno=os.dup(0))
    control.setblocking(True)  # gevent made the descriptor non-blocking
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _Server(control).serve()


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, _Child] = {}
        self._by_descriptor: dict[int, _Child] = {}
        self._modules: set[str] = set()
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        self._poll.register(self._woken, select.POLLIN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        while True:
            events = self._poll.poll(_IDLE_S * 1000)
            if not events and not self._children:
                return
            for descriptor, _ in events:
                if descriptor == self._woken:
                    self._reap()
                elif descriptor in self._by_descriptor:
                    self._abandon(self._by_descriptor[descriptor])
                elif descriptor == self._control.fileno() and not self._accept():
                    for child in self._children.values():
                        os.kill(child.pid, signal.SIGKILL)
                    return

    def _accept(self) -> bool:
        """Start the requested job, and return whether the control socket is still open."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, _MAX_CONTROL_BYTES, 2)
        except ConnectionError:
            return False
        if not message:
            return False
        connection = socket.socket(fileno=descriptors[0])
        connection.setblocking(True)
        file = descriptors[1] if len(descriptors) > 1 else None
        try:
            self._start(json.loads(message), connection, file)
        finally:
            if file is not None:
                os.close(file)
        return True

    def _start(self, module: str, connection: socket.socket, file: int | None) -> None:
        try:
            if module not in self._modules:
                importlib.import_module(module)
                self._modules.add(module)
                gc.collect()
                gc.freeze()
            pid = os.fork()
        except Exception as error:
            with connection:
                _fail(connection, "unavailable", f"{type(error).__name__}: {error}")
            return
        if pid == 0:
            self._become_child()
            _run_child(connection, file)
        child = _Child(pid, connection)
        self._children[pid] = child
        self._by_descriptor[connection.fileno()] = child
        # With no events requested, poll() reports only a closed or broken socket.
        self._poll.register(connection.fileno(), 0)

    def _become_child(self) -> None:
        """Close the sockets of the server and of other children."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for child in self._children.values():
            child.connection.close()

    def _abandon(self, child: _Child) -> None:
        """Kill a child whose caller has disconnected. It is reaped later."""
        self._forget(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                child = self._children.pop(pid)
                code = os.waitstatus_to_exitcode(status)
                if code != _ANSWERED and child.connection.fileno() in self._by_descriptor:
                    _fail(child.connection, _CAUSES.get(code, "crash"), f"ended with {code}")
                self._forget(child)

    def _forget(self, child: _Child) -> None:
        descriptor = child.connection.fileno()
        if self._by_descriptor.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)
            child.connection.close()


def _run_child(connection: socket.socket, file: int | None) -> None:
    """Run one job and exit this process."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        request, data = read_frame(connection, REQUEST)
        source = io.BytesIO(data) if file is None else open(os.dup(file), "rb")  # noqa: SIM115
        _limit(request["cpu_s"], request["memory_bytes"])
        _answer(connection, request, source)
        connection.shutdown(socket.SHUT_WR)
    except MemoryError:
        os._exit(_NO_MEMORY)
    except OSError:  # the caller has disconnected
        pass
    finally:
        os._exit(_ANSWERED)


def _answer(connection: socket.socket, request: dict[str, Any], source: BinaryIO) -> None:
    try:
        meta, body = _find_job(request["job"])(source, **request["arguments"])
        text = json.dumps(meta).encode("utf-8", "surrogatepass")
        if len(text) + len(body) > request["output_bytes"]:
            return _fail(connection, "output", f"{len(text) + len(body)} bytes")
        return send_frame(connection, RESULT, text, body)
    except Unreadable as error:
        return send_frame(connection, UNREADABLE, json.dumps(str(error)).encode())
    except (ConnectionError, MemoryError):
        raise
    except BaseException as error:
        return _fail(connection, "damaged", f"{type(error).__name__}: {error}"[:300])


def _limit(cpu_s: int, memory_bytes: int) -> None:
    """Set the resource limits and the niceness of this process."""
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")
    pages = [0] * 7
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        pages = [int(one) for one in file.read().split()]
    page = resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_DATA, pages[5] * page + memory_bytes),
        (resource.RLIMIT_AS, pages[0] * page + memory_bytes + _MAPPED_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def _find_job(name: str) -> Callable[..., tuple[Any, bytes]]:
    """Return the function of ``module:function``."""
    module, _, function = name.partition(":")
    job: Callable[..., tuple[Any, bytes]] = getattr(importlib.import_module(module), function)
    return job


def send_frame(connection: socket.socket, kind: bytes, text: bytes, body: bytes = b"") -> None:
    """Write one frame."""
    connection.sendall(FRAME.pack(kind, len(text), len(body)) + text)
    if body:
        connection.sendall(body)
    connection.sendall(FRAME_END)


def read_frame(connection: socket.socket, kind: bytes) -> tuple[Any, bytes]:
    """Read a frame of the given kind and return its JSON and its binary data.

    :raises ConnectionError: when another frame is received, or the connection ends.
    """
    came, text_bytes, body_bytes = FRAME.unpack(read_exactly(connection, FRAME.size))
    if came != kind:
        raise ConnectionError("received an unexpected frame")
    text = read_exactly(connection, text_bytes)
    body = read_exactly(connection, body_bytes)
    if read_exactly(connection, 1) != FRAME_END:
        raise ConnectionError("received a frame without an end mark")
    return json.loads(text), bytes(body)


def read_exactly(connection: socket.socket, size_bytes: int) -> bytearray:
    """Read exactly ``size_bytes`` bytes.

    :raises ConnectionError: when the connection ends before.
    """
    return bytearray().join(_iter_pieces(connection, size_bytes))


def _iter_pieces(connection: socket.socket, left: int) -> Iterator[bytes]:
    while left > 0:
        piece = connection.recv(min(left, 2**18))
        if not piece:
            raise ConnectionError("the other end closed the connection")
        left -= len(piece)
        yield piece


def _fail(connection: socket.socket, cause: str, detail: str) -> None:
    """Send the failure of a job. Ignore errors, because the caller may have disconnected."""
    text = json.dumps({"cause": cause, "detail": detail}).encode()
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        connection.sendall(FRAME.pack(FAILED, len(text), 0) + text + FRAME_END)


if __name__ == "__main__":
    sys.exit(f"Start it with: python -c {PROGRAM!r}")
