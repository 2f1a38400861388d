"""A load generator in one process: raw sockets, one request a connection at a time.

It does as little as it can for a request, because it shares two cores with
what it measures.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Result:
    """What one round gave. ``latencies_s`` has one entry a request."""

    requests: int = 0
    failed: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Requests that ended well, a second."""
        return self.requests / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


class _Connection:
    __slots__ = ("buffer", "sent_at", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.buffer = b""
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)


def run_load(
    port: int,
    make_request: Callable[[int], bytes],
    is_whole: Callable[[bytes], bool],
    *,
    connections: int,
    seconds: float,
    is_good: Callable[[bytes], bool],
) -> Result:
    """Send requests on keep-alive connections for a while.

    :param make_request: Number of the request -> its bytes.
    :param is_whole: Whether these bytes are a whole answer.
    :param is_good: Whether a whole answer is the right one.
    """
    selector = selectors.DefaultSelector()
    result = Result()
    number = 0
    started = time.perf_counter()
    for _ in range(connections):
        connection = _Connection(port)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(make_request(number))
        number += 1
    open_connections = connections
    while open_connections:
        ready = selector.select(30)
        if not ready:
            raise TimeoutError("no answer within 30 s")
        for key, _ in ready:
            connection = key.data
            chunk = connection.socket.recv(65536)
            connection.buffer += chunk
            if chunk and not is_whole(connection.buffer):
                continue
            now = time.perf_counter()
            if chunk and is_good(connection.buffer):
                result.requests += 1
                result.latencies_s.append(now - connection.sent_at)
            else:
                result.failed += 1
            if chunk and now - started < seconds:
                connection.send(make_request(number))
                number += 1
            else:
                selector.unregister(connection.socket)
                connection.socket.close()
                open_connections -= 1
    result.seconds = time.perf_counter() - started
    selector.close()
    return result
