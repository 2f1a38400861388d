"""Five tenants that send worst-case requests, beside normal clients."""

from __future__ import annotations

import http.client
import http.server
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..e2e.test_worst_inputs import (
    _FILES,
    _form_bodies,
    _json_bodies,
)
from ..servers import create_key
from ..websocket import PONG, TEXT, WebSocketClient, handshake
from .scenario import Result, pause
from .traffic import traffic
from .world import World

#: Maximum delay of a normal client, in seconds.
_MAX_WAIT_S = 1.0

#: Number of clients that send small requests one after another.
_HONEST = 10

_TENANTS = 5

#: Routes for a tenant's bodies, with and without a message.
_LONG = ("chat", "im/message", "openai/chat/completions")
_SHORT = ("keys/session", "chat/sessions/batch-delete", "chat/sessions/new", "hooks/nobody")


def attack(size: float) -> Result:
    """Run five tenants with worst-case bodies, frames and files beside normal clients."""
    result = Result(f"{_TENANTS} tenants with the worst bodies, frames and files at once")
    with World() as world:
        world.wait_until_it_serves()
        workers = world.server.list_workers()
        keys = [create_key(world.data_dir, "chat", "file", "im") for _ in range(_TENANTS + 1)]
        waits = _Honest(world.server.port, keys[-1])
        with traffic(world, result.ledger, min(0.3, size)), waits.running():
            with _tenants(world.server.port, keys[:-1]):
                pause(max(10.0, 60 * size))
            result.note_recovery(world.wait_until_it_serves())
        result.finish(world)
        result.check(holds=not waits.failures, claim=f"honest clients failed: {waits.failures[:3]}")
        result.check(
            holds=waits.longest_s - waits.machine_s <= _MAX_WAIT_S,
            claim=f"an honest client waited {waits.longest_s:.2f} s, and {waits.machine_s:.2f} s "
            "for a server that does nothing",
        )
        result.check(
            holds=world.server.list_workers() == workers, claim="a worker was ended and replaced"
        )
        result.notes = (
            f"{waits.count} honest requests; the longest took {waits.longest_s:.2f} s; "
            f"of a server that does nothing {waits.machine_s:.2f} s."
        )
        return result


class _Honest:
    """Clients that request their key and sessions, and record the longest delay."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._stopped = threading.Event()
        self.count = 0
        self.longest_s = 0.0
        #: Longest delay of a server that does nothing: the delay of the machine itself.
        self.machine_s = 0.0
        self.failures: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the clients during the block."""
        with _idle_server() as idle_port:
            threads = [
                threading.Thread(target=self._run, args=(idle_port,), daemon=True)
                for _ in range(_HONEST)
            ]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._stopped.set()
                for thread in threads:
                    thread.join()

    def _run(self, idle_port: int) -> None:
        while not self._stopped.wait(0.2):
            began = time.monotonic()
            with suppress(OSError, http.client.HTTPException):
                _send(idle_port, self._key, "GET", "/", b"", "")
            self.machine_s = max(self.machine_s, time.monotonic() - began)
            for path in ("/api/v1/keys/self", "/api/v1/chat/sessions?username=honest"):
                began = time.monotonic()
                try:
                    status = _send(self._port, self._key, "GET", path, b"", "")
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(repr(error))
                    continue
                self.count += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                if status != 200:
                    self.failures.append(f"{path}: {status}")


@contextmanager
def _idle_server() -> Iterator[int]:
    """Run a process that responds at once, and yield its port."""
    spawn = multiprocessing.get_context("spawn")
    ports: Any = spawn.Queue()
    process = spawn.Process(target=_serve_nothing, args=(ports,), daemon=True)
    process.start()
    try:
        yield int(ports.get(timeout=60))
    finally:
        process.terminate()
        process.join()


def _serve_nothing(ports: Any) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Nothing)
    ports.put(server.server_port)
    server.serve_forever()


class _Nothing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def _tenants(port: int, keys: list[str]) -> Iterator[None]:
    """Run each tenant as a separate process, so that it does not delay the normal clients."""
    spawn = multiprocessing.get_context("spawn")
    attacks = (_send_long, _send_short, _send_forms, _send_frames, _send_files)
    processes = [
        spawn.Process(target=_repeat, args=(attack.__name__, port, key), daemon=True)
        for attack, key in zip(attacks, keys, strict=True)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _repeat(name: str, port: int, key: str) -> None:
    """Attack until the process is killed, with low priority, as if from another machine."""
    os.nice(10)
    while True:
        # The server should reject the request or close the connection.
        with suppress(OSError, http.client.HTTPException, AssertionError):
            globals()[name](port, key)


def _send_long(port: int, key: str) -> None:
    for _, body in _json_bodies(8 * 2**20 - 1):
        _attempt(port, key, f"/api/v1/{random.choice(_LONG)}", body, "application/json")


def _send_short(port: int, key: str) -> None:
    for _, body in _json_bodies(256 * 1024 - 1):
        for path in _SHORT:
            _attempt(port, key, f"/api/v1/{path}", body, "application/json")


def _send_forms(port: int, key: str) -> None:
    for _, body in _form_bodies():
        _attempt(port, key, "/api/v1/file", body, "multipart/form-data; boundary=B")


def _send_frames(port: int, key: str) -> None:
    for who in (key, "abk_wrong"):
        for opcode, final, payload in ((TEXT, False, b"a"), (PONG, True, b""), (9, True, b"")):
            head = bytes([(0x80 if final else 0) | opcode, 0x80 | len(payload)])
            with WebSocketClient(port, handshake(who)) as client, suppress(OSError):
                client._socket.settimeout(2)
                for _ in range(200):
                    client._socket.sendall((head + bytes(4) + payload) * 5_000)


def _send_files(port: int, key: str) -> None:
    for files in _FILES.values():
        for name, segment, make in files:
            head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
            # New bytes each time, because a failed file is not read again.
            tail = random.randbytes(8) + b"\r\n--B--\r\n"
            body = head.encode() + make() + tail
            kind = "multipart/form-data; boundary=B"
            answer = _ask(port, key, "POST", "/api/v1/file", body, kind)[1]
            attachment_id = answer.partition(b'"attachment_id":"')[2].partition(b'"')[0].decode()
            message = f'[{{"type":"{segment}","attachment_id":"{attachment_id}"}}]'
            turn = f'{{"username":"h","response_mode":"background","message":{message}}}'
            _attempt(port, key, "/api/v1/chat", turn.encode(), "application/json")


def _attempt(port: int, key: str, path: str, body: bytes, kind: str) -> None:
    with suppress(OSError, http.client.HTTPException):
        _send(port, key, "POST", path, body, kind)


def _send(port: int, key: str, method: str, path: str, body: bytes, kind: str) -> int:
    return _ask(port, key, method, path, body, kind)[0]


def _ask(port: int, key: str, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"X-API-Key": key, **({"Content-Type": kind} if kind else {})}
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(256 * 1024)
    finally:
        connection.close()
