"""Wake-ups between workers. They carry hints, never state.

A signal may be lost: a waiter also looks for itself now and
then. It is what makes a wait short, not what makes it end.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

#: Runs (their numbers, separated by blanks) have new events in the journal.
RUN_EVENTS = "events"
#: Runs (their ids, separated by blanks) are to be stopped.
STOP_RUNS = "stop"
#: A worker that stops has given runs up; the first worker that looks takes them.
FREE_RUNS = "free"
#: Messages were pushed into sessions (their numbers, separated by blanks).
PUSHED = "push"

#: A delivery (its id) was sent, failed or put off.
DELIVERED = "delivery"

Callback = Callable[[str], None]


class Signals(Protocol):
    """Sends short texts to the other workers, and hears theirs."""

    def publish(self, topic: str, payload: str) -> None:
        """Notify every other worker; never waits and never fails.

        Subscribers of this worker are not notified.

        :param payload: A few kilobytes at most.
        """

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Have ``callback(payload)`` called for each signal of a topic.

        It runs in the thread that listens (a greenlet under gevent) and must
        be quick.
        """

    def start(self) -> None:
        """Begin to listen in this process. Called again, it does nothing."""

    def close(self) -> None:
        """Stop listening."""


class Subscribers:
    """Who listens to which topic."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = defaultdict(list)

    def add(self, topic: str, callback: Callback) -> None:
        """Add a callback."""
        self._callbacks[topic].append(callback)

    def notify(self, topic: str, payload: str) -> None:
        """Call those of a topic; what one raises is logged."""
        for callback in self._callbacks.get(topic, ()):
            try:
                callback(payload)
            except Exception:
                # One subscriber's failure must not keep the others from hearing.
                log.exception("a signal of topic %s was not understood", topic)


class NoSignals:
    """For one process on its own: there is nobody to notify."""

    def __init__(self) -> None:
        self.subscribers = Subscribers()

    def publish(self, topic: str, payload: str) -> None:
        """Notify nobody."""

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Ignore the subscriber."""
        self.subscribers.add(topic, callback)

    def start(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
