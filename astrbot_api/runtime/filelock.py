"""One process at a time, by a file that all of them can open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold a file's lock; other processes wait for it.

    On a system without ``fcntl`` (Windows) nothing is locked: there, one
    process at a time is the operator's concern.

    :raises OSError: when the file cannot be made.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
