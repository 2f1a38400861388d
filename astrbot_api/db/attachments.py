"""The attachments: which files there are, whose bytes they have, who uses them.

Two attachments with the same bytes share one *blob*, the name of the bytes in
the storage: the SHA-256 and a random end. An upload may take over the blob of
an attachment that is there, in the transaction that adds its own row, and
makes a new name otherwise. So a blob without a row is never taken up again,
and its bytes can be deleted at any later moment without a lock, however slow
the storage is: no upload that was acknowledged can lose its bytes.

Until they are deleted, and while they are saved, such blobs stand in
``stray_blob``; what a crash leaves behind is found there.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from ..runtime.clock import now_us
from .locks import for_share, for_update, lock_name


@dataclass(frozen=True, slots=True)
class AttachmentRow:
    """One attachment.

    ``id`` is its number in the database, ``attachment_id`` what clients know
    it by. ``type`` is ``image``, ``record`` (audio), ``video`` or ``file``;
    ``charset`` is known of text alone.
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


_COLUMNS = (
    "id, attachment_id, name, type, mime, charset, size_bytes, sha256, blob, key_id, created_at"
)

_FIND = f"SELECT {_COLUMNS} FROM attachment WHERE attachment_id = ?"

_INSERT = """
INSERT INTO attachment
    (attachment_id, name, type, mime, charset, size_bytes, sha256, blob, key_id, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""

_COUNT_MORE = """
INSERT INTO attachment_total (key_id, size_bytes, attachments) VALUES (?, ?, 1)
ON CONFLICT (key_id) DO UPDATE SET
    size_bytes = attachment_total.size_bytes + excluded.size_bytes,
    attachments = attachment_total.attachments + 1
"""

_COUNT_LESS = """
UPDATE attachment_total SET size_bytes = size_bytes - ?, attachments = attachments - 1
WHERE key_id = ?
"""

_TOTAL = "SELECT size_bytes FROM attachment_total WHERE key_id = ?"

_LINK = """
INSERT INTO message_attachment (message, attachment) VALUES (?, ?)
ON CONFLICT (message, attachment) DO NOTHING
"""

_LOCK = "SELECT 1 FROM attachment WHERE id = ?"

_IS_USED = "SELECT 1 FROM message_attachment WHERE attachment = ? LIMIT 1"

# Some are enough: the same attachment in sessions of many users is the rare case.
_CREATORS = """
SELECT DISTINCT s.creator FROM message_attachment AS l
JOIN message AS m ON m.id = l.message JOIN chat_session AS s ON s.id = m.session
WHERE l.attachment = ? LIMIT 100
"""

_UNUSED = f"""
SELECT {_COLUMNS} FROM attachment AS a
WHERE created_at < ? AND id > ?
  AND NOT EXISTS (SELECT 1 FROM message_attachment AS m WHERE m.attachment = a.id)
