"""Many chats at once from one process: raw sockets, one selector."""

from __future__ import annotations

import json
import selectors
import socket
import time
from dataclasses import dataclass

#: Seconds after which unfinished chats count as stuck. They normally take about ten.
_LIMIT_S = 180.0


@dataclass
class Outcome:
    """Result of one chat."""

    number: int
    text: str
    right: bool
    ended_s: float


def chat_at_once(port: int, key: str, count: int, words: str) -> list[Outcome]:
    """Open ``count`` chats and read all of them to their end.

    Each has its own message, so each answer of an echoing model is different.
    """
    selector = selectors.DefaultSelector()
    started = time.monotonic()
    buffers: dict[int, bytes] = {}
    for number in range(count):
        body = json.dumps({"username": f"u{number}", "message": f"{words} n{number}x"})
        request = (
            f"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.sendall(request.encode())
        connection.setblocking(False)
        buffers[number] = b""
        selector.register(connection, selectors.EVENT_READ, number)
    outcomes = []
    while selector.get_map():
        ready = selector.select(30)
        assert ready, f"{len(selector.get_map())} chats got nothing for 30 s"
        # Heartbeats arrive even if no events do.
        assert time.monotonic() < started + _LIMIT_S, [buffers[one.data][-300:] for one, _ in ready]
        for entry, _ in ready:
            chunk = entry.fileobj.recv(65536)  # type: ignore[union-attr]
            number = entry.data
            buffers[number] += chunk
            if chunk and not buffers[number].endswith(b"\r\n0\r\n\r\n"):
                continue
            selector.unregister(entry.fileobj)
            entry.fileobj.close()  # type: ignore[union-attr]
            outcomes.append(_judge(number, buffers[number], words, started))
    selector.close()
    return outcomes


def _judge(number: int, answer: bytes, words: str, started: float) -> Outcome:
    # AstrBot's JSON has spaces after colons and commas.
    text = answer.decode(errors="replace").replace('": ', '":').replace(', "', ',"')
    complete = f'"type":"complete","data":"echo: {words} n{number}x"'
    right = complete in text and '"type":"end"' in text and '"type":"error"' not in text
    return Outcome(number, text[-600:], right, time.monotonic() - started)
