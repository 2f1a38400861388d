"""What a place for bytes must be able to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

#: A blob is named by the server: SHA-256, a dash, a random end. Checked where
#: a name becomes a path.
_BLOB = re.compile(r"[0-9a-f]{64}-[0-9a-f]{12}\Z")


class BlobReader(Protocol):
    """An open blob."""

    def read(self, size_bytes: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end. Never holds the hub."""

    def close(self) -> None:
        """Let go of it."""


class StoredBlob(BlobReader, Protocol):
    """An open blob of a storage."""

    @property
    def descriptor(self) -> int | None:
        """The descriptor of an open file with the whole blob; None where there is no file."""


class Storage(Protocol):
    """A place for bytes. Its errors are ``OSError`` or :class:`StorageError`.

    A name is given to one content only, once, so nothing is ever overwritten
    and everything may be cached.
    """

    def save(self, path: Path, blob: str) -> None:
        """Keep the bytes of a file under a name; the file may be gone afterwards."""

    def open(self, blob: str, start: int, length: int) -> StoredBlob:
        """Open a part of a blob.

        :raises FileNotFoundError: when there is no such blob.
        """

    def delete(self, blob: str) -> None:
        """Delete a blob; one that is not there is no fault."""

    def size(self, blob: str) -> int | None:
        """Return how many bytes a blob has; None when there is no such blob."""


def relative_path(blob: str) -> str:
    """Return the place of a blob below its folder or prefix: ``ab/cd/abcd…``.

    :raises ValueError: for a name that this server did not make.
    """
    if not _BLOB.match(blob):
        raise ValueError(f"not the name of a blob: {blob!r}")
    return f"{blob[:2]}/{blob[2:4]}/{blob}"
