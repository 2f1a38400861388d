"""A proxy on loopback that forwards requests and tunnels to one port."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import Any, Self

from .raw_endpoint import PATIENCE_S


class Relay:
    """A server on a loopback port with one thread per connection; see :meth:`_serve`."""

    def __init__(self, port: int) -> None:
        self.port = port
        #: Target of each connection or request.
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for one in self._open:
            one.close()

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class LoopbackProxy(Relay):
    """Forwards every host name to one loopback port.

    ``asked`` has the first line of each request, such as ``CONNECT host:443`` or ``GET
    http://host/``.

    :param login: Required ``name:password`` in base64, or an empty text for no login.
    :param refuse: Whether it answers 403 to every request.
    """

    def __init__(self, port: int, *, login: str = "", refuse: bool = False) -> None:
        super().__init__(port)
        self.login = login
        self.refuse = refuse
        self.url = f"http://{self.host}"

    def _serve(self, client: socket.socket) -> None:
        server = None
        with contextlib.suppress(OSError), client.makefile("rb", buffering=0) as reader:
            while head := _read_head(reader):
                method, target, _ = head.decode().split(" ", 2)
                self.asked.append(f"{method} {target}")
                if self.login and f"Basic {self.login}".encode() not in head:
                    client.sendall(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
                    break
                if self.refuse:
                    client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    break
                if server is None:
                    server = socket.create_connection(("127.0.0.1", self.port))
                    self._open.append(server)
                    if method == "CONNECT":
                        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                    self._start(pump, server, client)
                if method == "CONNECT":
                    pump(client, server)
                    break
                path = "/" + target.split("/", 3)[3]
                server.sendall(head.replace(target.encode(), path.encode(), 1))
                size = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                left = int(size[1]) if size else 0
                while left > 0 and (data := client.recv(left)):
                    server.sendall(data)
                    left -= len(data)
        for one in (client, server):
            with contextlib.suppress(OSError):
                if one is not None:
                    one.shutdown(socket.SHUT_RDWR)


def _read_head(reader: Any) -> bytes:
    """Return the head of a request, or empty bytes if the client has closed."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line: bytes = reader.readline()
        if not line:
            return b""
        head += line
    return head


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy data from one end to the other."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
