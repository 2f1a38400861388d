"""Bytes in a local folder."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from ...runtime.threads import let_others_run, run_disk
from .protocol import StoredBlob, relative_path

#: Read only what needs no disk: Linux alone has it. Source: preadv2(2).
_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)


class LocalStorage:
    """A folder; temporary files must be on the same file system.

    Nothing is synced to the disk: what the kernel has survives the death of
    the process. A power cut may take the last seconds, as with the database
    (``synchronous=normal``).

    :param folder: Made when the first blob comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, path: Path, blob: str) -> None:
        """Move a file to its place; the move is atomic."""
        target = self._path(blob)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)

    def open(self, blob: str, start: int, length: int) -> StoredBlob:
        """Open a blob; deleting it meanwhile does not disturb the reader."""
        return _File(self._path(blob), start)

    def delete(self, blob: str) -> None:
        """Delete a blob; the folders stay, another blob may be about to need them."""
        self._path(blob).unlink(missing_ok=True)

    def size(self, blob: str) -> int | None:
        """Return the size of the file."""
        try:
            return self._path(blob).stat().st_size
        except FileNotFoundError:
            return None

    def _path(self, blob: str) -> Path:
        return self._folder / relative_path(blob)


class _File:
    """An open file. What the kernel has in memory is read at once, the rest in a native thread.

    A hop to such a thread takes three times as long as copying the bytes.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._file = FileIO(path)
        self._at = start

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
        """Return bytes without waiting for a disk; None where that cannot be."""
        if _NO_WAIT is None:
            return None
        buffer = bytearray(size_bytes)
        try:
            count = os.preadv(self._file.fileno(), [buffer], self._at, _NO_WAIT)
        except OSError:  # not in memory, or a file system without this
            return None
        # Others must run also where the client takes all at once.
        let_others_run()
        return bytes(memoryview(buffer)[:count]) if count else None

    def close(self) -> None:
        self._file.close()
