"""One file on its way in."""

from __future__ import annotations

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from io import FileIO
from pathlib import Path

from ..errors import ApiError, StorageError
from ..runtime.threads import run_disk
from .kinds import HEAD_BYTES, Kind, detect_kind
from .names import clean_name

log = logging.getLogger(__name__)

#: What is written and hashed at once. Smaller pieces are gathered.
PIECE_BYTES = 256 * 1024

#: Age after which a temporary file cannot belong to an upload any more.
STALE_S = 24 * 60 * 60


class Incoming:
    """A temporary file, and what is known of its bytes so far.

    Hashing and writing run in native threads under gevent: a full disk cache
    would otherwise stop every stream of the worker. As a context manager it
    leaves nothing behind, whatever happens; :attr:`path` must have been moved
    away by then if its bytes are to stay.

    :param folder: Where temporary files go; made when it is missing.
    :param name: As the client called it; cleaned here.
    :param key_id: The key that it is counted to; None for what no key sends.
    :param username: For whom a key that is bound to one username sends it.
    :param limit_bytes: More than this is refused.
    :param refusal: Raised when it is.
    :param attachment_id: The id of the attachment that it becomes; empty: a new one.
    :param mode: Permissions of the file; the process's umask takes from them.
    """

    def __init__(
        self, folder: Path, name: str, key_id: str | None, *, limit_bytes: int, refusal: ApiError,
        attachment_id: str = "", mode: int = 0o600, username: str | None = None,
    ) -> None:  # fmt: skip
        self.username = username
        self.attachment_id = attachment_id or str(uuid.uuid4())
        self.name = clean_name(name)
        self.key_id = key_id
        self.path = folder / uuid.uuid4().hex
        self.size_bytes = 0
        self.head = b""
        #: Of all bytes, in hexadecimal; set by :meth:`finish`.
        self.sha256 = ""
        self._limit_bytes = limit_bytes
        self._refusal = refusal
        self._hash = hashlib.sha256()
        self._pieces: list[bytes | bytearray] = []
        self._waiting_bytes = 0
        with _translate_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(
                self.path, "xb", opener=lambda path, flags: os.open(path, flags, mode)
            )

    def write(self, chunk: bytes | bytearray) -> None:
        """Take the next bytes.

        :raises ApiError: the refusal, when the file is larger than allowed.
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
        """Write what is left: the file is here whole."""
        if self._pieces:
            self._flush()
        self._file.close()
        self.sha256 = self._hash.hexdigest()

    @cached_property
    def kind(self) -> Kind:
        """What the file is, from its bytes."""
        return detect_kind(self.head, self.name)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        large, self._waiting_bytes = self._waiting_bytes >= PIECE_BYTES, 0
        with _translate_errors():
            if large:
                run_disk(self._keep, pieces)
            else:  # the way to the thread costs more than the work
                self._keep(pieces)

    def _keep(self, pieces: list[bytes | bytearray]) -> None:
        for piece in pieces:
            self._hash.update(piece)
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn a full or broken disk into an error that names no path to the caller."""
    try:
        yield
    except OSError as error:
        log.error("temporary files: %s", error)
        raise StorageError("The file could not be stored. Try again later.") from error


def remove_stale(folder: Path, *, older_than_s: float = STALE_S, dry_run: bool = False) -> int:
    """Remove temporary files that a crash left behind.

    :returns: How many there were.
    """
    before = time.time() - older_than_s
    removed = 0
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0
    for entry in entries:
        try:
            if entry.stat().st_mtime < before:
                if not dry_run:
                    os.unlink(entry)
                removed += 1
        except FileNotFoundError:  # another worker was first
            continue
    return removed
