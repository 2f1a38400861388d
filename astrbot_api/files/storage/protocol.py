"""Interface of storages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

#: Name of a blob, made by the server: SHA-256, a dash, random digits. It is
#: checked before it becomes a path.
_BLOB = re.compile(r"[0-9a-f]{64}-[0-9a-f]{12}\Z")


class BlobReader(Protocol):
    """An open blob."""

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to ``size_bytes`` bytes, or none at the end. Does not block the hub."""

    def close(self) -> None:
        """Close the blob."""


class StoredBlob(BlobReader, Protocol):
    """An open blob of a storage."""

    @property
    def descriptor(self) -> int | None:
        """Descriptor of an open file with the whole blob, or None without a local file."""


class Storage(Protocol):
    """A storage of blobs. Its errors are ``OSError`` or :class:`StorageError`.

    Each name is used once, for one content. So blobs are never overwritten and
    can be cached.
    """

    def save(self, path: Path, blob: str) -> None:
        """Store the bytes of a file as a blob. The file may be moved."""

    def open(self, blob: str, start: int, length: int) -> StoredBlob:
        """Open a part of a blob.

        :raises FileNotFoundError: when the blob does not exist.
        """

    def delete(self, blob: str) -> None:
        """Delete a blob if it exists."""

    def size(self, blob: str) -> int | None:
        """Return the size of a blob in bytes, or None if it does not exist."""

    def check(self, path: Path) -> None:
        """Check that a file could be stored, without storing it. It may be removed."""


def relative_path(blob: str) -> str:
    """Return the relative path of a blob: ``ab/cd/abcd…``.

    :raises ValueError: when the name was not made by this server.
    """
    if not _BLOB.match(blob):
        raise ValueError(f"not the name of a blob: {blob!r}")
    return f"{blob[:2]}/{blob[2:4]}/{blob}"
