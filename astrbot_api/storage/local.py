"""Bytes in a local folder."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from ..threads import run_native
from .protocol import BlobReader, relative_path


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

    def open(self, blob: str, start: int, length: int) -> BlobReader:
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
    """An open file whose reads wait for the disk in a native thread."""

    def __init__(self, path: Path, start: int) -> None:
        self._file = FileIO(path)
        if start:
            self._file.seek(start)

    def read(self, size_bytes: int, /) -> bytes:
        return run_native(self._file.read, size_bytes)

    def close(self) -> None:
        self._file.close()
