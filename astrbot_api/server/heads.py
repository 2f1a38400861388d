"""Changes of gunicorn's HTTP: limited request heads, and fewer calls to send a response."""

from __future__ import annotations

from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser

#: Maximum size of a request head. Ten heads of 700 KB blocked a worker for 2.5 s (Source:
#: measured with gunicorn 27). nginx's default limit is 32 KB.
_MAX_HEAD_BYTES = 64 * 1024

#: Maximum bytes that are copied to be sent together with the head of their response.
_MAX_JOINED_BYTES = 64 * 1024

_Request: Any = RequestParser.mesg_class


def bound_heads() -> None:
    """Reject request heads and trailers longer than :data:`_MAX_HEAD_BYTES`.

    gunicorn limits only the length and number of fields, which allows 800 KB, and copies the
    whole buffer for each received piece.
    """
    RequestParser.mesg_class = _BoundedRequest


def join_heads() -> None:
    """Send the head of a response together with the first bytes of its body.

    gunicorn sends them separately, and each send wakes the client up, which took up to 60 us
    (Source: measured). If the request's body is not read to its end, the head says that the
    connection is closed (see :mod:`astrbot_api.http.draining`).
    """
    wsgi.Response = _JoinedResponse


class _BoundedRequest(_Request):  # type: ignore[misc]
    def parse(self, unreader: Any) -> Any:
        self.max_buffer_headers = _MAX_HEAD_BYTES
        return super().parse(unreader)


class _Joined(list[bytes]):
    """Collects bytes instead of sending them."""

    sendall = list.append

    def send(self, data: bytes) -> int:
        self.append(data)
        return len(data)


class _JoinedResponse(wsgi.Response):  # type: ignore[misc]
    def default_headers(self) -> Any:
        if getattr(self.req.body, "closes_connection", False):
            self.force_close()
        return super().default_headers()

    def write(self, arg: bytes) -> None:
        if self.headers_sent or len(arg) > _MAX_JOINED_BYTES:
            super().write(arg)
            return
        joined, sock = _Joined(), self.sock
        self.sock: Any = joined
        try:
            super().write(arg)
        finally:
            self.sock = sock
            _send_all(sock, b"".join(joined))

    def _emit_body(self, data: bytes) -> None:
        _send_all(self.sock, b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)


def _send_all(sock: Any, data: bytes) -> None:
    """Send bytes. gevent's ``sendall`` asks the kernel for its buffer's size each time."""
    sent = sock.send(data)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])
