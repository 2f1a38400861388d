"""Signals between hosts: sent and heard over a server that all of them reach."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ...runtime.threads import count_forks
from .signals import Callback, Subscribers

log = logging.getLogger(__name__)

#: Signals that wait to be sent, most of them; the oldest are lost first.
_MAX_WAITING = 10_000

#: Signals that are sent in one go, most of them.
_AT_ONCE = 500

#: Time between two attempts to reach a server that is gone, in seconds.
_RETRY_S = 1.0

#: Longest signal, in bytes. Source: PostgreSQL refuses a NOTIFY of 8000.
_MAX_BYTES = 7900


class Transport(Protocol):
    """Takes texts to all processes, this one included."""

    def send(self, texts: Sequence[str]) -> None:
        """Send texts to everybody; may wait, and raise whatever it meets."""

    def listen(self, hear: Callable[[str], None], closed: threading.Event) -> None:
        """Call ``hear(text)`` for each text until ``closed`` is set; may raise."""

    def close(self) -> None:
        """Give back what it holds; called by the thread that sends."""


class RemoteSignals:
    """Two threads a process (greenlets under gevent): one sends, one listens.

    ``publish`` only queues, so it never waits. While the server is gone
    signals are lost, which costs their receivers a moment; both threads try
    again every second.

    :param transport: Made anew in each process.
    :param name: What it is called in the log.
    """

    def __init__(self, transport: Callable[[], Transport], name: str) -> None:
        self._make_transport = transport
        self._name = name
        self._subscribers = Subscribers()
        self._lock = threading.Lock()
        self._forks = -1
        self._begin_process()

    def publish(self, topic: str, payload: str) -> None:
        """Tell every other process, soon."""
        self.start()
        text = f"{self._own} {topic} {payload}"
        if len(text.encode()) > _MAX_BYTES:
            log.warning("a signal of topic %s is too long and was not sent", topic)
            return
        self._waiting.append(text)
        self._wake.set()

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Have ``callback(payload)`` called for each signal of a topic."""
        self._subscribers.add(topic, callback)

    def start(self) -> None:
        """Begin to send and to listen in this process. Called again, it does nothing."""
        if self._forks == count_forks():
            return
        with self._lock:
            if self._forks == count_forks():
                return
            self._begin_process()
            for run in (self._send, self._listen):
                thread = threading.Thread(
                    target=run, args=(self._make_transport(), self._closed),
                    name=f"signals-{run.__name__.strip('_')}", daemon=True,
                )  # fmt: skip
                thread.start()
                self._threads.append(thread)
            self._forks = count_forks()

    def close(self) -> None:
        """Send what waits and stop listening."""
        self._closed.set()
        self._wake.set()
        if self._forks == count_forks():
            for thread in self._threads:
                thread.join(2.0)

    def _begin_process(self) -> None:
        self._own = uuid.uuid4().hex[:12]
        self._waiting: deque[str] = deque(maxlen=_MAX_WAITING)
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def _send(self, transport: Transport, closed: threading.Event) -> None:
        failing = False
        while not closed.is_set() or self._waiting:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                count = min(_AT_ONCE, len(self._waiting))
                texts = [self._waiting.popleft() for _ in range(count)]
                try:
                    transport.send(texts)
                except Exception as error:
                    if not failing:
                        log.error("wake-ups to other workers cannot be sent: %s", _line(error))
                    failing = True
                    closed.wait(_RETRY_S)
                else:
                    if failing:
                        log.warning("wake-ups to other workers are sent again (%s)", self._name)
                    failing = False
        transport.close()

    def _listen(self, transport: Transport, closed: threading.Event) -> None:
        failing = False

        def hear(text: str) -> None:
            sender, _, rest = text.partition(" ")
            topic, _, payload = rest.partition(" ")
            if sender != self._own:
                self._subscribers.tell(topic, payload)

        while not closed.is_set():
            try:
                transport.listen(hear, closed)
            except Exception as error:
                # Once an outage: the server is asked every second.
                if not failing:
                    log.error("wake-ups from other workers are not heard: %s", _line(error))
                failing = True
                closed.wait(_RETRY_S)
            else:
                failing = False
        transport.close()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
