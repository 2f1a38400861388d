"""A QQ account behind a OneBot 11 implementation: HTTP out, HTTP in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from ...deliveries.attempts import Progress, Sent
from ...deliveries.http import PlatformError, PlatformHttp
from ...files.storage.protocol import BlobReader
from ..adapter import (
    BadSignature,
    BaseAdapter,
    InboundRequest,
    OutFile,
    OutMessage,
    Receipt,
    Reception,
    Target,
)
from ..markdown import read_markdown
from ..splitting import split_markdown
from .api import OneBotApi, file_reference
from .inbound import EventReader
from .segments import write_segments

#: QQ refuses or folds longer ones; it gives no exact number.
_MAX_TEXT_UNITS = 3000

#: What has a segment of its own.
_SEGMENTS = {"image": "image", "record": "record", "video": "video"}

_ID = re.compile(r"[1-9]\d{0,19}", re.ASCII)


class OneBotAdapter(BaseAdapter):
    """One QQ account."""

    type = "onebot"
    capabilities = frozenset({"text", "image", "record", "video", "file", "group", "reply"})

    def __init__(self, settings: Mapping[str, Any], http: PlatformHttp) -> None:
        self._settings = settings
        self._http = http
        self._api = OneBotApi(
            http, settings["base_url"], settings["access_token"], settings["timeout_s"]
        )
        self._reader = EventReader()

    def send(self, target: Target, message: OutMessage, *, progress: Progress) -> Receipt:
        """Send each part as a message; files are uploaded into the chat."""
        chat = _Chat(target)
        ids: list[str] = []
        for part in message.parts:
            if isinstance(part, OutFile):
                ids += self._send_file(chat, part)
                progress(Sent(1, platform_ids=tuple(ids[-1:])))
            else:
                self._send_text(chat, part, progress, ids)
        return Receipt(tuple(ids))

    def receive(self, request: InboundRequest) -> Reception:
        """Read an event that the implementation posted."""
        secret: str = self._settings["secret"]
        given = request.headers.get("x-signature", "")
        expected = "sha1=" + hmac.new(secret.encode(), request.body, hashlib.sha1).hexdigest()
        if not secret or not hmac.compare_digest(given.encode(), expected.encode()):
            raise BadSignature("the event is not signed with the bot's secret")
        try:
            event = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return Reception(status=400)
        message = self._reader.read(event)
        # 204: no quick operation.
        return Reception(() if message is None else (message,), status=204)

    def _send_text(self, chat: _Chat, text: str, progress: Progress, ids: list[str]) -> None:
        pieces = split_markdown(text, _MAX_TEXT_UNITS)
        for number, piece in enumerate(pieces, 1):
            shown = piece.text
            if self._settings["format"] == "markdown":
                # QQ shows no formatting: without its marks it reads better.
                shown = read_markdown(shown).to_plain()
            ids += self._deliver(chat, write_segments(shown, in_group=chat.kind == "group"))
            last = number == len(pieces)
            progress(Sent(int(last), 0 if last else piece.chars, tuple(ids[-1:])))
        if not pieces:
            progress(Sent(1))

    def _send_file(self, chat: _Chat, file: OutFile) -> list[str]:
        limit = self._settings["max_file_mb"] * 1024 * 1024
        if file.size_bytes > limit:
            raise PlatformError(
                f"{file.filename} has {file.size_bytes} bytes; this bot sends {limit} at most "
                "(max_file_mb)."
            )
        if file.type in _SEGMENTS:
            segment = {"type": _SEGMENTS[file.type], "data": {"file": file_reference()}}
            return self._deliver(chat, [segment], file)
        self._api.call(
            f"upload_{chat.kind}_file",
            {**chat.where, "file": file_reference(), "name": file.filename}, file,
        )  # fmt: skip
        # The answer to an upload has no message's id.
        return []

    def _deliver(
        self, chat: _Chat, segments: Sequence[Mapping[str, Any]], file: OutFile | None = None
    ) -> list[str]:
        """Send one message and return its id, where the implementation returns it."""
        message = {**chat.where, "message": [*chat.reply, *segments]}
        result = self._api.call(f"send_{chat.kind}_msg", message, file)
        chat.reply.clear()
        message_id = result.get("message_id") if isinstance(result, dict) else None
        return [] if message_id is None else [str(message_id)]

    def open_file(self, source: str) -> BlobReader:
        """Open a file of a message: at QQ's address, or through the implementation.

        :param source: The type and the data of its segment, as JSON.
        """
        type, data = orjson.loads(source)
        url = data.get("url", "")
        if not url.startswith(("http://", "https://")):
            action = {"record": "get_record", "image": "get_image"}.get(type, "get_file")
            name = data.get("file_id") or data.get("file", "")
            asked = {"file": name, "file_id": name}
            if type == "record":
                asked["out_format"] = "mp3"
            found = self._api.call(action, asked) or {}
            if found.get("base64"):
                return io.BytesIO(base64.b64decode(found["base64"]))
            url = str(found.get("url") or "")
        self._check_host(url)
        return self._http.open(url, timeout_s=self._settings["timeout_s"])

    def _check_host(self, url: str) -> None:
        """Refuse addresses that are neither QQ's nor the implementation's own."""
        parts = urlsplit(url)
        own = urlsplit(self._settings["base_url"])
        host = (parts.hostname or "").casefold()
        # With its port: other services of the same machine are none of QQ's.
        if parts.netloc == own.netloc or any(
            host == one or host.endswith(f".{one}") for one in self._settings["file_hosts"]
        ):
            return
        raise PlatformError(
            f"A file of {host or 'no address'} was not fetched: it is none of file_hosts."
        )


class _Chat:
    """Where a message goes."""

    def __init__(self, target: Target) -> None:
        if not _ID.fullmatch(target.session_id):
            raise PlatformError("The session must be a number of QQ: a user's or a group's.")
        if target.message_type == "OtherMessage":
            raise PlatformError("OneBot sends FriendMessage and GroupMessage only.")
        self.kind = "group" if target.message_type == "GroupMessage" else "private"
        name = "group_id" if self.kind == "group" else "user_id"
        self.where = {name: int(target.session_id)}
        #: Only the first message is a reply.
        self.reply: list[dict[str, Any]] = []
        if target.reply_to:
            self.reply.append({"type": "reply", "data": {"id": target.reply_to}})
