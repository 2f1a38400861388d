"""The open streams of this worker: what each shows next, how many there are, who is stuck."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...config.settings import Settings
from ...errors import ApiError
from ...runlog.journal import READ_LIMIT
from ...runlog.reading import RunReader
from ...runtime.metrics import Metrics
from .pushes import Board, Pushes, encode_push

log = logging.getLogger(__name__)


class Streams:
    """Opens streams within their limits, and closes those that nobody reads.

    :param is_draining: Whether this worker is about to stop.
    """

    def __init__(
        self, settings: Settings, board: Board, is_draining: Callable[[], bool], metrics: Metrics
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._board = board
        self.is_draining = is_draining
        self._lock = threading.Lock()
        self._open: set[OpenStream] = set()
        self._of_key: Counter[str] = Counter()  # kept places too
        self._kept_places = 0

    @property
    def open_count(self) -> int:
        """How many streams are open."""
        return len(self._open)

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Keep a place for a stream while what it shows is begun; refuse one too many.

        :raises ApiError: ``too_many_streams`` or ``server_busy``.
        """
        with self._lock:
            self._check_room(key_id)
            self._kept_places += 1
            self._count(key_id, 1)
        try:
            yield
        finally:
            with self._lock:
                self._kept_places -= 1
                self._count(key_id, -1)

    def _check_room(self, key_id: str) -> None:
        limit = self._settings.max_streams_per_key
        if limit and self._of_key[key_id] >= limit:
            raise ApiError(
                "too_many_streams",
                f"{limit} streams of this API key are open on this worker; close one first",
                headers={"Retry-After": "5"},
            )
        taken = len(self._open) + self._kept_places
        if taken >= self._settings.max_streams_per_worker:
            raise ApiError(
                "server_busy",
                f"{taken} streams are open on this worker; try again later",
                headers={"Retry-After": "5"},
            )

    def open(
        self,
        reader: RunReader,
        *,
        session: int,
        key_id: str,
        local: bool,
        known_message: int | None = None,
        abort: Callable[[], None] | None = None,
    ) -> OpenStream:
        """Open a stream that shows a run and what is pushed into its session.

        :param local: Whether the run is this worker's own.
        :param known_message: The newest message that the client knows of.
        :param abort: Breaks the connection off; None where nothing can.
        """
        waiter = threading.Event()
        reader.attach(waiter)
        pushes = self._board.open(session, waiter, known_message)
        stream = OpenStream(self, reader, pushes, waiter, key_id, local, abort)
        with self._lock:
            self._open.add(stream)
            self._count(key_id, 1)
        self._metrics.note_streams(1)
        return stream

    def forget(self, stream: OpenStream) -> None:
        """Take a stream off the list."""
        with self._lock:
            if stream not in self._open:
                return
            self._open.discard(stream)
            self._count(stream.key_id, -1)
        self._metrics.note_streams(-1)

    def _count(self, key_id: str, change: int) -> None:
        self._of_key[key_id] += change
        if not self._of_key[key_id]:
            del self._of_key[key_id]

    def close_stuck(self) -> None:
        """Break off the streams whose clients take nothing any more. A chore."""
        limit_s = self._settings.max_stream_lag_s
        now = time.monotonic()
        for stream in list(self._open):
            if stream.sending_since is not None and now - stream.sending_since > limit_s:
                stream.break_off()


class OpenStream:
    """One stream. Its thread calls :meth:`take` and sends what it gets."""

    def __init__(
        self,
        streams: Streams,
        reader: RunReader,
        pushes: Pushes,
        waiter: threading.Event,
        key_id: str,
        local: bool,
        abort: Callable[[], None] | None,
    ) -> None:
        self._streams = streams
        self._reader = reader
        self._pushes = pushes
        self._waiter = waiter
        self._local = local
        self._abort = abort
        waiter.set()  # there may be something already
        self.key_id = key_id
        #: When the piece that is being sent was handed over; None: none is.
        self.sending_since: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the run's last event was taken."""
        return self._reader.closed

    @property
    def leaving(self) -> bool:
        """Whether the client is better served by another worker, as this one stops."""
        return not self._local and self._streams.is_draining()

    def take(self, timeout_s: float) -> list[str]:
        """Return what is new, as frames; none when nothing came in time.

        :raises StorageError: when it cannot be read.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            woken = self._waiter.wait(deadline - time.monotonic())
            self._waiter.clear()
            # The first event names the session: nothing comes before it. And
            # nothing comes after the last.
            begun = self._reader.number > 0
            pushed = encode_push(self._pushes.read()) if begun else []
            # After a silence too: what is set while the wait times out is cleared
            # here unseen, and the signal of another worker may have been lost.
            frames = self._reader.read()
            if len(frames) >= READ_LIMIT or (frames and not begun):
                self._waiter.set()  # there may be more than one reading takes
            if frames and self._reader.closed:
                # The run ended within this reading: what was pushed meanwhile
                # has its last chance, before the last event.
                frames[-1:] = [*encode_push(self._pushes.read()), frames[-1]]
            frames = pushed + frames
            if frames or self._reader.closed or not woken:
                return frames

    def break_off(self) -> None:
        """Cut the connection: its client can come back and resume."""
        if self._abort is not None:
            log.info("a stream of key %s was not read and is closed", self.key_id)
            self._abort()
            self._abort = None

    def close(self) -> None:
        """Give back what the stream holds."""
        self._reader.detach(self._waiter)
        self._pushes.close()
        self._streams.forget(self)
