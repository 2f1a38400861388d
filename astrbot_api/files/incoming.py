"""Temporary file of an upload, with its hash and type."""

from __future__ import annotations

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path

from ..errors import ApiError, StorageError
from ..runtime.threads import run_disk
from .kinds import HEAD_BYTES, Kind, detect_kind
from .names import clean_name

log = logging.getLogger(__name__)

#: Size of one write, in bytes. Smaller pieces are collected.
PIECE_BYTES = 256 * 1024

#: Age in seconds after which a temporary file no longer belongs to an upload.
_STALE_S = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Sender:
    """The key that sends a file.

    :param key_id: The root key, whose quota counts.
    :param username: The only username of the key, if it is bound to one.
    """

    key_id: str
    username: str | None = None


class Incoming:
    """A temporary file that is being received, with its size, hash and type.

    Under gevent, hashing and writing run in native threads, because a full disk
    cache would block all streams of the worker. The context manager deletes the
    file at its end. To keep the bytes, move :attr:`path` before.

    :param folder: Folder of temporary files. Created if missing.
    :param name: The client's name of the file. It is sanitised here.
    :param sender: The key that sends the file, or None if no key does.
    :param refusal: Error to raise if the file is larger.
    :param check_disk: Called in a native thread for each piece; raises when the disk is full.
    :param attachment_id: Id of the later attachment, or empty for a new id.
    :param mode: Permissions of the file, reduced by the umask.
    """

    def __init__(
        self, folder: Path, name: str, sender: Sender | None, *, limit_bytes: int,
        refusal: ApiError, check_disk: Callable[[], None], attachment_id: str = "",
        mode: int = 0o600,
    ) -> None:  # fmt: skip
        self.attachment_id = attachment_id or str(uuid.uuid4())
        self.name = clean_name(name)
        self.sender = sender
        self.path = folder / uuid.uuid4().hex
        self.size_bytes = 0
        self.head = b""
        #: SHA-256 of all bytes, in hexadecimal. Set by :meth:`finish`.
        self.sha256 = ""
        self._limit_bytes = limit_bytes
        self._refusal = refusal
        self._check_disk = check_disk
        self._hash = hashlib.sha256()
        self._pieces: list[bytes | bytearray] = []
        self._waiting_bytes = 0
        with translate_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(
                self.path, "xb", opener=lambda path, flags: os.open(path, flags, mode)
            )

    def write(self, chunk: bytes | bytearray) -> None:
        """Add the next bytes.

        :raises ApiError: ``refusal``, when the file is too large, or the error of ``check_disk``.
        """
        self.size_bytes += len(chunk)
        if self.size_bytes > self._limit_bytes:
            raise self._refusal
        if len(self.head) < HEAD_BYTES:
            self.head += chunk[: HEAD_BYTES - len(self.head)]
        self._pieces.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes >= PIECE_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write the buffered bytes and close the complete file."""
        if self._pieces:
            self._flush()
        self._file.close()
        self.sha256 = self._hash.hexdigest()

    @cached_property
    def kind(self) -> Kind:
        """Type of the file, detected from its bytes."""
        return detect_kind(self.head, self.name)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        large, self._waiting_bytes = self._waiting_bytes >= PIECE_BYTES, 0
        with translate_errors():
            if large:
                run_disk(self._keep, pieces)
            else:  # switching to a thread would cost more than the write
                self._keep(pieces)

    def _keep(self, pieces: list[bytes | bytearray]) -> None:
        self._check_disk()  # many uploads at once may each be within their quota
        for piece in pieces:
            self._hash.update(piece)
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate disk errors into an error without paths."""
    try:
        yield
    except OSError as error:
        log.error("cannot store a file: %s", error)
        raise StorageError("The file could not be stored. Try again later.") from error


def remove_stale(folder: Path, *, dry_run: bool) -> int:
    """Remove temporary files left by a crash.

    :param dry_run: Whether to count the files without removing them.
    """
    before = time.time() - _STALE_S
    removed = 0
    for entry in list(os.scandir(folder)) if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # another worker has removed it
            if entry.stat().st_mtime < before:
                if not dry_run:
                    os.unlink(entry)
                removed += 1
    return removed
