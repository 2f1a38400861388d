"""Files that only the server's own user may read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def create_private_file(path: Path) -> None:
    """Create an empty file with mode 0600, unless the file exists.

    Call this before SQLite creates a database. SQLite would use the umask, so
    that the group could read the file, and nginx's user may be in the group.
    Files beside the database (``-wal``, ``-shm``) get the mode of the database.

    Errors are ignored, because SQLite reports a wrong path. An existing file is
    not opened: closing it would drop the locks of this process.
    Source: https://www.sqlite.org/howtocorrupt.html, 2.2.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def open_private(path: str, flags: int) -> int:
    """Opener for ``open(…, opener=open_private)``, which creates files with mode 0600."""
    return os.open(path, flags, 0o600)
