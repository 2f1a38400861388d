"""Storage in a local folder."""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

from ...runtime.threads import run_disk, wait_turn
from .protocol import StoredBlob, relative_path

#: Flag to read from the page cache only, available on Linux. Source: preadv2(2).
_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)


class LocalStorage:
    """A folder. Temporary files must be on the same file system.

    Files are not synced to the disk. They survive the end of the process, but a
    power failure can lose the last seconds, as in the database
    (``synchronous=normal``).

    :param folder: Created with the first blob.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffers: list[bytearray] = []

    def save(self, path: Path, blob: str) -> None:
        """Move a file to its path atomically."""
        target = self._path(blob)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)

    def open(self, blob: str, start: int, length: int) -> StoredBlob:
        """Open a blob. It stays readable if it is deleted meanwhile."""
        return _File(self._path(blob), start, self._buffers)

    def delete(self, blob: str) -> None:
        """Delete a blob. Folders are kept, because a concurrent upload may need them."""
        self._path(blob).unlink(missing_ok=True)

    def size(self, blob: str) -> int | None:
        try:
            return self._path(blob).stat().st_size
        except FileNotFoundError:
            return None

    def check(self, path: Path) -> None:
        """Move a file into the folder and delete it. A missing folder is not created."""
        run_disk(self._try_move, path)

    def _try_move(self, path: Path) -> None:
        if self._folder.exists():
            target = self._folder / f".{path.name}"
            os.replace(path, target)
            target.unlink()

    def _path(self, blob: str) -> Path:
        return self._folder / relative_path(blob)


class _File:
    """An open file. Cached bytes are read directly, other bytes in a native thread.

    Switching to a native thread takes three times as long as copying cached bytes.

    :param buffers: Free buffers of all files. A new buffer for each read takes twice as long as
        copying the bytes, and one for each file would be held by slow downloads.
    """

    def __init__(self, path: Path, start: int, buffers: list[bytearray]) -> None:
        self._file = FileIO(path)
        self._at = start
        self._buffers = buffers

    @property
    def descriptor(self) -> int:
        return self._file.fileno()

    def read(self, size_bytes: int, /) -> bytes:
        data = self._read_cached(size_bytes)
        if data is None:
            data = run_disk(os.pread, self._file.fileno(), size_bytes, self._at)
        self._at += len(data)
        return data

    def _read_cached(self, size_bytes: int) -> bytes | None:
        """Return bytes from the page cache, or None if they are not cached."""
        if _NO_WAIT is None:
            return None
        buffer = bytearray()
        with suppress(IndexError):
            buffer = self._buffers.pop()
        if len(buffer) < size_bytes:
            buffer = bytearray(size_bytes)
        part = memoryview(buffer)[:size_bytes]
        try:
            count = os.preadv(self._file.fileno(), [part], self._at, _NO_WAIT)
            data = bytes(part[:count])
        except OSError:  # not cached, or not supported by the file system
            return None
        finally:
            self._buffers.append(buffer)
        # Other greenlets must run even if the client reads without blocking.
        wait_turn()
        return data or None

    def close(self) -> None:
        self._file.close()
