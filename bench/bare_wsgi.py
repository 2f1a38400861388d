"""A minimal WSGI function with the same tasks, for comparison."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from bench.relay import iter_relayed
from bench.source import OPENING, Gate, iter_tokens, make_frame

_PIECE_BYTES = 256 * 1024
_BOTS = b'{"status":"ok","message":null,"data":{"bot_ids":["tg"]}}\n'
_PAGE = os.environ.get("BENCH_PAGE", "{}").encode()
_GATE = Gate()
_FILE = os.path.join(tempfile.mkdtemp(prefix="bare-wsgi"), "file")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Respond according to the path."""
    path, read = environ["PATH_INFO"], environ["wsgi.input"].read
    query = parse_qs(environ["QUERY_STRING"])
    if path == "/api/v1/im/bots":
        return _answer(start_response, _BOTS, "application/json")
    if path == "/page":
        return _answer(start_response, _PAGE, "application/json")
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return _stream(query["words"][0])
    if path == "/relay":
        message = json.loads(read(int(environ["CONTENT_LENGTH"])))["message"]
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return (frame.encode() for frame in iter_relayed(message))
    if path == "/bench/go":
        _GATE.open(float(query["seconds"][0]))
        return _answer(start_response, b"ok", "text/plain")
    if environ["REQUEST_METHOD"] == "POST":
        # Without parsing and hashing.
        with open(_FILE, "wb", buffering=0) as file:
            while chunk := read(_PIECE_BYTES):
                file.write(chunk)
        return _answer(start_response, b"ok", "text/plain")
    start_response("200 OK", [("Content-Length", str(os.path.getsize(_FILE)))])
    return _read_file()


def _answer(start_response: Callable[..., Any], body: bytes, kind: str) -> list[bytes]:
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def _stream(words: str) -> Iterator[bytes]:
    yield OPENING.encode()
    for number, token in enumerate(iter_tokens(words, _GATE)):
        yield make_frame(number, token).encode()


def _read_file() -> Iterator[bytes]:
    with open(_FILE, "rb", buffering=0) as file:
        while chunk := file.read(_PIECE_BYTES):
            yield chunk