ORDER BY id LIMIT ?
"""

_NOTE_STRAY = """
INSERT INTO stray_blob (blob, since) VALUES (?, ?) ON CONFLICT (blob) DO NOTHING
"""


def find_attachment(db: peewee.Database, attachment_id: str) -> AttachmentRow | None:
    """Return the attachment of this id."""
    row = db.execute_sql(_FIND, (attachment_id,)).fetchone()
    return None if row is None else AttachmentRow(*row)


def find_attachments(
    db: peewee.Database, attachment_ids: Iterable[str]
) -> dict[str, AttachmentRow]:
    """Return those of these attachments that there are, by their ids."""
    return _find_all(db, attachment_ids, "")


def lock_attachments(
    db: peewee.Database, attachment_ids: Iterable[str]
) -> dict[str, AttachmentRow]:
    """Return the same as :func:`find_attachments`; none is deleted before the commit.

    For a message that is about to use them.
    """
    return _find_all(db, attachment_ids, for_share(db))


def _find_all(
    db: peewee.Database, attachment_ids: Iterable[str], ending: str
) -> dict[str, AttachmentRow]:
    wanted = list(dict.fromkeys(attachment_ids))
    if not wanted:
        return {}
    marks = ", ".join("?" * len(wanted))
    sql = f"SELECT {_COLUMNS} FROM attachment WHERE attachment_id IN ({marks}) ORDER BY id{ending}"
    rows = [AttachmentRow(*row) for row in db.execute_sql(sql, wanted).fetchall()]
    return {row.attachment_id: row for row in rows}


def new_blob(sha256: str) -> str:
    """Return a name for bytes that no name was ever given to before."""
    return f"{sha256}-{os.urandom(6).hex()}"


def find_blob(db: peewee.Database, sha256: str) -> str | None:
    """Return the blob of an attachment with these bytes; to be used in the same transaction.

    Until its end no attachment with these bytes is deleted.
    """
    lock_name(db, "blob", sha256)
    row = db.execute_sql("SELECT blob FROM attachment WHERE sha256 = ? LIMIT 1", (sha256,))
    found: tuple[str] | None = row.fetchone()
    return None if found is None else found[0]


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
) -> AttachmentRow:
    """Add a row and count it to its key. The blob's bytes must be in the storage.

    :param key_id: The key that uploaded it; None for what no key did.
    :param attachment_id: What it is known by elsewhere; empty: a new one.
    """
    attachment_id = attachment_id or str(uuid.uuid4())
    now = now_us()
    values = (attachment_id, name, type, mime, charset, size_bytes, sha256, blob, key_id, now)
    (number,) = db.execute_sql(_INSERT, values).fetchone()
    if key_id is not None:
        db.execute_sql(_COUNT_MORE, (key_id, size_bytes))
    return AttachmentRow(number, *values)


def delete_attachment(db: peewee.Database, row: AttachmentRow) -> str | None:
    """Remove an attachment, and its links to messages.

    :returns: The blob whose bytes nobody has any more; it is noted as stray.
    """
    lock_name(db, "blob", row.sha256)
    if not db.execute_sql("DELETE FROM attachment WHERE id = ?", (row.id,)).rowcount:
        return None  # another caller was first
    db.execute_sql("DELETE FROM message_attachment WHERE attachment = ?", (row.id,))
    if row.key_id is not None:
        db.execute_sql(_COUNT_LESS, (row.size_bytes, row.key_id))
    sql = "SELECT 1 FROM attachment WHERE sha256 = ? AND blob = ? LIMIT 1"
    if db.execute_sql(sql, (row.sha256, row.blob)).fetchone() is not None:
        return None
    note_stray(db, row.blob)
    return row.blob


def lock_total(db: peewee.Database, key_id: str) -> None:
    """Let nobody else change a key's total until the end of the transaction."""
    lock_name(db, "attachment_total", key_id)


def lock_row(db: peewee.Database, attachment_number: int) -> None:
    """Let no message take up an attachment until the end of the transaction."""
    db.execute_sql(_LOCK + for_update(db), (attachment_number,))


def total_bytes_of_key(db: peewee.Database, key_id: str) -> int:
    """Return how many bytes a key has uploaded and not deleted, at a constant cost."""
    row = db.execute_sql(_TOTAL, (key_id,)).fetchone()
    return 0 if row is None else int(row[0])


def link_attachments(
    db: peewee.Database, message_number: int, attachment_numbers: Sequence[int]
) -> None:
    """Note that a stored message uses attachments; noting it twice is no fault."""
    for number in attachment_numbers:
        db.execute_sql(_LINK, (message_number, number))


def is_used(db: peewee.Database, attachment_number: int) -> bool:
    """Return whether a stored message uses an attachment."""
    return db.execute_sql(_IS_USED, (attachment_number,)).fetchone() is not None


def may_use(
    db: peewee.Database,
    row: AttachmentRow,
    key_id: str,
    allows_username: Callable[[str], bool],
) -> bool:
    """Return whether a key that is bound to usernames may use an attachment.

    It may when a message of theirs uses it, or when the key uploaded it and
    no message uses it yet.
    """
    creators = [one for (one,) in db.execute_sql(_CREATORS, (row.id,)).fetchall()]
    if not creators:
        return row.key_id == key_id and not is_used(db, row.id)
    return any(allows_username(one) for one in creators)


def list_unused(
    db: peewee.Database, older_than_us: int, limit: int, *, after: int = 0
) -> list[AttachmentRow]:
    """Return attachments that no message uses, in the order of their numbers.

    :param older_than_us: Only those made before this time, in microseconds.
    :param after: Only those with a higher number.
    """
    rows = db.execute_sql(_UNUSED, (older_than_us, after, limit)).fetchall()
    return [AttachmentRow(*row) for row in rows]


def note_stray(db: peewee.Database, blob: str) -> None:
    """Note that a blob has, or may get, bytes and has no row."""
    db.execute_sql(_NOTE_STRAY, (blob, now_us()))


def forget_stray(db: peewee.Database, blob: str) -> None:
    """Note that a blob has a row now, or no bytes any more."""
    db.execute_sql("DELETE FROM stray_blob WHERE blob = ?", (blob,))


def list_strays(db: peewee.Database, older_than_us: int) -> list[str]:
    """Return the blobs that have been without a row since before this time."""
    sql = "SELECT blob FROM stray_blob WHERE since < ? ORDER BY since, blob"
    rows: list[Any] = db.execute_sql(sql, (older_than_us,)).fetchall()
    return [row[0] for row in rows]
