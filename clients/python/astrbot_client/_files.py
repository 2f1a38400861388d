"""Sources of uploads and targets of downloads."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from .types import Progress

#: Larger files are sent in chunks if the server supports it.
CHUNKED_ABOVE_BYTES = 8 * 1024 * 1024


def hash_file(file: BinaryIO) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(1024 * 1024):
        digest.update(piece)
    return digest.hexdigest()


class CountingFile(io.RawIOBase):
    """A file that reports the number of bytes read."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress | None) -> None:
        self._file, self._size, self._progress = file, size, progress
        self._done = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self._done += len(data)
        if self._progress is not None and data:
            self._progress(self._done, self._size)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position from which reads are counted."""
        place = self._file.seek(offset, whence)
        self._done = place
        return place

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


@contextmanager
def open_source(
    source: str | Path | bytes | BinaryIO, filename: str | None
) -> Iterator[tuple[str, BinaryIO, int]]:
    """Yield name, file and size of an upload. Close the file only if it was opened here."""
    if isinstance(source, bytes):
        yield filename or "file", io.BytesIO(source), len(source)
    elif isinstance(source, (str, Path)):
        with open(source, "rb") as file:
            yield filename or Path(source).name, file, os.fstat(file.fileno()).st_size
    else:
        size = source.seek(0, os.SEEK_END)
        name = filename or Path(str(getattr(source, "name", "file"))).name
        yield name, source, size


@contextmanager
def open_target(to: str | Path | BinaryIO | None) -> Iterator[tuple[BinaryIO, int]]:
    """Yield the target file and the position of its first new byte."""
    if to is None:
        yield io.BytesIO(), 0
    elif isinstance(to, (str, Path)):
        with open(to, "wb") as file:
            yield cast(BinaryIO, file), 0
    else:
        yield to, to.tell()
