"""Handle the rest of a request's body after its response, and clients that do not read theirs.

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

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from flask import Request, Response

from ..runtime.threads import is_gevent_patched, wait_turn
from .auth import find_caller
from .request_body import INCOMPLETE_KEY, SLOWEST_BYTES_PER_S, limit_time, set_timeout
from .state import get_state

log = logging.getLogger(__name__)

#: Time limit for sending a long response: this many seconds, plus its size divided by the minimum
#: rate.
_SEND_S = 30.0

#: Bodies up to this size are awaited for a moment before the response, and drained by gunicorn.
_SMALL_BYTES = 64 * 1024

#: Seconds to wait for the rest of a small body, which often follows its headers in another packet.
_SOON_S = 0.05

#: Limits of draining. Beyond either one the connection is closed.
_MAX_BYTES = 1024 * 1024 * 1024
_MAX_S = 30.0

_PIECE_BYTES = 256 * 1024

#: The class of sockets without gevent.
_Socket: type[socket.socket] = socket.socket
if is_gevent_patched():
    _Socket = import_module("gevent.monkey").get_original("socket", "socket")


def drain_later(request: Request, response: Response) -> None:
    """Drain the rest of the body after the response was sent. Limit the time to send it."""
    environ = request.environ
    set_timeout(environ, None)
    _limit_sending(environ, response)
    if INCOMPLETE_KEY in environ:
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


def _limit_sending(environ: dict[str, Any], response: Response) -> None:
    """Close the connection of a client that does not read a long response.

    Otherwise it would hold the response, and its place, forever. Streams, whose length is unknown,
    have limits of their own. So do all responses of a key together.
    """
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is None:
        return
    whole = response.is_sequence
    size = sum(map(len, response.response)) if whole else response.content_length or 0
    if size > _SMALL_BYTES:
        caller = find_caller(environ)
        if whole and caller is not None:
            owner, hold = caller.root_id, get_state().worker.unread.hold
            cut_off = partial(_cut_off, connection, owner, response.response)
            response.call_on_close(hold(owner, size, cut_off))
        limit_s = _SEND_S + size / SLOWEST_BYTES_PER_S
        timer = threading.Timer(limit_s, abort, [connection])
        timer.daemon = True
        timer.start()
        response.call_on_close(timer.cancel)


def _cut_off(connection: socket.socket, owner: str, body: Any) -> None:
    log.info("a response to key %s was not read and is closed", owner)
    if isinstance(body, list):
        body.clear()  # its greenlet may get its turn to send only after hundreds of others
    abort(connection)


def abort(connection: socket.socket) -> None:
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
    set_timeout(environ, _SOON_S)
    with suppress(OSError), limit_time(_SOON_S):  # slow, or disconnected
        source.read(reader.length)
    set_timeout(environ, None)
    return bool(reader.length)


def _drain(environ: dict[str, Any]) -> None:
    read = environ["wsgi.input"].read
    connection: socket.socket | None = environ.get("gunicorn.socket")
    until = time.monotonic() + _MAX_S
    left = _MAX_BYTES
    timeout_s = None if connection is None else connection.gettimeout()
    try:
        while left > 0 and (rest_s := until - time.monotonic()) > 0:
            set_timeout(environ, rest_s)
            size = len(read(_PIECE_BYTES))  # no piece is kept while others take their turns
            if not size:
                return
            left -= size
            wait_turn()
        _close(connection)
    except Exception:  # disconnected, timed out, or malformed chunks
        _close(connection)
    finally:
        set_timeout(environ, timeout_s)


def _close(connection: socket.socket | None) -> None:
    """Close the connection, because the start of the next request is unknown."""
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
