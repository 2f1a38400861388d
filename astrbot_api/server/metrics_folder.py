"""The folder in which the workers of a gunicorn keep their metrics, in memory if possible."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ..runtime.locked_folder import make_locked_folder, remove_locked_folder

_PREFIX = "astrbot-metrics-"

#: Minimum free space of a folder in memory, in bytes. When it is full, each worker is killed by
#: SIGBUS, because prometheus_client maps its files into memory.
_MIN_FREE_BYTES = 16 * 1024 * 1024

#: The folder that this master has created, and its open lock.
_own: list[tuple[Path, int]] = []


def make_metrics_folder(parent: str | None) -> None:
    """Set ``PROMETHEUS_MULTIPROC_DIR`` to an empty folder (Source: prometheus_client's manual).

    :param parent: Folder for a new one, unless the variable names one. If it is None or almost
        full, the folder of temporary files is used.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if not folder:
        if parent is None or shutil.disk_usage(parent).free < _MIN_FREE_BYTES:
            parent = tempfile.gettempdir()
        _own.append(make_locked_folder(_PREFIX, parent))
        folder = os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_own[-1][0])
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith(".db"):
            os.unlink(os.path.join(folder, name))


def remove_metrics_folder() -> None:
    """Remove the folder if this master has created it."""
    for own in _own:
        remove_locked_folder(*own)
    _own.clear()
