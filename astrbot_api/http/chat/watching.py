"""A turn that is watched event by event, for answers that are not its plain stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from time import monotonic

import orjson
from flask import request

from ...chat.turns.turn import TurnRequest
from ...chat.watching.streams import OpenStream
from ...errors import StorageError
from ...events import Event
from ..sse import find_abort, start_or_join


class TurnWatch:
    """The events of one turn as they come, for one caller.

    :param run_id: The turn's run.
    """

    def __init__(self, run_id: str, stream: OpenStream) -> None:
        self.run_id = run_id
        self._stream = stream

    @property
    def ended(self) -> bool:
        """Whether the last event was taken."""
        return self._stream.ended

    def take(self, timeout_s: float) -> list[Event]:
        """Return what is new; nothing when nothing came in time.

        :raises StorageError: when it cannot be read.
        """
        return [decode_frame(frame) for frame in self._stream.take(timeout_s)]

    def note_sending(self) -> None:
        """Say that something is being sent: a client that does not take it is cut off."""
        self._stream.sending_since = monotonic()

    def note_sent(self) -> None:
        """Say that it was taken."""
        self._stream.sending_since = None

    def close(self) -> None:
        """Watch no more; the turn goes on."""
        self._stream.close()


def start_watched(asked: TurnRequest) -> TurnWatch:
    """Start a turn, or find the one that was started before, and watch it.

    :raises ApiError: for whatever opening a turn refuses.
    """
    return TurnWatch(*start_or_join(asked, find_abort(request)))


def decode_frame(frame: str) -> Event:
    """Return the event of a frame: the JSON of its first line."""
    event: Event = orjson.loads(frame[len("data: ") : frame.index("\n")])
    return event


def iter_batches(watch: TurnWatch, heartbeat_s: float) -> Iterator[list[Event]]:
    """Yield what is new each time, or nothing after a silence; close the watch at the end.

    A silence is also what a database makes that is away.
    """
    try:
        while not watch.ended:
            try:
                batch = watch.take(heartbeat_s)
            except StorageError:  # the turn goes on, wherever it runs
                time.sleep(heartbeat_s)
                batch = []
            yield batch
    finally:
        watch.close()
