"""A TCP proxy that can stop passing on bytes, like a firewall that drops packets."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any


class BlackHole:
    """Passes connections on to an address.

    :param target: Path of a Unix socket, or host and port.
    """

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self._passes = threading.Event()
        self._passes.set()
        self._opened: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def cut(self) -> None:
        """Hold all bytes from now on. Connections stay open, and new ones get no answer."""
        self._passes.clear()

    def heal(self) -> None:
        """Pass on the held bytes, as TCP does once its packets arrive."""
        self._passes.set()

    def __enter__(self) -> BlackHole:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.heal()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for one in (self._listener, *self._opened):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        pumps = []
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                kind = socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET
                server = socket.socket(kind)
                self._opened += [client, server]
                server.connect(self._target)
                for ends in ((client, server), (server, client)):
                    pumps.append(threading.Thread(target=self._pump, args=ends))
                    pumps[-1].start()
        for one in self._opened:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for pump in pumps:
            pump.join()

    def _pump(self, source: Any, sink: Any) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._passes.wait()
                sink.sendall(data)
            self._passes.wait()
            sink.shutdown(socket.SHUT_WR)
