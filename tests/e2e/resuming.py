"""A client whose connection breaks at random points, and that resumes until the end."""

from __future__ import annotations

import random
import re
import socket
from dataclasses import dataclass, field

_FRAME = re.compile(rb"data: [^\n]*\nid: (\d+)\n\n")


@dataclass
class Cut:
    """The received events of one client."""

    frames: list[bytes] = field(default_factory=list)
    run_id: str = ""
    cuts: int = 0

    @property
    def ended(self) -> bool:
        """Whether it has the last event."""
        return bool(self.frames) and b'"type":"end"' in self.frames[-1]


def chat_with_cuts(port: int, key: str, body: bytes, *, cuts: int, chance: random.Random) -> Cut:
    """Run one turn over connections that break.

    :param cuts: Maximum number of broken connections.
    :param chance: Chooses the number of bytes before each break.
    """
    state = Cut()
    request = (
        f"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    while True:
        limit = chance.randrange(50, 800) if state.cuts < cuts else 2**40
        _read(port, request, state, limit)
        if state.ended:
            return state
        state.cuts += 1
        assert state.run_id, "cut before the run was known"
        request = (
            f"GET /api/v1/chat/runs/{state.run_id}/stream HTTP/1.1\r\nHost: x\r\n"
            f"X-API-Key: {key}\r\nConnection: close\r\n"
            f"Last-Event-ID: {len(state.frames)}\r\n\r\n"
        ).encode()


def _read(port: int, request: bytes, state: Cut, limit: int) -> None:
    """Read a stream until its end or up to ``limit`` bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        head, buffer, taken = b"", b"", 0
        while b"\r\n\r\n" not in head:
            chunk = connection.recv(4096)
            assert chunk, head
            head += chunk
        assert head.startswith(b"HTTP/1.1 200"), head
        raw = head.partition(b"\r\n\r\n")[2]
        while True:
            buffer, raw = _dechunk(raw, buffer)
            buffer = _take(buffer, state)
            if state.ended or (taken > limit and state.run_id):
                return
            chunk = connection.recv(4096)
            if not chunk:
                return
            taken += len(chunk)
            raw += chunk


def _dechunk(raw: bytes, buffer: bytes) -> tuple[bytes, bytes]:
    """Move complete chunks of a chunked body into the buffer."""
    while b"\r\n" in raw:
        size, _, rest = raw.partition(b"\r\n")
        length = int(size, 16)
        if len(rest) < length + 2:
            break
        buffer, raw = buffer + rest[:length], rest[length + 2 :]
    return buffer, raw


def _take(buffer: bytes, state: Cut) -> bytes:
    end = 0
    for found in _FRAME.finditer(buffer):
        assert int(found[1]) == len(state.frames) + 1, (found[0], len(state.frames))
        state.frames.append(found[0])
        if not state.run_id and b'"run_started"' in found[0]:
            state.run_id = found[0].partition(b'"run_id":"')[2][:36].decode()
        end = found.end()
    return buffer[end:]
