"""Uploads: multipart bodies that are parsed as streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import NamedTuple

from flask import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser
from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_input_stream

from ...errors import ApiError, refuse
from ...files.attachments import Attachments, Readable
from ...files.incoming import PIECE_BYTES, Incoming, Sender
from ...files.names import find_file_name
from ...keys.caller import Caller
from ...runtime.threads import let_others_run
from ..json_body import check_coding
from ..request_body import check_again_if_slow, check_is_passed, reading

#: Maximum size of boundaries, headers and ignored fields together.
_ENVELOPE_BYTES = 1024 * 1024

#: Maximum size of one header of a part. A percent-encoded name of 10,000 characters fits.
_MAX_HEADER_BYTES = 128 * 1024

#: Maximum number of parts of a form: the file and ignored fields.
_MAX_PARTS = 100

_FIELD = "file"


class _Part(NamedTuple):
    """Begin of a part of a form, with its header ``Content-Disposition``."""

    name: str
    disposition: str


@contextmanager
def receive_upload(
    request: Request, attachments: Attachments, caller: Caller, max_file_bytes: int
) -> Iterator[Incoming]:
    """Yield the complete file of a request. Other fields are ignored.

    Nothing is stored before the whole body was received, so an incomplete upload leaves
    nothing behind.

    :raises ApiError: ``missing_field``, ``invalid_request``,
        ``body_too_large`` or ``quota_exceeded``.
    """
    limit = max_file_bytes + _ENVELOPE_BYTES
    events = _iter_events(request, limit)
    if (request.content_length or 0) > limit:
        raise _too_large(max_file_bytes)
    with ExitStack() as stack:
        incoming: Incoming | None = None
        is_file = False
        ignored_bytes = 0
        for event in events:
            if isinstance(event, _Part):
                name = _find_name(event)
                is_file = incoming is None and name is not None
                if is_file:
                    sender = Sender(caller.root_id, caller.rules.username)
                    incoming = stack.enter_context(attachments.begin(name or "", sender))
            elif is_file and event and incoming is not None:
                incoming.write(event)
            elif event:
                ignored_bytes += len(event)
                if ignored_bytes > _ENVELOPE_BYTES:
                    raise refuse(
                        f"the fields other than {_FIELD} have more than {_ENVELOPE_BYTES} bytes"
                    )
        if incoming is None:
            raise _missing_file()
        incoming.finish()
        yield incoming


#: Maximum size of each field besides the chunk, in bytes.
_MAX_FIELD_BYTES = 4096


@contextmanager
def receive_chunk(
    request: Request, begin: Callable[[], Incoming], max_chunk_bytes: int
) -> Iterator[tuple[dict[str, str], Incoming]]:
    """Yield the fields of a request and the file of its field ``chunk``.

    :raises ApiError: ``missing_field``, ``invalid_request`` or ``body_too_large``.
    """
    fields: dict[str, bytes] = {}
    with ExitStack() as stack:
        incoming: Incoming | None = None
        name = ""
        for event in _iter_events(request, max_chunk_bytes + _ENVELOPE_BYTES):
            if isinstance(event, _Part):
                name = event.name
                if name == "chunk" and incoming is None:
                    incoming = stack.enter_context(begin())
            elif event and name == "chunk" and incoming is not None:
                incoming.write(event)
            elif event and name in ("upload_id", "chunk_index"):
                fields[name] = fields.get(name, b"") + event
                if len(fields[name]) > _MAX_FIELD_BYTES:
                    raise refuse(f"{name} is too long")
        for one in ("upload_id", "chunk_index"):
            if not fields.get(one):
                raise ApiError("missing_field", f"Missing key: {one}")
        if incoming is None:
            raise ApiError("missing_field", "Missing key: chunk")
        incoming.finish()
        yield {name: value.decode("utf-8", "replace") for name, value in fields.items()}, incoming


def _iter_events(request: Request, limit: int) -> Iterator[_Part | bytes | bytearray | None]:
    """Yield the begin of each part, its bytes, and None at its end."""
    parser = _open_parser(request)
    if "files" in vars(request):
        yield from _iter_parsed(request, limit)
        return
    read = _open_body(request).read
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


def _iter_parsed(request: Request, limit: int) -> Iterator[_Part | bytes | None]:
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


def _open_parser(request: Request) -> PushMultipartParser:
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


def _open_body(request: Request) -> Readable:
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
