"""The second origin for attachments, which isolates opened files from our pages.

With ``ASTRBOT_FILES_ORIGIN``, a browser that opens an attachment is redirected to that
origin by a signed link, which needs no key. That origin serves nothing else: no page, no
API and no login.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, request, url_for
from itsdangerous import BadSignature, TimestampSigner

from ...config.settings import Settings
from ...db.attachments import AttachmentRow
from ...errors import ApiError
from ...owner.login import load_secret
from ..state import get_state
from .download import send_attachment

#: Request destinations of files that a browser opens as a page or in a frame.
_OPENED = frozenset({"document", "iframe", "frame"})

#: Lifetime of a link, in seconds. Browsers fetch a video in several requests.
_LINK_S = 600

_FILES_ORIGIN = "astrbot_files_origin"

_PATH = "/files/opened/"

_ENDPOINT = "open_attachment"


class OnlyLinks:
    """WSGI middleware that serves nothing but signed links on the files origin.

    :param base: Path prefix of the API.
    """

    def __init__(
        self, wsgi_app: Callable[..., Iterable[bytes]], settings: Settings, base: str
    ) -> None:
        self._wsgi_app = wsgi_app
        origin = urlsplit(settings.files_origin)
        # Browsers leave the default port out of the header, settings may name it.
        self._default_port = ":443" if origin.scheme.lower() == "https" else ":80"
        self._host = self._without_port(origin.netloc)
        self._path = base + _PATH

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self._without_port(environ.get("HTTP_HOST", "")) != self._host:
            return self._wsgi_app(environ, start_response)
        if environ.get("PATH_INFO", "").startswith(self._path):
            return self._wsgi_app(environ, start_response)
        refusal = Response("There is nothing here.\n", 404, mimetype="text/plain")
        return refusal(environ, start_response)

    def _without_port(self, host: str) -> str:
        return host.lower().removesuffix(self._default_port)


def build_files_origin() -> Blueprint:
    """Return the blueprint of the files origin, which is undocumented: only we link to it."""
    blueprint = Blueprint(_FILES_ORIGIN, __name__)

    @blueprint.get(f"{_PATH}<attachment_id>", endpoint=_ENDPOINT)
    def open_attachment(attachment_id: str) -> Response:
        state, signature = get_state(), request.args.get("signature", "")
        signed = f"{attachment_id}.{signature}".encode("utf-8", "replace")
        try:
            _, at = _make_signer(state.settings).unsign(signed, return_timestamp=True)
            # Not by max_age, which refuses a link of a host whose clock is ahead.
            expired = at.timestamp() + _LINK_S < time.time()
        except BadSignature:
            expired = True
        if expired:
            raise ApiError("attachment_not_found", "this link has expired; open the file again")
        answer = send_attachment(state.files.get(attachment_id))
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer

    return blueprint


def open_or_send(row: AttachmentRow) -> Response:
    """Return the bytes of an attachment, or a redirect to the origin of files."""
    settings = get_state().settings
    if not settings.files_origin or request.headers.get("Sec-Fetch-Dest", "") not in _OPENED:
        return send_attachment(row)
    path = url_for(f"{_FILES_ORIGIN}.{_ENDPOINT}", attachment_id=row.attachment_id)
    signed = _make_signer(settings).sign(row.attachment_id).decode()
    signature = signed.removeprefix(f"{row.attachment_id}.")
    link = f"{settings.files_origin}{path}?signature={signature}"
    headers = {"Location": link, "Referrer-Policy": "no-referrer"}
    return Response(status=302, headers=headers)


def _make_signer(settings: Settings) -> TimestampSigner:
    return TimestampSigner(load_secret(settings), salt="astrbot-api link to a file")
