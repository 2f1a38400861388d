"""Notifications between workers. They carry hints, never state.

A signal may be lost, so every receiver also polls. A signal only makes its
wait shorter.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Runs have new events in the journal. Payload: their numbers, separated by blanks.
RUN_EVENTS = "events"
#: Runs must be stopped. Payload: their ids, separated by blanks.
STOP_RUNS = "stop"
#: A stopping worker has released runs; another worker must take them over.
FREE_RUNS = "free"
#: A message was pushed into a session. Payload: the session's number.
PUSHED = "push"

#: A delivery was sent, has failed or will be retried. Payload: its id.
DELIVERED = "delivery"

Callback = Callable[[str], None]


class Signals(ABC):
    """Sends short texts to the other workers and receives theirs."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = defaultdict(list)

    @abstractmethod
    def publish(self, topic: str, payload: str) -> None:
        """Notify every other worker. Never waits and never raises.

        Subscribers of this worker are not notified.

        :param payload: A few kilobytes at most.
        """

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Call ``callback(payload)`` for each signal of a topic.

        It runs in the listening thread (a greenlet under gevent) and must be quick.
        """
        self._callbacks[topic].append(callback)

    @abstractmethod
    def start(self) -> None:
        """Start to listen in this process. Later calls do nothing."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening."""

    def _notify(self, topic: str, payload: str) -> None:
        """Call the callbacks of a topic, and log their exceptions."""
        for callback in self._callbacks.get(topic, ()):
            try:
                callback(payload)
            except Exception:
                # One failing subscriber must not keep the others from being notified.
                log.exception("a subscriber of signal topic %s failed", topic)
