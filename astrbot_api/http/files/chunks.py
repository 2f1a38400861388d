"""``/files/upload/…``: chunked uploads, which survive lost connections and server restarts.

Source: recorded from AstrBot 4.29.3.
"""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Response

from ...errors import refuse
from ...files.incoming import Incoming
from ...files.uploads import CHUNK_BYTES
from ..auth import get_sender
from ..envelope import ok
from ..fields import NOT_BLANK, WholeNumber, request_field
from ..idempotency import CODES, PARAMETER, read_client_key, replay
from ..schemas import RequestSchema, envelope_of, member, multipart_body, number, text
from ..state import get_state
from .routes import UPLOAD_ANSWER, blp
from .schemas import describe_upload
from .upload import receive_chunk

#: The blueprint of ``files/routes.py``, extended with the routes of this module.
__all__ = ["blp"]

_UPLOAD_ID = ("The upload's id, returned by `init`.", "8c30df02-a441-4afd-ba36-651970a9eec2")

_WRONG_SIZE = "total_size must be a whole number of at least 1"
_WRONG_SHA256 = "sha256 must be 64 hexadecimal digits"


class BeginUploadSchema(RequestSchema):
    """The body that begins an upload."""

    filename = request_field(
        ma.fields.String,
        "The file's name.",
        "film.mp4",
        load_default="file",
        allow_none=True,
        error_messages={"invalid": "filename must be a string"},
    )
    total_size = request_field(
        WholeNumber,
        "The file's size, in bytes.",
        104857600,
        required=True,
        validate=ma.validate.Range(1, error=_WRONG_SIZE),
        error_messages={"invalid": _WRONG_SIZE},
    )
    sha256 = ma.fields.String(
        load_default="",
        allow_none=True,
        error_messages={"invalid": _WRONG_SHA256},
        metadata={
            "description": "The file's SHA-256 in hexadecimal, checked on completion.",
            "example": "bb291bdd4020f5b533ec332c2ab868276007893ebfcdaec5643bf21ac1852653",
        },
        validate=ma.validate.Regexp("^([0-9a-fA-F]{64})?$", error=_WRONG_SHA256),
    )


class UploadIdSchema(RequestSchema):
    upload_id = request_field(
        ma.fields.String,
        *_UPLOAD_ID,
        required=True,
        error_messages={"invalid": "upload_id must be a string"},
    )


class BegunUploadSchema(ma.Schema):
    upload_id = text(*_UPLOAD_ID)
    chunk_size = number("Size of each chunk except the last, in bytes.", CHUNK_BYTES)
    total_chunks = number("Number of chunks.", 100)


class ChunkSchema(ma.Schema):
    received = number("Number of chunks received.", 1)
    total = number("Number of chunks.", 100)
    chunk_index = number("The number of this chunk.", 0)


class UploadStatusSchema(ma.Schema):
    received_chunks = ma.fields.List(
        ma.fields.Integer(),
        metadata={"description": "The numbers of the chunks received.", "example": [0, 1]},
    )
    total_chunks = number("Number of chunks.", 100)
    chunk_size = number("Size of each chunk except the last, in bytes.", CHUNK_BYTES)
    expires_in = number("Seconds until the upload expires. Each chunk extends this.", 3599)


class NothingSchema(ma.Schema):
    """No fields."""


_CHUNK_BODY = multipart_body(
    ("upload_id", "chunk_index", "chunk"),
    {
        "upload_id": member("string", *_UPLOAD_ID, pattern=NOT_BLANK),
        "chunk_index": member(
            "string", "The chunk's number, starting at 0.", "0", pattern="^[0-9]{1,9}$"
        ),
        "chunk": {"type": "string", "format": "binary", "description": "The chunk's bytes."},
    },
) | {"description": f"A chunk of at most {CHUNK_BYTES} bytes."}


