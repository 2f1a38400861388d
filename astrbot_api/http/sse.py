"""Server-sent events: the only place that writes frames, for every stream of this server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from socket import SHUT_RDWR
from time import monotonic
from typing import Any, Protocol

from flask import Request, Response

from ..chat.watching.seats import Seat
from ..chat.watching.watch import Numbered
from ..errors import StorageError, refuse
from ..event_lines import encode_line
from .state import get_state

_HEARTBEAT = b": heartbeat\n\n"

#: Asks the client to come back soon: another worker continues the stream.
_RETRY = b"retry: 1000\n\n"

#: Why a stream of a protocol that cannot resume ends before its turn.
LEAVING = "The server restarts. The turn goes on, and its answer will be in the session."

#: With the charset: Python's requests, and others, take a text without one for ISO-8859-1.
CONTENT_TYPE = "text/event-stream; charset=utf-8"

_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    # nginx would collect the stream otherwise.
    "X-Accel-Buffering": "no",
}


class Watched(Protocol):
    """What a stream shows: a run, or an inbox."""

    seat: Seat

    @property
    def ended(self) -> bool:
        """Whether the last event was taken."""

    @property
    def leaving(self) -> bool:
        """Whether the client must resume elsewhere."""

    def take(self, timeout_s: float) -> list[Numbered]:
        """Return what is new; an empty list when nothing came in time."""

    def close(self) -> None:
        """Give back what it holds."""


class Rendering:
    """How events become frames; this one shows them as they are."""

    def begin(self) -> bytes:
        """Return what stands before all events."""
        return b""

    def render(self, events: Sequence[Numbered]) -> bytes:
        """Return the frames of events."""
        return b"".join(frame(event, number) for number, event in events)

    def finish(self) -> bytes:
        """Return what stands after the last event."""
        return b""

    def fail(self, error: StorageError) -> bytes:
        """Return the last frames when the events cannot be read."""
        return _RETRY

    def leave(self) -> bytes:
        """Return the last frames when this worker stops before the turn has ended."""
        return _RETRY


def frame(line: bytes, number: int | None = None, *, event: str = "") -> bytes:
    """Return one line of data as a frame.

    :param number: What a client that resumes sends back as ``Last-Event-ID``; None: the
        event is not of the stream's own.
    :param event: The type of the event, for protocols that name it beside the data.
    """
    if event:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), line)
    if number is None:
        return b"data: %b\n\n" % line
    return b"data: %b\nid: %d\n\n" % (line, number)


def frame_json(value: Any) -> bytes:
    """Return a JSON value as a frame."""
    return frame(encode_line(value))


def stream_response(
    watched: Watched,
    rendering: Rendering | None = None,
    on_close: Callable[[], None] = lambda: None,
) -> Response:
    """Return the response that streams what is watched, to its last event.

    :param on_close: Called once, when the stream has ended or the client is gone.
    """
    heartbeat_s = get_state().settings.heartbeat_s
    body = StreamBody(watched, heartbeat_s, rendering or Rendering(), on_close)
    return Response(body, headers=_HEADERS, content_type=CONTENT_TYPE)


def find_abort(request: Request) -> Callable[[], None] | None:
    """Return what breaks a request's connection off; None where the server shows none."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return None

    def abort() -> None:
        with suppress(OSError):
            connection.shutdown(SHUT_RDWR)

    return abort


def read_last_event_id(request: Request, what: str) -> int | None:
    """Return the ``Last-Event-ID`` of a request; None: it has none.

    :param what: What the number counts.
    :raises ApiError: ``invalid_request``.
    """
    text = request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise refuse(f"Last-Event-ID must be the number of {what}")
    return int(text)


class StreamBody:
    """The body of a stream: an iterable with ``close``, as WSGI has it.

    Not a generator: one that was never begun would not be closed. It holds no
    request and no connection, since the request's context ends before the
    first chunk is sent.
    """

    def __init__(
        self,
        watched: Watched,
        heartbeat_s: float,
        rendering: Rendering,
        on_close: Callable[[], None],
    ) -> None:
        self._watched = watched
        self._heartbeat_s = heartbeat_s
        self._rendering = rendering
        self._on_close: Callable[[], None] | None = on_close
        self._lead = rendering.begin()
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return what is new, all of it together; a comment where there is nothing.

        The comment keeps proxies from closing the stream, and it is how a
        client that went away is noticed.
        """
        seat = self._watched.seat
        seat.sending_since = None
        data, self._lead = self._lead or self._read(), b""
        if not data:
            raise StopIteration
        seat.sending_since = monotonic()
        return data

    def close(self) -> None:
        """Give back what the stream holds; a second call does nothing."""
        self._over = True
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            self._watched.close()
            on_close()

    def _read(self) -> bytes:
        watched = self._watched
        if self._over or watched.seat.revoked:
            self._over = True
            return b""
        if watched.leaving:
            self._over = True
            return self._rendering.leave()
        try:
            events = watched.take(self._heartbeat_s)
        except StorageError as error:
            self._over = True
            return self._rendering.fail(error)
        data = self._rendering.render(events)
        if watched.ended:
            self._over = True
            return data + self._rendering.finish()
        return data or _HEARTBEAT
