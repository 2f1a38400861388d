"""Files that only the server's own user may read."""

from __future__ import annotations

import os
import secrets
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


def write_new_private_file(path: Path, text: str) -> None:
    """Create a file with mode 0600, completely or not at all, unless the file exists.

    :raises OSError: with the file's name, for example if the disk is full.
    """
    if path.exists():
        return
    # Other processes that start at the same time must not read an incomplete file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another process was first
        except OSError:  # a file system without hard links
            os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
