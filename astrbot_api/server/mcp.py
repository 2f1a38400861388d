"""Starts the MCP sidecar at a worker's first connection, and keeps it running.

This process listens on the socket and hands it to the sidecar. So a worker
can connect at any time, also while the sidecar is being started again, and
where no config has an MCP server there is none.
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

#: The setting through which the workers find the sidecar.
SOCKET_VARIABLE = "ASTRBOT_MCP_SOCKET"

#: The longest path of a Unix socket, in bytes (Source: unix(7); macOS has 104).
_MAX_PATH_BYTES = 103

#: Prefix of the sockets' folders, and the age in seconds from which a folder
#: without a lock is removed.
_PREFIX = "astrbot-mcp-"
_STALE_S = 60.0


@contextlib.contextmanager
def run_mcp_sidecar(
    environ: Mapping[str, str], report: Callable[[str], None]
) -> Iterator[dict[str, str]]:
    """Have a sidecar at hand for the length of the block.

    :param environ: The environment of the sidecar. When it names the
        socket of another sidecar, none is started.
    :param report: Takes one line for people.
    :returns: The variables through which the workers find it.
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
    """Make a folder with a random name and a short path, for this user alone."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) + len(_PREFIX) + len("12345678/mcp.sock") >= _MAX_PATH_BYTES:
        parent = "/tmp"
    _remove_stale(Path(parent))
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))


def _remove_stale(parent: Path) -> None:
    """Remove the folders of killed servers: their locks are free.

    A connection to their sockets would show the same, but start the sidecar
    of a running server.
    """
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it is another user's, or in use
            if time.time() - folder.stat().st_mtime < _STALE_S:
                continue  # it may have been made just now, and not be locked yet
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
            here.close()  # the watch sees its end
            watch.join()
            supervisor.stop()


def _start_when_asked(listener: socket.socket, end: socket.socket, supervisor: Supervisor) -> None:
    """Wait for the first connection, and leave it for the sidecar to accept."""
    ready, _, _ = select.select([listener, end], [], [])
    if end not in ready:
        supervisor.start()
