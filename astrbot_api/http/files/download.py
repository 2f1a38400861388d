"""Downloads of attachments: headers, ranges, conditional requests and thumbnails."""

from __future__ import annotations

import re
from urllib.parse import quote

from flask import Response, request
from werkzeug.datastructures import Headers
from werkzeug.http import http_date, parse_date

from ...db.attachments import AttachmentRow
from ...errors import ApiError
from ...files.storage.protocol import relative_path
from ..state import get_state

#: Media types that a browser may display inline. Types that can contain scripts are
#: excluded: HTML, SVG and other XML, PDF.
_INLINE_TYPES = frozenset(
    {
        "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp",
        "text/plain",
    }
)  # fmt: skip

#: Media types that pages can embed as image, audio or video elements.
_MEDIA = ("image/", "audio/", "video/")

#: Media types that browsers execute or apply (Source: the MIME Sniffing and HTML standards).
#: They are served as text, so that no upload becomes a script, style or page of this origin.
_ACTIVE_TYPES = re.compile(
    r"(text|application)/((x-)?(java|ecma|live|j)script\S*|css|(x?html|xsl)(\+xml)?|xml|wasm"
    r"|x-shockwave-flash|cache-manifest|manifest\+json)|image/svg\S*|\S+\+xml",
    re.IGNORECASE,
)

#: Request destinations for which an upload is refused (Source: Fetch, 2.2.5).
_REFUSED_DESTINATIONS = frozenset({
    "script", "style", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet",
    "xslt", "object", "embed", "manifest", "json",
})  # fmt: skip

#: The bytes of an attachment never change, but it can be deleted and its key revoked.
_CACHE_CONTROL = "private, max-age=3600, immutable"


def send_attachment(row: AttachmentRow) -> Response:
    """Return an attachment according to the headers of the request.

    :raises ApiError: ``range_not_satisfiable``, or ``use_refused`` if a browser would
        execute the file.
    :raises StorageError: if the bytes cannot be read.
    """
    if request.headers.get("Sec-Fetch-Dest", "") in _REFUSED_DESTINATIONS:
        raise ApiError("use_refused", "a page cannot load an uploaded file this way: download it")
    headers = _common_headers(row)
    if _is_unmodified(row):
        return Response(status=304, headers=headers)
    headers["Content-Type"] = _content_type(row)
    state = get_state()
    if accel_prefix := state.settings.accel_redirect_prefix:  # nginx sends the bytes
        headers["X-Accel-Redirect"] = f"{accel_prefix.rstrip('/')}/{relative_path(row.blob)}"
        return Response(headers=headers)
    if request.method == "HEAD":
        headers["Content-Length"] = str(row.size_bytes)
        return Response(headers=headers)
    part = _find_range(row)
    start, stop = part or (0, row.size_bytes)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{row.size_bytes}"
    headers["Content-Length"] = str(stop - start)
    chunks = state.files.open_chunks(row, start, stop)
    return Response(chunks, 206 if part else 200, headers)


def send_thumbnail(row: AttachmentRow, side_px: int) -> Response:
    """Return a thumbnail, or a 304 without creating it if the caller already has it.

    :raises ApiError: ``unsupported_media_type``.
    """
    headers = _common_headers(row)
    headers["Content-Disposition"] = "inline"
    tag = f"{row.sha256}-{side_px}"
    headers["ETag"] = f'"{tag}"'
    del headers["Accept-Ranges"]
    if request.if_none_match.contains_weak(tag):
        return Response(status=304, headers=headers)
    mime, data = get_state().thumbnails.get(row, side_px)
    headers["Content-Type"] = mime
    return Response(data, headers=headers)


def _common_headers(row: AttachmentRow) -> Headers:
    return Headers(
        {
            "ETag": f'"{row.sha256}"',
            "Last-Modified": http_date(row.created_at // 1_000_000),
            "Cache-Control": _CACHE_CONTROL,
            "Accept-Ranges": "bytes",
            "Content-Disposition": _describe_disposition(row),
            "X-Content-Type-Options": "nosniff",
            # Scripts in the file run without this origin, if at all.
            "Content-Security-Policy": "sandbox",
            # With a key, pages of other origins may embed media and nothing else.
            "Cross-Origin-Resource-Policy": (
                "cross-origin" if _is_media(row.mime) else "same-origin"
            ),
        }
    )


def _is_media(mime: str) -> bool:
    return mime.startswith(_MEDIA) and not _ACTIVE_TYPES.fullmatch(mime)


def _content_type(row: AttachmentRow) -> str:
    if not _ACTIVE_TYPES.fullmatch(row.mime):
        return f"{row.mime}; charset={row.charset}" if row.charset else row.mime
    return f"text/plain; charset={row.charset}" if row.charset else "application/octet-stream"


def _describe_disposition(row: AttachmentRow) -> str:
    """Return ``Content-Disposition`` with the name in ASCII and, if needed, in UTF-8.

    Source: RFC 6266, 4.3 and appendix D; RFC 8187, 3.2.
    """
    shown = row.mime in _INLINE_TYPES or row.mime.startswith(("audio/", "video/"))
    how = "inline" if shown else "attachment"
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in row.name)
    if plain == row.name:
        return f'{how}; filename="{plain}"'
    encoded = quote(row.name, safe="!#$&+-.^_`|~")
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _is_unmodified(row: AttachmentRow) -> bool:
    """Return whether the caller's copy is current (Source: RFC 9110, 13.2.2)."""
    if "If-None-Match" in request.headers:
        known = request.if_none_match
        return known.star_tag or known.contains_weak(row.sha256)
    since = request.if_modified_since
    return since is not None and since.timestamp() >= row.created_at // 1_000_000


def _find_range(row: AttachmentRow) -> tuple[int, int] | None:
    """Return the requested range as (start, stop), or None for the whole file.

    Several ranges, other units and malformed headers also result in the whole file, as
    RFC 9110 (14.2) allows.

    :raises ApiError: ``range_not_satisfiable``.
    """
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    if not _matches_if_range(request.headers.get("If-Range"), row):
        return None
    start, stop = asked.ranges[0]
    if start < 0:  # a suffix range, counted from the end
        start = max(0, row.size_bytes + start)
    stop = row.size_bytes if stop is None else min(stop, row.size_bytes)
    if start >= stop:
        raise ApiError(
            "range_not_satisfiable",
            f"the attachment has {row.size_bytes} bytes; the range is outside of them",
            headers={"Content-Range": f"bytes */{row.size_bytes}"},
        )
    return start, stop


def _matches_if_range(condition: str | None, row: AttachmentRow) -> bool:
    """Evaluate ``If-Range``: a strong ETag or the exact date (RFC 9110, 13.1.5)."""
    if condition is None:
        return True
    if '"' in condition:
        return condition.strip() == f'"{row.sha256}"'
    date = parse_date(condition)
    return date is not None and date.timestamp() == row.created_at // 1_000_000
