"""Source of tokens, shared by this server's model and bare generators."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

#: Occurs exactly once in each token and nowhere else.
MARK = "~"


class Gate:
    """Blocks all sources of a worker until it is opened."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._until = 0.0

    def wait(self) -> float:
        """Wait for the gate and return the time at which to stop."""
        assert self._opened.wait(60), "the gate was not opened"
        return self._until

    def open(self, seconds: float) -> None:
        """Release all waiting sources. Later ones wait for the next call."""
        self._until = time.monotonic() + seconds
        opened, self._opened = self._opened, threading.Event()
        opened.set()


def stamp() -> str:
    """Return the time of a clock shared by all processes, as a token."""
    return f"{MARK}{time.monotonic_ns()};"


def iter_tokens(words: str, gate: Gate) -> Iterator[str]:
    """Yield tokens that contain their creation time.

    :param words: ``TICKS=600 EVERY=1000``: number of tokens and milliseconds between them; the
        sources of a worker start at different times. ``FLOOD``: as many as possible while the gate
        is open. The source then yields to other greenlets after each token, as a real token comes
        from a socket.
    """
    if words == "FLOOD":
        until = gate.wait()
        while time.monotonic() < until:
            yield stamp()
            time.sleep(0)
        return
    values = dict(word.split("=") for word in words.split())
    every_s = int(values["EVERY"]) / 1000
    due = time.monotonic() + every_s * (id(values) // 16 % 997) / 997
    for _ in range(int(values["TICKS"])):
        time.sleep(max(0.0, due - time.monotonic()))
        yield stamp()
        due += every_s


#: First bytes of a bare stream, so that its headers are sent before its first token.
OPENING = ": open\n\n"


def make_frame(number: int, token: str) -> str:
    """Return a token's frame in the format of this server."""
    return (
        f'data: {{"type":"plain","data":"{token}","streaming":true,"chain_type":null,'
        f'"message_id":"0b8e7254-0000-4000-8000-000000000000"}}\nid: {number}\n\n'
    )
