"""The folder in which the workers of a gunicorn keep their metrics, in memory if possible."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PREFIX = "astrbot-metrics-"

#: Locked by the master while it runs. The workers inherit the lock.
_LOCK = "lock"

#: Age of a folder whose master must have locked it, in seconds.
_BEGUN_S = 60.0

#: Minimum free space of a folder in memory, in bytes. When it is full, each worker is killed by
#: SIGBUS, because prometheus_client maps its files into memory.
_MIN_FREE_BYTES = 16 * 1024 * 1024

#: The folder that this master has created, and its open lock.
_own: list[tuple[str, int]] = []


def make_metrics_folder(parent: str | None) -> None:
    """Set ``PROMETHEUS_MULTIPROC_DIR`` to an empty folder (Source: prometheus_client's manual).

    :param parent: Folder for a new one, unless the variable names one. If it is None or almost
        full, the folder of temporary files is used.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if not folder:
        if parent is None or shutil.disk_usage(parent).free < _MIN_FREE_BYTES:
            parent = tempfile.gettempdir()
        _remove_left(Path(parent))
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _own.append((folder, _lock(Path(folder))))
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith(".db"):
            os.unlink(os.path.join(folder, name))


def remove_metrics_folder() -> None:
    """Remove the folder if this master has created it."""
    for folder, lock in _own:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
    _own.clear()


def _remove_left(parent: Path) -> None:
    """Remove the folders of masters that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is in use, or belongs to another user
            if time.time() - folder.stat().st_mtime > _BEGUN_S:
                lock = _lock(folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder and return the descriptor of the lock.

    :raises OSError: when another process has locked it.
    """
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
