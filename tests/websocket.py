"""A strict WebSocket client that fails the test on unexpected data."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocketClient:
    """One connection. ``head`` is sent unchanged, without its empty line.

    :param where: A port of this machine, or an open connection.
    """

    def __init__(self, where: int | socket.socket, head: str) -> None:
        if isinstance(where, int):
            where = socket.create_connection(("127.0.0.1", where), timeout=60)
        self._socket = where
        self._buffer = b""
        self.closed_with: tuple[int, str] | None = None
        self._socket.sendall(head.encode() + b"\r\n\r\n")
        self.head = self._read_head()
        if self.status == 101:
            key = next(
                line.split(":", 1)[1].strip()
                for line in head.split("\r\n")
                if line.lower().startswith("sec-websocket-key:")
            )
            digest = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
            assert f"sec-websocket-accept: {digest}".lower() in self.head.lower()
            assert "sec-websocket-extensions" not in self.head.lower()

    @property
    def status(self) -> int:
        """The status of the handshake's response."""
        return int(self.head.split()[1])

    def send(self, value: Any) -> None:
        """Send a value as JSON in a text frame."""
        self.send_frame(TEXT, json.dumps(value).encode())

    def send_frame(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        """Send one frame, masked as a client must."""
        mask = os.urandom(4)
        size = len(payload)
        head = bytes([(0x80 if final else 0) | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += bytes([0x80 | 126]) + struct.pack("!H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack("!Q", size)
        pad = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
        self._socket.sendall(head + mask + masked.to_bytes(size, "big"))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def receive(self) -> Any:
        """Return the next JSON value, or None if the server has closed."""
        while True:
            opcode, payload = self._read_frame()
            if opcode == TEXT:
                assert "\n" not in payload.decode()
                return json.loads(payload)
            if opcode == PING:
                self.send_frame(PONG, payload)
                continue
            assert opcode == CLOSE, opcode
            code = struct.unpack("!H", payload[:2])[0] if payload else 1005
            self.closed_with = (code, payload[2:].decode())
            return None

    def read_frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        return self._read_frame()

    def iter_turn(self) -> Iterator[Any]:
        """Yield frames up to the ``end`` of a turn."""
        while True:
            frame = self.receive()
            assert frame is not None, self.closed_with
            yield frame
            if frame["type"] == "end":
                return

    def is_at_end(self) -> bool:
        """Return whether the connection is closed without further data."""
        return not self._buffer and self._socket.recv(1) == b""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> WebSocketClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _read_head(self) -> str:
        while b"\r\n\r\n" not in self._buffer:
            data = self._socket.recv(65536)
            if not data:
                break
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head.decode()

    def _read_frame(self) -> tuple[int, bytes]:
        first, second = self._read(2)
        assert first & 0x70 == 0, "no extension was agreed on"
        assert second & 0x80 == 0, "a server does not mask"
        assert first & 0x80, "in one piece"
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", self._read(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", self._read(8))[0]
        return first & 0x0F, self._read(size)

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._socket.recv(65536)
            assert data, "the connection ended within a frame"
            self._buffer += data
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found


def handshake(key: str, query: str = "", *, path: str = "/api/v1/chat/ws") -> str:
    """Return the headers of a valid handshake."""
    return "\r\n".join(
        [
            f"GET {path}{query} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
            *([f"X-API-Key: {key}"] if key else []),
        ]
    )
