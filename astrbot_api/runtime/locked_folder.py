"""Temporary folders of a running process. Those of killed processes are removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

#: Age of a folder whose process must have locked it, in seconds.
_BEGUN_S = 60.0


def make_locked_folder(prefix: str, parent: str) -> tuple[Path, int]:
    """Create a private folder with a random name; return it with the descriptor of its lock.

    Forked processes inherit the lock.
    """
    for left in Path(parent).glob(f"{prefix}*"):
        with suppress(OSError):  # it is in use, or belongs to another user
            if time.time() - left.stat().st_mtime > _BEGUN_S:
                remove_locked_folder(left, _lock(left))
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    return folder, _lock(folder)


def remove_locked_folder(folder: Path, lock: int) -> None:
    """Remove a folder and release its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder and return the descriptor of the lock.

    :raises OSError: when another process has locked it.
    """
    # Opening another user's named pipe would wait until somebody writes to it.
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
