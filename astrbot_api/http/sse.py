"""Server-sent events. All streams of this server write their frames here."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Any

from flask import Response, request

from ..chat.watching.inbox import Inbox
from ..chat.watching.watch import Numbered, Watch
from ..errors import StorageError, refuse
from ..event_lines import encode_line
from ..events import Event, decode_event
from ..runtime.threads import is_gevent_patched, native_poll
from .draining import abort
from .state import get_http_state, get_state

log = logging.getLogger(__name__)

#: Poll event of a connection whose other side is closed. Only Linux has it.
_CLOSED = getattr(select, "POLLRDHUP", 0)

HEARTBEAT = b": heartbeat\n\n"

#: Makes the client reconnect after a second: another worker continues the stream.
_RETRY = b"retry: 1000\n\n"

#: Maximum wait for the first frames of events before a response starts, in seconds. Enough for the
#: usual retries of a model call.
_MAX_START_S = 5.0

#: Error text for a protocol whose streams cannot be resumed, sent when this worker stops.
LEAVING = (
    "The server is restarting. The turn continues, and its answer will be stored in the session."
)

#: With the charset: Python's requests and others decode a text without one as ISO-8859-1.
CONTENT_TYPE = "text/event-stream; charset=utf-8"

#: Size of frames that count as a long answer until they are sent.
_LONG_BYTES = 64 * 1024

#: Maximum size of the pieces in which they are sent.
_PIECE_BYTES = 256 * 1024

_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    # Without this header nginx buffers the stream.
    "X-Accel-Buffering": "no",
}


#: Source of a stream's events.
Watched = Watch | Inbox


class Rendering:
    """Conversion of events to frames. The base class sends events unchanged."""

    def begin(self) -> bytes:
        """Return the frames before all events."""
        return b""

    def render(self, events: Sequence[Numbered]) -> bytes:
        """Return the frames of events."""
        return b"".join(frame(event, number) for number, event in events)

    def wait(self) -> bytes:
        """Return the heartbeat, which follows a time without frames."""
        return HEARTBEAT

    def finish(self) -> bytes:
        """Return the frames after the last event."""
        return b""

    def fail(self, error: StorageError) -> bytes:
        """Return the last frames if reading the events fails."""
        return _RETRY

    def leave(self) -> bytes:
        """Return the last frames if this worker stops before the turn ends."""
        return _RETRY


def frame(line: bytes, number: int | None = None, *, event: str = "") -> bytes:
    """Return one line of data as a frame.

    :param number: Id of the event, which a client sends as ``Last-Event-ID`` to resume. None for an
        event that is not part of the stream's numbering.
    :param event: Event type, for protocols that send it as a field of the frame.
    """
    if event:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), line)
    if number is None:
        return b"data: %b\n\n" % line
    return b"data: %b\nid: %d\n\n" % (line, number)


def decode_own(events: Sequence[Numbered]) -> Iterator[Event]:
    """Yield the decoded events of a run. Pushed messages, which have no number, are skipped."""
    return (decode_event(line) for number, line in events if number is not None)


def _iter_pieces(frames: bytes) -> Iterator[bytes]:
    """Yield pieces of whole frames, and the parts of a frame that is longer than a piece."""
    begin = 0
    while begin < len(frames):
        stop = begin + _PIECE_BYTES
        end = frames.rfind(b"\n\n", begin, stop)
        stop = stop if end < 0 else end + 2
        yield frames[begin:stop]
        begin = stop


def frame_json(value: Any) -> bytes:
    return frame(encode_line(value))


def stream_response(
    watched: Watched,
    rendering: Rendering | None = None,
    on_close: Callable[[], None] = lambda: None,
    check_start: Callable[[], None] | None = None,
    on_disconnect: Callable[[], object] = lambda: None,
) -> Response:
    """Return a streaming response with all events of a watch.

    :param on_close: Called once, after the stream ends or the client disconnects.
    :param check_start: Called before the response starts, after the first frames of events, or
        after :data:`_MAX_START_S` without them. It may raise an ApiError, which is then the
        response.
    :param on_disconnect: Called before ``on_close`` if the client disconnects before the end.
    """
    _warn_without_threads(request.environ)
    heartbeat_s = get_state().settings.heartbeat_s
    hold = partial(get_state().worker.unread.hold, watched.seat.holder.payer)
    body = StreamBody(watched, heartbeat_s, rendering or Rendering(), hold, on_close, on_disconnect)
    if check_start is not None:
        try:
            body.read(_MAX_START_S)
            check_start()
        except BaseException:
            body.close()
            raise
    response = Response(body, headers=_HEADERS, content_type=CONTENT_TYPE)
    # A hook of the embedding application may wrap the body in a generator, which hides its close().
    response.call_on_close(body.close)
    return response


def _warn_without_threads(environ: dict[str, Any]) -> None:
    """Log once if this HTTP server handles one request at a time, such as gunicorn's sync worker.

    Test clients do so, too, but name no server.
    """
    is_served = "SERVER_SOFTWARE" in environ or "uwsgi.version" in environ
    # gevent's own server says that it has no threads.
    has_threads = environ.get("wsgi.multithread") or is_gevent_patched()
    warned = get_http_state().warned
    if is_served and not has_threads and "threads" not in warned:
        warned.add("threads")
        log.warning(
            "this HTTP server has no threads, so an open stream blocks all other requests, and "
            "gunicorn kills it after 30 s; use gunicorn with the configuration of this package "
            "(docs/embedding.rst), or a server with threads"
        )


def find_abort() -> Callable[[], None] | None:
    """Return a function that closes this request's connection, or None if the server hides it."""
    connection = request.environ.get("gunicorn.socket")
    return None if connection is None else partial(abort, connection)


