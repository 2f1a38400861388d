"""What uploads and downloads are compared with: the same bytes through gunicorn alone.

An upload is written to a file as it comes, unparsed and unhashed; a download
is read in the same pieces as ours.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_PIECE_BYTES = 256 * 1024

_folder = tempfile.mkdtemp(prefix="bare-files")
_path = os.path.join(_folder, "file")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Take a file, or give the last one."""
    if environ["REQUEST_METHOD"] == "POST":
        read = environ["wsgi.input"].read
        with open(_path, "wb", buffering=0) as file:
            while chunk := read(_PIECE_BYTES):
                file.write(chunk)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
    start_response("200 OK", [("Content-Length", str(os.path.getsize(_path)))])
    return _read()


def _read() -> Iterator[bytes]:
    with open(_path, "rb", buffering=0) as file:
        while chunk := file.read(_PIECE_BYTES):
            yield chunk
