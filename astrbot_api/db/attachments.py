"""The attachments: their rows, and their bytes in the storage.

:mod:`astrbot_api.db.attachment_uses` has their links to messages.

Attachments with the same bytes share a *blob*. A blob is a name in the storage: the SHA-256
and a random suffix. An upload may reuse the blob of an existing attachment, in the
transaction that adds its own row. Otherwise it creates a new name. A blob without a row
is therefore never used again. Its bytes can be deleted at any time without a lock, however
slow the storage is. No acknowledged upload loses its bytes.

While their bytes are being saved or deleted, such blobs are listed in ``stray_blob``.
Blobs that a crash leaves behind are found there.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import peewee

from ..runtime.clock import now_us
from . import counting
from .locks import for_share, for_update, lock_name
from .models.files import Attachment, AttachmentTotal, FileChunk, MessageAttachment, StrayBlob
from .models.sessions import ChatSession, Message
from .prepared import Prepared, equals, insert, params


@dataclass(frozen=True, slots=True)
class AttachmentRow:
    """One attachment.

    ``id`` is its number in the database, ``attachment_id`` its public id.
    ``type`` is ``image``, ``record`` (audio), ``video`` or ``file``.
    ``charset`` is set for text only.
    """

    id: int
    attachment_id: str
    name: str
    type: str
    mime: str
    charset: str | None
    size_bytes: int
    sha256: str
    blob: str
    key_id: str | None
    created_at: int
    username: str | None = None


_FIND = Prepared(Attachment.select().where(equals(Attachment.attachment_id)))

_COUNT_MORE = Prepared(
    AttachmentTotal.insert(**params("key_id", "size_bytes"), attachments=1).on_conflict(
        conflict_target=[AttachmentTotal.key_id],
        update={
            AttachmentTotal.size_bytes: AttachmentTotal.size_bytes + peewee.EXCLUDED.size_bytes,
            AttachmentTotal.attachments: AttachmentTotal.attachments + 1,
        },
    )
)


def find_attachment(db: peewee.Database, attachment_id: str) -> AttachmentRow | None:
    row = _FIND.execute(db, attachment_id=attachment_id).fetchone()
    return None if row is None else AttachmentRow(*row)


def find_attachments(
    db: peewee.Database, attachment_ids: Iterable[str]
) -> dict[str, AttachmentRow]:
    """Return the existing attachments among these ids, by id."""
    return _find_all(db, attachment_ids, lambda query: query)


def find_same(
    db: peewee.Database,
    *,
    sha256: str,
    name: str,
    creator: str,
    key_id: str | None,
    username: str | None,
    session_id: str | None,
) -> AttachmentRow | None:
    """Return a user's attachment with these bytes, or None.

    An attachment that only other users' messages use is not returned: they may delete it.

    :param creator: The user. Attachments without messages also match.
    :param key_id: The key that uploaded it.
    :param username: The user for whom a key that is bound to one username uploaded it.
    :param session_id: The only session whose messages count, or None for all.
    """
    uses = MessageAttachment.select(MessageAttachment.id).where(
        MessageAttachment.attachment == Attachment.id
    )
    own = (
        uses.join(Message, on=(Message.id == MessageAttachment.message))
        .join(ChatSession, on=(ChatSession.id == Message.session))
        .where(ChatSession.creator == creator)
    )
    if session_id is not None:
        own = own.where(ChatSession.session_id == session_id)
    query = (
        Attachment.select()
        .where(Attachment.sha256 == sha256, Attachment.name == name)
        .where(Attachment.key_id == key_id, Attachment.username == username)
        .where(~peewee.fn.EXISTS(uses) | peewee.fn.EXISTS(own))
        .order_by(Attachment.id.desc())
        .limit(1)
    )
    row = query.tuples().first(db)
    return None if row is None else AttachmentRow(*row)


def lock_attachments(
    db: peewee.Database, attachment_ids: Iterable[str]
) -> dict[str, AttachmentRow]:
    """Return the same as :func:`find_attachments`, and lock the rows until the commit.

    For a message that is about to use the attachments.
    """
    return _find_all(db, attachment_ids, lambda query: for_share(db, query))


def _find_all(
    db: peewee.Database, attachment_ids: Iterable[str], lock: Callable[[Any], Any]
) -> dict[str, AttachmentRow]:
    wanted = list(dict.fromkeys(attachment_ids))
    if not wanted:
        return {}
    query = Attachment.select().where(Attachment.attachment_id.in_(wanted))
    rows = lock(query.order_by(Attachment.id)).tuples().execute(db)
    return {row[1]: AttachmentRow(*row) for row in rows}


def new_blob(sha256: str) -> str:
    """Return a new, unique blob name for these bytes."""
    return f"{sha256}-{os.urandom(6).hex()}"


def find_blob(db: peewee.Database, sha256: str) -> str | None:
    """Return the blob of an attachment with these bytes, for use in the same transaction.

    Until the transaction ends, no attachment with these bytes is deleted.
    """
    lock_name(db, "blob", sha256)
    query = Attachment.select(Attachment.blob).where(Attachment.sha256 == sha256)
    blob: str | None = query.limit(1).scalar(db)
    return blob


def add_attachment(
    db: peewee.Database,
    *,
    name: str,
    type: str,
    mime: str,
    charset: str | None,
    size_bytes: int,
    sha256: str,
    blob: str,
    key_id: str | None,
    attachment_id: str = "",
    username: str | None = None,
) -> AttachmentRow:
    """Add a row and count it for its key. The blob's bytes must be in the storage.

    :param key_id: The key that uploaded it, or None.
    :param attachment_id: Its id on another server, or empty for a new id.
    :param username: The user for whom a key that is bound to one username uploaded it.
    """
    values: dict[str, Any] = {
        "attachment_id": attachment_id or str(uuid.uuid4()), "name": name, "type": type,
        "mime": mime, "charset": charset, "size_bytes": size_bytes, "sha256": sha256,
        "blob": blob, "key_id": key_id, "created_at": now_us(),
        "username": username,
    }  # fmt: skip
    (number,) = insert(db, Attachment, **values).fetchone()
    if key_id is not None:
        _COUNT_MORE.execute(db, key_id=key_id, size_bytes=size_bytes)
        counting.forget_files(db, key_id)
    return AttachmentRow(id=number, **values)


def delete_attachment(db: peewee.Database, row: AttachmentRow) -> str | None:
    """Delete an attachment and its links to messages.

    :returns: The blob if no other attachment uses it. It is then recorded as stray.
    """
    lock_name(db, "blob", row.sha256)
    if not Attachment.delete().where(Attachment.id == row.id).execute(db):
        return None  # another caller was first
    MessageAttachment.delete().where(MessageAttachment.attachment == row.id).execute(db)
    if row.key_id is not None:
        (
            AttachmentTotal.update(
                size_bytes=AttachmentTotal.size_bytes - row.size_bytes,
                attachments=AttachmentTotal.attachments - 1,
            )
            .where(AttachmentTotal.key_id == row.key_id)
            .execute(db)
        )
        counting.forget_files(db, row.key_id)
    same = Attachment.select(Attachment.id).where(Attachment.sha256 == row.sha256)
    if same.where(Attachment.blob == row.blob).exists(db):
        return None
    note_stray(db, row.blob)
    return row.blob


def lock_row(db: peewee.Database, attachment_number: int) -> None:
    """Lock an attachment against use by new messages until the end of the transaction."""
    query = Attachment.select(Attachment.id).where(Attachment.id == attachment_number)
    for_update(db, query).first(db)


def list_unused(
    db: peewee.Database, older_than_us: int, limit: int, *, after: int = 0
) -> list[AttachmentRow]:
    """Return attachments without messages, ordered by number.

    :param older_than_us: Only attachments created before this time, in microseconds.
    """
    uses = MessageAttachment.select(MessageAttachment.id).where(
        MessageAttachment.attachment == Attachment.id
    )
    query = (
        Attachment.select()
        .where(Attachment.created_at < older_than_us, Attachment.id > after)
        .where(~peewee.fn.EXISTS(uses))
        .order_by(Attachment.id)
        .limit(limit)
    )
    return [AttachmentRow(*row) for row in query.tuples().execute(db)]


def note_stray(db: peewee.Database, blob: str) -> None:
    """Record a blob without a row, before its bytes are saved or deleted."""
    (
        StrayBlob.insert(blob=blob, since=now_us())
        .on_conflict(action="nothing", conflict_target=[StrayBlob.blob])
        .execute(db)
    )


def forget_stray(db: peewee.Database, blob: str) -> None:
    """Remove the record of a blob that now has a row, or no longer has bytes."""
    StrayBlob.delete().where(StrayBlob.blob == blob).execute(db)


def list_strays(db: peewee.Database, older_than_us: int) -> list[str]:
    """Return the blobs that have had no row since before this time.

    Blobs of chunks are not returned: they are deleted with their upload.
    """
    chunks = FileChunk.select(FileChunk.blob)
    query = StrayBlob.select(StrayBlob.blob).where(
        StrayBlob.since < older_than_us, StrayBlob.blob.not_in(chunks)
    )
    query = query.order_by(StrayBlob.since, StrayBlob.blob)
    return [blob for (blob,) in query.tuples().execute(db)]
