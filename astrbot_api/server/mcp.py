"""Starts the MCP sidecar at the first connection of a worker, and restarts it if it exits.

This process listens on the socket and passes it to the sidecar. Workers can therefore connect
at any time, even during a restart. If no config has an MCP server, no sidecar is started.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..mcp.sidecar import main as mcp_main
from ..mcp.wire import open_listener
from ..runtime.supervise import Supervisor

#: Setting with the sidecar's socket, for the workers.
SOCKET_VARIABLE = "ASTRBOT_MCP_SOCKET"

#: Maximum length of a Unix socket's path, in bytes (Source: unix(7); macOS has 104).
_MAX_PATH_BYTES = 103

#: Prefix of the sockets' folders, and the minimum age in seconds at which an unlocked folder
#: is removed.
_PREFIX = "astrbot-mcp-"
_STALE_S = 60.0


@contextlib.contextmanager
def run_mcp_sidecar(
    environ: Mapping[str, str], report: Callable[[str], None]
) -> Iterator[dict[str, str]]:
    """Provide an MCP sidecar inside the block.

    :param environ: Environment of the sidecar. If it contains the socket of another sidecar,
        none is started.
    :param report: Receives one-line messages for the operator.
    :returns: Environment variables with the sidecar's socket, for the workers.
    """
    if environ.get(SOCKET_VARIABLE):
        yield {}
        return
    folder = _make_folder()
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        path = folder / "mcp.sock"
        with open_listener(path) as listener, _started_on_demand(listener, environ, report):
            yield {SOCKET_VARIABLE: str(path)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make_folder() -> Path:
    """Create a private folder with a random name and a short path."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) + len(_PREFIX) + len("12345678/mcp.sock") >= _MAX_PATH_BYTES:
        parent = "/tmp"
    _remove_stale(Path(parent))
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))


def _remove_stale(parent: Path) -> None:
    """Remove the folders of killed servers, whose locks are free.

    A connection to the socket would also detect a killed server, but would start the sidecar
    of a running one.
    """
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or in use
            if time.time() - folder.stat().st_mtime < _STALE_S:
                continue  # possibly created just now and not locked yet
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


@contextlib.contextmanager
def _started_on_demand(
    listener: socket.socket, environ: Mapping[str, str], report: Callable[[str], None]
) -> Iterator[None]:
    command = [sys.executable, "-P", mcp_main.__file__, "--fd", str(listener.fileno())]
    supervisor = Supervisor(
        "The MCP sidecar", [*command, "--until-eof"], environ, report, pass_fds=[listener.fileno()]
    )
    here, there = socket.socketpair()
    watch = threading.Thread(
        target=_start_when_asked, args=(listener, there, supervisor), name="mcp", daemon=True
    )
    with here, there:
        watch.start()
        try:
            yield
        finally:
            here.close()  # ends the thread
            watch.join()
            supervisor.stop()


def _start_when_asked(listener: socket.socket, end: socket.socket, supervisor: Supervisor) -> None:
    """Start the sidecar at the first connection, which the sidecar then accepts."""
    ready, _, _ = select.select([listener, end], [], [])
    if end not in ready:
        supervisor.start()
