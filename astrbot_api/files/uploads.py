"""Chunked uploads. Requests of one upload may go to any worker and host, in any order."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import peewee

from ..config.settings import Settings
from ..db import uploads as rows
from ..db.attachments import AttachmentRow, new_blob, note_stray
from ..db.store import Store
from ..db.uploads import ChunkRow, UploadRow
from ..errors import ApiError, StorageError, refuse
from ..idempotency import AnswerToStore
from ..runtime.clock import now_us
from ..worker.lease import WorkerLease
from .attachments import Attachments
from .incoming import PIECE_BYTES, Incoming, Sender
from .names import clean_name

#: Size of all chunks except the last one (Source: recorded from AstrBot 4.29.3).
CHUNK_BYTES = 1024 * 1024

#: Seconds until an upload expires without a new chunk.
_KEEP_S = 3600

#: Seconds before another request may complete the upload, if the first worker is still alive.
_COMPLETING_S = 600

#: Maximum number of open uploads of a key.
_MAX_OPEN = 512

#: Of one user with session keys: the visitors of a site share the places of its key.
_MAX_OPEN_OF_USER = 16

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """Received chunks of an upload."""

    received: list[int]
    total_chunks: int
    expires_in_s: int


class Uploads:
    """The chunked uploads of one application."""

    def __init__(
        self, settings: Settings, store: Store, attachments: Attachments, lease: WorkerLease
    ) -> None:
        self._settings = settings
        self._store = store
        self._attachments = attachments
        self._lease = lease

    def begin(self, name: str, size_bytes: int, sha256: str, sender: Sender) -> UploadRow:
        """Start an upload.

        :param sha256: SHA-256 of the whole file in hexadecimal, or empty if unknown.
        :raises ApiError: ``body_too_large``, ``quota_exceeded`` or ``rate_limited``.
        """
        limit = self._settings.max_chunked_file_bytes
        if size_bytes > limit:
            raise ApiError(
                "body_too_large",
                f"total_size is above the limit of {limit} bytes (ASTRBOT_MAX_CHUNKED_FILE_BYTES)",
            )
        row = UploadRow(
            str(uuid.uuid4()), clean_name(name), size_bytes, sha256.lower(), sender.key_id,
            now_us() + _KEEP_S * _SECOND_US, 0, sender.username,
        )  # fmt: skip

        def job(db: peewee.Database) -> None:
            count, announced = rows.sum_open(db, sender.key_id)
            whose, limit = "the key has", _MAX_OPEN
            if count < _MAX_OPEN and sender.username is not None:
                count = rows.count_open(db, sender.key_id, sender.username)
                whose, limit = "you have", _MAX_OPEN_OF_USER
            if count >= limit:
                raise ApiError(
                    "quota_exceeded",
                    f"{whose} begun {count} uploads; complete or abort some of them",
                )
            self._attachments.check_room(db, sender.key_id, announced + size_bytes)
            rows.add_upload(db, row)

        self._store.write(job)
        return row

    def count_chunks(self, row: UploadRow) -> int:
        """Return the total number of chunks of an upload."""
        return -(-row.size_bytes // CHUNK_BYTES)

    def begin_chunk(self) -> Incoming:
        """Open a temporary file for a chunk. The request may name its upload after the bytes."""
        refusal = ApiError(
            "body_too_large", f"the chunk is larger than chunk_size, {CHUNK_BYTES} bytes"
        )
        return self._attachments.open_incoming("chunk", None, CHUNK_BYTES, refusal)

    def put_chunk(self, upload_id: str, number: int, incoming: Incoming, sender: Sender) -> int:
        """Store a complete chunk, and replace an earlier one with this number.

        :raises ApiError: ``upload_not_found`` or ``invalid_request``.
        """
        row = self.get(upload_id, sender)
        total = self.count_chunks(row)
        if not 0 <= number < total:
            raise refuse(f"chunk_index must be from 0 to {total - 1}")
        right = min(CHUNK_BYTES, row.size_bytes - number * CHUNK_BYTES)
        if incoming.size_bytes != right:
            raise refuse(f"chunk {number} has {incoming.size_bytes} bytes; it must have {right}")
        blob = new_blob(incoming.sha256)
        self._store.write(lambda db: note_stray(db, blob))
        self._attachments.save_blob(incoming.path, blob)
        now = now_us()
        chunk = ChunkRow(number, incoming.size_bytes, blob)
        kept, earlier = self._store.write(
            lambda db: rows.put_chunk(
                db, upload_id, chunk, now_us=now, expires_at=now + _KEEP_S * _SECOND_US
            )
        )
        if not kept:
            self._attachments.delete_blob(blob)
            raise _not_found()
        if earlier is not None:
            self._attachments.delete_blob(earlier)
        with self._store.read() as db:
            return len(rows.list_chunks(db, upload_id))

    def get_status(self, upload_id: str, sender: Sender) -> UploadStatus:
        """Return the received chunks of an upload.

        :raises ApiError: ``upload_not_found``.
        """
        row = self.get(upload_id, sender)
        with self._store.read() as db:
            chunks = rows.list_chunks(db, upload_id)
        left = max(0, row.expires_at - now_us()) // _SECOND_US
        return UploadStatus([one.number for one in chunks], self.count_chunks(row), left)

    def complete(
        self,
        upload_id: str,
        sender: Sender,
        make_answer: Callable[[Incoming], AnswerToStore | None] = lambda _: None,
    ) -> AttachmentRow:
        """Create the attachment of an upload with all its chunks.

        :param make_answer: Returns a response to store in the attachment's transaction, or None.
        :raises ApiError: ``upload_not_found``, ``upload_incomplete``, ``checksum_mismatch``,
            ``idempotency_in_flight``, ``unsupported_media_type`` or ``quota_exceeded``.
        """
        row = self.get(upload_id, sender)
        with self._store.read() as db:
            chunks = rows.list_chunks(db, upload_id)
        here = {one.number for one in chunks}
        missing = [number for number in range(self.count_chunks(row)) if number not in here]
        if missing:
            raise ApiError("upload_incomplete", f"Chunks incomplete, missing: {missing[:10]}...")
        worker_id = self._lease.get_worker_id()
        self._begin_completing(upload_id, worker_id)
        try:
            attachment = self._join(row, chunks, make_answer)
        except BaseException:
            with contextlib.suppress(StorageError):
                self._store.write(lambda db: rows.end_completing(db, upload_id, worker_id))
            raise
        self._remove(upload_id)
        return attachment

    def abort(self, upload_id: str, sender: Sender) -> None:
        """Remove an upload and its chunks. Ignore an unknown upload."""
        with contextlib.suppress(ApiError):
            self.get(upload_id, sender)
            self._remove(upload_id)

    def remove_expired(self) -> None:
        """Remove expired uploads. Runs periodically."""
        with self._store.read() as db:
            expired = rows.list_expired(db, now_us(), 100)
        for upload_id in expired:
            self._remove(upload_id)

    def get(self, upload_id: str, sender: Sender) -> UploadRow:
        """Return an upload of this sender.

        :raises ApiError: ``upload_not_found``.
        """
        with self._store.read() as db:
            row = rows.find_upload(db, upload_id, now_us())
        if row is None or Sender(row.key_id, row.username) != sender:
            raise _not_found()
        return row

    def _begin_completing(self, upload_id: str, worker_id: str) -> None:
        """Lock the upload for completion by this worker.

        :raises ApiError: ``idempotency_in_flight`` when another request is completing it.
        """
        judge, now = self._lease.can_declare_dead(), now_us()
        until = now + _COMPLETING_S * _SECOND_US
        begun = self._store.write(
            lambda db: rows.begin_completing(
                db, upload_id, worker_id, now_us=now, until_us=until, judge=judge
            )
        )
        if not begun:
            raise ApiError(
                "idempotency_in_flight", "the upload is being completed; ask again later",
                retry_after_s=1,
            )  # fmt: skip

    def _join(
        self,
        row: UploadRow,
        chunks: list[ChunkRow],
        make_answer: Callable[[Incoming], AnswerToStore | None],
    ) -> AttachmentRow:
        limit = self._settings.max_chunked_file_bytes
        refusal = ApiError("body_too_large", f"the file is larger than {limit} bytes")
        sender = Sender(row.key_id, row.username)
        with self._attachments.open_incoming(row.name, sender, limit, refusal) as incoming:
            for chunk in chunks:
                self._copy(chunk, incoming)
            incoming.finish()
            if row.sha256 and incoming.sha256 != row.sha256:
                raise ApiError(
                    "checksum_mismatch",
                    f"the SHA-256 of the bytes is {incoming.sha256}; {row.sha256} was announced",
                )
            return self._attachments.finish(incoming, make_answer(incoming))

    def _copy(self, chunk: ChunkRow, incoming: Incoming) -> None:
        try:
            reader = self._attachments.storage.open(chunk.blob, 0, chunk.size_bytes)
        except OSError as error:
            raise StorageError("A chunk cannot be read. Send it again.") from error
        before = incoming.size_bytes
        with contextlib.closing(reader):
            while piece := reader.read(PIECE_BYTES):
                incoming.write(piece)
        if incoming.size_bytes - before != chunk.size_bytes:
            raise StorageError("A chunk is cut off. Send it again.")

    def _remove(self, upload_id: str) -> None:
        blobs: list[str] = self._store.write(lambda db: rows.remove_upload(db, upload_id))
        for blob in blobs:
            self._attachments.delete_blob(blob)


def _not_found() -> ApiError:
    return ApiError("upload_not_found", "Upload session not found or expired")
