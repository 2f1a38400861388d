"""Clients that read one byte per second, or nothing."""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..servers import write_config
from .scenario import Result, pause
from .traffic import traffic
from .world import World

#: Seconds after which an unread stream is closed.
_LAG_S = 5

#: Answer of the model, larger than the kernel's buffers.
_PIECES, _PIECE = 115, "字" * 16_000

#: Maximum memory growth of the workers: in total, and per reader. Storing a turn of this length
#: needs about 37 MiB, which the allocator keeps for the next one.
_MOST_BYTES, _MOST_BYTES_EACH = 300 * 2**20, 48 * 2**20


def read_slowly(size: float) -> Result:
    """Open long streams with slow readers, beside normal clients."""
    count = max(10, round(40 * size))
    result = Result(f"{count} streams of 5.5 MB read at a byte a second, or not at all")
    with _talking_endpoint() as url, World(ASTRBOT_MAX_STREAM_LAG_S=str(_LAG_S)) as world:
        write_config(world.data_dir, url, name="talk", agent="titles = false")
        world.wait_until_it_serves()
        before = measure_memory(world)
        readers = _Readers(world, count)
        largest = before
        with traffic(world, result.ledger, min(0.5, size)):
            readers.start()
            for _ in range(25):
                pause(1)
                largest = max(largest, measure_memory(world))
            result.note_recovery(world.wait_until_it_serves())
        readers.stop()
        result.finish(world)
        grown = largest - before
        result.notes = f"The workers grew by {grown / 2**20:.0f} MiB at most."
        result.check(
            holds=grown < _MOST_BYTES + count * _MOST_BYTES_EACH,
            claim=f"the workers grew by {grown} bytes",
        )
        cut = world.server.read_log().count("was not read and is closed")
        result.check(holds=cut > count / 2, claim=f"{cut} of {count} streams were cut off")
        return result


class _Readers:
    """Streams of several megabytes each, on sockets with small buffers."""

    def __init__(self, world: World, count: int) -> None:
        self._world, self._count = world, count
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Open all streams. A thread reads half of them, one byte at a time."""
        self._thread.start()

    def stop(self) -> None:
        """Close all open streams."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        opened = [self._open(number) for number in range(self._count)]
        for number, connection in enumerate(opened):
            if number % 2:
                selector.register(connection, selectors.EVENT_READ)
        while not self._stopped.wait(1.0):
            for entry, _ in selector.select(0):
                connection = entry.fileobj
                assert isinstance(connection, socket.socket)
                with suppress(OSError):
                    if connection.recv(1):
                        continue
                selector.unregister(connection)
        for connection in opened:
            connection.close()

    def _open(self, number: int) -> socket.socket:
        body = json.dumps(
            {"username": f"slow{number}", "message": "Talk.", "config_id": "talk"}
        ).encode()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", self._world.server.port))
        connection.sendall(
            f"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nX-API-Key: {self._world.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return connection


@contextmanager
def _talking_endpoint() -> Iterator[str]:
    """Open a model endpoint that sends 5.5 MB at once, and yield its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed
            return
        threading.Thread(target=_talk, args=(connection,), daemon=True).start()


def _talk(connection: socket.socket) -> None:
    """Answer any request."""
    with connection, suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for reason, content in [(None, _PIECE)] * _PIECES + [("stop", "")]:
            choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
            chunk = json.dumps({"id": "talk", "choices": [choice]}, ensure_ascii=False)
            connection.sendall(f"data: {chunk}\n\n".encode())
        connection.sendall(b"data: [DONE]\n\n")


def measure_memory(world: World) -> int:
    """Return the private memory of the workers, in bytes."""
    total = 0
    for process in world.server.list_workers():
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        for line in text.splitlines():
            if line.startswith(("Private_Clean", "Private_Dirty")):
                total += int(line.split()[1]) * 1024
    return total
