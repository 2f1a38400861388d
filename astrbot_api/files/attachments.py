"""Attachments of one application: storing, reading, deleting."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import peewee

from ..config.settings import Settings
from ..db import attachments as rows
from ..db.attachment_uses import is_used
from ..db.attachments import AttachmentRow
from ..db.locks import lock_name
from ..db.store import Store
from ..errors import ApiError, StorageError
from ..idempotency import AnswerToStore
from ..keys.quotas import Quotas
from ..runtime.metrics import Metrics
from .incoming import PIECE_BYTES, Incoming, Sender, remove_stale, translate_errors
from .storage.opening import check_storage, open_storage
from .storage.protocol import BlobReader, Storage, StoredBlob

log = logging.getLogger(__name__)


class Readable(Protocol):
    """A source of bytes, such as an open file or a request's body."""

    def read(self, size_bytes: int, /) -> bytes: ...


class Attachments:
    """Files with their database rows.

    An upload is first a temporary file, then a blob in the storage, then a row.
    Only the row makes it an attachment. :mod:`astrbot_api.db.attachments`
    explains how uploads are protected from concurrent deletions.
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

    def check_storage(self) -> None:
        """Check that uploads can be stored.

        :raises StorageError: names the folder and the remedy.
        """
        check_storage(self.storage, self._temporary_dir)

    def get(self, attachment_id: str) -> AttachmentRow:
        """Return the attachment with this id.

        :raises ApiError: ``attachment_not_found``.
        """
        with self._store.read() as db:
            row = rows.find_attachment(db, attachment_id)
        if row is None:
            raise ApiError("attachment_not_found", "Attachment not found")
        return row

    def begin(self, name: str, sender: Sender | None, attachment_id: str = "") -> Incoming:
        """Open a temporary file for an upload. :meth:`finish` makes it an attachment.

        :param name: The client's name of the file.
        :param sender: The key whose limits apply, or None if no key sends the file.
        :param attachment_id: Id known elsewhere, or empty for a new id.
        """
        limit = self._settings.max_file_bytes
        refusal = ApiError(
            "body_too_large",
            f"the file is larger than the limit of {limit} bytes (ASTRBOT_MAX_FILE_BYTES)",
        )
        room, refused = self._quotas.find_room(sender.key_id if sender else None)
        if room is not None and room < limit:
            limit, refusal = room, refused
        return self.open_incoming(name, sender, limit, refusal, attachment_id)

    def open_incoming(
        self,
        name: str,
        sender: Sender | None,
        limit_bytes: int,
        refusal: ApiError,
        attachment_id: str = "",
    ) -> Incoming:
        """Open a temporary file with its own limit, see :meth:`begin`."""
        # nginx, which serves the files itself, is another user in the server's group.
        mode = 0o640 if self._settings.accel_redirect_prefix else 0o600
        return Incoming(
            self._temporary_dir, name, sender, limit_bytes=limit_bytes, refusal=refusal,
            attachment_id=attachment_id, mode=mode, check_disk=self._quotas.check_disk,
        )  # fmt: skip

    def finish(self, incoming: Incoming, answer: AnswerToStore | None = None) -> AttachmentRow:
        """Create the attachment of a completely received file.

        :param answer: A response to store in the attachment's transaction, or None.
        :raises ApiError: ``unsupported_media_type`` or ``quota_exceeded``.
        """
        incoming.finish()
        kind, sender, sha256 = incoming.kind, incoming.sender, incoming.sha256
        key_id, username = (sender.key_id, sender.username) if sender else (None, None)
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
                attachment_id=incoming.attachment_id, username=username,
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

        row = self._store.write(adopt)
        if row is None:
            row = self._save(incoming.path, fresh, sha256, add)
        else:
            self._restore_lost(incoming.path, row.blob)
        if self._metrics is not None:
            self._metrics.note_upload(row.size_bytes)
        return row

    def receive(
        self, stream: Readable, name: str, sender: Sender | None = None, attachment_id: str = ""
    ) -> AttachmentRow:
        """Create an attachment from a stream, which is read to its end."""
        with self.begin(name, sender, attachment_id) as incoming:
            while chunk := stream.read(PIECE_BYTES):
                incoming.write(chunk)
            return self.finish(incoming)

    def store_bytes(
        self, data: bytes | Path, name: str, sender: Sender | None = None
    ) -> AttachmentRow:
        """Create an attachment from bytes, or from a copy of a file."""
        with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
            return self.receive(file, name, sender)

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

        The file is opened here, so that errors are raised before the first
        byte. Closing the iterator closes the file.

        :raises StorageError: when the bytes cannot be read.
        """
        stop = row.size_bytes if stop is None else min(stop, row.size_bytes)
        return _Chunks(self.open_reader(row, start, stop), stop - start, row.attachment_id)

    def read_bytes(self, row: AttachmentRow, max_bytes: int) -> bytes:
        """Return at most the first ``max_bytes`` bytes of an attachment."""
        return b"".join(self.open_chunks(row, 0, max_bytes))

    def delete(self, row: AttachmentRow, *, even_if_used: bool = False) -> bool:
        """Delete an attachment, and its bytes unless another attachment shares them.

        :returns: False if a stored message uses the attachment, which is kept then.
        """

        def job(db: peewee.Database) -> tuple[bool, str | None]:
            rows.lock_row(db, row.id)
            if not even_if_used and is_used(db, row.id):
                return False, None
            return True, rows.delete_attachment(db, row)

        done, blob = self._store.write(job)
        if blob is not None:
            self.delete_blob(blob)
        return done

    def remove_stale_uploads(self, *, dry_run: bool = False) -> int:
        """Remove temporary files of uploads aborted by a crash."""
        return remove_stale(self._temporary_dir, dry_run=dry_run)

    def delete_blob(self, blob: str) -> bool:
        """Delete a blob without a row. After a failure, ``db sweep`` deletes it."""
        try:
            self.storage.delete(blob)
            self._store.write(lambda db: rows.forget_stray(db, blob))
        except (OSError, StorageError) as error:
            log.warning("blob %s not deleted, run `astrbot-api db sweep`: %s", blob, error)
            return False
        return True

    def _restore_lost(self, path: Path, blob: str) -> None:
        """Store the bytes of a known blob again if somebody has deleted them.

        :raises StorageError: when they cannot be stored.
        """
        try:
            if self.storage.size(blob) is not None:
                return
        except (OSError, StorageError):
            return  # nobody knows whether they are lost
        log.warning("the bytes of blob %s were lost; this upload stores them again", blob)
        with translate_errors():
            self.storage.save(path, blob)

    def save_blob(self, path: Path, blob: str) -> None:
        """Move a new file to the storage, as a blob that is recorded as stray.

        :raises StorageError: when it cannot be stored.
        """
        with translate_errors():
            try:
                self.storage.save(path, blob)
            except OSError:
                self.delete_blob(blob)
                raise

    def _save(self, path: Path, fresh: str, sha256: str, add: Any) -> AttachmentRow:
        """Move a new file to the storage, then add its row."""
        self.save_blob(path, fresh)

        def job(db: peewee.Database) -> AttachmentRow:
            # Concurrent uploads of the same bytes share the blob of the first
            # one. The other blob stays recorded as stray.
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
        """Check that a key may store ``size_bytes`` more, in the transaction that adds the row.

        :raises ApiError: ``quota_exceeded``.
        """
        if key_id is not None:
            lock_name(db, "attachment_total", key_id)
        self._quotas.check_file(db, key_id, size_bytes)


class _Chunks(Iterator[bytes]):
    """Iterator over the pieces of a blob.

    The first one is read at once: a failure is then a status, and not a broken response.
    """

    def __init__(self, reader: BlobReader, length: int, attachment_id: str) -> None:
        self._attachment_id = attachment_id
        self._reader = reader
        self._left = length
        self._first = b""
        self._first = next(self, b"")

    def __next__(self) -> bytes:
        if self._first:
            piece, self._first = self._first, b""
            return piece
        if self._left <= 0:
            self.close()
            raise StopIteration
        try:
            piece = self._reader.read(min(PIECE_BYTES, self._left))
            if not piece:
                text = f"The bytes of attachment {self._attachment_id} ended too early."
                raise StorageError(text)
        except StorageError:
            self.close()
            raise
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Close the blob and end the iteration."""
        self._left, self._first = 0, b""
        self._reader.close()
