"""The tables of attachments and uploads."""

from __future__ import annotations

from peewee import CompositeKey, TextField

from .fields import UNIQUE, RowNumber, Table, Whole, add_index


class Attachment(Table):
    """A file that was uploaded or made by a tool; ``blob`` is the name of its bytes."""

    id = RowNumber()
    attachment_id = TextField(constraints=UNIQUE)
    name = TextField()
    type = TextField()
    mime = TextField()
    charset = TextField(null=True)
    size_bytes = Whole()
    sha256 = TextField()
    blob = TextField()
    key_id = TextField(null=True)
    created_at = Whole()
    #: The user of the session key that uploaded it; only that user sees it before it is sent.
    username = TextField(null=True)


add_index("attachment_sha256", Attachment.sha256)
add_index("attachment_created", Attachment.created_at, Attachment.id)


class MessageAttachment(Table):
    """A link from a stored message to an attachment that it contains."""

    id = RowNumber()
    message = Whole()
    attachment = Whole()


add_index(
    "message_attachment_pair", MessageAttachment.message, MessageAttachment.attachment, unique=True
)
add_index("message_attachment_back", MessageAttachment.attachment, MessageAttachment.message)


class AttachmentTotal(Table):
    """The uploaded and not deleted attachments of a key.

    Only :mod:`astrbot_api.db.attachments` updates it. Every upload checks the
    key's limit against it.
    """

    key_id = TextField(primary_key=True)
    size_bytes = Whole()
    attachments = Whole()


class StrayBlob(Table):
    """A blob without an attachment: it is being saved, or must be deleted."""

    blob = TextField(primary_key=True)
    since = Whole()


class FileUpload(Table):
    """An open upload in chunks; ``sha256`` is the announced hash, or empty.

    One request completes an upload. Another one may do it after ``completing_until``, or
    earlier if the worker ``completing_by`` is dead.
    """

    upload_id = TextField(primary_key=True)
    name = TextField()
    size_bytes = Whole()
    sha256 = TextField()
    key_id = TextField()
    expires_at = Whole()
    completing_until = Whole()
    username = TextField(null=True)
    completing_by = TextField(null=True)


add_index("file_upload_key", FileUpload.key_id)
add_index("file_upload_expires", FileUpload.expires_at)


class FileChunk(Table):
    """A received chunk; ``blob`` is the name of its bytes, which is also a stray blob."""

    id = RowNumber()
    upload_id = TextField()
    number = Whole()
    size_bytes = Whole()
    blob = TextField()


add_index("file_chunk_number", FileChunk.upload_id, FileChunk.number, unique=True)


class FileText(Table):
    """The transcript of a recording, created once for the same bytes.

    ``made_by`` names the endpoint and its model.
    """

    sha256 = TextField()
    made_by = TextField()
    text = TextField()
    created_at = Whole()

    class Meta:
        primary_key = CompositeKey("sha256", "made_by")
