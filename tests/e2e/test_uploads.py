"""Uploads and downloads through gunicorn: interrupted, rejected, and many at once."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from astrbot_api.cli.main import main

from ..servers import Server, create_key, write_config
from ..waiting import wait_for

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024
HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
TAIL = b"\r\n--B--\r\n"


@pytest.fixture(scope="module")
def server(module_dir: Path) -> Iterator[Server]:
    write_config(module_dir, "http://127.0.0.1:9/v1")
    short = {"ASTRBOT_WORKER_LEASE_S": "2"}
    with Server(module_dir, workers=1, ASTRBOT_ACCESS_LOG="0", **short) as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server, module_dir: Path) -> str:
    return create_key(module_dir, "file", "im")


def _open(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def _request_head(key: str, length: str) -> bytes:
    return (
        "POST /api/v1/file HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        f"X-API-Key: {key}\r\n{length}\r\n\r\n"
    ).encode()


def _read_answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = orjson.loads(response.read())
    response.close()
    return response.status, body


def _leftovers(server: Server) -> list[Path]:
    return [path for path in (server.data_dir / "files").rglob("*") if path.is_file()]


def _count_attachments(server: Server) -> int:
    with sqlite3.connect(server.data_dir / "astrbot.db") as db:
        count = db.execute("SELECT COUNT(*) FROM attachment").fetchone()[0]
    db.close()
    return int(count)


@pytest.mark.parametrize("length", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
def test_an_upload_whose_client_disconnects_leaves_no_file(
    server: Server, key: str, length: str
) -> None:
    before = _leftovers(server)
    sent = HEAD + bytes(MIB)
    if "chunked" in length:
        sent = b"%x\r\n" % len(sent) + sent
    with _open(server) as connection:
        connection.sendall(_request_head(key, length) + sent)
        wait_for(lambda: len(_leftovers(server)) > len(before))
    wait_for(lambda: _leftovers(server) == before)
    assert _count_attachments(server) == len(before)


def test_an_upload_may_use_chunked_encoding(server: Server, key: str) -> None:
    data = os.urandom(3 * MIB)
    pieces = [HEAD, *(data[at : at + 100_001] for at in range(0, len(data), 100_001)), TAIL]
    with _open(server) as connection:
        connection.sendall(_request_head(key, "Transfer-Encoding: chunked"))
        for piece in pieces:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        status, body = _read_answer(connection)
    assert status == 200
    assert _digest(server, key, body["data"]["attachment_id"]) == hashlib.sha256(data).hexdigest()  # type: ignore[index]


@pytest.mark.parametrize("who", ["nobody", "key"])
def test_a_rejected_body_is_discarded_before_the_connection_is_closed(
    server: Server, key: str, who: str
) -> None:
    size = 200 * MIB if who == "key" else 8 * MIB
    piece = bytes(MIB)
    with _open(server) as connection:
        secret = key if who == "key" else "wrong"
        connection.sendall(_request_head(secret, f"Content-Length: {size}"))
        for _ in range(size // MIB):
            connection.sendall(piece)
        status, body = _read_answer(connection)
        assert (status, body["code"]) == (
            (413, "body_too_large") if who == "key" else (401, "invalid_api_key")
        )
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "length", ["Content-Length: 1000", "Content-Length: 5000000", "Transfer-Encoding: chunked"]
)
def test_a_connection_is_not_used_again_after_a_part_of_a_body(server: Server, length: str) -> None:
    # A proxy may send the next request where the rest of the body was expected.
    with _open(server) as connection:
        connection.sendall(_request_head("wrong", length))
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, response.will_close) == (401, True)


def test_a_connection_is_used_again_after_a_rejected_body_that_has_arrived(
    server: Server,
) -> None:
    head, body = _request_head("wrong", "Content-Length: 1000"), bytes(1000)
    with _open(server) as connection:
        for first, later in ((head + body, b""), (head, body), (head + body[:10], body[10:])):
            connection.sendall(first)
            connection.sendall(later)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert (response.status, response.will_close) == (401, False)
            response.read()


def test_json_in_chunks_is_limited_like_other_json(server: Server, key: str) -> None:
    limit = 256 * 1024
    for size, code in (
        (limit, "missing_field"),
        (limit + 1, "body_too_large"),
        (MIB, "body_too_large"),
    ):
        body = b"{}" + b" " * (size - 2)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        parts = (body[at : at + 50_000] for at in range(0, size, 50_000))
        connection.request("POST", "/api/v1/files/upload/init", parts, headers, encode_chunked=True)
        assert orjson.loads(connection.getresponse().read())["code"] == code
        connection.close()


def test_an_acknowledged_upload_survives_the_death_of_the_worker(tmp_path: Path) -> None:
    write_config(tmp_path, "http://127.0.0.1:9/v1")
    secret = create_key(tmp_path, "file")
    data = os.urandom(MIB)
    with Server(tmp_path, workers=1) as server:
        answer = server.request("POST", "/api/v1/file", secret, fields={"file": ("a.bin", data)})
        os.kill(_find_worker(server), 9)
        path = f"/api/v1/file?attachment_id={answer.json()['data']['attachment_id']}"
        server.http.clear()
        assert server.request("GET", path, secret).data == data
        server.http.clear()  # otherwise an idle connection delays the end of the server


def test_an_upload_is_completed_once_its_completing_worker_is_known_dead(
    server: Server, key: str
) -> None:
    before = set(_leftovers(server))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    upload_id = _call(connection, key, "init", total_size=5)["upload_id"]
    _send_chunk(connection, key, upload_id, 0, b"bytes")
    (blob,) = (path for path in _leftovers(server) if path not in before)
    # Opening the file waits for a writer, so the worker is killed during the read.
    blob.unlink()
    os.mkfifo(blob)
    _begin_call(connection, key, "complete", upload_id=upload_id)
    wait_for(lambda: _is_completing(server.data_dir))
    os.kill(_find_worker(server), signal.SIGKILL)
    connection.close()
    blob.unlink()
    blob.write_bytes(b"bytes")

    def complete() -> Any:
        answer = server.request(
            "POST", "/api/v1/files/upload/complete", key, json={"upload_id": upload_id}
        )
        assert answer.status in (200, 409), answer.data
        return answer.status == 200 and answer.json()["data"]["attachment_id"]

    attachment_id = wait_for(complete, 60.0)
    assert _digest(server, key, attachment_id) == hashlib.sha256(b"bytes").hexdigest()
    for path in (server.data_dir / "files" / "tmp").iterdir():
        path.unlink()  # the killed worker's file; a start removes it when it is old
    server.http.clear()


def _is_completing(data_dir: Path) -> bool:
    with contextlib.closing(sqlite3.connect(data_dir / "astrbot.db")) as db:
        query = "SELECT COUNT(*) FROM file_upload WHERE completing_until > 0"
        return bool(db.execute(query).fetchone()[0])


def _call(connection: http.client.HTTPConnection, key: str, path: str, **body: object) -> Any:
    """Post to the chunked uploads over a kept connection, which belongs to one worker."""
    _begin_call(connection, key, path, **body)
    answer = connection.getresponse()
    found = orjson.loads(answer.read())
    assert answer.status == 200, found
    return found["data"]


def _begin_call(
    connection: http.client.HTTPConnection, key: str, path: str, **body: object
) -> None:
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    connection.request("POST", f"/api/v1/files/upload/{path}", orjson.dumps(body), headers)


def _frame_chunk(upload_id: str, number: int, data: bytes) -> bytes:
    fields = {"upload_id": upload_id.encode(), "chunk_index": b"%d" % number}
    fields["chunk"] = data[number * MIB : (number + 1) * MIB]
    parts = (
        b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields.items()
    )
    return b"".join(parts) + b"--B--\r\n"


def _begin_chunk(connection: http.client.HTTPConnection, key: str, size: int) -> None:
    connection.putrequest("POST", "/api/v1/files/upload/chunk")
    for name, value in (
        ("X-API-Key", key),
        ("Content-Type", "multipart/form-data; boundary=B"),
        ("Content-Length", str(size)),
    ):
        connection.putheader(name, value)
    connection.endheaders()


def _send_chunk(
    connection: http.client.HTTPConnection, key: str, upload_id: str, number: int, data: bytes
) -> None:
    body = _frame_chunk(upload_id, number, data)
    _begin_chunk(connection, key, len(body))
    connection.send(body)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()


def _connect_to_both(server: Server, key: str) -> list[http.client.HTTPConnection]:
    """Return a connection to each of the two workers."""
    found: dict[int, http.client.HTTPConnection] = {}

    def look() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/api/v1/im/bots", headers={"X-API-Key": key})
        connection.getresponse().read()
        worker = server.find_worker(SimpleNamespace(_connection=connection))
        if found.setdefault(worker, connection) is not connection:
            connection.close()
        return len(found) == 2

    wait_for(look)
    return list(found.values())


def test_an_upload_in_chunks_survives_the_death_of_the_server(tmp_path: Path) -> None:
    write_config(tmp_path, "http://127.0.0.1:9/v1")
    key = create_key(tmp_path, "file", "im")
    data = os.urandom(4 * MIB + 12_345)
    with Server(tmp_path) as server:
        first, second = _connect_to_both(server, key)
        digest = hashlib.sha256(data).hexdigest()
        begun = _call(first, key, "init", filename="a.bin", total_size=len(data), sha256=digest)
        upload_id = begun["upload_id"]
        stale = _call(first, key, "init", filename="b.bin", total_size=len(data))["upload_id"]
        _send_chunk(second, key, stale, 0, data)
        _send_chunk(first, key, upload_id, 3, data)
        _send_chunk(second, key, upload_id, 0, data)
        body = _frame_chunk(upload_id, 1, data)
        before = len(_leftovers(server))
        _begin_chunk(first, key, len(body))
        first.send(body[: len(body) // 2])
        wait_for(lambda: len(_leftovers(server)) > before)
        for process in (server.process.pid, *server.list_workers()):
            os.kill(process, signal.SIGKILL)
        first.close()
        second.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "astrbot.db")) as db, db:
        db.execute("UPDATE file_upload SET expires_at = 0 WHERE upload_id = ?", (stale,))
    with Server(tmp_path) as server:
        first, second = _connect_to_both(server, key)
        # Partial chunks are missing, acknowledged ones exist.
        assert _call(first, key, "status", upload_id=upload_id)["received_chunks"] == [0, 3]
        for number, connection in ((1, first), (2, second), (4, first)):
            _send_chunk(connection, key, upload_id, number, data)
        made = _call(second, key, "complete", upload_id=upload_id)
        assert _digest(server, key, made["attachment_id"]) == digest
        first.close()
        second.close()
        # The expired upload and the chunks of the other one are deleted.
        wait_for(lambda: _count_chunks(tmp_path) == 0)
        wait_for(lambda: MIB not in _list_sizes(server))
        assert _list_sizes(server).count(len(data)) == 1


def _list_sizes(server: Server) -> list[int]:
    sizes = []
    for path in _leftovers(server):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sizes


def _count_chunks(data_dir: Path) -> int:
    with contextlib.closing(sqlite3.connect(data_dir / "astrbot.db")) as db:
        tables = ("file_upload", "file_chunk")
        return sum(db.execute(f"SELECT COUNT(*) FROM {one}").fetchone()[0] for one in tables)


def _sweep(data_dir: Path, *options: str) -> str:
    arguments = ["db", "sweep", "--data-dir", str(data_dir), *options]
    return CliRunner().invoke(main, arguments, catch_exceptions=False).stdout


def test_the_sweep_runs_while_the_server_runs(server: Server, key: str) -> None:
    fields = {"file": ("a.txt", b"unused")}
    answer = server.request("POST", "/api/v1/file", key, fields=fields)
    found = answer.json()["data"]["attachment_id"]
    path = f"/api/v1/file?attachment_id={found}"
    assert _sweep(server.data_dir) == ""
    listed = _sweep(server.data_dir, "--older-than-days", "0")
    assert f"attachment {found} a.txt (6 bytes)\n" in listed
    assert server.request("GET", path, key).status == 200
    assert _sweep(server.data_dir, "--older-than-days", "0", "--delete") == listed
    assert server.request("GET", path, key).status == 404
    assert _leftovers(server) == []
    server.http.clear()  # otherwise an idle connection delays the end of the server


class _Beside(threading.Thread):
    """Requests the bots repeatedly and records the duration of each request."""

    def __init__(self, server: Server, key: str) -> None:
        super().__init__()
        self._server, self._key = server, key
        self._done = threading.Event()
        self.waits_ms: list[float] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        while not self._done.wait(0.02):
            started = time.perf_counter()
            connection.request("GET", "/api/v1/im/bots", headers={"X-API-Key": self._key})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            self.waits_ms.append((time.perf_counter() - started) * 1000)
        connection.close()

    def finish(self) -> list[float]:
        self._done.set()
        self.join()
        return sorted(self.waits_ms)


def _upload(server: Server, key: str, number: int, size: int) -> tuple[str, str]:
    """Send unique bytes, and return the attachment's id and their SHA-256."""
    block = hashlib.sha256(b"%d" % number).digest() * (MIB // 32)
    digest = hashlib.sha256()
    with _open(server) as connection:
        length = len(HEAD) + size + len(TAIL)
        connection.sendall(_request_head(key, f"Content-Length: {length}") + HEAD)
        for at in range(size // MIB):
            piece = at.to_bytes(8, "big") + block[8:]
            digest.update(piece)
            connection.sendall(piece)
        connection.sendall(TAIL)
        status, body = _read_answer(connection)
    assert status == 200, body
    return body["data"]["attachment_id"], digest.hexdigest()  # type: ignore[index]


def _digest(server: Server, key: str, attachment_id: object) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    path = f"/api/v1/file?attachment_id={attachment_id}"
    connection.request("GET", path, headers={"X-API-Key": key})
    answer = connection.getresponse()
    digest, buffer = hashlib.sha256(), bytearray(MIB)
    while count := answer.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
    connection.close()
    return digest.hexdigest()


def _find_worker(server: Server) -> int:
    master = server.process.pid

    def look() -> str:
        return Path(f"/proc/{master}/task/{master}/children").read_text().strip()

    return int(wait_for(look).split()[0])


def _memory_mib(process_id: int, what: str) -> float:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    raise AssertionError(what)


@pytest.mark.load
def test_large_files_in_16_streams_come_back_byte_for_byte(server: Server, key: str) -> None:
    streams, size = 16, 16 * MIB
    _digest(server, key, _upload(server, key, 99, MIB)[0])  # loads modules of the first use
    worker = _find_worker(server)
    before = _memory_mib(worker, "VmRSS")
    beside = _Beside(server, key)
    beside.start()
    with ThreadPoolExecutor(streams) as pool:
        started = time.perf_counter()
        sent = list(pool.map(lambda n: _upload(server, key, n, size), range(streams)))
        uploaded = time.perf_counter()
        read = list(pool.map(lambda one: _digest(server, key, one[0]), sent))
        ended = time.perf_counter()
    waits_ms = beside.finish()
    grown = _memory_mib(worker, "VmHWM") - before
    print(
        f"\n256 MiB up in {uploaded - started:.1f} s, down in {ended - uploaded:.1f} s; the worker "
        f"grew by {grown:.0f} MiB at most; {len(waits_ms)} requests beside it took "
        f"{waits_ms[len(waits_ms) // 2]:.0f} ms (median), {waits_ms[-1]:.0f} ms (longest)"
    )
    assert read == [digest for _, digest in sent]
    assert grown < 64
    assert len(waits_ms) > 10
