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
from pathlib import Path

from ...runtime.threads import count_forks
from .signals import Callback, Subscribers

log = logging.getLogger(__name__)

#: Longest path of a Unix socket that every system takes, in bytes.
#: Source: unix(7), sun_path has 108 on Linux; 104 on macOS.
_MAX_PATH_BYTES = 100

_MAX_DATAGRAM_BYTES = 16 * 1024


class DatagramSignals:
    """Every process has a socket in one folder; a signal goes to all the others.

    Sending never waits: where a queue is full the signal is lost, which costs
    its receiver a moment. The socket of a process that died is removed by the
    first that finds nobody behind it.

    :param data_dir: The processes that share it hear each other.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = choose_folder(data_dir)
        self._subscribers = Subscribers()
        self._lock = threading.Lock()
        self._forks = -1
        self._socket: socket.socket | None = None
        self._sender: socket.socket | None = None
        self._own: Path | None = None
        self._peers: list[str] = []
        self._listed_ns = -1

    def publish(self, topic: str, payload: str) -> None:
        """Tell every other process."""
        self.start()
        sender = self._sender
        if sender is None:
            return
        data = f"{topic} {payload}".encode()[:_MAX_DATAGRAM_BYTES]
        for peer in self._list_peers():
            try:
                sender.sendto(data, peer)
            except (ConnectionRefusedError, FileNotFoundError):
                with contextlib.suppress(OSError):
                    os.unlink(peer)
            except OSError:  # its queue is full; it looks for itself soon
                pass

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Have ``callback(payload)`` called for each signal of a topic."""
        self._subscribers.add(topic, callback)

    def start(self) -> None:
        """Open this process's socket and listen in a thread; once a process."""
        if self._forks == count_forks():
            return
        with self._lock:
            if self._forks == count_forks():
                return
            self._forks = count_forks()
            try:
                self._open()
            except OSError as error:
                log.warning("no wake-ups between workers, they will look now and then: %s", error)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        with self._lock:
            sender, self._sender = self._sender, None
            own, self._own = self._own, None
            self._socket = None
        if sender is None or own is None or self._forks != count_forks():
            return
        with sender, contextlib.suppress(OSError):
            # A datagram to oneself ends the wait; closing alone would not.
            sender.sendto(b"", str(own))
        own.unlink(missing_ok=True)

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise OSError(f"{self._folder} belongs to another user")
        own = self._folder / f"{uuid.uuid4().hex[:12]}"
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            opened.bind(str(own))
        except OSError:
            opened.close()
            raise
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Its own socket, since gevent would wait for room on one that may wait.
        sender.setblocking(False)
        self._socket, self._sender, self._own = opened, sender, own
        threading.Thread(target=self._listen, args=(opened,), name="signals", daemon=True).start()

    def _listen(self, opened: socket.socket) -> None:
        with opened:
            while True:
                try:
                    data = opened.recv(_MAX_DATAGRAM_BYTES)
                except OSError:
                    return
                if self._socket is not opened:
                    return
                topic, _, payload = data.decode(errors="replace").partition(" ")
                self._subscribers.tell(topic, payload)

    def _list_peers(self) -> list[str]:
        """Return the other sockets; listed anew when one has come or gone."""
        try:
            changed_ns = os.stat(self._folder).st_mtime_ns
            if changed_ns != self._listed_ns:
                own = self._own.name if self._own else ""
                names = [name for name in os.listdir(self._folder) if name != own]
                self._peers = [str(self._folder / name) for name in names]
                self._listed_ns = changed_ns
        except OSError:
            return []
        return self._peers


def choose_folder(data_dir: Path) -> Path:
    """Return where the sockets lie: in the data directory where its path is short enough."""
    folder = data_dir.resolve() / "run"
    if len(os.fsencode(folder)) + 16 <= _MAX_PATH_BYTES:
        return folder
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"astrbot-{os.getuid()}-{digest}"
