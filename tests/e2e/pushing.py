"""Messages pushed into many open streams, with the times of sending and arrival."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import urllib3

from ..servers import Server, iter_events


@dataclass
class OpenSession:
    """One open stream and its received pushed texts."""

    number: int
    stream: urllib3.BaseHTTPResponse
    seen: list[str] = field(default_factory=list)
    seen_at: dict[str, float] = field(default_factory=dict)
    ended: bool = False

    @property
    def session_id(self) -> str:
        """The session's id."""
        return f"room{self.number}"

    def read(self) -> None:
        """Read until the stream ends."""
        for event in iter_events(self.stream):
            if str(event.get("message_id", "")).startswith("push-") and event["type"] == "plain":
                self.seen_at.setdefault(event["data"], time.monotonic())
                self.seen.append(event["data"])
        self.ended = True


def push_into_streams(
    server: Server, key: str, *, streams: int, messages: int
) -> tuple[list[OpenSession], dict[str, float]]:
    """Open streams, push messages into them, and end the streams.

    :param messages: Total number of messages. Each stream gets the same share, in order.
    :returns: The streams, and the time at which each text was sent.
    """
    http = urllib3.PoolManager(maxsize=streams + 10, timeout=urllib3.Timeout(60), retries=False)
    opened = [_open(http, server, key, number) for number in range(streams)]
    readers = [threading.Thread(target=one.read) for one in opened]
    for reader in readers:
        reader.start()
    sent_at: dict[str, float] = {}

    def push(one: OpenSession) -> None:
        for number in range(messages // streams):
            text = f"{one.session_id} message {number}"
            sent_at[text] = time.monotonic()
            umo = f"webchat:FriendMessage:webchat!user{one.number}!{one.session_id}"
            _post(http, server, key, "/api/v1/im/message", {"umo": umo, "message": text})

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(push, opened))
    for one in opened:
        path = f"/api/v1/chat/sessions/{one.session_id}/stop"
        _post(http, server, key, path, {"username": f"user{one.number}"})
    for reader in readers:
        reader.join(60)
    http.clear()
    return opened, sent_at


def _open(http: urllib3.PoolManager, server: Server, key: str, number: int) -> OpenSession:
    body = {
        "username": f"user{number}",
        "session_id": f"room{number}",
        # The model is silent longer than the test can take.
        "message": "FIRST=60000",
    }
    stream = http.request(
        "POST",
        f"{server.url}/api/v1/chat",
        headers={"X-API-Key": key, "Content-Type": "application/json"},
        body=json.dumps(body).encode(),
        preload_content=False,
    )
    assert stream.status == 200
    return OpenSession(number, stream)


def _post(
    http: urllib3.PoolManager, server: Server, key: str, path: str, body: dict[str, Any]
) -> None:
    answer = http.request(
        "POST",
        server.url + path,
        headers={"X-API-Key": key, "Content-Type": "application/json"},
        body=json.dumps(body).encode(),
    )
    assert answer.status == 200, answer.data
