"""Calls of Slack's Web API. Source: https://docs.slack.dev/apis/web-api"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from ...deliveries.http import HttpResponse, PlatformError, PlatformHttp, PlatformReader
from ..adapter import OutFile

#: Temporary errors. Source: the error tables of each method.
_TEMPORARY = frozenset(
    {
        "fatal_error", "internal_error", "rate_limited", "ratelimited", "request_timeout",
        "service_unavailable",
    }
)  # fmt: skip

_BAD_TOKEN = frozenset(
    {"account_inactive", "invalid_auth", "not_authed", "token_expired", "token_revoked"}
)

_MAX_WORDS_CHARS = 200


class SlackApi:
    """The Web API with one bot's token."""

    def __init__(self, http: PlatformHttp, base_url: str, token: str, timeout_s: float) -> None:
        self._http = http
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._timeout_s = timeout_s

    def call(
        self, method: str, arguments: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Call a method and return its response.

        :param arguments: Values that are not strings are sent as JSON in a form, which every
            method accepts.
        :raises PlatformError: if Slack refused or did not respond.
        """
        form = {
            key: value if isinstance(value, str) else orjson.dumps(value).decode()
            for key, value in arguments.items()
        }
        response = self._http.request(
            "POST", f"{self._base_url}/{method}", timeout_s=timeout_s or self._timeout_s,
            headers={**self._headers, "Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )  # fmt: skip
        return _read(method, response)

    def upload(self, file: OutFile) -> str:
        """Upload a file, without posting it yet, and return its id.

        :raises PlatformError: if Slack refused or did not respond.
        """
        upload = self.call(
            "files.getUploadURLExternal",
            {"filename": file.filename, "length": str(file.size_bytes)},
        )
        url = str(upload.get("upload_url", ""))
        self._check_host(url)
        response = self._http.request(
            "POST", url, body=file.iter_bytes(), timeout_s=self._timeout_s,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(file.size_bytes),
            },
        )  # fmt: skip
        if response.status != 200:
            raise response.to_error(f"Slack answered {response.status} to a file upload.")
        return str(upload["file_id"])

    def download(self, url: str) -> PlatformReader:
        """Open a file that a user sent.

        :raises PlatformError: also if the URL is not Slack's, because the request contains the
            token.
        """
        self._check_host(url)
        return self._http.open(url, headers=self._headers, timeout_s=self._timeout_s)

    def _check_host(self, url: str) -> None:
        parts, own = urlsplit(url), urlsplit(self._base_url)
        host = parts.hostname or ""
        of_slack = parts.scheme == "https" and (host == "slack.com" or host.endswith(".slack.com"))
        if not of_slack and (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
            raise PlatformError(f"The host {host or '(none)'} of a file is not Slack's.")


def _read(method: str, response: HttpResponse) -> dict[str, Any]:
    if response.status != 200:
        raise response.to_error(f"Slack answered {response.status} to {method}.")
    body = response.json()
    if isinstance(body, dict) and body.get("ok") is True:
        return body
    error = str(body.get("error", "")) if isinstance(body, dict) else ""
    if error in _BAD_TOKEN:
        raise PlatformError(f"Slack refused the bot's token ({error}).")
    words = f"Slack refused {method}: {error[:_MAX_WORDS_CHARS]}"
    if error == "missing_scope":
        words += f" (it needs {str(body.get('needed', ''))[:_MAX_WORDS_CHARS]})"
    raise PlatformError(words, retryable=error in _TEMPORARY, retry_after_s=response.retry_after_s)
