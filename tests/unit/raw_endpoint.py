"""A model endpoint on raw sockets, for invalid behaviour."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

#: Maximum wait for events that should happen at once.
PATIENCE_S = 30.0

OK_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = OK_EVENTS + b"Transfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


class Connection:
    """The endpoint's side of one connection."""

    def __init__(self, sock: socket.socket, ending: socket.socket) -> None:
        sock.settimeout(PATIENCE_S)
        self.sock = sock
        self._ending = ending
        self._file = sock.makefile("rb")

    def read_request(self) -> tuple[str, bytes]:
        """Return the head and the body of the next request.

        Both are empty if the client has closed, or the test ends while a client keeps its
        connection open.
        """
        ready, _, _ = select.select([self.sock, self._ending], [], [], PATIENCE_S)
        if self.sock not in ready:
            return "", b""
        head = b""
        while line := self._file.readline():
            head += line
            if line == b"\r\n":
                break
        text = head.decode()
        size = 0
        for line_text in text.split("\r\n"):
            name, _, value = line_text.partition(":")
            if name.lower() == "content-length":
                size = int(value)
        return text, self._file.read(size)

    def iter_requests(self) -> Iterator[tuple[str, bytes]]:
        """Yield the head and the body of each request until the client closes."""
        while (request := self.read_request())[0]:
            yield request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def send_json(self, status: int, value: Any, headers: str = "") -> None:
        content = json.dumps(value).encode()
        self.send(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )

    def send_stream(self, *events: bytes) -> None:
        """Send a whole streamed answer and keep the connection open."""
        self.send(CHUNKED)
        for one in events:
            self.send_chunk(one)
        self.send(b"0\r\n\r\n")

    def wait_until_closed(self) -> bool:
        """Return whether the client closed its side before the timeout."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def wait_readable(self, limit_s: float) -> bool:
        """Return whether the client sent data or closed within this time."""
        return bool(select.select([self.sock], [], [], limit_s)[0])

    def close(self) -> None:
        self._file.close()
        self.sock.close()


class RawEndpoint:
    """Serves each connection with the next handler. The last handler is reused.

    The ``with`` block raises a handler's exception.
    """

    def __init__(self, *handlers: Callable[[Connection], None]) -> None:
        self._handlers = list(handlers)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._ending, self._ender = socket.socketpair()
        self._threads: list[threading.Thread] = []
        self._errors: list[Exception] = []
        self.connections = 0
        port = self._listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def __enter__(self) -> RawEndpoint:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._ender.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a handler still waits"
        self._ending.close()
        self._listener.close()
        if self._errors:
            raise self._errors[0]

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            handler = self._handlers.pop(0) if len(self._handlers) > 1 else self._handlers[0]
            self._start(self._run, handler, Connection(sock, self._ending))

    def _run(self, handler: Callable[[Connection], None], connection: Connection) -> None:
        try:
            handler(connection)
        except ConnectionError:
            pass  # the client may close at any time
        except Exception as error:
            self._errors.append(error)
        finally:
            connection.close()


def event(
    delta: dict[str, Any] | None = None, finish_reason: str | None = None, **fields: Any
) -> bytes:
    """Return one chunk of an answer as an event."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice], **fields}).encode() + b"\n\n"


def answering(*events: bytes) -> Callable[[Connection], None]:
    """Return a handler that answers every request with these events."""

    def handle(connection: Connection) -> None:
        while connection.read_request()[0]:
            connection.send_stream(*events)

    return handle
