"""Request and response schemas of attachments."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import marshmallow as ma

from ...db.attachments import AttachmentRow
from ...messages import MEDIA_TYPES
from ...runtime.clock import to_iso
from ..fields import query_flag, request_field, required_text
from ..schemas import (
    ATTACHMENT_ID_EXAMPLE,
    RequestSchema,
    multipart_body,
    number,
    text,
    time,
)  # fmt: skip

#: Description and example of an attachment's id.
ATTACHMENT_ID = ("The attachment's id.", ATTACHMENT_ID_EXAMPLE)

#: The body of an upload. It has no marshmallow schema, because it is parsed as a stream.
UPLOAD_BODY = multipart_body(
    ("file",),
    {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "The file, with its name. Other fields are ignored.",
        }
    },
)


class UploadSchema(ma.Schema):
    attachment_id = text(*ATTACHMENT_ID)
    filename = text("The uploaded file's name, without directories.", "dot.png")
    type = text(
        "The type, detected from the bytes. `record` is audio.",
        "image",
        enum=list(MEDIA_TYPES),
    )
    stored_filename = text("A unique name of the attachment.", f"{ATTACHMENT_ID_EXAMPLE}.png")


class AttachmentSchema(UploadSchema):
    mime_type = text("The media type, detected from the bytes.", "image/png")
    size_bytes = number("The size in bytes.", 70)
    sha256 = text(
        "SHA-256 of the bytes, in hexadecimal.",
        "6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0",
    )
    created_at = time("Time of the upload, ISO 8601, UTC.", "2026-11-23T16:43:50.109293+00:00")


class DeletedSchema(ma.Schema):
    attachment_id = text(*ATTACHMENT_ID)


class AttachmentQuerySchema(RequestSchema):
    attachment_id = required_text(
        *ATTACHMENT_ID, validate=ma.validate.Length(1, error="Missing key: attachment_id")
    )


class StoredNameQuerySchema(RequestSchema):
    filename = required_text(
        "The `stored_filename` from the response to the upload.",
        f"{ATTACHMENT_ID_EXAMPLE}.png",
        validate=ma.validate.Length(1, error="Missing key: filename"),
    )


class DeleteQuerySchema(RequestSchema):
    force = query_flag("Delete the attachment even if a stored message uses it.")


class ThumbnailQuerySchema(RequestSchema):
    size = request_field(
        ma.fields.Integer,
        "The longer side in pixels, rounded up to 64, 128, 256, 512 or 1024.",
        256,
        load_default=256,
        validate=ma.validate.Range(1, 1024, error="size must be from 1 to 1024"),
        error_messages={"invalid": "size must be from 1 to 1024"},
    )


def describe_upload(attachment_id: str, name: str, type: str) -> dict[str, Any]:
    """Return the response to an upload."""
    return {
        "attachment_id": attachment_id, "filename": name, "type": type,
        # Unique, because it contains the attachment's id.
        "stored_filename": f"{attachment_id}{PurePosixPath(name).suffix[:20]}",
    }  # fmt: skip


def find_attachment_id(stored_filename: str) -> str:
    """Return the attachment's id from a stored name of :func:`describe_upload`."""
    return stored_filename.partition(".")[0]


def describe_attachment(row: AttachmentRow) -> dict[str, Any]:
    """Return the metadata of an attachment."""
    return {
        **describe_upload(row.attachment_id, row.name, row.type),
        "mime_type": row.mime,
        "size_bytes": row.size_bytes,
        "sha256": row.sha256,
        "created_at": to_iso(row.created_at),
    }
