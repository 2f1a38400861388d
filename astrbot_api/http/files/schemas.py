"""The attachments: what they are asked for with, and what is told of them."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ...config.settings import ATTACHMENT_TYPES
from ...db.attachments import AttachmentRow
from ...runtime.clock import to_iso

_ID = {
    "description": "What the attachment is known by.",
    "example": "19281dd2-996d-4f73-ad81-0bc5992a3074",
}
_NAME = {"description": "What its sender called it, without folders.", "example": "dot.png"}
_TYPE = {
    "description": "What it is, from its bytes; `record` is audio.",
    "enum": list(ATTACHMENT_TYPES),
    "example": "image",
}

#: The body of an upload; there is no schema for it, as it is never in memory.
UPLOAD_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "The file, with its name. Other fields are ignored.",
                    }
                },
            }
        }
    },
}


class UploadSchema(ma.Schema):
    """What was made of an upload."""

    attachment_id = ma.fields.String(metadata=_ID)
    filename = ma.fields.String(metadata=_NAME)
    type = ma.fields.String(metadata=_TYPE)


class AttachmentSchema(UploadSchema):
    """What is known of an attachment."""

    mime_type = ma.fields.String(
        metadata={"description": "Its media type, from its bytes.", "example": "image/png"}
    )
    size_bytes = ma.fields.Integer(metadata={"description": "How large it is.", "example": 70})
    sha256 = ma.fields.String(
        metadata={
            "description": "SHA-256 of its bytes, in hexadecimal.",
            "example": "6b7fa434f92a8b80aab02d9bf1a12e49ffcae424e4013a1c4f68b67e3d2bbcd0",
        }
    )
    created_at = ma.fields.String(
        metadata={
            "description": "When it was stored; ISO 8601, UTC.",
            "format": "date-time",
            "example": "2026-11-23T16:43:50.109293+00:00",
        }
    )


class DeletedSchema(ma.Schema):
    """What was deleted."""

    attachment_id = ma.fields.String(metadata=_ID)


class AttachmentQuerySchema(ma.Schema):
    """The query of a download."""

    class Meta:
        unknown = ma.EXCLUDE

    attachment_id = ma.fields.String(
        required=True,
        error_messages={"required": "Missing key: attachment_id"},
        metadata=_ID,
    )


class DeleteQuerySchema(ma.Schema):
    """The query of a deletion."""

    class Meta:
        unknown = ma.EXCLUDE

    force = ma.fields.Boolean(
        load_default=False,
        error_messages={"invalid": "force must be true or false"},
        metadata={
            "description": "Delete it although a stored message uses it.",
            "example": False,
        },
    )


def describe_upload(attachment_id: str, name: str, type: str) -> dict[str, Any]:
    """Return the answer to an upload."""
    return {"attachment_id": attachment_id, "filename": name, "type": type}


def describe_attachment(row: AttachmentRow) -> dict[str, Any]:
    """Return what is known of an attachment."""
    return {
        **describe_upload(row.attachment_id, row.name, row.type),
        "mime_type": row.mime,
        "size_bytes": row.size_bytes,
        "sha256": row.sha256,
        "created_at": to_iso(row.created_at),
    }
