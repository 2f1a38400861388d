"""A fake of the sidecar's side of a connection."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from astrbot_api.mcp.wire import VERSION

from ..waiting import LIMIT_S


class Peer:
    """One accepted connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(LIMIT_S)
        self._file = connection.makefile("rb")

    def read(self) -> dict[str, Any]:
        """Return the next line from the worker."""
        message: dict[str, Any] = json.loads(self._file.readline())
        return message

    def send(self, **message: Any) -> None:
        if message.get("type") == "state":
            message = {"resources": [], "prompts": [], **message}
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def hello(self) -> dict[str, Any]:
        """Send the greeting and return the servers that the worker requests."""
        self.send(type="hello", version=VERSION)
        wanted = self.read()
        assert wanted["type"] == "want"
        servers: dict[str, Any] = wanted["servers"]
        return servers

    def answer(self, call: dict[str, Any], text: str) -> None:
        content = [{"type": "text", "text": text}]
        self.send(type="result", id=call["id"], is_error=False, content=content)

    def close(self) -> None:
        self._file.close()
        self.connection.close()


class FakeSidecar:
    """A socket that a worker can connect to."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.settimeout(LIMIT_S)
        self._listener.bind(self.path)
        self._listener.listen()
        self._peers: list[Peer] = []

    def accept(self) -> Peer:
        peer = Peer(self._listener.accept()[0])
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self._listener.close()


@contextlib.contextmanager
def play_sidecar() -> Iterator[FakeSidecar]:
    """Listen until the block ends."""
    with tempfile.TemporaryDirectory(prefix="astrbot-") as folder:
        sidecar = FakeSidecar(Path(folder) / "mcp.sock")
        try:
            yield sidecar
        finally:
            sidecar.close()
