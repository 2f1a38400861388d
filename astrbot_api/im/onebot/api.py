"""Calls of a OneBot 11 implementation over HTTP.

Source: https://github.com/botuniverse/onebot-11/blob/master/communication/http.md
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...deliveries.http import HttpResponse, PlatformError, PlatformHttp
from ..adapter import OutFile

#: Placeholder for the file's bytes in the JSON. It occurs in no text, because JSON
#: escapes control characters.
_FILE_MARK = "\x00file\x00"
_FILE_MARK_JSON = json.dumps(_FILE_MARK)[1:-1].encode()

_MAX_WORDS_CHARS = 300


class OneBotApi:
    """The API of one implementation, which serves one QQ account."""

    def __init__(
        self, http: PlatformHttp, base_url: str, access_token: str, timeout_s: float
    ) -> None:
        self._http = http
        self._base_url = base_url
        self._access_token = access_token
        self._timeout_s = timeout_s

    def call(
        self,
        action: str,
        parameters: Mapping[str, Any],
        file: OutFile | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """Call an action and return its ``data``.

        :param parameters: May contain :func:`file_reference` as the placeholder of the file.
        :raises PlatformError: if the action failed or there was no response.
        """
        body = json.dumps(parameters, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if self._access_token:
            headers["Authorization"] = f"Bearer {self._access_token}"
        pieces: Iterator[bytes] | bytes = body
        if file is not None:
            before, _, after = body.partition(_FILE_MARK_JSON)
            size_bytes = len(before) + len(after) + 4 * -(-file.size_bytes // 3)
            headers["Content-Length"] = str(size_bytes)
            pieces = _iter_body(before, file, after)
        response = self._http.request(
            "POST", f"{self._base_url}/{action}", headers=headers, body=pieces,
            timeout_s=min(timeout_s or self._timeout_s, self._timeout_s),
        )  # fmt: skip
        return self._read(action, response)

    def _read(self, action: str, response: HttpResponse) -> Any:
        status = response.status
        if status in (401, 403):
            raise PlatformError(f"OneBot refused the access token ({status}).")
        if status in (404, 406, 426):
            raise PlatformError(f"OneBot does not know {action} ({status}); check base_url.")
        if status != 200:
            raise response.to_error(f"OneBot answered {status}.")
        body = response.json()
        # "async" means accepted. The result is not reported.
        if isinstance(body, dict) and body.get("status") in ("ok", "async"):
            return body.get("data")
        if not isinstance(body, dict):
            body = {}
        words = str(body.get("wording") or body.get("message") or body.get("msg") or "")
        words = words[:_MAX_WORDS_CHARS]
        if self._access_token:
            words = words.replace(self._access_token, "…")
        # A failure does not say whether QQ has the message. A retry might
        # show it twice.
        raise PlatformError(f"OneBot failed with {body.get('retcode')}: {words}")


def file_reference() -> str:
    """Return the placeholder for a call's file in its parameters."""
    return f"base64://{_FILE_MARK}"


def _iter_body(before: bytes, file: OutFile, after: bytes) -> Iterator[bytes]:
    """Yield JSON that contains a file, without the whole file in memory."""
    yield before
    rest = b""
    for piece in file.iter_bytes():
        piece = rest + piece
        whole = len(piece) // 3 * 3
        rest = piece[whole:]
        yield base64.b64encode(piece[:whole])
    yield base64.b64encode(rest)
    yield after
