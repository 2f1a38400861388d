"""A load generator in one process: raw sockets, one request per connection at a time.

It has little overhead, because it shares two cores with the measured server.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Result:
    """Result of one round. ``latencies_s`` has one entry per request."""

    requests: int = 0
    failed: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Successful requests per second."""
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
    """Send requests on keep-alive connections for some seconds.

    :param make_request: Number of the request -> its bytes.
    :param is_whole: Whether these bytes are a complete response.
    :param is_good: Whether a complete response is correct.
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
            raise TimeoutError("no response within 30 s")
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
