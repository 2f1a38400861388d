"""(f) Uploads and downloads, one at a time, and downloads sent by nginx."""

from __future__ import annotations

import http.client
import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.nginx import ACCEL_PREFIX, Nginx
from tests.servers import Server, create_key, write_config

from .contestants import WORKERS, make_folder, start_bare
from .figures import FLASK, OURS, WSGI, Aim, Finding, Panel, Sizes, ratio, spread, take_turns

_MIB = 1024 * 1024
_HEAD = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
_TAIL = b"\r\n--X--\r\n"

_COMPARED = (
    "One file after another, with new bytes each, over loopback. This server parses the form, "
    "hashes and examines the bytes, and stores them under a generated name. Bare WSGI writes the "
    "raw body into a file; bare Flask uses request.files and send_file. Bare WSGI sends a download"
    " in pieces of the same size as this server. Delay: of another request beside the transfer."
)

_ACCEL = (
    "nginx with the site of deploy/nginx, without TLS, which would hide the difference. X-Accel: "
    "this server checks the key and lets nginx send the file. nginx: it sends the same file from "
    "a separate location with the same sendfile settings, without a request to this server."
)


def upload(port: int, path: str, key: str, data: bytes) -> bytes:
    """Send one file and return the response's body."""
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
    """Read one file and return its number of bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"X-API-Key": key})
    answer = connection.getresponse()
    assert answer.status == 200
    buffer, total = bytearray(_MIB), 0
    while count := answer.readinto(buffer):
        total += count
    connection.close()
    return total


def measure_files(sizes: Sizes) -> Finding:
    """Measure megabytes per second, and the delay of another request beside a transfer."""
    with ExitStack() as stack:
        folder = make_folder(stack)
        write_config(folder, "http://127.0.0.1:9/v1")
        key = create_key(folder, "file", "im")
        server = stack.enter_context(Server(folder, workers=WORKERS))
        servers = {OURS: server, **start_bare(stack)}
        paths = {OURS: "/api/v1/file", FLASK: "/file", WSGI: "/file"}
        shown = dict(paths)

        def send(name: str) -> float:
            data = os.urandom(sizes.file_bytes)
            began = time.perf_counter()
            answer = upload(servers[name].port, paths[name], key, data)
            if name == OURS:
                shown[OURS] = f"/api/v1/file?attachment_id={_find_id(answer)}"
            return sizes.file_bytes / 1e6 / (time.perf_counter() - began)

        def fetch(name: str) -> float:
            began = time.perf_counter()
            assert (
                download(servers[name].port, shown[name], key) == sizes.file_bytes or name == WSGI
            )
            return sizes.file_bytes / 1e6 / (time.perf_counter() - began)

        up, down = (
            {
                name: spread(rates)
                for name, rates in take_turns(
                    {name: partial(job, name) for name in servers}, sizes.rounds
                ).items()
            }
            for job in (send, fetch)
        )
        waits_ms = {
            "upload": _wait_beside(server.port, key, partial(send, OURS), sizes.rounds),
            "download": _wait_beside(server.port, key, partial(fetch, OURS), sizes.rounds),
        }
    of_up = ratio(up[OURS].values, up[WSGI].values)
    of_down = ratio(down[OURS].values, down[WSGI].values)
    return Finding(
        _COMPARED,
        {
            "upload_mb_per_s": up, "download_mb_per_s": down, "upload_ratio_to_wsgi": of_up,
            "download_ratio_to_wsgi": of_down, "longest_wait_beside_ms": waits_ms,
        },
        [
            Aim("upload, ratio to bare WSGI", of_up.median, at_least=0.7),
            Aim("download, ratio to bare WSGI", of_down.median, at_least=0.9),
            Aim("longest delay of another request, ms", max(waits_ms.values()), at_most=150),
        ],
        [
            Panel("upload", "MB/s", up, 0.7 * up[WSGI].median),
            Panel("download", "MB/s", down, 0.9 * down[WSGI].median),
            Panel("longest delay of another request", "ms", waits_ms, 150),
        ],
    )  # fmt: skip


def measure_accel(sizes: Sizes) -> Finding:
    """Measure a file through ``X-Accel-Redirect`` and from nginx alone."""
    through, alone = f"{OURS}, X-Accel", "nginx alone"
    with ExitStack() as stack:
        folder = make_folder(stack)
        write_config(folder, "http://127.0.0.1:9/v1")
        key = create_key(folder, "file")
        # A large file, because this server's two milliseconds are added once.
        size = 4 * sizes.file_bytes
        options = {
            "ASTRBOT_ACCEL_REDIRECT_PREFIX": ACCEL_PREFIX, "ASTRBOT_PROXY_HOPS": "1",
            "ASTRBOT_MAX_FILE_BYTES": str(size),
        }  # fmt: skip
        server = stack.enter_context(Server(folder, workers=WORKERS, **options))
        name = _find_id(upload(server.port, "/api/v1/file", key, os.urandom(size)))
        files = folder / "files"
        stored = next(path for path in files.rglob("*") if path.is_file())
        nginx = Nginx(
            folder / "nginx", f"server 127.0.0.1:{server.port};", files, edit=_add_static(files)
        )
        stack.callback(nginx.stop)
        paths = {
            through: f"/api/v1/file?attachment_id={name}",
            alone: f"/static/{stored.relative_to(files)}",
        }

        def fetch(path: str) -> float:
            began = time.perf_counter()
            assert download(nginx.port, path, key) == size
            return size / 1e6 / (time.perf_counter() - began)

        found = take_turns(
            {name: partial(fetch, path) for name, path in paths.items()}, 2 * sizes.rounds
        )
    rates = {name: spread(one) for name, one in found.items()}
    share = ratio(found[through], found[alone])
    return Finding(
        _ACCEL,
        {"mb_per_s": rates, "ratio": share},
        # As fast as nginx, except for the request to this server.
        [Aim("X-Accel, ratio to nginx alone", share.median, at_least=0.95)],
        [Panel("download through nginx", "MB/s", rates, 0.95 * rates[alone].median)],
    )


def _add_static(files: Path) -> Callable[[str], str]:
    static = f"location /static/ {{ alias {files}/; sendfile on; tcp_nopush on; max_ranges 1; }}"
    first = "    location / {\n        proxy_pass"

    def edit(site: str) -> str:
        return site.replace(" ssl http2;", ";").replace(first, f"    {static}\n{first}")

    return edit


def _find_id(answer: bytes) -> str:
    return answer.decode().split('"attachment_id":"')[1][:36]


def _wait_beside(port: int, key: str, transfer: Callable[[], object], rounds: int) -> float:
    """Return the longest delay of a request beside a transfer in ms (median of rounds)."""
    waits = []
    for _ in range(rounds):
        with _Beside(port, key) as beside:
            transfer()
        waits.append(beside.longest_ms)
    return statistics.median(waits)


class _Beside(threading.Thread):
    """Requests the bots repeatedly and records the longest delay."""

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
