"""Starts the MCP sidecar at the first connection of a worker, and restarts it if it exits.

This process listens on the socket and passes it to the sidecar. Workers can therefore connect
at any time, even during a restart. If no config has an MCP server, no sidecar is started.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping

from ..mcp.sidecar import main as mcp_main
from ..mcp.wire import open_listener
from ..runtime.locked_folder import make_locked_folder, remove_locked_folder
from ..runtime.supervise import Supervisor

#: Setting with the sidecar's socket, for the workers.
SOCKET_VARIABLE = "ASTRBOT_MCP_SOCKET"

#: Maximum length of a Unix socket's path, in bytes (Source: unix(7); macOS has 104).
_MAX_PATH_BYTES = 103

#: Prefix of the sockets' folders.
_PREFIX = "astrbot-mcp-"


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
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) + len(_PREFIX) + len("12345678/mcp.sock") >= _MAX_PATH_BYTES:
        parent = "/tmp"
    # A connection to the socket would also detect a killed server, but would start the sidecar of
    # a running one. So the folder is locked.
    folder, lock = make_locked_folder(_PREFIX, parent)
    try:
        path = folder / "mcp.sock"
        with open_listener(path) as listener, _started_on_demand(listener, environ, report):
            yield {SOCKET_VARIABLE: str(path)}
    finally:
        remove_locked_folder(folder, lock)


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
