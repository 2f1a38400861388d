"""Files that only the server's own user may read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def create_private_file(path: Path) -> None:
    """Make an empty file of mode 0600, unless there is one.

    For a database before SQLite opens it: it would take the process's umask,
    by which the group may read it, and nginx's user may be in the group. The
    files beside it (``-wal``, ``-shm``) get the mode of the database.

    SQLite itself reports a wrong path. A file that exists is never
    opened: closing it would drop the locks that this process holds.
    Source: https://www.sqlite.org/howtocorrupt.html, 2.2.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def open_private(path: str, flags: int) -> int:
    """Open a file for ``open(…, opener=open_private)``; a new one has mode 0600."""
    return os.open(path, flags, 0o600)
