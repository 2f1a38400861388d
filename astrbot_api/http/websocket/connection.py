"""One WebSocket on the socket that the server lends us.

The protocol is wsproto's; this reads and writes. Not ``simple-websocket``:
its ``send`` may send a part of a frame, it keeps all that a client sends and
nobody reads, and it lets every client turn compression on, which costs 300 KB
a connection.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import h11
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ...errors import ApiError
from ...runtime.threads import let_others_run

#: Where servers put the connection's socket: gunicorn, and Flask's own.
_SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")

_READ_BYTES = 64 * 1024

#: Close codes of RFC 6455, 7.4.1.
NORMAL, PROTOCOL_ERROR, POLICY, TOO_BIG, RESTART = 1000, 1002, 1008, 1009, 1012

#: Longest reason of a close frame, in bytes.
_MAX_REASON_BYTES = 123


class WebSocket:
    """A connection after its handshake. One thread reads; any thread may send.

    Nothing is read before it is asked for, so a client that sends more than
    is answered waits in its own network buffers.

    :param max_bytes: Longest message.
    :param ping_s: Silence after which the client is pinged; when another such
        time brings nothing, or a frame cannot be sent that long, it is gone.
    :raises ApiError: ``websocket_unsupported`` or ``upgrade_required``.
    """

    def __init__(self, environ: Mapping[str, Any], *, max_bytes: int, ping_s: float) -> None:
        self._socket = find_socket(environ)
        self._max_bytes = max_bytes
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._lock = threading.Lock()
        self._closed = False
        self._ended = False
        self._failed = False
        self._messages: deque[str | bytes] = deque()
        self._parts: list[str | bytes] = []
        self._parts_bytes = 0
        self._pinged = False
        self._shake_hands(environ)
        self._socket.settimeout(ping_s)
        self._send(AcceptConnection())

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed

    def receive(self) -> str | bytes | None:
        """Return the next message; None when the connection has ended."""
        while not self._messages:
            if self._closed or self._ended:
                return None
            # What came before a goodbye is still answered.
            self._ended = not self._read()
        return self._messages.popleft()

    def send(self, text: str) -> bool:
        """Send a text message. Returns False when the client is gone."""
        return self._send(TextMessage(data=text))

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say goodbye. The client answers, and :meth:`receive` returns None then."""
        cut = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        self._send(CloseConnection(code=code, reason=cut or None))

    def break_off(self) -> None:
        """End the connection at once, also during a read or a send."""
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def linger(self, timeout_s: float) -> None:
        """Wait until the client has answered a goodbye, but not long."""
        with suppress(OSError):
            self._socket.settimeout(timeout_s)
        self._pinged = True  # the first silence is the last
        while not (self._closed or self._ended):
            self._ended = not self._read()
            self._messages.clear()
        if self._failed and not self._closed:
            # What is left unread would have the kernel reset the connection, and
            # the client lose the reason.
            self._discard(time.monotonic() + timeout_s)
        self._shut()

    def _shake_hands(self, environ: Mapping[str, Any]) -> None:
        # Neither extensions nor subprotocols: none is answered.
        names = ("CONNECTION", "UPGRADE", "SEC_WEBSOCKET_KEY", "SEC_WEBSOCKET_VERSION")
        found = {name: str(environ.get(f"HTTP_{name}", "")) for name in names}
        try:
            headers = [
                (name.replace("_", "-").encode(), value.encode("latin-1"))
                for name, value in found.items()
            ]
            self._protocol.initiate_upgrade_connection([*headers, (b"Host", b"localhost")], b"/")
            list(self._protocol.events())
        except (RemoteProtocolError, LocalProtocolError, h11.ProtocolError, UnicodeError) as error:
            raise ApiError(
                "upgrade_required",
                f"this path speaks WebSocket, version 13: {error}",
                headers={"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
            ) from error

    def _read(self) -> bool:
        """Read once. Returns whether the connection goes on."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            if self._pinged:
                return False
            self._pinged = True
            return self._send(Ping(payload=b"?"))
        except (OSError, ValueError):
            return False
        if not data:
            return False
        self._pinged = False
        let_others_run()  # a client that never stops must not keep the hub
        try:
            self._protocol.receive_data(data)
            return all(self._take(event) for event in self._protocol.events())
        except RemoteProtocolError as error:
            self._failed = True
            self.close(PROTOCOL_ERROR, str(error))
            return False

    def _discard(self, until: float) -> None:
        with suppress(OSError):
            while time.monotonic() < until and self._socket.recv(_READ_BYTES):
                let_others_run()

    def _take(self, event: Event) -> bool:
        if isinstance(event, Ping):
            return self._send(event.response())
        if isinstance(event, CloseConnection):
            with suppress(LocalProtocolError):  # it answers our own
                self._send(event.response())
            return False
        if isinstance(event, (TextMessage, BytesMessage)):
            return self._take_part(event)
        return isinstance(event, Pong)

    def _take_part(self, event: TextMessage | BytesMessage) -> bool:
        self._parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
        self._parts_bytes += len(event.data)
        if self._parts_bytes > self._max_bytes:
            self._failed = True
            self.close(TOO_BIG, f"a message is longer than {self._max_bytes} bytes")
            return False
        if event.message_finished:
            empty: Any = "" if isinstance(event, TextMessage) else b""
            self._messages.append(empty.join(self._parts))
            self._parts, self._parts_bytes = [], 0
        return True

    def _send(self, event: Event) -> bool:
        if self._closed:
            return False
        with self._lock:
            try:
                data = self._protocol.send(event)
                self._socket.sendall(data)
            except LocalProtocolError:  # it was said goodbye already
                return False
            except (OSError, ValueError):
                # A part of a frame may be out: nothing can follow it.
                self.break_off()
                return False
        return True

    def _shut(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def find_socket(environ: Mapping[str, Any]) -> socket.socket:
    """Return the socket of a request.

    :raises ApiError: ``websocket_unsupported`` when the server shows none.
    """
    for key in _SOCKET_KEYS:
        if environ.get(key) is not None:
            found: socket.socket = environ[key]
            return found
    raise ApiError(
        "websocket_unsupported",
        "this HTTP server lends no socket to applications, so there is no WebSocket; use "
        "POST /api/v1/chat, or run the server with gunicorn",
    )
