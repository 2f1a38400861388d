"""Signals between hosts, over a server that all hosts can reach."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...runtime.per_process import PerProcess
from .signals import Signals

log = logging.getLogger(__name__)

#: Maximum number of queued signals; the oldest are dropped first.
_MAX_WAITING = 10_000

#: Maximum number of signals in one batch.
_AT_ONCE = 500

#: Seconds between two attempts to reach a lost server.
_RETRY_S = 1.0

#: Maximum length of a signal, in bytes. Source: PostgreSQL refuses a NOTIFY of 8000.
_MAX_BYTES = 7900


class Transport(Protocol):
    """Delivers texts to all processes, including this one."""

    def send(self, texts: Sequence[str]) -> None:
        """Send texts to all processes. May wait, and may raise any error."""

    def listen(self, closed: threading.Event) -> Iterator[str | None]:
        """Yield each text until ``closed`` is set, and ``None`` while listening; may raise."""

    def close(self) -> None:
        """Release its resources. Called by the thread that sends."""


@dataclass(slots=True)
class _Process:
    """The queue and the threads of one process; ``id`` marks its own signals."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    waiting: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_WAITING))
    wake: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)


class RemoteSignals(Signals):
    """Sends and receives signals in two threads per process (greenlets under gevent).

    ``publish`` only queues, so it never waits. While the server is unreachable,
    signals are lost and their receivers poll. Both threads retry every second.

    :param transport: Creates a transport for each of the two threads.
    :param name: The server's name in the log.
    """

    def __init__(self, transport: Callable[[], Transport], name: str) -> None:
        super().__init__()
        self._make_transport = transport
        self._name = name
        self._own = PerProcess(self._begin)

    def publish(self, topic: str, payload: str) -> None:
        """Queue a signal for every other process."""
        own = self._own.get()
        text = f"{own.id} {topic} {payload}"
        if len(text.encode()) > _MAX_BYTES:
            log.warning("a signal of topic %s is too long and was not sent", topic)
            return
        own.waiting.append(text)
        own.wake.set()

    def start(self) -> None:
        """Start both threads in this process. Later calls do nothing."""
        self._own.get()

    def close(self) -> None:
        """Send the queued signals and stop listening."""
        if own := self._own.current:
            own.closed.set()
            own.wake.set()
            for thread in own.threads:
                thread.join(2.0)

    def _begin(self) -> _Process:
        own = _Process()
        for run in (self._send, self._listen):
            thread = threading.Thread(
                target=run, args=(self._make_transport(), own),
                name=f"signals-{run.__name__.strip('_')}", daemon=True,
            )  # fmt: skip
            thread.start()
            own.threads.append(thread)
        return own

    def _send(self, transport: Transport, own: _Process) -> None:
        failing = False
        while not own.closed.is_set() or own.waiting:
            own.wake.wait()
            own.wake.clear()
            while own.waiting:
                count = min(_AT_ONCE, len(own.waiting))
                texts = [own.waiting.popleft() for _ in range(count)]
                try:
                    transport.send(texts)
                except Exception as error:
                    if not failing:
                        log.error("notifications to other workers cannot be sent: %s", _line(error))
                    failing = True
                    own.closed.wait(_RETRY_S)
                else:
                    if failing:
                        log.warning("notifications to other workers work again (%s)", self._name)
                    failing = False
        transport.close()

    def _listen(self, transport: Transport, own: _Process) -> None:
        failing = False
        while not own.closed.is_set():
            try:
                for text in transport.listen(own.closed):
                    if failing:
                        log.warning("notifications of other workers work again (%s)", self._name)
                    failing = False
                    if text is not None:
                        self._hear(text, own)
            except Exception as error:
                # Log once per outage: the server is retried every second.
                if not failing:
                    log.error("notifications of other workers are not received: %s", _line(error))
                failing = True
                own.closed.wait(_RETRY_S)
        transport.close()

    def _hear(self, text: str, own: _Process) -> None:
        sender, _, rest = text.partition(" ")
        topic, _, payload = rest.partition(" ")
        if sender != own.id:
            self._notify(topic, payload)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
