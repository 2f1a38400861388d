"""Streams: what one costs, how late its events come, here and on another worker."""

from __future__ import annotations

import json
import re
import selectors
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import ticking
from tests.servers import Server, create_key

_STAMP = re.compile(rb"T(\d{6,20});")

#: Raised for a worker that is to have more than anybody should give it.
_ROOM = {
    "ASTRBOT_MAX_RUNS_PER_WORKER": "20000",
    "ASTRBOT_MAX_STREAMS_PER_WORKER": "20000",
    "ASTRBOT_MAX_STREAMS_PER_KEY": "20000",
    "ASTRBOT_MAX_RUNS_PER_KEY": "20000",
    "ASTRBOT_ACCESS_LOG": "0",
}

#: Requests that wait for their head at the same time, while streams are opened.
_OPENING = 400


class Crowd:
    """Open streams, read in one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._opening = 0
        self.sockets: list[socket.socket] = []
        self.delays_ms: list[float] = []
        self.counting = False

    def open(self, port: int, requests: Sequence[bytes]) -> None:
        """Send requests, some at a time, and wait until each has its head."""
        for request in requests:
            while self._opening >= _OPENING:
                self._read(1.0)
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(request)
            self._selector.register(connection, selectors.EVENT_READ, [True])
            self.sockets.append(connection)
            self._opening += 1
        while self._opening:
            self._read(1.0)

    def read_for(self, seconds: float) -> None:
        """Read, and note how old each token is."""
        self.counting = True
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._read(left)
        self.counting = False

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the delays."""
        ordered = sorted(self.delays_ms)
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 1)

    def close(self) -> None:
        """Drop every connection."""
        self._selector.close()
        for connection in self.sockets:
            connection.close()

    def _read(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            connection: Any = key.fileobj
            data = connection.recv(262_144)
            now = time.monotonic_ns()
            if key.data[0]:
                assert b" 200 " in data[:16], data
                key.data[0] = False
                self._opening -= 1
            if not data:
                self._selector.unregister(connection)
            elif self.counting:
                self.delays_ms += [(now - int(one)) / 1e6 for one in _STAMP.findall(data)]


def _post(path: str, key: str, body: dict[str, Any]) -> bytes:
    text = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    ).encode()