def is_disconnected() -> bool:
    """Return whether the client has closed the connection. False if the server hides it.

    Like nginx, it takes a client that only ends its sending for disconnected.
    """
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return False
    look = native_poll()
    look.register(connection, _CLOSED)
    return bool(look.poll(0))


def read_last_event_id(what: str) -> int | None:
    """Return the ``Last-Event-ID`` of this request, or None if it has none.

    :param what: Noun phrase for the numbered thing, used in the error.
    :raises ApiError: ``invalid_request``.
    """
    text = request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise refuse(f"Last-Event-ID must be the number of {what}")
    return int(text)


class StreamBody:
    """Body of a stream: a WSGI iterable with ``close``.

    Not a generator, because ``close`` of a generator that never started runs no code. It keeps no
    request and no connection, because the request's context ends before the first chunk is sent.
    """

    def __init__(
        self,
        watched: Watched,
        heartbeat_s: float,
        rendering: Rendering,
        hold: Callable[[int, Callable[[], None]], Callable[[], None]],
        on_close: Callable[[], None],
        on_disconnect: Callable[[], object],
    ) -> None:
        self._watched = watched
        self._heartbeat_s = heartbeat_s
        self._rendering = rendering
        self._hold = hold
        self._sent: Callable[[], None] = lambda: None
        self._on_close: Callable[[], None] | None = on_close
        self._on_disconnect = on_disconnect
        self._ready = rendering.begin()
        #: The part of a long answer that is not sent yet.
        self._rest: Iterator[bytes] = iter(())
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return all new frames or a piece of them, or a heartbeat if there are none for some time.

        It keeps proxies from closing the stream, and writing it detects a disconnected client.
        """
        seat = self._watched.seat
        seat.sending_since = None
        data = next(self._rest, b"") or self._take_ready()
        if not data:
            raise StopIteration
        seat.sending_since = monotonic()
        return data

    def _take_ready(self) -> bytes:
        self._sent()
        if not self._ready:
            try:
                self.read(self._heartbeat_s)
            except StorageError as error:
                self._over = True
                self._ready += self._rendering.fail(error)
        data, self._ready = self._ready, b""
        if len(data) <= _LONG_BYTES:
            return data
        self._sent = self._hold(len(data), self._cut_off)
        self._rest = _iter_pieces(data)
        return next(self._rest)

    def _cut_off(self) -> None:
        # Free the memory now: the greenlet that sends may get its turn only after hundreds of
        # others.
        self._rest, self._rendering = iter(()), Rendering()
        seat = self._watched.seat
        seat.revoked = True  # else a hidden connection continues with other frames
        seat.break_off("was not read")

    def close(self) -> None:
        """Release the stream's resources. A second call does nothing."""
        gone = not (self._over or self._watched.leaving)
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            self._sent()
            self._watched.close()
            if gone:
                self._on_disconnect()
            on_close()

    def read(self, silence_s: float) -> None:
        """Add the next frames to those that are sent next, or a heartbeat after a silence.

        :raises StorageError: if the events cannot be read.
        """
        watched, until = self._watched, monotonic() + silence_s
        # Events that the protocol does not show count as silence.
        while not (self._over or watched.seat.revoked):
            if watched.leaving:
                self._over = True
                self._ready += self._rendering.leave()
                return
            events = watched.take(max(until - monotonic(), 0.0))
            data = self._rendering.render(events)
            self._ready += data
            if watched.ended:
                self._over = True
                self._ready += self._rendering.finish()
                return
            if data or not events or monotonic() >= until:
                self._ready += b"" if data else self._rendering.wait()
                return
