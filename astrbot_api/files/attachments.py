"""The attachments of one application: taken in, read, deleted, swept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import peewee

from ..config.settings import Settings
from ..db import attachments as rows
from ..db.attachments import AttachmentRow
from ..db.store import Store
from ..errors import ApiError, StorageError
from ..idempotency import AnswerToStore
from ..keys.quotas import Quotas
from ..runtime.metrics import Metrics
from .incoming import PIECE_BYTES, Incoming, remove_stale
from .storage.opening import open_storage
from .storage.protocol import BlobReader, Storage, StoredBlob

log = logging.getLogger(__name__)


class Readable(Protocol):
    """What bytes are read from: an open file, a request's body."""

    def read(self, size_bytes: int, /) -> bytes: ...


class Attachments:
    """Files with their rows.

    An upload is first a temporary file, then a blob of the storage, then a
    row; only the row makes it an attachment. What it must not lose in a race
    with a deletion is explained in :mod:`astrbot_api.db.attachments`.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        storage: Storage | None = None,
        metrics: Metrics | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self._quotas = quotas or Quotas(settings, store)
        self._settings = settings
        self._metrics = metrics
        self._store = store
        self.storage = storage or open_storage(settings)
        self._temporary_dir = settings.files_dir / "tmp"

    def get(self, attachment_id: str) -> AttachmentRow:
        """Return the attachment of this id.

        :raises ApiError: ``attachment_not_found``.
        """
        with self._store.read() as db:
            row = rows.find_attachment(db, attachment_id)
        if row is None:
            raise ApiError("attachment_not_found", "Attachment not found")
        return row

    def begin(
        self,
        name: str,
        key_id: str | None,
        attachment_id: str = "",
        username: str | None = None,
    ) -> Incoming:
        """Begin to take a file in; :meth:`finish` makes it an attachment.

        :param name: As the client called it.
        :param key_id: Whose limits hold; None for what no key sends.
        :param attachment_id: What it is known by elsewhere; empty: a new one.
        :param username: For whom a key that is bound to one username sends it.
        """
        limit = self._settings.max_file_bytes
        refusal = ApiError(
            "body_too_large",
            f"the file is larger than the limit of {limit} bytes (ASTRBOT_MAX_FILE_BYTES)",
        )
        room, refused = self._quotas.find_room(key_id)
        if room is not None and room < limit:
            limit, refusal = room, refused
        return self.open_incoming(name, key_id, limit, refusal, attachment_id, username)

    def open_incoming(
        self,
        name: str,
        key_id: str | None,
        limit_bytes: int,
        refusal: ApiError,
        attachment_id: str = "",
        username: str | None = None,
    ) -> Incoming:
        """Open the temporary file of what comes in."""
        # nginx, another user of the server's group, sends the files itself.
        mode = 0o640 if self._settings.accel_redirect_prefix else 0o600
        return Incoming(
            self._temporary_dir, name, key_id, limit_bytes=limit_bytes, refusal=refusal,
            attachment_id=attachment_id, mode=mode, username=username,
        )  # fmt: skip

    def finish(self, incoming: Incoming, answer: AnswerToStore | None = None) -> AttachmentRow:
        """Make an attachment of a file that has come in whole.

        :param answer: Stored in the transaction that makes it an attachment.
        :raises ApiError: ``unsupported_media_type`` or ``quota_exceeded``.
        """
        incoming.finish()
        kind, key_id, sha256 = incoming.kind, incoming.key_id, incoming.sha256
        if kind.type not in self._settings.allowed_file_types:
            allowed = ", ".join(self._settings.allowed_file_types)
            raise ApiError(
                "unsupported_media_type",
                f"the file is of type {kind.type}; this server takes {allowed} "
                "(ASTRBOT_ALLOWED_FILE_TYPES)",
            )

        def add(db: peewee.Database, blob: str) -> AttachmentRow:
            self.check_room(db, key_id, incoming.size_bytes)
            row = rows.add_attachment(
                db, name=incoming.name, type=kind.type, mime=kind.mime, charset=kind.charset,
                size_bytes=incoming.size_bytes, sha256=sha256, blob=blob, key_id=key_id,
                attachment_id=incoming.attachment_id, username=incoming.username,
            )  # fmt: skip
            if answer is not None:
                answer.store(db)
            return row

        fresh = rows.new_blob(sha256)

        def adopt(db: peewee.Database) -> AttachmentRow | None:
            known = rows.find_blob(db, sha256)
            if known is not None:
                return add(db, known)
            self.check_room(db, key_id, incoming.size_bytes)
            rows.note_stray(db, fresh)
            return None

        row = self._store.write(adopt) or self._save(incoming.path, fresh, sha256, add)
        if self._metrics is not None:
            self._metrics.note_upload(row.size_bytes)
        return row

    def receive(
        self,
        stream: Readable,
        name: str,
        key_id: str | None,
        attachment_id: str = "",
        username: str | None = None,
    ) -> AttachmentRow:
        """Take a file in from a stream that is read to its end."""
        with self.begin(name, key_id, attachment_id, username) as incoming:
            while chunk := stream.read(PIECE_BYTES):
                incoming.write(chunk)
            return self.finish(incoming)

    def store_bytes(
        self,
        data: bytes | Path,
        name: str,
        key_id: str | None = None,
        username: str | None = None,
    ) -> AttachmentRow:
        """Take in what a tool made: its bytes, or a file that is copied."""
        if isinstance(data, Path):
            with data.open("rb") as file:
                return self.receive(file, name, key_id, username=username)
        with self.begin(name, key_id, username=username) as incoming:
            incoming.write(data)
            return self.finish(incoming)

    def open_reader(self, row: AttachmentRow, start: int, stop: int) -> StoredBlob:
        """Open a part of an attachment.

        :raises StorageError: when the bytes cannot be read.
        """
        try:
            return self.storage.open(row.blob, start, stop - start)
        except OSError as error:
            log.error("bytes of attachment %s: %s", row.attachment_id, error)
            raise StorageError(
                f"The bytes of attachment {row.attachment_id} cannot be read."
            ) from error

    def open_chunks(
        self, row: AttachmentRow, start: int = 0, stop: int | None = None
    ) -> Iterator[bytes]:
        """Return an iterator over the bytes from ``start`` to ``stop``, in pieces.

        The file is open when this returns, so that a failure comes before the
        first byte; closing the iterator closes it.

        :raises StorageError: when the bytes cannot be read.
        """
        stop = row.size_bytes if stop is None else min(stop, row.size_bytes)
        return _Chunks(self.open_reader(row, start, stop), stop - start)

    def read_bytes(self, row: AttachmentRow, max_bytes: int) -> bytes:
        """Return the bytes of an attachment, or the first ones of a larger one."""
        return b"".join(self.open_chunks(row, 0, max_bytes))

    def delete(self, row: AttachmentRow, *, even_if_used: bool = False) -> bool:
        """Delete an attachment, and its bytes unless another one has the same.

        :returns: False when a stored message uses it and nothing was deleted.
        """

        def job(db: peewee.Database) -> tuple[bool, str | None]:
            rows.lock_row(db, row.id)
            if not even_if_used and rows.is_used(db, row.id):
                return False, None
            return True, rows.delete_attachment(db, row)

        done, blob = self._store.write(job)
        if blob is not None:
            self.delete_blob(blob)
        return done

    def remove_stale_uploads(self, *, dry_run: bool = False) -> int:
        """Remove temporary files of uploads that a crash cut off.

        :returns: How many there were.
        """
        return remove_stale(self._temporary_dir, dry_run=dry_run)

    def delete_blob(self, blob: str) -> bool:
        """Delete bytes without a row; what fails here is left to ``db sweep``."""
        try:
            self.storage.delete(blob)
            self._store.write(lambda db: rows.forget_stray(db, blob))
        except (OSError, StorageError) as error:
            log.warning("bytes %s are left to `astrbot-api db sweep`: %s", blob, error)
            return False
        return True

    def _save(self, path: Path, fresh: str, sha256: str, add: Any) -> AttachmentRow:
        """Put new bytes into the storage, then add the row."""
        try:
            self.storage.save(path, fresh)
        except OSError as error:
            log.error("the storage: %s", error)
            self.delete_blob(fresh)
            raise StorageError("The file could not be stored. Try again later.") from error

        def job(db: peewee.Database) -> AttachmentRow:
            # Two uploads of the same bytes at once: the second one takes the
            # first one's blob, and its own stays noted as stray.
            known = rows.find_blob(db, sha256)
            row: AttachmentRow = add(db, known or fresh)
            if known is None:
                rows.forget_stray(db, fresh)
            return row

        try:
            row = self._store.write(job)
        except Exception:
            self.delete_blob(fresh)
            raise
        if row.blob != fresh:
            self.delete_blob(fresh)
        return row

    def check_room(self, db: peewee.Database, key_id: str | None, size_bytes: int) -> None:
        """Check, in the transaction that adds them, that a key may have so many bytes more.

        :raises ApiError: ``quota_exceeded``.
        """
        if key_id is not None:
            rows.lock_total(db, key_id)
        self._quotas.check_file(db, key_id, size_bytes)


class _Chunks(Iterator[bytes]):
    """Reads a blob in pieces."""

    def __init__(self, reader: BlobReader, length: int) -> None:
        self._reader = reader
        self._left = length

    def __next__(self) -> bytes:
        if self._left <= 0:
            self.close()
            raise StopIteration
        piece = self._reader.read(min(PIECE_BYTES, self._left))
        if not piece:
            self.close()
            raise StorageError("The bytes of an attachment ended too early.")
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Close the blob; nothing more comes."""
        self._left = 0
        self._reader.close()
