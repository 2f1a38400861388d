"""The open uploads in chunks, and their received chunks.

The bytes of a chunk are a blob in the storage, readable by all workers and hosts. No
attachment uses it, so it is listed in ``stray_blob`` until it is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

import peewee

from . import leases
from .locks import lock_name
from .models.files import FileChunk, FileUpload


@dataclass(frozen=True, slots=True)
class UploadRow:
    """One upload in chunks; see :class:`~astrbot_api.db.models.files.FileUpload`."""

    upload_id: str
    name: str
    size_bytes: int
    sha256: str
    key_id: str
    expires_at: int
    completing_until: int
    username: str | None = None
    completing_by: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """One received chunk."""

    number: int
    size_bytes: int
    blob: str


def add_upload(db: peewee.Database, row: UploadRow) -> None:
    FileUpload.insert(
        upload_id=row.upload_id, name=row.name, size_bytes=row.size_bytes, sha256=row.sha256,
        key_id=row.key_id, expires_at=row.expires_at, completing_until=0, username=row.username,
    ).execute(db)  # fmt: skip


def find_upload(db: peewee.Database, upload_id: str, now_us: int) -> UploadRow | None:
    """Return an upload that has not expired, or None."""
    query = FileUpload.select().where(
        FileUpload.upload_id == upload_id, FileUpload.expires_at > now_us
    )
    found = list(query.tuples().limit(1).execute(db))
    return UploadRow(*found[0]) if found else None


def sum_open(db: peewee.Database, key_id: str) -> tuple[int, int]:
    """Return the number of a key's open uploads, and their announced bytes."""
    lock_name(db, "uploads", key_id)
    query = FileUpload.select(
        peewee.fn.COUNT(FileUpload.upload_id),
        peewee.fn.COALESCE(peewee.fn.SUM(FileUpload.size_bytes), 0),
    ).where(FileUpload.key_id == key_id)
    count, size = next(iter(query.tuples().execute(db)))
    return int(count), int(size)


def count_open(db: peewee.Database, key_id: str, username: str) -> int:
    """Return the number of a key's open uploads by a user to whom its keys are bound."""
    query = FileUpload.select(peewee.fn.COUNT(FileUpload.upload_id)).where(
        FileUpload.key_id == key_id, FileUpload.username == username
    )
    return int(query.scalar(db))


def list_chunks(db: peewee.Database, upload_id: str) -> list[ChunkRow]:
    """Return the received chunks, in order."""
    query = (
        FileChunk.select(FileChunk.number, FileChunk.size_bytes, FileChunk.blob)
        .where(FileChunk.upload_id == upload_id)
        .order_by(FileChunk.number)
    )
    return [ChunkRow(*row) for row in query.tuples().execute(db)]


def put_chunk(
    db: peewee.Database, upload_id: str, chunk: ChunkRow, *, now_us: int, expires_at: int
) -> tuple[bool, str | None]:
    """Store a chunk, and extend the upload's expiry.

    :returns: Whether the upload still exists, and the blob of an earlier chunk with this
        number, whose bytes must be deleted.
    """
    lock_name(db, "upload", upload_id)
    touched = (
        FileUpload.update(expires_at=expires_at)
        .where(FileUpload.upload_id == upload_id, FileUpload.expires_at > now_us)
        .execute(db)
    )
    if not touched:
        return False, None
    same = (FileChunk.upload_id == upload_id) & (FileChunk.number == chunk.number)
    earlier: str | None = FileChunk.select(FileChunk.blob).where(same).scalar(db)
    FileChunk.delete().where(same).execute(db)
    FileChunk.insert(
        upload_id=upload_id, number=chunk.number, size_bytes=chunk.size_bytes, blob=chunk.blob
    ).execute(db)
    return True, earlier


def begin_completing(
    db: peewee.Database,
    upload_id: str,
    worker_id: str,
    *,
    now_us: int,
    until_us: int,
    judge: bool,
) -> bool:
    """Let a worker complete an upload. Return False if another request is completing it.

    :param judge: Whether a worker with an expired lease counts as dead.
    """
    free = FileUpload.completing_until <= now_us
    if judge:
        free |= FileUpload.completing_by.not_in(leases.select_living(db))
    query = FileUpload.update(
        completing_until=until_us, expires_at=until_us, completing_by=worker_id
    ).where(FileUpload.upload_id == upload_id, free)
    return bool(query.execute(db))


def end_completing(db: peewee.Database, upload_id: str, worker_id: str) -> None:
    """Let another request complete an upload, unless another worker has taken it over."""
    held = (FileUpload.upload_id == upload_id) & (FileUpload.completing_by == worker_id)
    FileUpload.update(completing_until=0).where(held).execute(db)


def remove_upload(db: peewee.Database, upload_id: str) -> list[str]:
    """Delete an upload, and return the blobs whose bytes must be deleted."""
    lock_name(db, "upload", upload_id)
    blobs = [one.blob for one in list_chunks(db, upload_id)]
    FileChunk.delete().where(FileChunk.upload_id == upload_id).execute(db)
    FileUpload.delete().where(FileUpload.upload_id == upload_id).execute(db)
    return blobs


def list_expired(db: peewee.Database, now_us: int, limit: int) -> list[str]:
    """Return the ids of expired uploads."""
    query = FileUpload.select(FileUpload.upload_id).where(FileUpload.expires_at <= now_us)
    return [upload_id for (upload_id,) in query.limit(limit).tuples().execute(db)]
