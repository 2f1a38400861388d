"""Read request bodies with limits on size and time.

:mod:`astrbot_api.http.draining` handles the rest of a body after the response.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from ..errors import ApiError, refuse
from ..runtime.memory import Reservation
from ..runtime.threads import is_gevent_patched, let_others_run
from .auth import CHECK_AGAIN_KEY, make_reservation

#: Seconds without data after which a request is aborted.
BODY_SILENCE_S = 60.0

#: Time limit of a whole body: this many seconds, plus its size divided by the minimum rate.
_BODY_S = 30.0
SLOWEST_BYTES_PER_S = 16 * 1024

#: Rate limit for small chunks: reading ``_CHUNKS`` chunks takes at least ``_CHUNKS_S`` seconds if
#: they average below ``_SMALL_CHUNK_BYTES``. Each chunk costs 10 microseconds of CPU at any size.
_CHUNKS = 256
_SMALL_CHUNK_BYTES = 256
_CHUNKS_S = 0.05

#: Environ key that marks a request with an incomplete body.
INCOMPLETE_KEY = "astrbot_api.body_broke_off"

#: Seconds after which a body counts as slow, so that its sender is checked again.
_SLOW_BODY_S = 1.0

_PIECE_BYTES = 256 * 1024

#: Advice for a client whose message is too large.
MESSAGE_REMEDY = " (ASTRBOT_MAX_JSON_BYTES); upload files with POST /files and send their ids"


def limit_silence(request: Request) -> None:
    """Set a timeout for each read of the body, and slow down clients that send small chunks.

    Without the timeout a client that vanished would hold its connection, and the
    resources of its request, indefinitely.
    """
    environ = request.environ
    if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
        set_timeout(environ, BODY_SILENCE_S)
    if "HTTP_TRANSFER_ENCODING" in environ:
        # gunicorn parses all chunks of one read at once (Source: gunicorn.http.body; measured,
        # a million chunks of one byte blocked a worker for 8 s).
        reader: Any = getattr(environ.get("wsgi.input"), "reader", None)
        if getattr(reader, "parser", None) is not None:
            reader.parser = _pace(reader.parser)


def _pace(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield chunks and let other greenlets run in between. Sleep if the chunks are small."""
    count, size, since = 0, 0, time.monotonic()
    for chunk in chunks:
        yield chunk
        count, size = count + 1, size + len(chunk)
        if count == _CHUNKS:
            rest_s = _CHUNKS_S - (time.monotonic() - since)
            if size < _CHUNKS * _SMALL_CHUNK_BYTES and rest_s > 0:
                time.sleep(rest_s)
            else:
                let_others_run()
            count, size, since = 0, 0, time.monotonic()


def check_is_passed(environ: dict[str, Any]) -> None:
    """Check that this HTTP server passes the body on.

    :raises ApiError: ``invalid_request`` for chunks whose end the server does not show. Werkzeug
        then reads an empty body.
    """
    if "HTTP_TRANSFER_ENCODING" in environ and not environ.get("wsgi.input_terminated"):
        raise refuse(
            "this HTTP server does not pass on bodies with Transfer-Encoding: chunked; "
            "send Content-Length, or run the server with gunicorn"
        )


def broken_off(request: Request) -> ApiError:
    """Return the error for an incomplete body. The connection is closed after the response."""
    request.environ[INCOMPLETE_KEY] = True
    return refuse("the request body broke off")


@contextmanager
def reading(request: Request, max_bytes: int) -> Iterator[None]:
    """Limit the time to read a body, or a part of one, according to its size.

    The timeout of each read does not stop a client that sends one byte now and then.

    :raises ApiError: if the client disconnects, stalls, is too slow or sends malformed
        chunks. The connection is closed after the response.
    """
    length = request.content_length
    expected = max_bytes if length is None else min(length, max_bytes)
    try:
        with limit_time(_BODY_S + expected / SLOWEST_BYTES_PER_S):
            yield
    except (OSError, ClientDisconnected) as error:
        # Raised by the server and Werkzeug if the client disconnected or stalled.
        raise broken_off(request) from error
    except Exception as error:
        # gunicorn's errors for malformed chunks are not subclasses of OSError.
        if type(error).__module__ != "gunicorn.http.errors":
            raise
        request.environ[INCOMPLETE_KEY] = True
        raise refuse("the chunks of the request body are malformed") from error


