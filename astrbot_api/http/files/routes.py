"""``/file`` and ``/files``: upload, download, metadata and deletion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import peewee
from flask import Response, request

from ...db.attachments import AttachmentRow
from ...errors import ApiError
from ...files.thumbnails import choose_side
from ...keys.files import may_delete, may_use
from ...keys.rules import KeyGuard
from ..auth import get_caller
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..fields import NOT_BLANK
from ..idempotency import CODES, PARAMETER, add_hash, read_client_key, replay
from ..schemas import (
    ATTACHMENT_ID_EXAMPLE,
    envelope_of,
    header_parameter,
    path_parameter,
    plain_response,
)
from ..state import get_state
from .download import send_thumbnail
from .origin import open_or_send
from .schemas import (
    ATTACHMENT_ID,
    UPLOAD_BODY,
    AttachmentQuerySchema,
    AttachmentSchema,
    DeletedSchema,
    DeleteQuerySchema,
    StoredNameQuerySchema,
    ThumbnailQuerySchema,
    UploadSchema,
    describe_attachment,
    describe_upload,
    find_attachment_id,
)
from .upload import receive_upload

blp = ApiBlueprint(
    "files", __name__, tag="Files", scope="file",
    description="Upload and download attachments of messages.",
    path={"attachment_id": ATTACHMENT_ID},
)  # fmt: skip

_UPLOAD_CODES = (
    *CODES,
    "missing_field",
    "invalid_request",
    "body_too_large",
    "quota_exceeded",
    "unsupported_media_type",
)

UPLOAD_ANSWER = envelope_of("UploadAnswer", UploadSchema())

_BINARY = {"schema": {"type": "string", "format": "binary"}}

#: Any media type. Client generators use the first entry.
_BYTES = {"content": {"application/octet-stream": _BINARY, "*/*": _BINARY}}

_NOT_MODIFIED = {304: {"description": "Your copy is current."}}

_THUMBNAIL = {
    **plain_response(
        "The thumbnail.", "application/octet-stream", "image/png", "image/jpeg",
        schema=_BINARY["schema"],
    ),
    **_NOT_MODIFIED,
}  # fmt: skip

_IN_QUERY = {
    **path_parameter("attachment_id", *ATTACHMENT_ID),
    "in": "query",
    "required": True,
    "schema": {"type": "string", "pattern": NOT_BLANK},
}

_STORED_NAME = {
    "name": "filename",
    "description": "The `stored_filename` from the response to the upload.",
    "example": f"{ATTACHMENT_ID_EXAMPLE}.png",
}

_DOWNLOAD = {
    "parameters": [
        header_parameter("Range", "One range of bytes. Several ranges return the whole file."),
        header_parameter(
            "If-None-Match",
            "The `ETag` of your copy. If the copy is current, the response is a 304.",
        ),
    ],
    "responses": {
        200: {"description": "The bytes of the file, with its media type.", **_BYTES},
        206: {"description": "The requested range.", **_BYTES},
        **_NOT_MODIFIED,
    },
}


@blp.post("/file", operation_id="uploadOpenApiFile")
@blp.doc(parameters=[PARAMETER], requestBody=UPLOAD_BODY)
@blp.answers(UPLOAD_ANSWER)
@blp.raises(*_UPLOAD_CODES)
def upload_file() -> Response:
    """Upload a file.

    The body is `multipart/form-data` with the file in the field `file`. To send the file, use
    the returned `attachment_id` in a segment of a message. `type` is detected from the file's
    bytes, not from its name.
    """
    state, answer = get_state(), None
    idempotency = state.worker.idempotency
    with idempotency.claim(read_client_key("file")) as claim, receive_upload() as incoming:
        data = describe_upload(incoming.attachment_id, incoming.name, incoming.kind.type)
        if claim is not None:
            content = f"{incoming.sha256} {incoming.name}".encode()
            claim = replace(claim, key=add_hash(claim.key, content))
            if claim.earlier is not None:
                idempotency.check(claim.key)
                return replay(claim.earlier)
            answer = claim.answer(data)
        state.files.finish(incoming, answer)
    return ok(data)


@blp.post("/files", operation_id="uploadFile")
@blp.doc(parameters=[PARAMETER], requestBody=UPLOAD_BODY)
@blp.answers(UPLOAD_ANSWER)
@blp.raises(*_UPLOAD_CODES)
def upload_to_files() -> Response:
    """Upload a file; the same as POST /file.

    The body is `multipart/form-data` with the file in the field `file`.
    """
    answer: Response = upload_file()
    return answer


@blp.get("/file", operation_id="downloadOpenApiFile")
@blp.arguments(AttachmentQuerySchema(), location="query")
@blp.doc(
    responses=_DOWNLOAD["responses"],
    # These replace the parameters that are generated from the query schema.
    parameters=[_IN_QUERY, *_DOWNLOAD["parameters"]],
)
@blp.raises("missing_field", "attachment_not_found", "use_refused", "range_not_satisfiable")
def download_file(query: dict[str, Any]) -> Response:
    """Download an attachment.

    Any key with the scope `file` may download any attachment, unless the key is bound to
    usernames or a session. `Range`, `If-Range`, `If-None-Match` and `HEAD` are supported.
    Browsers may display images, audio, video and plain text; they save all other files.
    """
    return _send(query["attachment_id"])


@blp.get("/files/content", operation_id="downloadStoredFile")
@blp.arguments(StoredNameQuerySchema(), location="query")
@blp.doc(
    responses=_DOWNLOAD["responses"],
    parameters=[{**_IN_QUERY, **_STORED_NAME}, *_DOWNLOAD["parameters"]],
)
@blp.raises("missing_field", "attachment_not_found", "use_refused", "range_not_satisfiable")
def download_stored_file(query: dict[str, Any]) -> Response:
    """Download an attachment by its stored name.

    The stored name is the `stored_filename` from the response to the upload.
    """
    return _send(find_attachment_id(query["filename"]))


@blp.get("/files/<attachment_id>/content", operation_id="downloadAttachment")
@blp.doc(**_DOWNLOAD)
@blp.raises("attachment_not_found", "use_refused", "range_not_satisfiable")
def download_attachment(attachment_id: str) -> Response:
    """Download an attachment by the id in the path.

    Otherwise the same as GET /file.
    """
    return _send(attachment_id)


@blp.get("/files/<attachment_id>/thumbnail", operation_id="getThumbnail")
@blp.arguments(ThumbnailQuerySchema(), location="query")
@blp.doc(responses=_THUMBNAIL)
@blp.raises("attachment_not_found", "server_busy")
def get_thumbnail(query: dict[str, Any], attachment_id: str) -> Response:
    """Return a thumbnail of an attachment.

    The thumbnail shows an image, the first page of a PDF or the beginning of a video. It is a
    PNG or JPEG, upright and without metadata. For other attachments the response is a 404.
    """
    return send_thumbnail(_get_row(attachment_id), choose_side(query["size"]))


@blp.get("/files/<attachment_id>", operation_id="getAttachment")
@blp.doc(responses={200: _BYTES})
@blp.answers(envelope_of("AttachmentAnswer", AttachmentSchema()))
@blp.raises("attachment_not_found")
def get_attachment(attachment_id: str) -> Response:
    """Download an attachment, or get its metadata if JSON is preferred.

    With `Accept: application/json` the response has the name, type, size, SHA-256 and time.
    """
    if request.accept_mimetypes.best != "application/json":
        return _send(attachment_id)
    return ok(describe_attachment(_get_row(attachment_id)))


@blp.delete("/files/<attachment_id>", operation_id="deleteAttachment")
@blp.arguments(DeleteQuerySchema(), location="query")
@blp.answers(envelope_of("DeletedAnswer", DeletedSchema()))
@blp.raises("attachment_not_found", "attachment_in_use")
def delete_attachment(query: dict[str, Any], attachment_id: str) -> Response:
    """Delete an attachment.

    If a stored message uses the attachment, the response is a 409 unless `force` is true.
    Other attachments with the same bytes are kept. A key that is bound to usernames or a session
    cannot delete an attachment that messages of others use.
    """
    row = _get_row(attachment_id)
    if not _is_allowed(may_delete, row):
        raise ApiError(
            "attachment_in_use",
            "a message of another user or session also uses this attachment, so this key may not "
            "delete it",
        )
    if not get_state().files.delete(row, even_if_used=query["force"]):
        raise ApiError(
            "attachment_in_use",
            "a stored message uses this attachment; add ?force=true to delete it anyway",
        )
    return ok({"attachment_id": row.attachment_id})


def _send(attachment_id: str) -> Response:
    return open_or_send(_get_row(attachment_id))


def _get_row(attachment_id: str) -> AttachmentRow:
    row = get_state().files.get(attachment_id)
    if not _is_allowed(may_use, row):
        raise ApiError("attachment_not_found", "Attachment not found")
    return row


def _is_allowed(
    check: Callable[[peewee.Database, KeyGuard, AttachmentRow], bool], row: AttachmentRow
) -> bool:
    guard = get_caller().guard
    if guard is None:
        return True
    with get_state().db.read() as db:
        return check(db, guard, row)
