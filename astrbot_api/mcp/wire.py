"""Protocol between the workers and the MCP sidecar: JSON lines over a Unix socket.

From a worker:

``{"type": "want", "servers": {KEY: DEFINITION}}``
        All servers of this worker's current configs. ``KEY`` is unique for each definition.
        Its ``configs``, the ids of the configs with the server, are for the log only.
``{"type": "call", "id": N, "server": KEY, "tool": NAME, "arguments": {…}}``
        The response has the same id. Responses may come in any order. Instead of ``tool``, a call
        may have ``uri`` to read a resource, or ``prompt`` to render a prompt with ``arguments``.
``{"type": "cancel", "id": N}``
        Cancel the call. It gets no response.

From the sidecar:

``{"type": "hello", "version": 2}``
    The first line.
``{"type": "state", "server": KEY, "status": …, "tools": […], "resources": […], "prompts": […]}``
        Sent after ``want`` and after each change. Changes in quick succession are merged.
        ``status`` is ``starting``, ``running`` or ``down``. The lists are the last known, or null.
        A tool has ``name``, ``description``, ``parameters`` and ``hints``, a list of
        ``reads_only``, ``safe`` (may be called twice) and ``destructive``. A resource has ``uri``,
        ``name``, ``description``, and ``template`` if it is one. A prompt has ``name``,
        ``description``, ``arguments``.
``{"type": "progress", "id": N, "progress": …, "total": …, "message": …}``
        Progress of a call. ``total`` and ``message`` may be null.
``{"type": "result", "id": N, "is_error": …, "content": […]}``
        Parts are ``{"type": "text", "text": …}`` and ``{"type": "file", "name":
        …, "mime": …, "data": BASE64}``. Parts of a prompt also have a ``role``. A failed call has
        ``failure`` instead of ``content``: one line with the reason.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import orjson

VERSION = 2

#: Maximum line from a worker: the arguments of a call, or all definitions.
MAX_REQUEST_BYTES = 4 * 1024 * 1024

#: Maximum line to a worker: a result, or the tools of a server.
MAX_REPLY_BYTES = 16 * 1024 * 1024

#: Maximum text of a result, in characters. The worker shows the model far less.
MAX_TEXT_CHARS = 512 * 1024

#: Maximum total size of the files of one result, in base64 characters.
MAX_FILES_CHARS = 11 * 1024 * 1024

#: Maximum number of parts of a result. Further parts are dropped.
MAX_PARTS = 500

#: Maximum size of the description of one tool, resource or prompt, and of all tools, resources or
#: prompts of one server, in bytes of JSON. A ``state`` must fit into one line.
MAX_ENTRY_CHARS = 64 * 1024
MAX_LIST_CHARS = 2 * 1024 * 1024

#: Maximum number of resources and of prompts of a server, and maximum length of a description.
MAX_LISTED = 1000
MAX_FIELD_CHARS = 1000

STARTING, RUNNING, DOWN = "starting", "running", "down"


def encode(value: Any) -> bytes:
    """Return strict JSON of a value that a server sent as lenient JSON.

    NaN becomes null, and half of a surrogate pair "?". One server's text must not make a line that
    workers cannot read.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    plain = json.loads(json.dumps(value), parse_constant=lambda name: None)
    return json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")


def open_listener(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user can connect to.

    A stale socket is replaced.

    :raises OSError: when binding fails, or another process is listening on the path.
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
