"""One WebSocket connection, on the socket that the HTTP server provides.

wsproto implements the protocol; this module reads and writes the socket. ``simple-websocket`` is
not used, for three reasons: its ``send`` may send a part of a frame, it buffers unread data without
a limit, and any client can enable compression, which costs 300 KB per connection.
"""

from __future__ import annotations

import socket
import sys
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
from ...runtime.memory import Reservation
from ...runtime.threads import let_others_run

#: WSGI environ keys of the connection's socket in gunicorn and in Flask's development server.
_SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")

#: Bytes per read. Small, so that a read of tiny frames takes little time.
_READ_BYTES = 4 * 1024

#: Maximum number of frames of one message, and bytes per read of discarded data.
_MAX_FRAGMENTS = 1_000
_DISCARD_BYTES = 64 * 1024

#: Maximum number of frames per second and connection. Beyond it, reading pauses until the second is
#: over. Only frames without a message (pings, pongs, fragments) can come that fast.
_FRAMES_PER_S = 2_000

#: Close codes of RFC 6455, 7.4.1.
NORMAL, PROTOCOL_ERROR, POLICY, TOO_BIG, RESTART, TRY_AGAIN = 1000, 1002, 1008, 1009, 1012, 1013

_MAX_REASON_BYTES = 123


class WebSocket:
    """A connection after its handshake. One thread reads; any thread may send.

    Data is read only by :meth:`receive`, so the client's network buffers limit a client that sends
    faster than the server answers.

    :param max_bytes: Maximum length of a message.
    :param reservation: Limits the memory of this worker for fragments.
    :param ping_s: Seconds of silence before the client is pinged. After another such period without
        data, or if sending takes that long, the connection counts as lost.
    :raises ApiError: ``websocket_unsupported`` or ``upgrade_required``.
    """

    def __init__(
        self,
        environ: Mapping[str, Any],
        *,
        max_bytes: int,
        ping_s: float,
        reservation: Reservation,
    ) -> None:
        self._socket = find_socket(environ)
        self._max_bytes = max_bytes
        self._reservation = reservation
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._lock = threading.Lock()
        self._closed = False
        self._ended = False
        self._failed = False
        self._messages: deque[str | bytes] = deque()
        self._parts: list[str | bytes] = []
        self._parts_bytes = 0
        self._memory_bytes = 0
        self._fragments = 0
        self._pinged = False
        self._frames = 0
        self._second = time.monotonic()
        self._shake_hands(environ)
        self._socket.settimeout(ping_s)
        self._send(AcceptConnection())

    @property
    def closed(self) -> bool:
        """Whether the connection is closed for sending."""
        return self._closed

    def receive(self) -> str | bytes | None:
        """Return the next message, or None if the connection has ended."""
        if self._messages:
            let_others_run()  # one read may return many messages
        while not self._messages:
            if self._closed or self._ended:
                return None
            # Messages before a close frame are still answered.
            self._ended = not self._read()
        return self._messages.popleft()

    def send(self, text: str) -> bool:
        """Send a text message. Return False if the connection is closed."""
        return self._send(TextMessage(data=text))

    def close(self, code: int = NORMAL, reason: str = "", last: str = "") -> None:
        """Send a close frame. When the client answers it, :meth:`receive` returns None.

        :param last: A text message to send before the close frame.
        """
        cut = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        goodbye = CloseConnection(code=code, reason=cut or None)
        self._send(*([TextMessage(data=last)] if last else []), goodbye)

    def break_off(self) -> None:
        """Shut down the connection at once, also during a read or a send."""
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def linger(self, timeout_s: float) -> None:
        """Wait for the client's close frame or for its disconnect, with a timeout.

        Data that arrives meanwhile is discarded. If it stayed unread, the kernel would reset the
        connection, and the client would lose the close reason.
        """
        if not (self._closed or self._ended) or (self._failed and not self._closed):
            self._discard(time.monotonic() + timeout_s)
        self.break_off()

    def _shake_hands(self, environ: Mapping[str, Any]) -> None:
        # Without extensions and subprotocols, so that the response accepts none.
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
                f"this path needs a WebSocket handshake of version 13: {error}",
                headers={"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
            ) from error

    def _read(self) -> bool:
        """Read once. Return whether the connection stays open."""
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
        let_others_run()  # a client that sends without a pause must not block the gevent hub
        try:
            self._protocol.receive_data(data)
            stays_open = all(self._take(event) for event in self._protocol.events())
            self._pause_flood()
            return stays_open
        except RemoteProtocolError as error:
            self._failed = True
            self.close(PROTOCOL_ERROR, str(error))
            return False

    def _pause_flood(self) -> None:
        """After too many frames, stop reading for the rest of the second."""
        if self._frames <= _FRAMES_PER_S:
            return
        passed_s = time.monotonic() - self._second
        if passed_s < 1.0:
            time.sleep(1.0 - passed_s)
        self._frames, self._second = 0, time.monotonic()

    def _discard(self, until: float) -> None:
        """Discard data until a close frame, a disconnect or the timeout.

        A client that follows the protocol sends nothing after its close frame.
        """
        with suppress(OSError, ValueError):
            while (rest_s := until - time.monotonic()) > 0:
                self._socket.settimeout(rest_s)
                data = self._socket.recv(_DISCARD_BYTES)
                if not data or _ends_with_close(data):
                    return
                let_others_run()

    def _take(self, event: Event) -> bool:
        self._frames += 1
        if isinstance(event, Ping):
            return self._send(event.response())
        if isinstance(event, CloseConnection):
            with suppress(LocalProtocolError):  # the frame answers the server's close frame
                self._send(event.response())
            return False
        if isinstance(event, (TextMessage, BytesMessage)):
            return self._take_part(event)
        return isinstance(event, Pong)

    def _take_part(self, event: TextMessage | BytesMessage) -> bool:
        self._parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
        self._parts_bytes += len(event.data)
        # A part of a frame may be one byte long, and a character takes up to four.
        self._memory_bytes += sys.getsizeof(self._parts[-1])
        self._fragments += event.frame_finished
        if self._fragments > _MAX_FRAGMENTS:
            self._failed = True
            self.close(TOO_BIG, f"a message has more than {_MAX_FRAGMENTS} fragments")
            return False
        if self._parts_bytes > self._max_bytes:
            self._failed = True
            self.close(TOO_BIG, f"a message is longer than {self._max_bytes} bytes")
            return False
        try:
            self._reservation.resize(0 if event.message_finished else self._memory_bytes)
        except ApiError as error:
            self._failed = True
            self.close(TRY_AGAIN, str(error))
            return False
        if event.message_finished:
            empty: Any = "" if isinstance(event, TextMessage) else b""
            self._messages.append(empty.join(self._parts))
            self._parts, self._fragments = [], 0
            self._parts_bytes = self._memory_bytes = 0
        return True

    def _send(self, *events: Event) -> bool:
        if self._closed:
            return False
        with self._lock:
            try:
                self._socket.sendall(b"".join(map(self._protocol.send, events)))
            except LocalProtocolError:  # a close frame was already sent
                return False
            except (OSError, ValueError):
                # A frame may be sent in part, so no other frame can follow.
                self.break_off()
                return False
        return True


def _ends_with_close(data: bytes) -> bool:
    """Return whether data seems to end with a client's close frame, which is masked and short."""
    for size in (0, 2, *range(3, 126)):
        at = len(data) - size - 6
        if at >= 0 and data[at] == 0x88 and data[at + 1] == 0x80 | size:
            return True
    return False


def find_socket(environ: Mapping[str, Any]) -> socket.socket:
    """Return the socket of a request.

    :raises ApiError: ``websocket_unsupported`` if the server does not provide it.
    """
    for key in _SOCKET_KEYS:
        if environ.get(key) is not None:
            found: socket.socket = environ[key]
            return found
    raise ApiError(
        "websocket_unsupported",
        "this HTTP server does not support WebSockets; use POST /api/v1/chat, or run the server "
        "with gunicorn",
    )