def check_again_if_slow(request: Request, began: float) -> None:
    """Check the sender again after a slow body: its key or login may have ended since.

    :param began: Monotonic time at which the body began.
    :raises ApiError: as the first check.
    """
    check_again = request.environ.get(CHECK_AGAIN_KEY)
    if check_again is not None and time.monotonic() - began >= _SLOW_BODY_S:
        check_again()


@contextmanager
def limit_time(timeout_s: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer. Only under gevent."""
    if not is_gevent_patched():
        yield  # other servers limit this themselves
        return
    from gevent import Timeout

    with Timeout(timeout_s, TimeoutError("the body comes too slowly")):
        yield


def read_body(request: Request, max_bytes: int, *, keep: bool = False, remedy: str = "") -> bytes:
    """Return the whole body.

    :param keep: Whether to cache the body so that it can be read again; for small bodies.
    :param remedy: Advice appended to the error for a body that is too large.
    :raises ApiError: like :func:`reading`, ``body_too_large``, or ``server_busy`` if this worker
        receives too many long bodies.
    """
    environ = request.environ
    if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""
    check_is_passed(environ)
    request.max_content_length = max_bytes
    if _has_arrived(environ, max_bytes):
        return request.get_data(cache=keep)
    length, began = request.content_length, time.monotonic()
    if length is None:
        # Werkzeug cuts a body in chunks off at the limit, so read one byte more.
        request.max_content_length = max_bytes + 1
    try:
        with reading(request, max_bytes), make_reservation() as reservation:
            if length is not None and length <= max_bytes:
                reservation.reserve(length)
            is_read = "_cached_data" in vars(request)  # by a hook of the embedding application
            if keep or is_read or (length is not None and length <= _PIECE_BYTES):
                body = request.get_data(cache=keep)
            else:
                body = b"".join(_iter_pieces(request, reservation))
    except RequestEntityTooLarge as error:
        raise ApiError("body_too_large", describe_limit(max_bytes, remedy)) from error
    if len(body) > max_bytes:
        raise ApiError("body_too_large", describe_limit(max_bytes, remedy))
    check_again_if_slow(request, began)
    return body


def describe_limit(max_bytes: int, remedy: str) -> str:
    """Return the error message for a body above the limit."""
    return f"the request body is larger than the limit of {max_bytes} bytes{remedy}"


def _has_arrived(environ: dict[str, Any], max_bytes: int) -> bool:
    """Return whether gunicorn read the whole body together with the headers.

    This is the case for most small bodies. They need no time limit.
    """
    if "HTTP_TRANSFER_ENCODING" in environ:
        return False
    reader = getattr(environ.get("wsgi.input"), "reader", None)
    buffer = getattr(getattr(reader, "unreader", None), "buf", None)
    length = environ["CONTENT_LENGTH"]
    return (
        buffer is not None
        and length.isascii()
        and length.isdigit()
        and int(length) <= min(max_bytes, buffer.getbuffer().nbytes)
    )


def _iter_pieces(request: Request, reservation: Reservation) -> Iterator[bytes]:
    """Yield a long body in parts and let other greenlets run in between.

    With a fast client, reads never block, so they would never yield to the hub.
    """
    size = 0
    while piece := request.stream.read(_PIECE_BYTES):
        size += len(piece)
        if request.content_length is None:
            reservation.resize(size)
        yield piece
        let_others_run()


def set_timeout(environ: dict[str, Any], timeout_s: float | None) -> None:
    """Set the timeout of each read from the connection, or None for no timeout."""
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is not None:
        with suppress(OSError):
            connection.settimeout(timeout_s)
