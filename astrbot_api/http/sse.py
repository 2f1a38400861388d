"""A run as a stream of server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from socket import SHUT_RDWR
from time import monotonic

from flask import Request, Response, request

from ..chat.turns.turn import OpenTurn, TurnRequest
from ..chat.watching.streams import OpenStream
from ..db.runs import find_run
from ..errors import ApiError, StorageError
from ..idempotency import TurnExists
from ..runlog.reading import LogReader
from .auth import get_caller
from .state import get_state

_HEARTBEAT = b": heartbeat\n\n"

#: Tells the client to come back soon: another worker continues the stream.
_RETRY = b"retry: 1000\n\n"

#: What every stream is sent with.
STREAM_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    # nginx would collect the stream otherwise.
    "X-Accel-Buffering": "no",
}


def stream_response(stream: OpenStream, heartbeat_s: float, lead: str = "") -> Response:
    """Return the answer that shows a run to its last event.

    :param lead: A frame that stands before the first.
    """
    body = StreamBody(stream, heartbeat_s, lead)
    # The charset is not told: some clients compare the whole header.
    return Response(body, headers=STREAM_HEADERS, content_type="text/event-stream")


def open_turn_stream(asked: TurnRequest) -> Response:
    """Start a turn and answer with its stream."""
    _, stream = start_or_join(asked, find_abort(request))
    return stream_response(stream, get_state().settings.heartbeat_s)


def start_or_join(asked: TurnRequest, abort: Callable[[], None] | None) -> tuple[str, OpenStream]:
    """Start a turn, or join it from its first event where it was started before.

    :returns: The run's id, and a stream of it, which the caller must close.
    :raises ApiError: for whatever opening a turn or a stream refuses.
    """
    try:
        turn, stream = start_turn(asked, abort)
    except TurnExists as found:
        return found.run_id, _join(found.run_id, abort)
    return turn.run_id, stream


def start_turn(asked: TurnRequest, abort: Callable[[], None] | None) -> tuple[OpenTurn, OpenStream]:
    """Start a turn and open a stream of it, which the caller must close.

    :param abort: Breaks the caller's connection off.
    :raises ApiError: for whatever opening a turn or a stream refuses.
    """
    state, key_id = get_state(), get_caller().key_id
    with state.chat.streams.place(key_id):
        turn = state.chat.runs.start(asked)
        stream = state.chat.streams.open(
            LogReader(turn.log, state.worker.journal),
            session=turn.session.id,
            key_id=key_id,
            local=True,
            known_message=turn.user_message,
            abort=abort,
        )
    return turn, stream


def _join(run_id: str, abort: Callable[[], None] | None) -> OpenStream:
    state, key_id = get_state(), get_caller().key_id
    with state.db.read() as db:
        run = find_run(db, run_id)
    if run is None:
        raise ApiError("run_not_found", f"run not found: {run_id}")
    return state.chat.streams.open(
        state.chat.follower.follow(run, 0),
        session=run.session,
        key_id=key_id,
        local=state.chat.runs.find_log(run_id) is not None,
        known_message=run.user_message,
        abort=abort,
    )


def find_abort(request: Request) -> Callable[[], None] | None:
    """Return what breaks a request's connection off; None where the server shows none."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return None

    def abort() -> None:
        with suppress(OSError):
            connection.shutdown(SHUT_RDWR)

    return abort


class StreamBody:
    """The body of a stream: an iterable with ``close``, as WSGI has it.

    Not a generator: one that was never begun would not be closed. It holds no
    request and no connection, since the request's context ends before the
    first chunk is sent.
    """

    def __init__(self, stream: OpenStream, heartbeat_s: float, lead: str = "") -> None:
        self._stream = stream
        self._heartbeat_s = heartbeat_s
        self._lead = lead.encode()
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return what is new, all of it together; a comment where there is nothing.

        The comment keeps proxies from closing the stream, and it is how a
        client that went away is noticed.
        """
        stream = self._stream
        stream.sending_since = None
        if self._over:
            raise StopIteration
        data, self._lead = self._lead or self._read(), b""
        stream.sending_since = monotonic()
        return data

    def close(self) -> None:
        """Give back what the stream holds."""
        self._over = True
        self._stream.close()

    def _read(self) -> bytes:
        stream = self._stream
        if stream.ended:
            raise StopIteration
        if stream.leaving:
            self._over = True
            return _RETRY
        try:
            frames = stream.take(self._heartbeat_s)
        except StorageError:
            self._over = True
            return _RETRY
        if frames:
            return "".join(frames).encode()
        if stream.ended:
            raise StopIteration
        return _HEARTBEAT
