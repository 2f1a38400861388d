"""Uploads and downloads in MB/s, beside gunicorn alone doing the same."""

from __future__ import annotations

import http.client
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.servers import Server, create_key, write_config

ROUNDS = 5
_MIB = 1024 * 1024
_SIZE_BYTES = 64 * _MIB

_HEAD = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
_TAIL = b"\r\n--X--\r\n"


def upload(port: int, path: str, key: str, data: bytes) -> bytes:
    """Send one file; return the answer's body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", path)
    connection.putheader("X-API-Key", key)
    connection.putheader("Content-Type", "multipart/form-data; boundary=X")
    connection.putheader("Content-Length", str(len(_HEAD) + len(data) + len(_TAIL)))
    connection.endheaders()
    for piece in (_HEAD, data, _TAIL):
        connection.send(piece)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, body
    return body


def download(port: int, path: str, key: str) -> int:
    """Read one file; return how many bytes came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"X-API-Key": key})
    answer = connection.getresponse()
    assert answer.status == 200
    buffer, total = bytearray(_MIB), 0
    while count := answer.readinto(buffer):
        total += count
    connection.close()
    return total


def _rate(job: Callable[[], Any]) -> float:
    started = time.perf_counter()
    job()
    return _SIZE_BYTES / 1e6 / (time.perf_counter() - started)


class _Beside(threading.Thread):
    """Asks for the bots again and again; keeps the longest wait."""

    def __init__(self, port: int, key: str) -> None:
        super().__init__()
        self._port, self._key = port, key
        self._done = threading.Event()
        self.longest_ms = 0.0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._done.wait(0.01):
            started = time.perf_counter()
            connection.request("GET", "/api/v1/im/bots", headers={"X-API-Key": self._key})
            connection.getresponse().read()
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - started) * 1000)
        connection.close()

    def __enter__(self) -> _Beside:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self.join()


def measure_files(seconds: float) -> dict[str, Any]:
    """Files of 64 MiB, one at a time, new bytes each; then what a request beside them waits."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as bare:
        folder = Path(ours)
        write_config(folder, "http://127.0.0.1:9/v1")
        key = create_key(folder, "file", "im")
        with (
            Server(folder, workers=1) as server,
            Server(Path(bare), workers=1, app="bench.bare_files:application") as plain,
        ):
            rates: dict[str, list[float]] = {name: [] for name in ("up", "bup", "down", "bdown")}
            waits: dict[str, list[float]] = {"up": [], "down": []}
            for number in range(ROUNDS + 1):
                data = os.urandom(_SIZE_BYTES)
                answer = b""

                def send(data: bytes = data) -> None:
                    nonlocal answer
                    answer = upload(server.port, "/api/v1/file", key, data)

                found = {"up": _rate(send)}
                found["bup"] = _rate(lambda data=data: upload(plain.port, "/", key, data))
                name = answer.decode().split('"attachment_id":"')[1][:36]
                path = f"/api/v1/file?attachment_id={name}"
                found["down"] = _rate(lambda path=path: download(server.port, path, key))
                found["bdown"] = _rate(lambda: download(plain.port, "/", key))
                if number:  # the first round warms
                    for kind, rate in found.items():
                        rates[kind].append(rate)
                with _Beside(server.port, key) as beside:
                    upload(server.port, "/api/v1/file", key, data[::-1])
                waits["up"].append(beside.longest_ms)
                with _Beside(server.port, key) as beside:
                    download(server.port, path, key)
                waits["down"].append(beside.longest_ms)
    return {
        "upload_mb_per_s": round(statistics.median(rates["up"])),
        "bare_upload_mb_per_s": round(statistics.median(rates["bup"])),
        "download_mb_per_s": round(statistics.median(rates["down"])),
        "bare_download_mb_per_s": round(statistics.median(rates["bdown"])),
        "longest_wait_beside_upload_ms": round(statistics.median(waits["up"])),
        "longest_wait_beside_download_ms": round(statistics.median(waits["down"])),
        "aim": "no wait over 150 ms",
    }


if __name__ == "__main__":
    print(measure_files(0))
