"""Ten thousand connections at once."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import time
from collections import Counter

from .scenario import Result
from .slow_readers import measure_memory
from .traffic import traffic
from .world import Skipped, World

_CONNECTIONS = 10_000

#: Time for which the model of each turn is silent, in milliseconds, until all are open.
_SILENT_MS = 60_000

#: Number of streams that the server accepts. Others are rejected.
_MOST_STREAMS_PER_WORKER = 4000

#: Maximum number of connections per source address, below the number of local ports.
_PER_ADDRESS = 5000


def open_many_connections(size: float) -> Result:
    """Open a stream on each of ten thousand connections. Those beyond the limit are rejected."""
    count = max(100, round(_CONNECTIONS * size))
    most = max(1, round(_MOST_STREAMS_PER_WORKER * size))
    _raise_limit(count + 500)
    result = Result(f"{count} connections at once, each asks for a stream; {2 * most} are allowed")
    with World(
        ASTRBOT_MAX_STREAMS_PER_WORKER=str(most), ASTRBOT_MAX_RUNS_PER_WORKER=str(count),
        ASTRBOT_HEARTBEAT_S="5", provider="read_timeout_s = 600",
    ) as world:  # fmt: skip
        world.wait_until_it_serves()
        before = measure_memory(world)
        began = time.monotonic()
        crowd = Crowd(world, count)
        crowd.wait_for_answers()
        answered_at = time.monotonic()
        opened_s = answered_at - began
        each = (measure_memory(world) - before) / max(1, crowd.answers["200"])
        result.ledger.errors.update(
            {key: n for key, n in crowd.answers.items() if not key.startswith("200")}
        )
        result.check(
            holds=crowd.answers["200"] + crowd.answers["server_busy"] == count,
            claim=f"connections were answered so: {dict(crowd.answers)}",
        )
        held = crowd.answers["200"]
        result.check(holds=held >= most, claim=f"fewer streams than allowed: {held}")
        result.check(holds=held <= 2 * most, claim=f"more streams than allowed: {held}")
        with_all_s = _time_request(world)
        crowd.close()
        result.note_recovery(world.wait_until_it_serves())
        with traffic(world, result.ledger, min(0.3, size)):
            time.sleep(_SILENT_MS / 1000 - (time.monotonic() - answered_at))
        result.notes = (
            f"{crowd.answers['200']} streams open after {opened_s:.1f} s, "
            f"{each / 1024:.0f} KiB each with its turn; "
            f"another request meanwhile took {1000 * with_all_s:.0f} ms."
        )
        return result.finish(world)


class Crowd:
    """Connections from several addresses of loopback, in one thread."""

    def __init__(self, world: World, count: int) -> None:
        self.answers: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[socket.socket, bytes] = {}
        self._all: list[socket.socket] = []
        for number in range(count):
            self._open(world, number)
            if number % 200 == 199:
                self._read(0)

    def wait_for_answers(self, limit_s: float = 180.0) -> None:
        """Wait until each connection has the headers of its response, or is closed."""
        until = time.monotonic() + limit_s
        while self._waiting and time.monotonic() < until:
            self._read(1.0)
        if self._waiting:
            self.answers["none"] += len(self._waiting)

    def close(self) -> None:
        """Close all at once."""
        for connection in self._all:
            connection.close()
        self._selector.close()

    def _open(self, world: World, number: int) -> None:
        body = json.dumps({"username": f"u{number}", "message": f"FIRST={_SILENT_MS} n{number}"})
        connection = socket.socket()
        self._all.append(connection)
        connection.bind((f"127.0.0.{2 + number // _PER_ADDRESS}", 0))
        connection.settimeout(60)
        try:
            connection.connect(("127.0.0.1", world.server.port))
            connection.sendall(
                f"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nX-API-Key: {world.key}\r\n"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
        except OSError:
            self.answers["not connected"] += 1
            return
        connection.setblocking(False)
        self._waiting[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, wait_s: float) -> None:
        for entry, _ in self._selector.select(wait_s):
            connection = entry.fileobj
            assert isinstance(connection, socket.socket)
            try:
                piece = connection.recv(65536)
            except OSError:
                piece = b""
            data = self._waiting[connection] + piece
            self._waiting[connection] = data
            outcome = _find_outcome(data, ended=not piece)
            if outcome:
                self.answers[outcome] += 1
                self._selector.unregister(connection)
                del self._waiting[connection]


def _find_outcome(data: bytes, *, ended: bool) -> str:
    """Return the response of a connection, or an empty text if it is incomplete."""
    if b'"run_started"' in data:
        return "200"
    head, _, body = data.partition(b"\r\n\r\n")
    if head and b" 200 " not in head[:20] and body.endswith(b"}"):
        return str(json.loads(body[body.index(b"{") :])["code"])
    return "cut" if ended else ""


def _time_request(world: World) -> float:
    began = time.monotonic()
    answer = world.server.request("GET", "/api/v1/im/bots", world.key)
    assert answer.status == 200, answer.data
    return time.monotonic() - began


def _raise_limit(files: int) -> None:
    """Raise the limit of open files of this process.

    :raises Skipped: if the machine does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise Skipped(f"{files} open files are needed, the hard limit is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
