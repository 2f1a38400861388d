"""What a refused client still sends is read past, without holding the hub.

A request that is refused early (no key, a body too large) leaves its body
unread. gunicorn then reads it to its end in steps of 1 KiB that copy what is
buffered each time and never let the hub go (Source: measured with gunicorn
27, 200 MB of an unknown caller kept a worker from everything else for 6.5 s).
Closing at once is no way out: the reset that this causes makes many clients
lose the answer.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flask import Request, Response
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from ..errors import ApiError, refuse
from ..runtime.threads import is_gevent_patched, let_others_run

#: Silence after which a request is given up whose body does not come, in seconds.
BODY_SILENCE_S = 60.0

#: A whole body may take so long, and so much longer as its bytes need at the slowest pace.
_BODY_S = 30.0
_SLOWEST_BYTES_PER_S = 16 * 1024

#: So many chunks that are smaller than this on average take so long at least, in seconds: each
#: costs the worker 10 microseconds, whatever is in it.
_CHUNKS = 256
_SMALL_CHUNK_BYTES = 256
_CHUNKS_S = 0.05

#: Set in the environ of a request whose body did not come to its end.
_BROKE_OFF_KEY = "astrbot_api.body_broke_off"

#: Below this gunicorn's own way costs nothing.
_SMALL_BYTES = 64 * 1024

_PIECE_BYTES = 256 * 1024

#: What a client may do whose message is larger than the owner allows.
MESSAGE_REMEDY = " (ASTRBOT_MAX_JSON_BYTES); upload files with POST /files and send their ids"

#: Beyond either, the connection is closed instead.
_MAX_BYTES = 1024 * 1024 * 1024
_MAX_S = 30.0


def limit_silence(request: Request) -> None:
    """Wait for each piece of the body for a limited time, and for small ones in any case.

    A client that is gone without a word would otherwise hold its connection,
    and what the request holds, without an end.
    """
    environ = request.environ
    if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
        _set_timeout(environ, BODY_SILENCE_S)
    if "HTTP_TRANSFER_ENCODING" in environ:
        # gunicorn's: it parses all chunks of one reading at once (Source: gunicorn.http.body;
        # a million chunks of a byte kept a worker from all else for 8 s).
        reader: Any = getattr(environ.get("wsgi.input"), "reader", None)
        if getattr(reader, "parser", None) is not None:
            reader.parser = _pace(reader.parser)


def _pace(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield chunks, let others run between, and wait where they are small."""
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


def broken_off(request: Request) -> ApiError:
    """Return the error for a body whose end does not come; the connection is closed after it."""
    request.environ[_BROKE_OFF_KEY] = True
    return refuse("the request body broke off")


@contextmanager
def reading(request: Request, max_bytes: int) -> Iterator[None]:
    """Read a body, or a piece of one, within a time that follows from its bytes.

    A client that sends a byte now and then never falls silent.

    :param max_bytes: Most that may come.
    :raises ApiError: when the client goes away, falls silent, is too slow, or sends chunks
        that are malformed; the connection is closed after it.
    """
    length = request.content_length
    expected = max_bytes if length is None else min(length, max_bytes)
    try:
        with _time_limit(_BODY_S + expected / _SLOWEST_BYTES_PER_S):
            yield
    except (OSError, ClientDisconnected) as error:
        # The server's and Werkzeug's, for a client that went away or fell silent.
        raise broken_off(request) from error
    except Exception as error:
        # Chunks without a size or an end: gunicorn's own errors, which are no OSError.
        if type(error).__module__ != "gunicorn.http.errors":
            raise
        request.environ[_BROKE_OFF_KEY] = True
        raise refuse("the chunks of the request body are malformed") from error


@contextmanager
def _time_limit(timeout_s: float) -> Iterator[None]:
    if not is_gevent_patched():
        yield  # other servers read bodies by themselves
        return
    from gevent import Timeout

    with Timeout(timeout_s, TimeoutError("the body comes too slowly")):
        yield


def read_body(request: Request, max_bytes: int, *, keep: bool = False, remedy: str = "") -> bytes:
    """Return the whole body.

    :param keep: Whether it can be read again; for small ones.
    :param remedy: What a client is answered behind the limit.

    :raises ApiError: as :func:`reading`, or ``body_too_large``.
    """
    environ = request.environ
    if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""
    request.max_content_length = max_bytes
    if _has_arrived(environ, max_bytes):
        return request.get_data(cache=keep)
    try:
        with reading(request, max_bytes):
            if keep or (request.content_length or 0) <= _PIECE_BYTES:
                return request.get_data(cache=keep)
            return b"".join(_iter_pieces(request))
    except RequestEntityTooLarge as error:
        raise ApiError("body_too_large", describe_limit(max_bytes, remedy)) from error


def describe_limit(max_bytes: int, remedy: str = "") -> str:
    """Return what a client is answered whose body has more bytes."""
    return f"the request body is larger than the limit of {max_bytes} bytes{remedy}"


def _has_arrived(environ: dict[str, Any], max_bytes: int) -> bool:
    """Return whether gunicorn has read a body together with its headers, as most small ones.

    Nothing is waited for then, and nothing has to be limited.
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


def _iter_pieces(request: Request) -> Iterator[bytes]:
    """Yield a long body; a fast client has always sent more, so that reading never waits."""
    while piece := request.stream.read(_PIECE_BYTES):
        yield piece
        let_others_run()


def drain_later(request: Request, response: Response) -> None:
    """Have the rest of the body read once the answer has been sent."""
    environ = request.environ
    _set_timeout(environ, None)  # an answer may take as long as it takes
    if _BROKE_OFF_KEY in environ:
        response.call_on_close(lambda: _shut(environ.get("gunicorn.socket")))
        return
    if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" not in environ:
        return  # no body, as most requests
    # Without this mark a read could wait for bytes that never come.
    if not environ.get("wsgi.input_terminated"):
        return
    if (request.content_length or 0) > _SMALL_BYTES or "HTTP_TRANSFER_ENCODING" in environ:
        response.call_on_close(lambda: _drain(environ))


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
            if connection is not None:
                connection.settimeout(rest_s)
            piece = read(_PIECE_BYTES)
            if not piece:
                return
            left -= len(piece)
            let_others_run()
        _shut(connection)
    except Exception:  # gone, silent for too long, or chunks that cannot be read
        _shut(connection)
    finally:
        if connection is not None:
            with suppress(OSError):
                connection.settimeout(timeout_s)


def _shut(connection: socket.socket | None) -> None:
    """End the connection: where the next request would begin is not known."""
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
