"""Read request bodies with limits on size and time, and drain the bodies of rejected requests.

A request that is rejected early (no key, body too large) leaves its body unread.
gunicorn then reads the rest in steps of 1 KiB, copies its buffer each time and never
yields to the hub (Source: measured with gunicorn 27; 200 MB from an unauthenticated
client blocked a worker for 6.5 s). Closing the connection at once is no alternative:
the TCP reset makes many clients lose the response.

Such a response says ``Connection: close``. A proxy whose client gave up in the middle of its body
may otherwise send the next request on the same connection, whose start would be read as the rest
of that body (Source: observed with HAProxy 2.6 and a client that speaks HTTP/2).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from flask import Request, Response
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from ..errors import ApiError, refuse
from ..runtime.memory import Reservation
from ..runtime.threads import is_gevent_patched, let_others_run

#: Seconds without data after which a request is aborted.
BODY_SILENCE_S = 60.0

#: Time limit of a whole body: this many seconds, plus its size divided by the minimum rate.
_BODY_S = 30.0
_SLOWEST_BYTES_PER_S = 16 * 1024

#: The same for sending a long response.
_SEND_S = 30.0

#: The class of sockets without gevent.
_Socket: type[socket.socket] = socket.socket
if is_gevent_patched():
    _Socket = import_module("gevent.monkey").get_original("socket", "socket")

#: Rate limit for small chunks: reading ``_CHUNKS`` chunks takes at least ``_CHUNKS_S`` seconds if
#: they average below ``_SMALL_CHUNK_BYTES``. Each chunk costs 10 microseconds of CPU at any size.
_CHUNKS = 256
_SMALL_CHUNK_BYTES = 256
_CHUNKS_S = 0.05

#: Environ key that marks a request with an incomplete body.
_INCOMPLETE_KEY = "astrbot_api.body_broke_off"

#: Bodies up to this size are awaited for a moment before the response, and drained by gunicorn.
_SMALL_BYTES = 64 * 1024

#: Seconds to wait for the rest of a small body, which often follows its headers in another packet.
_SOON_S = 0.05

_PIECE_BYTES = 256 * 1024

#: Advice for a client whose message is too large.
MESSAGE_REMEDY = " (ASTRBOT_MAX_JSON_BYTES); upload files with POST /files and send their ids"

#: Limits of draining. Beyond either one the connection is closed.
_MAX_BYTES = 1024 * 1024 * 1024
_MAX_S = 30.0


def limit_silence(request: Request) -> None:
    """Set a timeout for each read of the body, and slow down clients that send small chunks.

    Without the timeout a client that vanished would hold its connection, and the
    resources of its request, indefinitely.
    """
    environ = request.environ
    if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
        _set_timeout(environ, BODY_SILENCE_S)
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
    request.environ[_INCOMPLETE_KEY] = True
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
        with _time_limit(_BODY_S + expected / _SLOWEST_BYTES_PER_S):
            yield
    except (OSError, ClientDisconnected) as error:
        # Raised by the server and Werkzeug if the client disconnected or stalled.
        raise broken_off(request) from error
    except Exception as error:
        # gunicorn's errors for malformed chunks are not subclasses of OSError.
        if type(error).__module__ != "gunicorn.http.errors":
            raise
        request.environ[_INCOMPLETE_KEY] = True
        raise refuse("the chunks of the request body are malformed") from error


@contextmanager
def _time_limit(timeout_s: float) -> Iterator[None]:
    if not is_gevent_patched():
        yield  # other servers limit this themselves
        return
    from gevent import Timeout

    with Timeout(timeout_s, TimeoutError("the body comes too slowly")):
        yield


def read_body(
    request: Request,
    max_bytes: int,
    make_reservation: Callable[[], Reservation],
    *,
    keep: bool = False,
    remedy: str = "",
) -> bytes:
    """Return the whole body.

    :param make_reservation: Returns the reservation of memory for a body that has not arrived.
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
    length = request.content_length
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
    return body


def describe_limit(max_bytes: int, remedy: str = "") -> str:
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


def drain_later(request: Request, response: Response) -> None:
    """Drain the rest of the body after the response was sent. Limit the time to send it."""
    environ = request.environ
    _set_timeout(environ, None)
    _limit_sending(environ.get("gunicorn.socket"), response)
    if _INCOMPLETE_KEY in environ:
        response.call_on_close(lambda: _close(environ.get("gunicorn.socket")))
        return
    if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" not in environ:
        return  # no body, the most frequent case
    # If the server does not end the input itself, a read could block forever.
    if not environ.get("wsgi.input_terminated"):
        return
    if _is_left(request):
        with suppress(AttributeError):
            environ["wsgi.input"].closes_connection = True
        response.call_on_close(lambda: _drain(environ))


def _limit_sending(connection: socket.socket | None, response: Response) -> None:
    """Close the connection of a client that does not read a long response.

    Otherwise it would hold the response, and its place, forever. Streams, whose length is unknown,
    have limits of their own.
    """
    if connection is None:
        return
    whole = response.is_sequence
    size = sum(map(len, response.response)) if whole else response.content_length or 0
    if size > _SMALL_BYTES:
        limit_s = _SEND_S + size / _SLOWEST_BYTES_PER_S
        timer = threading.Timer(limit_s, _abort, [connection])
        timer.daemon = True
        timer.start()
        response.call_on_close(timer.cancel)


def _abort(connection: socket.socket) -> None:
    """Shut a connection down while another greenlet writes to it, which then fails with EPIPE.

    gevent's own ``shutdown`` raises another error there, which gunicorn logs with a traceback.
    """
    with suppress(OSError), _Socket(fileno=os.dup(connection.fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)


def _is_left(request: Request) -> bool:
    """Return whether a part of the body has not arrived, even after a short wait."""
    environ = request.environ
    source = environ["wsgi.input"]
    reader: Any = getattr(source, "reader", None)
    if "HTTP_TRANSFER_ENCODING" in environ:
        return getattr(reader, "parser", True) is not None
    if not hasattr(reader, "length"):
        return (request.content_length or 0) > _SMALL_BYTES
    if reader.length <= reader.unreader.buf.getbuffer().nbytes:
        return False
    if reader.length > _SMALL_BYTES:
        return True
    _set_timeout(environ, _SOON_S)
    with suppress(OSError), _time_limit(_SOON_S):  # slow, or disconnected
        source.read(reader.length)
    _set_timeout(environ, None)
    return bool(reader.length)


def _set_timeout(environ: dict[str, Any], timeout_s: float | None) -> None:
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is not None:
        with suppress(OSError):
            connection.settimeout(timeout_s)


def _drain(environ: dict[str, Any]) -> None:
    read = environ["wsgi.input"].read
    connection: socket.socket | None = environ.get("gunicorn.socket")
    until = time.monotonic() + _MAX_S
    left = _MAX_BYTES
    timeout_s = None if connection is None else connection.gettimeout()
    try:
        while left > 0 and (rest_s := until - time.monotonic()) > 0:
            _set_timeout(environ, rest_s)
            piece = read(_PIECE_BYTES)
            if not piece:
                return
            left -= len(piece)
            let_others_run()
        _close(connection)
    except Exception:  # disconnected, timed out, or malformed chunks
        _close(connection)
    finally:
        _set_timeout(environ, timeout_s)


def _close(connection: socket.socket | None) -> None:
    """Close the connection, because the start of the next request is unknown."""
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
