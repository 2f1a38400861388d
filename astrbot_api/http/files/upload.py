"""Uploads: multipart bodies that are parsed as streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import NamedTuple

from flask import request
from multipart import MultipartError, MultipartSegment, PushMultipartParser
from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_input_stream

from ...errors import ApiError, refuse
from ...files.attachments import Readable
from ...files.incoming import PIECE_BYTES, Incoming
from ...files.names import find_file_name
from ...files.uploads import CHUNK_BYTES
from ...runtime.threads import let_others_run
from ..auth import get_sender
from ..json_body import check_coding
from ..request_body import check_again_if_slow, check_is_passed, reading
from ..state import get_state

#: Maximum size of boundaries, headers and ignored fields together.
_ENVELOPE_BYTES = 1024 * 1024

#: Maximum size of one header of a part. A percent-encoded name of 10,000 characters fits.
_MAX_HEADER_BYTES = 128 * 1024

#: Maximum number of parts of a form: the file and ignored fields.
_MAX_PARTS = 100

#: Maximum size of each field besides the file, in bytes.
_MAX_FIELD_BYTES = 4096

_FIELD = "file"


class _Part(NamedTuple):
    """Begin of a part of a form, with its header ``Content-Disposition``."""

    name: str
    disposition: str


@contextmanager
def receive_upload() -> Iterator[Incoming]:
    """Yield the complete file of this request. Other fields are ignored.

    Nothing is stored before the whole body was received, so an incomplete upload leaves
    nothing behind.

    :raises ApiError: ``missing_field``, ``invalid_request``,
        ``body_too_large`` or ``quota_exceeded``.
    """
    state = get_state()

    def begin(part: _Part) -> Incoming | None:
        name = _find_name(part)
        return None if name is None else state.files.begin(name, get_sender())

    with _receive(begin, state.settings.max_file_bytes) as (incoming, _):
        if incoming is None:
            raise _missing_file()
        incoming.finish()
        yield incoming


@contextmanager
def receive_chunk() -> Iterator[tuple[dict[str, str], Incoming]]:
    """Yield the fields of this request and the file of its field ``chunk``.

    :raises ApiError: ``missing_field``, ``invalid_request`` or ``body_too_large``.
    """
    uploads, names = get_state().uploads, ("upload_id", "chunk_index")

    def begin(part: _Part) -> Incoming | None:
        return uploads.begin_chunk() if part.name == "chunk" else None

    with _receive(begin, CHUNK_BYTES, names) as (incoming, fields):
        for name in names:
            if not fields.get(name):
                raise ApiError("missing_field", f"Missing key: {name}")
        if incoming is None:
            raise ApiError("missing_field", "Missing key: chunk")
        incoming.finish()
        yield {name: value.decode("utf-8", "replace") for name, value in fields.items()}, incoming


@contextmanager
def _receive(
    begin: Callable[[_Part], Incoming | None], max_bytes: int, names: Collection[str] = ()
) -> Iterator[tuple[Incoming | None, dict[str, bytes]]]:
    """Yield the file of this request's form, if it has one, and some of its fields.

    :param begin: Opens the file of a part, or returns None if the part is not the file.
    :param max_bytes: Maximum size of the file.
    :param names: Names of the fields to return. Others are ignored.
    """
    limit = max_bytes + _ENVELOPE_BYTES
    if (request.content_length or 0) > limit:
        raise _too_large(max_bytes)
    fields: dict[str, bytes] = {}
    name, is_file, ignored_bytes = "", False, 0
    with ExitStack() as stack:
        incoming: Incoming | None = None
        for event in _iter_events(limit):
            if isinstance(event, _Part):
                name, opened = event.name, None if incoming is not None else begin(event)
                is_file = opened is not None
                if opened is not None:
                    incoming = stack.enter_context(opened)
            elif not event:
                continue
            elif is_file and incoming is not None:
                incoming.write(event)
            elif name in names:
                fields[name] = fields.get(name, b"") + event
                if len(fields[name]) > _MAX_FIELD_BYTES:
                    raise refuse(f"{name} is too long")
            else:
                ignored_bytes += len(event)
                if ignored_bytes > _ENVELOPE_BYTES:
                    raise refuse(f"the ignored fields have more than {_ENVELOPE_BYTES} bytes")
        yield incoming, fields


def _iter_events(limit: int) -> Iterator[_Part | bytes | bytearray | None]:
    """Yield the begin of each part, its bytes, and None at its end."""
    parser = _open_parser()
    if "files" in vars(request):
        yield from _iter_parsed(limit)
        return
    read = _open_body().read
    total_bytes, parts, began = 0, 0, time.monotonic()
    while True:
        with reading(request, PIECE_BYTES):
            chunk = read(PIECE_BYTES)
        total_bytes += len(chunk)
        if total_bytes > limit:
            raise _too_large(limit - _ENVELOPE_BYTES)
        try:
            for event in parser.parse(chunk):
                if not isinstance(event, MultipartSegment):
                    yield event
                    continue
                parts += 1
                if parts > _MAX_PARTS:
                    raise refuse(f"the form has more than {_MAX_PARTS} parts")
                yield _Part(event.name or "", event.header("Content-Disposition", ""))
        except MultipartError as error:
            message = f"the multipart body is malformed: {error}"
            raise refuse(message) from error
        if not chunk:
            return check_again_if_slow(request, began)
        # With a fast client, reads never block, so they would never yield to the hub.
        let_others_run()


def _iter_parsed(limit: int) -> Iterator[_Part | bytes | None]:
    """Yield the events of a form that a hook of the embedding application has parsed."""
    total_bytes = 0
    for name, value in request.form.items(multi=True):
        yield _Part(name, "")
        yield value.encode("utf-8", "replace")
        yield None
    for name, file in request.files.items(multi=True):
        disposition = file.headers.get("Content-Disposition", "")
        yield _Part(name, disposition.encode("utf-8", "replace").decode("latin-1"))
        while piece := file.stream.read(PIECE_BYTES):
            total_bytes += len(piece)
            if total_bytes > limit:
                raise _too_large(limit - _ENVELOPE_BYTES)
            yield piece
            let_others_run()
        yield None


def _open_parser() -> PushMultipartParser:
    check_coding(request)
    content_type, options = parse_options_header(request.headers.get("Content-Type"))
    boundary = options.get("boundary", "")
    if content_type.lower() != "multipart/form-data" or not boundary:
        raise _missing_file()
    try:
        return PushMultipartParser(
            boundary,
            max_header_size=_MAX_HEADER_BYTES,
            max_header_count=16,
            # Keeps each byte as one character. _find_name detects the encoding of the name.
            header_charset="latin-1",
        )
    except (MultipartError, UnicodeError) as error:
        raise refuse(f"the multipart boundary is wrong: {error}") from error


def _open_body() -> Readable:
    """Return the raw body stream if the server ends it itself, else Werkzeug's wrapper."""
    environ = request.environ
    if "_cached_data" in vars(request):  # a hook of the embedding application called get_data()
        return BytesIO(request.get_data())
    check_is_passed(environ)
    if not environ.get("wsgi.input_terminated"):
        return get_input_stream(environ)
    body: Readable = environ["wsgi.input"]
    # gunicorn receives up to 1 MiB at once and copies the unread rest on each read (Source:
    # measured; uploads are 1.5 times as fast without a rest).
    unreader = getattr(getattr(body, "reader", None), "unreader", None)
    if unreader is not None and hasattr(unreader, "max_body_chunk"):
        unreader.max_body_chunk = PIECE_BYTES
    return body


def _find_name(part: _Part) -> str | None:
    """Return the file name of a part, or None if it is not the file.

    A part without a file name is a field.
    """
    if part.name != _FIELD:
        return None
    return find_file_name(part.disposition.encode("latin-1"))


def _missing_file() -> ApiError:
    return ApiError("missing_field", f"Missing key: {_FIELD}")


def _too_large(max_file_bytes: int) -> ApiError:
    return ApiError(
        "body_too_large",
        f"the upload is larger than the limit of {max_file_bytes} bytes (ASTRBOT_MAX_FILE_BYTES)",
    )
