"""Where tokens come from: the same source for this server's model and for bare generators."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

#: Stands in each token once and nowhere else.
MARK = "~"


class Gate:
    """Holds all sources of a worker until they are let go together."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._until = 0.0

    def wait(self) -> float:
        """Wait; return the time at which to stop."""
        assert self._opened.wait(60), "nobody opened the gate"
        return self._until

    def open(self, seconds: float) -> None:
        """Let those that wait go; those that come later wait for the next time."""
        self._until = time.monotonic() + seconds
        opened, self._opened = self._opened, threading.Event()
        opened.set()


def stamp() -> str:
    """Return the time on the clock that all processes of a machine share, as a token."""
    return f"{MARK}{time.monotonic_ns()};"


def iter_tokens(words: str, gate: Gate) -> Iterator[str]:
    """Yield tokens that hold the time when they were made.

    :param words: ``TICKS=600 EVERY=1000``: so many, a millisecond count apart,
        the sources of a worker not all at the same moment. ``FLOOD``: as many
        as there is time for once the gate is open. The source then lets others
        run after each token, because a real token comes from a socket, too.
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


#: What a bare stream begins with, so that its head is sent before its first token.
OPENING = ": open\n\n"


def make_frame(number: int, token: str) -> str:
    """Return the frame in which this server sends a token."""
    return (
        f'data: {{"type":"plain","data":"{token}","streaming":true,"chain_type":null,'
        f'"message_id":"0b8e7254-0000-4000-8000-000000000000"}}\nid: {number}\n\n'
    )
