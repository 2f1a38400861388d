"""Faulty networks for tests of clients: a proxy that drops connections, a scripted server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self


class _Loopback:
    """A listening socket that handles each connection in a thread."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for one in left:
            _close(one)
        for thread in self._threads:
            thread.join(30)

    def handle(self, client: socket.socket) -> None:
        raise NotImplementedError

    def track(self, one: socket.socket) -> None:
        """Register a socket to close at the end of the test."""
        with self._lock:
            self._open.add(one)

    def _start(self, job: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=job, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.track(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            self.handle(client)
        except OSError:
            pass
        finally:
            _close(client)


class CuttingProxy(_Loopback):
    """Forwards to a server and drops connections after a part of the response.

    :param limit_bytes: Forwarded bytes of the response. With 0, only the request is forwarded.
    :param cuts: Number of connections to drop, or None for all.
    """

    def __init__(self, port: int, limit_bytes: int, cuts: int | None = None) -> None:
        super().__init__()
        self._target, self._limit, self._cuts = port, limit_bytes, cuts

    def handle(self, client: socket.socket) -> None:
        """Forward in both directions up to the limit."""
        with self._lock:
            cut = self._cuts is None or self._cuts > 0
            if self._cuts:
                self._cuts -= 1
        left = self._limit if cut else 1 << 62
        server = socket.create_connection(("127.0.0.1", self._target))
        self.track(server)
        up = self._start(_forward, client, server)
        try:
            # Drop the connection only after the server has responded.
            while data := server.recv(65536):
                client.sendall(data[:left])
                left -= min(left, len(data))
                if not left:
                    break
        finally:
            _close(client)
            _close(server)
            up.join(30)


@dataclass
class Request:
    """A request received by a scripted server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)


class ScriptedServer(_Loopback):
    """Responds to each connection with the next scripted bytes, then closes it.

    :param answers: Raw responses. The last one repeats.
    """

    def __init__(self, answers: Sequence[bytes]) -> None:
        super().__init__()
        self._answers = list(answers)
        self.requests: list[Request] = []

    def handle(self, client: socket.socket) -> None:
        """Read one request and send the response."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                return
            data += piece
        head, body = data.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        while len(body) < int(headers.get("content-length", 0)):
            body += client.recv(65536)
        method, path, _ = first.split(" ")
        with self._lock:
            self.requests.append(Request(method, path, headers, body))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        client.sendall(answer)


def answer(
    body: bytes,
    *,
    status: int = 200,
    kind: str = "application/json",
    length: bool = True,
    **more: str,
) -> bytes:
    """Return the bytes of an HTTP response that closes the connection.

    :param length: Whether to send ``Content-Length``, by which a client detects a truncated body.
    """
    headers = {"Content-Type": kind, "Connection": "close", **more}
    if length:
        headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {status} X", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream(*frames: str, **more: str) -> bytes:
    """Return the response of an event stream that ends with its connection."""
    body = "".join(f"{one}\n\n" for one in frames).encode()
    named: dict[str, Any] = dict(more)
    return answer(body, kind="text/event-stream; charset=utf-8", length=False, **named)


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
