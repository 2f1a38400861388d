"""``/files/upload/…``: uploads in chunks, which survive a lost connection and a restart.

Source: recorded from AstrBot 4.29.3.
"""

from __future__ import annotations

import re
from typing import Any

import marshmallow as ma
from flask import Response, request

from ...errors import refuse
from ...files.incoming import Incoming
from ...files.uploads import CHUNK_BYTES, Sender
from ..auth import get_caller
from ..envelope import ok
from ..fields import NOT_BLANK, Whole, asked, missing
from ..idempotency import CODES, PARAMETER, read_client_key, replay
from ..schemas import RequestSchema, envelope_of, member, multipart_with, number, text
from ..state import get_state
from .routes import UPLOAD_ANSWER, blp
from .schemas import describe_upload
from .upload import receive_chunk

#: The blueprint of the files, with these routes too.
__all__ = ["blp"]

_UPLOAD_ID = ("The upload, from its beginning.", "8c30df02-a441-4afd-ba36-651970a9eec2")

_WRONG_SIZE = "total_size must be a whole number of at least 1"
_WRONG_SHA256 = "sha256 must be 64 hexadecimal digits"
_SHA256 = re.compile("[0-9a-fA-F]{64}")


class BeginUploadSchema(RequestSchema):
    """The beginning of an upload."""

    filename = asked(
        ma.fields.String,
        "What the file is called.",
        "film.mp4",
        load_default="file",
        allow_none=True,
        error_messages={"invalid": "filename must be a string"},
    )
    total_size = asked(
        Whole,
        "Its size, in bytes.",
        104857600,
        required=True,
        validate=ma.validate.Range(1, error=_WRONG_SIZE),
        error_messages=missing("total_size") | {"invalid": _WRONG_SIZE},
    )
    sha256 = ma.fields.String(
        load_default="",
        allow_none=True,
        error_messages={"invalid": _WRONG_SHA256},
        metadata={
            "description": "Its SHA-256 in hexadecimal; compared when the upload is complete.",
            "example": "bb291bdd4020f5b533ec332c2ab868276007893ebfcdaec5643bf21ac1852653",
            "pattern": "^([0-9a-fA-F]{64})?$",
        },
    )


class UploadIdSchema(RequestSchema):
    """An upload that has begun."""

    upload_id = asked(
        ma.fields.String,
        *_UPLOAD_ID,
        required=True,
        error_messages=missing("upload_id") | {"invalid": "upload_id must be a string"},
    )


class BegunUploadSchema(ma.Schema):
    """How an upload is to be sent."""

    upload_id = text(*_UPLOAD_ID)
    chunk_size = number("Bytes of every chunk but the last.", CHUNK_BYTES)
    total_chunks = number("How many chunks there are.", 100)


class ChunkSchema(ma.Schema):
    """What was made of a chunk."""

    received = number("How many chunks are here.", 1)
    total = number("How many there are in all.", 100)
    chunk_index = number("The chunk that came.", 0)


class UploadStatusSchema(ma.Schema):
    """What is here of an upload."""

    received_chunks = ma.fields.List(
        ma.fields.Integer(),
        metadata={"description": "The chunks that are here.", "example": [0, 1]},
    )
    total_chunks = number("How many there are in all.", 100)
    chunk_size = number("Bytes of every chunk but the last.", CHUNK_BYTES)
    expires_in = number("How long the next chunk may take, in seconds.", 3599)


class NothingSchema(ma.Schema):
    """No fields."""


_CHUNK_BODY = multipart_with(
    ("upload_id", "chunk_index", "chunk"),
    {
        "upload_id": member("string", *_UPLOAD_ID, pattern=NOT_BLANK),
        "chunk_index": member("string", "Its number, from 0.", "0", pattern="^[0-9]{1,9}$"),
        "chunk": {"type": "string", "format": "binary", "description": "Its bytes."},
    },
)


