"""The Unix socket on which the MCP sidecar meets the workers."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def open_listener(path: Path) -> socket.socket:
    """Listen on a Unix socket that nobody but this user may connect to.

    A socket that was left behind is replaced.

    :raises OSError: when that cannot be done, or somebody listens there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise OSError("another process listens there")
            path.unlink()
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
