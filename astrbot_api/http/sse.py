"""A run's log as a stream of server-sent events."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response

from ..stream.log import RunLog

_HEARTBEAT = b": heartbeat\n\n"

_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    # nginx would collect the stream otherwise.
    "X-Accel-Buffering": "no",
}


def stream_response(log: RunLog, heartbeat_s: float) -> Response:
    """Return the answer that shows a run from its first event to its last.

    The generator holds plain values only: no request, no connection, since
    the request's context ends before its first chunk is sent.
    """
    frames = iter_frames(log, heartbeat_s)
    # The charset is not told: some clients compare the whole header.
    return Response(frames, headers=_HEADERS, content_type="text/event-stream")


def iter_frames(log: RunLog, heartbeat_s: float) -> Iterator[bytes]:
    """Yield the frames of a log as they come, what is there at once together.

    A comment fills each silence: it keeps proxies from closing the stream,
    and it is how a client that went away is noticed.
    """
    number = 0
    while True:
        closed = log.closed
        frames = log.read_after(number)
        if frames:
            number += len(frames)
            yield "".join(frames).encode()
        elif closed:
            return
        elif not log.wait_after(number, heartbeat_s):
            yield _HEARTBEAT
