"""Calls of the Bot API. URLs contain the token, so no URL is ever logged or shown."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from ...deliveries.http import HttpResponse, PlatformError, PlatformHttp
from ...files.storage.protocol import BlobReader
from ...runtime.multipart import FileForm
from ..adapter import OutFile
from .local import is_plain, open_local, split_local

#: Maximum length of Telegram's error text in our messages.
_MAX_WORDS_CHARS = 300

DEFAULT_BASE_URL = "https://api.telegram.org"

#: The token after ``/bot`` in a URL grants full control of the bot.
_TOKEN_IN_PATH = re.compile(r"/bot\d+:[\w-]+")

#: Loggers of the HTTP library that log request paths.
_HTTP_LOGGERS = ("urllib3.connection", "urllib3.connectionpool")


class _TokenFilter(logging.Filter):
    """Removes tokens from the log records of the HTTP library."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                _TOKEN_IN_PATH.sub("/bot…", one) if isinstance(one, str) else one
                for one in record.args
            )
        return True


_TOKEN_FILTER = _TokenFilter()


def hide_tokens() -> None:
    """Keep tokens out of the log at every level. Idempotent."""
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(_TOKEN_FILTER)


class TelegramRefusal(PlatformError):
    """A response with ``ok: false``.

    :param status: The response's status, which is also its ``error_code``.
    :param migrated_to: Id of the supergroup that replaced the group, or None.
    """

    def __init__(
        self, status: int, words: str, retry_after_s: float | None, migrated_to: int | None
    ) -> None:
        super().__init__(
            _explain(status, words),
            retryable=status == 429 or status >= 500,
            retry_after_s=retry_after_s,
        )
        self.status = status
        self.words = words
        self.migrated_to = migrated_to

    def _says(self, *words: str) -> bool:
        said = self.words.casefold()
        return self.status == 400 and any(one in said for one in words)

    @property
    def is_topic_gone(self) -> bool:
        """Whether the topic was deleted or closed, or the group no longer has topics."""
        return self._says("thread", "topic")

    @property
    def is_reply_gone(self) -> bool:
        """Whether the message to reply to was deleted or cannot be replied to."""
        return self._says("repl", "quote")

    @property
    def is_too_long(self) -> bool:
        """Whether the text exceeds Telegram's limit."""
        return self._says("too long", "too_long")

    def find_field(self) -> str:
        """Return the optional field whose form Telegram refused, or an empty text."""
        if self._says("button", "keyboard", "reply markup", "reply_markup"):
            return "reply_markup"
        if self._says("entit", "parse", "url"):
            return "entities"
        return ""


class TelegramApi:
    """The Bot API with one bot's token."""

    def __init__(self, http: PlatformHttp, base_url: str, token: str, timeout_s: float) -> None:
        self._http = http
        self._base_url = base_url
        self._token = token
        self._timeout_s = timeout_s

    def call(
        self, method: str, parameters: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> Any:
        """Call a method with JSON and return its ``result``.

        :raises PlatformError: if Telegram refused or did not respond.
        """
        response = self._http.request(
            "POST", self._address(method), json=parameters, timeout_s=timeout_s or self._timeout_s
        )
        return self._read(response)

    def upload(self, method: str, parameters: Mapping[str, Any], name: str, file: OutFile) -> Any:
        """Call a method with a file and return its ``result``.

        :param name: Name of the parameter that contains the file.
        :raises PlatformError: if Telegram refused or did not respond.
        """
        fields = {
            key: value if isinstance(value, str) else orjson.dumps(value).decode()
            for key, value in parameters.items()
        }
        body = FileForm(
            fields, name, filename=file.filename, mime=file.mime, size_bytes=file.size_bytes,
            iter_bytes=file.iter_bytes,
        )  # fmt: skip
        response = self._http.request(
            "POST", self._address(method), headers=body.headers, body=body,
            timeout_s=self._timeout_s,
        )  # fmt: skip
        return self._read(response)

    def download(self, file_id: str) -> BlobReader:
        """Open a file that a user sent.

        :raises PlatformError: if Telegram refuses, for example a file over 20 MB.
        """
        path = str(self.call("getFile", {"file_id": file_id}).get("file_path") or "")
        if path.startswith("/"):
            folder, path = split_local(path, self._token)
            found = open_local(folder, path)
            if found is not None:
                return found
        if not is_plain(path):
            raise PlatformError("Telegram returned a file path that is not valid.")
        url = f"{self._base_url}/file/bot{self._token}/{quote(path)}"
        return self._http.open(url, timeout_s=self._timeout_s)

    def _address(self, method: str) -> str:
        return f"{self._base_url}/bot{self._token}/{method}"

    def _read(self, response: HttpResponse) -> Any:
        if 300 <= response.status < 400:
            raise PlatformError("Telegram's URL (base_url) responded with a redirect.")
        body = response.json()
        if isinstance(body, dict) and body.get("ok") is True and "result" in body:
            return body["result"]
        if not isinstance(body, dict):
            body = {}
        parameters = body.get("parameters") or {}
        retry_after = parameters.get("retry_after")
        words = str(body.get("description", ""))[:_MAX_WORDS_CHARS]
        raise TelegramRefusal(
            max(response.status, 400),
            words.replace(self._token, "…"),
            float(retry_after) if retry_after is not None else response.retry_after_s,
            parameters.get("migrate_to_chat_id"),
        )


def _explain(status: int, words: str) -> str:
    if status in (401, 404):
        return f"Telegram refused the bot's token ({status})."
    if status == 409:
        return f"Telegram: another program receives the bot's messages ({words})."
    return f"Telegram answered {status}: {words}"
