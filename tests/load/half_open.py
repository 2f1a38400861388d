"""Requests that stop midway, and clients that disappear."""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path

from .scenario import Result
from .traffic import traffic
from .world import World

#: Seconds until the server closes an incomplete request.
_LIMIT_S = 75.0

#: Partial requests, one for each point at which a request can stop.
_HEAD = "POST /api/v1/{path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
_JSON = "Content-Type: application/json\r\n"
_FORM = "Content-Type: multipart/form-data; boundary=B\r\n"
_PART = '--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nbytes'
_WAYS = {
    "nothing": "",
    "request line": "POST /api/v1/ch",
    "head": _HEAD,
    "json": _HEAD + _JSON + 'Content-Length: 1000\r\n\r\n{{"message":',
    "upload": _HEAD + _FORM + "Content-Length: 1000000\r\n\r\n" + _PART,
    "chunks": _HEAD + _FORM + "Transfer-Encoding: chunked\r\n\r\n5\r\n--B\r\n",
}


def leave_half_open(size: float) -> Result:
    """Open connections with partial requests, and reset others."""
    count = max(2, round(100 * size))
    result = Result(f"{len(_WAYS)} kinds of requests that stop, {count} each; {count} reset")
    with World() as world:
        world.wait_until_it_serves()
        before = _count_descriptors(world)
        opened = {way: [_open(world, way) for _ in range(count)] for way in _WAYS}
        with traffic(world, result.ledger, min(0.5, size)):
            result.note_recovery(world.wait_until_it_serves())
            for _ in range(count):
                _reset_in_a_stream(world)
            left = _wait_until_closed([one for ones in opened.values() for one in ones])
            result.note_recovery(world.wait_until_it_serves())
        for way, connections in opened.items():
            held = sum(one in left for one in connections)
            result.check(holds=not held, claim=f"{held} connections held: {way}")
            for connection in connections:
                connection.close()
        result.finish(world)
        more = _count_descriptors(world) - before
        result.notes = f"{more} descriptors more than before."
        result.check(holds=more < 150, claim=f"{more} descriptors are left open")
        return result


def _open(world: World, way: str) -> socket.socket:
    connection = world.server.connect()
    path = "chat" if way == "json" else "file"
    connection.sendall(_WAYS[way].format(path=path, key=world.key).encode())
    return connection


def _reset_in_a_stream(world: World) -> None:
    """Start a chat, then reset the connection."""
    body = json.dumps({"username": "gone", "message": "DELAY=50 N=40 x"})
    connection = world.server.connect()
    head = (_HEAD + _JSON).format(path="chat", key=world.key)
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _wait_until_closed(connections: list[socket.socket]) -> set[socket.socket]:
    """Return the connections that the server has not closed in time."""
    left = set(connections)
    until = time.monotonic() + _LIMIT_S
    for connection in connections:
        connection.setblocking(False)
    while left and time.monotonic() < until:
        for connection in list(left):
            try:
                if not connection.recv(65536):
                    left.discard(connection)
            except BlockingIOError:
                continue
            except OSError:
                left.discard(connection)
        time.sleep(0.2)
    return left


def _count_descriptors(world: World) -> int:
    return sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in world.server.list_workers())