@blp.route("/files/upload/init", methods=["POST"])
@blp.arguments(BeginUploadSchema())
@blp.doc(operationId="beginUpload")
@blp.answers(envelope_of("BegunUploadAnswer", BegunUploadSchema()))
@blp.raises("missing_field", "invalid_request", "body_too_large", "quota_exceeded")
def begin_upload(body: dict[str, Any]) -> Response:
    """Begin an upload in chunks.

    Send the chunks in any order, several at once if you like, then complete the upload. What
    was sent is kept over lost connections and restarts of the server; `status` names it.
    """
    uploads = get_state().uploads
    sha256 = body["sha256"] or ""
    if sha256 and not _SHA256.fullmatch(sha256):
        raise refuse(_WRONG_SHA256)
    row = uploads.begin(body["filename"] or "file", body["total_size"], sha256, _get_sender())
    return ok(
        {
            "upload_id": row.upload_id,
            "chunk_size": CHUNK_BYTES,
            "total_chunks": uploads.count_chunks(row),
        }
    )


@blp.route("/files/upload/chunk", methods=["POST"])
@blp.doc(operationId="uploadChunk", requestBody=_CHUNK_BODY)
@blp.answers(envelope_of("ChunkAnswer", ChunkSchema()))
@blp.raises("missing_field", "invalid_request", "body_too_large", "upload_not_found")
def upload_chunk() -> Response:
    """Send one chunk of an upload.

    A chunk that was sent before is replaced, so one whose answer was lost is sent again.
    """
    uploads = get_state().uploads
    with receive_chunk(request, uploads.begin_chunk, CHUNK_BYTES) as (fields, incoming):
        index = fields["chunk_index"].strip()
        if not (index.isascii() and index.isdecimal() and len(index) < 10):
            raise refuse("chunk_index must be a whole number")
        upload_id, sender = fields["upload_id"].strip(), _get_sender()
        received = uploads.put_chunk(upload_id, int(index), incoming, sender)
        total = uploads.count_chunks(uploads.get(upload_id, sender))
    return ok({"received": received, "total": total, "chunk_index": int(index)})


@blp.route("/files/upload/status", methods=["POST"])
@blp.arguments(UploadIdSchema())
@blp.doc(operationId="getUploadStatus")
@blp.answers(envelope_of("UploadStatusAnswer", UploadStatusSchema()))
@blp.raises("missing_field", "invalid_request", "upload_not_found")
def get_upload_status(body: dict[str, Any]) -> Response:
    """Return which chunks of an upload are here.

    To resume an upload, send the chunks that are not.
    """
    status = get_state().uploads.get_status(body["upload_id"], _get_sender())
    return ok(
        {
            "received_chunks": status.received,
            "total_chunks": status.total_chunks,
            "chunk_size": CHUNK_BYTES,
            "expires_in": status.expires_in_s,
        }
    )


@blp.route("/files/upload/complete", methods=["POST"])
@blp.arguments(UploadIdSchema())
@blp.doc(operationId="completeUpload", parameters=[PARAMETER])
@blp.answers(UPLOAD_ANSWER)
@blp.raises(
    *CODES, "missing_field", "invalid_request", "upload_not_found", "upload_incomplete",
    "checksum_mismatch", "quota_exceeded", "unsupported_media_type",
)  # fmt: skip
def complete_upload(body: dict[str, Any]) -> Response:
    """Make an attachment of an upload whose chunks are all here.

    Afterwards the upload is gone. With an `Idempotency-Key`, a request whose answer was lost is
    sent again.
    """
    state = get_state()
    with state.worker.idempotency.claim(read_client_key("upload", body)) as claim:
        if claim is not None and claim.earlier is not None:
            return replay(claim.earlier)
        row = state.uploads.complete(
            body["upload_id"],
            _get_sender(),
            lambda one: claim.answer(_describe(one)) if claim is not None else None,
        )
    return ok(describe_upload(row.attachment_id, row.name, row.type))


def _describe(one: Incoming) -> dict[str, Any]:
    return describe_upload(one.attachment_id, one.name, one.kind.type)


@blp.route("/files/upload/abort", methods=["POST"])
@blp.arguments(UploadIdSchema())
@blp.doc(operationId="abortUpload")
@blp.answers(envelope_of("AbortedUploadAnswer", NothingSchema()))
@blp.raises("missing_field", "invalid_request")
def abort_upload(body: dict[str, Any]) -> Response:
    """Drop an upload and its chunks.

    One that is not there is no fault.
    """
    get_state().uploads.abort(body["upload_id"], _get_sender())
    return ok({})


def _get_sender() -> Sender:
    caller = get_caller()
    return Sender(caller.root_id, caller.rules.username)
