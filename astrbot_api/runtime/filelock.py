"""Lock between processes, by a shared file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold the lock of a file. Other processes wait for it.

    Without ``fcntl`` (on Windows) nothing is locked. The operator must then run
    only one process at a time.

    :raises OSError: when the file cannot be created.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
