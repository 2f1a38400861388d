"""What the workers and the MCP sidecar say to each other.

Lines of JSON over a Unix socket. From a worker:

``{"type": "want", "servers": {KEY: DEFINITION}}``
    All the servers that this worker's configs have now. ``KEY`` distinguishes one
    definition from another.
``{"type": "call", "id": N, "server": KEY, "tool": NAME, "arguments": {…}}``
    Answered once, with the same id, at any time and in any order. In place of ``tool`` there
    may be ``uri``, a resource to read, or ``prompt``, one to fill in with ``arguments``.
``{"type": "cancel", "id": N}``
    The answer to that call is not wanted any more, and does not come.

From the sidecar:

``{"type": "hello", "version": 2}``
    The first line.
``{"type": "state", "server": KEY, "status": …, "tools": […], "resources": […], "prompts": […]}``
    After ``want`` and after each change; of several changes at once the last.
    ``status`` is ``starting``, ``running`` or ``down``; the lists are those last known, or null.
    A tool has ``name``, ``description``, ``parameters``; a resource ``uri``, ``name``,
    ``description`` and perhaps ``template``; a prompt ``name``, ``description``, ``arguments``.
``{"type": "progress", "id": N, "progress": …, "total": …, "message": …}``
    How far a call is; the last two may be null.
``{"type": "result", "id": N, "is_error": …, "content": […]}``
    Parts are ``{"type": "text", "text": …}`` and ``{"type": "file", "name":
    …, "mime": …, "data": BASE64}``; those of a prompt have a ``role``. Instead of ``content``
    there may be ``failure``: one line that says why there was no answer.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

VERSION = 2

#: Longest line from a worker: the arguments of a call, or all definitions.
MAX_REQUEST_BYTES = 4 * 1024 * 1024

#: Longest line to a worker: a result, or the tools of a server.
MAX_REPLY_BYTES = 16 * 1024 * 1024

#: Longest text of a result, in characters. The worker shows the model far less.
MAX_TEXT_CHARS = 512 * 1024

#: Most base64 characters that the files of one result have together.
MAX_FILES_CHARS = 11 * 1024 * 1024

#: Most parts of a result; what comes after them is left out.
MAX_PARTS = 500

#: Most characters that describe one tool, and all tools of one server.
MAX_TOOL_CHARS = 64 * 1024
MAX_TOOLS_CHARS = 2 * 1024 * 1024

#: Most resources and most prompts of one server, and longest text of each field.
MAX_LISTED = 1000
MAX_FIELD_CHARS = 1000

STARTING, RUNNING, DOWN = "starting", "running", "down"


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
