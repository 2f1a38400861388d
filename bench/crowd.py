"""Many open streams, read by one thread with little overhead."""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .source import MARK

_STAMP = re.compile(rb"~(\d{6,20});")
_MARK = MARK.encode()
_END = b"0\r\n\r\n"  # end of a chunked response; it often arrives alone

#: Maximum number of unanswered requests while streams are opened.
_OPENING = 400

_PATIENCE_S = 30.0


@dataclass(slots=True)
class _Stream:
    """State of one stream.

    :param watched: Whether its first byte is awaited. Such a stream is kept after its end.
    """

    watched: bool = False
    begun: bool = False
    head: bytes = b""
    first_byte_at: float = 0.0


class Crowd:
    """Thousands of open streams of one server.

    ``counting`` counts tokens. ``timing`` records their delays.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._opening = 0
        self.tokens = 0
        self.delays_ms: list[float] = []
        self.counting = self.timing = False

    def open(self, requests: Sequence[bytes]) -> None:
        """Send requests, a limited number at a time, and wait for the headers of all responses."""
        for request in requests:
            self._read_while_opening(_OPENING)
            connection = socket.create_connection(("127.0.0.1", self._port))
            connection.sendall(request)
            self._selector.register(connection, selectors.EVENT_READ, _Stream())
            self._opening += 1
        self._read_while_opening(1)

    def read_for(self, seconds: float) -> None:
        """Read all streams for this time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._read(left)

    def read_to_the_end(self) -> None:
        """Read until every stream has ended."""
        until = time.monotonic() + _PATIENCE_S
        while self._selector.get_map():
            assert time.monotonic() < until, "streams did not end"
            self._read(1.0)

    def time_first_bytes(self, request: bytes, seconds: float) -> list[float]:
        """Open one stream after another beside the open ones.

        :returns: Milliseconds of each, from the request on a new connection to the first byte of
            the body.
        """
        found: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            connection = socket.create_connection(("127.0.0.1", self._port))
            connection.sendall(request)
            stream = _Stream(watched=True)
            self._selector.register(connection, selectors.EVENT_READ, stream)
            self._opening += 1
            while not stream.first_byte_at:
                self._read(1.0)
            found.append((stream.first_byte_at - began) * 1000)
            self._drop(connection)
        return found

    def close(self) -> None:
        """Close all connections."""
        for key in list(self._selector.get_map().values()):
            self._drop(key.fileobj)
        self._selector.close()

    def _read_while_opening(self, count: int) -> None:
        until = time.monotonic() + _PATIENCE_S
        while self._opening >= count:
            assert time.monotonic() < until, f"{self._opening} streams got no headers"
            self._read(1.0)

    def _drop(self, connection: Any) -> None:
        self._selector.unregister(connection)
        connection.close()

    def _read(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            connection: Any = key.fileobj
            data = connection.recv(262_144)
            now_ns = time.monotonic_ns()
            stream: _Stream = key.data
            if not stream.begun:
                assert b" 200 " in data[:16], data
                stream.begun = True
                self._opening -= 1
            if stream.watched:
                self._watch(stream, data)
            elif not data or data.endswith(_END):
                self._drop(connection)
            if self.counting:
                self.tokens += data.count(_MARK)
            if self.timing:
                self.delays_ms += [(now_ns - int(one)) / 1e6 for one in _STAMP.findall(data)]

    def _watch(self, stream: _Stream, data: bytes) -> None:
        stream.head += data
        if not stream.first_byte_at and stream.head.partition(b"\r\n\r\n")[2]:
            stream.first_byte_at = time.perf_counter()


def post(path: str, key: str, body: dict[str, Any]) -> bytes:
    """Return the bytes of a request with a JSON body."""
    text = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    ).encode()


def get(path: str, key: str = "-") -> bytes:
    """Return the bytes of a request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n\r\n".encode()


def chat(key: str, words: str) -> bytes:
    """Return the bytes of a request for a turn."""
    return post("/api/v1/chat", key, {"username": "bench", "message": words})


def bare_stream(words: str) -> bytes:
    """Return the bytes of a request for a bare generator's stream."""
    return get("/stream?words=" + words.replace(" ", "+").replace("=", "%3D"))


def has_length(answer: bytes) -> bool:
    """Return whether the body is as long as its Content-Length."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    at = head.lower().index(b"content-length:")
    return len(body) >= int(head[at + 15 :].split(b"\r\n", 1)[0])
