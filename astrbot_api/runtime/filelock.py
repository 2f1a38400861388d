"""Lock between processes, by a shared file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import SettingsError


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold the lock of a file. Other processes wait for it.

    Without ``fcntl`` (on Windows) nothing is locked. The operator must then run
    only one process at a time.

    :raises OSError: when the file cannot be created.
    :raises SettingsError: when its file system has no locks, such as some network shares.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise SettingsError(
                f"{path.parent} is on a file system without locks ({error.strerror}); set "
                "ASTRBOT_DATA_DIR to a folder on a local disk, or mount the share with locks"
            ) from error
        yield
