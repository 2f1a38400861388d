"""Connection of a worker to the MCP sidecar."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ..agent.cancel import Cancellation
from ..agent.tools import report_nothing
from ..errors import ToolError
from .wire import MAX_REPLY_BYTES, MAX_REQUEST_BYTES, VERSION

log = logging.getLogger(__name__)

#: First and longest pause before a reconnect, in seconds.
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 5.0

#: Seconds without data after which ``on_quiet`` is called, and timeout of sending.
_QUIET_S = 15.0

_CHUNK_BYTES = 256 * 1024


#: Takes the ``progress`` of a call, its ``total`` or None if unknown, and a message.
Report = Callable[[float, float | None, str], None]


class _Pending:
    """A running call. It was cancelled if ``done`` is set without an answer."""

    def __init__(self, report: Report) -> None:
        self.done = threading.Event()
        self.answer: dict[str, Any] | None = None
        self.report = report

    def resolve(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.done.set()


class Link:
    """Connection to the sidecar, opened on first use and after each loss.

    Works with threads and with gevent's greenlets. One thread reads, and each
    call waits in its own thread.

    :param on_state: Takes each ``state`` message.
    :param on_lost: Called when connecting fails or the connection is lost.
    :param on_quiet: Called when no data has arrived for some time.
    """

    def __init__(
        self,
        path: str,
        *,
        on_state: Callable[[Mapping[str, Any]], None],
        on_lost: Callable[[], None],
        on_quiet: Callable[[], None],
    ) -> None:
        self._path = path
        self._on_state = on_state
        self._on_lost = on_lost
        self._on_quiet = on_quiet
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._wanted: Mapping[str, Any] = {}
        self._pending: dict[int, _Pending] = {}
        self._numbers = itertools.count(1)
        self._up = False

    def set_servers(self, definitions: Mapping[str, Any]) -> None:
        """Set the servers that this worker uses. Connects if necessary."""
        with self._lock:
            self._wanted = definitions
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(
                    target=self._stay_connected, name="mcp", daemon=True
                )
                self._thread.start()
            if self._up:  # sent with the lock held, so that the last set is sent last
                with contextlib.suppress(OSError, ToolError):
                    self._send({"type": "want", "servers": definitions})

    def call(
        self,
        key: str,
        request: Mapping[str, Any],
        cancel: Cancellation,
        report: Report = report_nothing,
    ) -> dict[str, Any]:
        """Send a request to a server and wait for its result.

        :param request: ``tool`` and ``arguments``, ``uri``, or ``prompt`` and ``arguments``.
        :param report: Called with progress by the reading thread, so it must not block.
        :raises ToolError: when the call fails, with the reason.
        :raises RunCancelled: when ``cancel`` fires. The server is notified.
        """
        pending = _Pending(report)
        with self._lock:
            if not self._up:
                raise ToolError("the MCP sidecar is not running; try again later")
            number = next(self._numbers)
            self._pending[number] = pending
        try:
            try:
                self._send({"type": "call", "id": number, "server": key, **request})
            except OSError as error:
                raise ToolError("the MCP sidecar is not running; try again later") from error
            with cancel.on_cancel(pending.done.set):
                pending.done.wait()
            if pending.answer is None:
                with contextlib.suppress(OSError):
                    self._send({"type": "cancel", "id": number})
                cancel.raise_if_cancelled()
        finally:
            self._pending.pop(number, None)
        assert pending.answer is not None
        if "failure" in pending.answer:
            raise ToolError(pending.answer["failure"])
        return pending.answer

    def close(self) -> None:
        """Close the connection and stop its thread."""
        self._closed.set()
        self._shut_down()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_QUIET_S)

    def abandon(self) -> None:
        """Close this process's copy of a connection inherited by a fork."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        line = orjson.dumps(message) + b"\n"
        if len(line) > MAX_REQUEST_BYTES:
            raise ToolError("the arguments are too large")
        try:
            with self._sending:
                connection = self._socket
                if connection is None:
                    raise ConnectionError("not connected")
                connection.sendall(line)
        except OSError:
            self._shut_down()  # a part of the line may have been sent
            raise

    def _shut_down(self) -> None:
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _stay_connected(self) -> None:
        """Connect and read until closed, and reconnect after each loss."""
        pause_s, said = _FIRST_PAUSE_S, ""
        while not self._closed.is_set():
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.settimeout(_QUIET_S)
                    connection.connect(self._path)
                    self._socket = connection
                    self._read_messages(connection)
                    pause_s, said = _FIRST_PAUSE_S, ""
            except (OSError, ValueError, KeyError) as error:
                if str(error) != said and not self._closed.is_set():
                    said = str(error)
                    log.warning("no MCP sidecar at %s: %s", self._path, error)
            except Exception:
                log.exception("the connection to the MCP sidecar failed")
            self._fail_pending()
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _read_messages(self, connection: socket.socket) -> None:
        """Read messages until the connection ends."""
        buffer = bytearray()
        while not self._closed.is_set():
            try:
                chunk = connection.recv(_CHUNK_BYTES)
            except TimeoutError:
                self._on_quiet()
                continue
            if not chunk:
                break
            start = len(buffer)
            buffer += chunk
            while (end := buffer.find(b"\n", start)) >= 0:
                self._handle(orjson.loads(memoryview(buffer)[:end]))
                del buffer[: end + 1]
                start = 0
            if len(buffer) > MAX_REPLY_BYTES:
                raise ValueError("it sent an overlong line")
        if self._up and not self._closed.is_set():
            log.warning("the MCP sidecar closed the connection")

    def _handle(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "result":
            pending = self._pending.pop(message["id"], None)
            if pending is not None:
                pending.resolve(message)
        elif kind == "progress":
            if (waiting := self._pending.get(message["id"])) is not None:
                waiting.report(message["progress"], message["total"], message["message"] or "")
        elif kind == "state":
            self._on_state(message)
        elif kind == "hello":
            if message["version"] != VERSION:
                raise ValueError("it has another protocol version")
            with self._lock:
                self._up = True
                self._send({"type": "want", "servers": self._wanted})

    def _fail_pending(self) -> None:
        """Fail all pending calls and call ``on_lost``."""
        with self._lock:
            self._up = False
            self._socket = None
            pending, self._pending = self._pending, {}
        for one in pending.values():
            one.resolve({"failure": "the MCP sidecar ended during the call; try again later"})
        self._on_lost()