def _get(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n\r\n".encode()


def _usage(server: Server) -> dict[str, float]:
    found: dict[str, float] = server.request("GET", "/bench").json()
    return found


def _start(stack: ExitStack, folder: Path | None = None) -> tuple[Server, str]:
    if folder is None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    ticking.write_config(folder)
    key = create_key(folder, "chat")
    server = stack.enter_context(Server(folder, workers=1, app="bench.ticking:create()", **_ROOM))
    server.chat(key, message="TICKS=1 EVERY=1")
    return server, key


def _chats(key: str, count: int, ticks: int, every_ms: int) -> list[bytes]:
    body = {"username": "bench", "message": f"TICKS={ticks} EVERY={every_ms}"}
    return [_post("/api/v1/chat", key, body) for _ in range(count)]


def _watch(
    crowd: Crowd, usage: Callable[[], dict[str, float]], seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    before = usage()
    crowd.read_for(seconds)
    return before, usage()


def measure_open_streams(seconds: float) -> dict[str, Any]:
    """5,000 turns on one worker, each with its stream, each with a token a second."""
    with ExitStack() as stack:
        server, key = _start(stack)
        stack.callback(server.process.kill)  # nobody waits for what 5,000 turns still say
        empty = _usage(server)
        crowd = Crowd()
        stack.callback(crowd.close)
        began = time.monotonic()
        crowd.open(server.port, _chats(key, 5000, ticks=600, every_ms=1000))
        opening_s = time.monotonic() - began
        crowd.read_for(3)  # until it is quiet
        crowd.delays_ms.clear()
        before, after = _watch(crowd, lambda: _usage(server), max(seconds, 10))
        return {
            "streams": 5000,
            "opened_in_s": round(opening_s, 1),
            "kb_per_stream": round((after["rss_kb"] - empty["rss_kb"]) / 5000, 1),
            "events_per_second": round(len(crowd.delays_ms) / max(seconds, 10)),
            "delay_p50_ms": crowd.percentile_ms(50),
            "delay_p99_ms": crowd.percentile_ms(99),
            "cpu": _cores(before, after),
            "aim": "40 KB a stream, p99 50 ms",
        }


def measure_fast_streams(seconds: float) -> dict[str, Any]:
    """500 streams of 20 tokens a second on one worker, beside a bare generator's."""
    with ExitStack() as stack:
        server, key = _start(stack)
        stack.callback(server.process.kill)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bare = stack.enter_context(Server(folder, workers=1, app="bench.bare_stream:application"))
        ours = _run_fast(server, _chats(key, 500, ticks=20 * 600, every_ms=50), seconds)
        server.process.kill()
        other = _run_fast(bare, [_get("/stream?ticks=12000&every=50", "-")] * 500, seconds)
        bare.process.kill()
        return {
            "streams": 500,
            "ours": ours,
            "bare": other,
            "aim": "printed beside a bare gevent generator doing the same",
        }


def _run_fast(server: Server, requests: Sequence[bytes], seconds: float) -> dict[str, Any]:
    crowd = Crowd()
    try:
        crowd.open(server.port, requests)
        crowd.read_for(2)
        crowd.delays_ms.clear()
        before, after = _watch(crowd, lambda: _usage(server), max(seconds, 10))
    finally:
        crowd.close()
    figures = {
        "events_per_second": round(len(crowd.delays_ms) / max(seconds, 10)),
        "cpu": _cores(before, after),
        "delay_p50_ms": crowd.percentile_ms(50),
        "delay_p99_ms": crowd.percentile_ms(99),
    }
    if "transactions" in after:
        figures["transactions_per_second"] = _per_second(before, after)
    return figures


def measure_other_worker(seconds: float) -> dict[str, Any]:
    """200 streams of 20 tokens a second, run by one worker and read from another."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs, key = _start(stack, folder)
        reads, _ = _start(stack, folder)
        stack.callback(runs.process.kill)
        stack.callback(reads.process.kill)
        body = {
            "username": "bench",
            "message": f"TICKS={20 * 600} EVERY=50",
            "response_mode": "background",
        }
        ids = [
            runs.request("POST", "/api/v1/chat", key, json=body).json()["data"]["run_id"]
            for _ in range(200)
        ]
        crowd = Crowd()
        stack.callback(crowd.close)
        paths = [f"/api/v1/chat/runs/{one}/stream?username=bench" for one in ids]
        crowd.open(reads.port, [_get(path, key) for path in paths])
        crowd.read_for(3)  # what was said before
        crowd.delays_ms.clear()
        started = _usage(reads)
        before, after = _watch(crowd, lambda: _usage(runs), max(seconds, 10))
        return {
            "streams": 200,
            "events_per_second": round(len(crowd.delays_ms) / max(seconds, 10)),
            "delay_p50_ms": crowd.percentile_ms(50),
            "delay_p99_ms": crowd.percentile_ms(99),
            "transactions_per_second": _per_second(before, after),
            "cpu_of_the_running_worker": _cores(before, after),
            "cpu_of_the_reading_worker": _cores(started, _usage(reads)),
            "aim": "p99 50 ms, under 60 transactions a second",
        }


def _cores(before: dict[str, float], after: dict[str, float]) -> float:
    return round((after["cpu_s"] - before["cpu_s"]) / (after["at_s"] - before["at_s"]), 2)


def _per_second(before: dict[str, float], after: dict[str, float]) -> float:
    spent = after["at_s"] - before["at_s"]
    return round((after["transactions"] - before["transactions"]) / spent, 1)
