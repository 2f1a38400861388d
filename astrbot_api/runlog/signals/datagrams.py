"""Signals between the processes of one data directory: Unix datagrams."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import tempfile
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from ...runtime.per_process import PerProcess
from .signals import Signals

log = logging.getLogger(__name__)

#: Maximum length of a Unix socket's path on every system, in bytes.
#: Source: unix(7), sun_path has 108 on Linux; 104 on macOS.
_MAX_PATH_BYTES = 100

_MAX_DATAGRAM_BYTES = 16 * 1024


@dataclass(slots=True)
class _Sockets:
    """The sockets of one process; ``path`` is the path of its listener."""

    listener: socket.socket
    sender: socket.socket
    path: Path
    is_open: bool = True


class DatagramSignals(Signals):
    """Sends each signal to the sockets of all other processes, which are in one folder.

    Sending never waits. If a receiver's queue is full, the signal is lost and the
    receiver polls later. The first sender that gets "connection refused" removes the
    socket of a dead process.

    :param data_dir: Processes with the same data directory receive each other's signals.
    """

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self._folder = _choose_folder(data_dir)
        self._own = PerProcess(self._try_open)
        self._peers: list[str] = []
        self._listed_ns = -1

    def publish(self, topic: str, payload: str) -> None:
        own = self._own.get()
        if own is None or not own.is_open:
            return
        data = f"{topic} {payload}".encode()[:_MAX_DATAGRAM_BYTES]
        for peer in self._list_peers(own.path.name):
            try:
                own.sender.sendto(data, peer)
            except (ConnectionRefusedError, FileNotFoundError):
                with contextlib.suppress(OSError):
                    os.unlink(peer)
            except OSError:  # its queue is full; it polls soon
                pass

    def start(self) -> None:
        """Open this process's socket and listen in a thread. Later calls do nothing."""
        self._own.get()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        own = self._own.current
        if own is None or not own.is_open:
            return
        own.is_open = False
        with own.sender, contextlib.suppress(OSError):
            # A datagram to itself ends the wait of recv; closing the socket would not.
            own.sender.sendto(b"", str(own.path))
        with contextlib.suppress(OSError):  # for example on a read-only file system
            own.path.unlink()

    def _try_open(self) -> _Sockets | None:
        try:
            return self._open()
        except OSError as error:
            log.warning("no notifications between workers, they will poll instead: %s", error)
            return None

    def _open(self) -> _Sockets:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise OSError(f"{self._folder} belongs to another user")
        path = self._folder / f"{uuid.uuid4().hex[:12]}"
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            opened.bind(str(path))
        except OSError:
            opened.close()
            raise
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # A separate socket: on a blocking one gevent would wait for room in the queue.
        sender.setblocking(False)
        own = _Sockets(opened, sender, path)
        threading.Thread(target=self._listen, args=(own,), name="signals", daemon=True).start()
        return own

    def _listen(self, own: _Sockets) -> None:
        with own.listener:
            while True:
                try:
                    data = own.listener.recv(_MAX_DATAGRAM_BYTES)
                except OSError:
                    return
                if not own.is_open:
                    return
                topic, _, payload = data.decode(errors="replace").partition(" ")
                self._notify(topic, payload)

    def _list_peers(self, own: str) -> list[str]:
        """Return the other sockets. List the folder again only after it has changed."""
        try:
            changed_ns = os.stat(self._folder).st_mtime_ns
            if changed_ns != self._listed_ns:
                names = [name for name in os.listdir(self._folder) if name != own]
                self._peers = [str(self._folder / name) for name in names]
                self._listed_ns = changed_ns
        except OSError:
            return []
        return self._peers


def _choose_folder(data_dir: Path) -> Path:
    """Return the folder of the sockets: the data directory if its path is short enough."""
    folder = data_dir.resolve() / "run"
    if len(os.fsencode(folder)) + 16 <= _MAX_PATH_BYTES:
        return folder
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"astrbot-{os.getuid()}-{digest}"