@blp.post("/files/upload/init", operation_id="beginUpload")
@blp.arguments(BeginUploadSchema())
@blp.answers(envelope_of("BegunUploadAnswer", BegunUploadSchema()))
@blp.raises("missing_field", "quota_exceeded")
def begin_upload(body: dict[str, Any]) -> Response:
    """Begin a chunked upload.

    Send the chunks in any order, optionally in parallel, and then complete the upload. Chunks
    survive lost connections and server restarts. `status` lists the chunks received.
    """
    uploads = get_state().uploads
    # The pattern allows a line break at the end.
    sha256, sender = (body["sha256"] or "").strip(), get_sender()
    row = uploads.begin(body["filename"] or "file", body["total_size"], sha256, sender)
    return ok(
        {
            "upload_id": row.upload_id,
            "chunk_size": CHUNK_BYTES,
            "total_chunks": uploads.count_chunks(row),
        }
    )


@blp.post("/files/upload/chunk", operation_id="uploadChunk")
@blp.doc(requestBody=_CHUNK_BODY)
@blp.answers(envelope_of("ChunkAnswer", ChunkSchema()))
@blp.raises("missing_field", "invalid_request", "body_too_large", "upload_not_found")
def upload_chunk() -> Response:
    """Send one chunk of an upload.

    A chunk that is sent twice replaces the first one. Send a chunk again if its response was lost.
    """
    uploads = get_state().uploads
    with receive_chunk() as (fields, incoming):
        index = fields["chunk_index"].strip()
        if not (index.isascii() and index.isdecimal() and len(index) < 10):
            raise refuse("chunk_index must be a whole number")
        upload_id, sender = fields["upload_id"].strip(), get_sender()
        received = uploads.put_chunk(upload_id, int(index), incoming, sender)
        total = uploads.count_chunks(uploads.get(upload_id, sender))
    return ok({"received": received, "total": total, "chunk_index": int(index)})


@blp.post("/files/upload/status", operation_id="getUploadStatus")
@blp.arguments(UploadIdSchema())
@blp.answers(envelope_of("UploadStatusAnswer", UploadStatusSchema()))
@blp.raises("missing_field", "upload_not_found")
def get_upload_status(body: dict[str, Any]) -> Response:
    """Return the progress of an upload.

    To resume an upload, send the missing chunks.
    """
    status = get_state().uploads.get_status(body["upload_id"], get_sender())
    return ok(
        {
            "received_chunks": status.received,
            "total_chunks": status.total_chunks,
            "chunk_size": CHUNK_BYTES,
            "expires_in": status.expires_in_s,
        }
    )


@blp.post("/files/upload/complete", operation_id="completeUpload")
@blp.arguments(UploadIdSchema())
@blp.doc(parameters=[PARAMETER])
@blp.answers(UPLOAD_ANSWER)
@blp.raises(
    *CODES, "missing_field", "upload_not_found", "upload_incomplete", "checksum_mismatch",
    "quota_exceeded",
)  # fmt: skip
def complete_upload(body: dict[str, Any]) -> Response:
    """Complete an upload and create its attachment.

    All chunks must have been received. Afterwards the upload no longer exists. Send an
    `Idempotency-Key` to be able to repeat the request if its response was lost.
    """
    state = get_state()
    with state.worker.idempotency.claim(read_client_key("upload", body)) as claim:
        if claim is not None and claim.earlier is not None:
            return replay(claim.earlier)
        row = state.uploads.complete(
            body["upload_id"],
            get_sender(),
            lambda one: claim.answer(_describe(one)) if claim is not None else None,
        )
    return ok(describe_upload(row.attachment_id, row.name, row.type))


def _describe(one: Incoming) -> dict[str, Any]:
    return describe_upload(one.attachment_id, one.name, one.kind.type)


@blp.post("/files/upload/abort", operation_id="abortUpload")
@blp.arguments(UploadIdSchema())
@blp.answers(envelope_of("AbortedUploadAnswer", NothingSchema()))
@blp.raises("missing_field")
def abort_upload(body: dict[str, Any]) -> Response:
    """Abort an upload and delete its chunks.

    The request also succeeds if the upload does not exist.
    """
    get_state().uploads.abort(body["upload_id"], get_sender())
    return ok({})
