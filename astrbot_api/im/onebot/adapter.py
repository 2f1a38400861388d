"""A QQ account behind a OneBot 11 implementation, with HTTP in both directions."""

from __future__ import annotations

import hashlib
import hmac
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from ...deliveries.http import PlatformError, PlatformHttp
from ...files.storage.protocol import BlobReader
from ...runtime.bounded_json import load_json, load_with_halves
from ...runtime.decoding import decode_base64
from ..adapter import BadSignature, InboundRequest, InMessage, OutFile, Reception, Target
from ..markdown import read_fitting
from ..piecewise import PiecewiseAdapter, check_size
from .api import OneBotApi, file_reference
from .inbound import read_event
from .references import fetch_references
from .segments import list_file_calls, write_segments

#: QQ refuses or folds longer texts. Its exact limit is not documented.
_MAX_TEXT_UNITS = 3000

#: File types that have their own segment type.
_SEGMENTS = ("image", "record", "video")

#: A user or a group. A user with a group is a temporary session.
_ID = re.compile(r"([1-9]\d{0,19})(?:#([1-9]\d{0,19}))?", re.ASCII)


class OneBotAdapter(PiecewiseAdapter):
    """One QQ account."""

    type = "onebot"
    max_text_units = _MAX_TEXT_UNITS

    def __init__(self, settings: Mapping[str, Any], http: PlatformHttp) -> None:
        self._settings = settings
        self._http = http
        self._api = OneBotApi(
            http, settings["base_url"], settings["access_token"], settings["timeout_s"]
        )

    def receive(self, request: InboundRequest) -> Reception:
        """Parse an event that the implementation posted."""
        secret: str = self._settings["secret"]
        given = request.headers.get("x-signature", "")
        expected = "sha1=" + hmac.new(secret.encode(), request.body, hashlib.sha1).hexdigest()
        if not secret or not hmac.compare_digest(given.encode(), expected.encode()):
            raise BadSignature("the event is not signed with the bot's secret")
        try:
            event = load_json(request.body, parse=load_with_halves)
        except ValueError:
            return Reception(status=400)
        message = read_event(event)
        # 204 means: no quick operation.
        return Reception(() if message is None else (message,), status=204)

    def _find_address(self, target: Target) -> _Chat:
        return _Chat(target)

    def _send_text(self, address: _Chat, text: str) -> Sequence[str]:
        if self._settings["format"] == "markdown":
            # QQ shows no formatting, so the markup is removed.
            text = read_fitting(text, _MAX_TEXT_UNITS).to_plain()
        return self._deliver(address, write_segments(text, in_group=address.kind == "group"))

    def _send_file(self, address: _Chat, file: OutFile) -> Sequence[str]:
        check_size(file, self._settings["max_file_mb"] * 1024 * 1024)
        if file.type in _SEGMENTS:
            segment = {"type": file.type, "data": {"file": file_reference()}}
            return self._deliver(address, [segment], file)
        self._api.call(
            f"upload_{address.kind}_file",
            {**address.where, "file": file_reference(), "name": file.filename}, file,
        )  # fmt: skip
        # The answer to an upload contains no message id.
        return ()

    def _deliver(
        self, chat: _Chat, segments: Sequence[Mapping[str, Any]], file: OutFile | None = None
    ) -> Sequence[str]:
        """Send one message and return its id, if the implementation returns one."""
        message = {**chat.where, "message": [*chat.reply, *segments]}
        result = self._api.call(f"send_{chat.kind}_msg", message, file)
        chat.reply.clear()
        message_id = result.get("message_id") if isinstance(result, dict) else None
        return () if message_id is None else (str(message_id),)

    def check(self) -> str:
        """Return the account's nickname.

        :raises PlatformError: if the implementation is not reachable or rejects the token.
        """
        return str((self._api.call("get_login_info", {}) or {}).get("nickname", ""))

    def complete(self, message: InMessage) -> InMessage:
        """Fetch the quoted and the forwarded messages."""
        return fetch_references(self._api, message)

    def open_file(self, source: str) -> BlobReader:
        """Open a file of a message at its URL, or through the implementation.

        :param source: Type and data of the file's segment, as JSON.
        """
        type, data = orjson.loads(source)
        url = data.get("url", "")
        if not url.startswith(("http://", "https://")):
            return self._open_asked(type, data)
        self._check_host(url)
        try:
            return self._open(url)
        except PlatformError as error:
            # QQ's URLs expire. The implementation may have the file or a new URL.
            try:
                return self._open_asked(type, data)
            except PlatformError:
                raise error from None

    def _open(self, url: str) -> BlobReader:
        return self._http.open(url, timeout_s=self._settings["timeout_s"])

    def _open_asked(self, type: str, data: Mapping[str, str]) -> BlobReader:
        """Ask the implementation for a file and open it."""
        fault: PlatformError | None = None
        for action, asked in list_file_calls(type, data):
            try:
                found = self._api.call(action, asked)
            except PlatformError as error:
                fault = error
                continue
            found = found if isinstance(found, dict) else {}
            if found.get("base64"):
                return io.BytesIO(decode_base64(found["base64"]))
            url = str(found.get("url") or "")
            if url.startswith(("http://", "https://")):
                self._check_host(url)
                return self._open(url)
        raise fault or PlatformError(
            "OneBot returned a path on its own disk. Configure it to return URLs or base64."
        )

    def _check_host(self, url: str) -> None:
        """Refuse URLs that are neither in ``file_hosts`` nor the implementation's own."""
        parts = urlsplit(url)
        own = urlsplit(self._settings["base_url"])
        host = parts.hostname or ""
        # The port is compared too, because other services may run on the same machine.
        if parts.netloc == own.netloc or any(
            host == one or host.endswith(f".{one}") for one in self._settings["file_hosts"]
        ):
            return
        raise PlatformError(
            f"A file was not fetched: its host {host or '(none)'} is not in file_hosts."
        )


class _Chat:
    """The parameters that address a user or a group."""

    def __init__(self, target: Target) -> None:
        found = _ID.fullmatch(target.session_id)
        if target.message_type == "OtherMessage":
            raise PlatformError("OneBot sends FriendMessage and GroupMessage only.")
        self.kind = "group" if target.message_type == "GroupMessage" else "private"
        if found is None or (self.kind == "group" and found[2]):
            raise PlatformError(
                "The session must be the QQ number of a user or a group, or USER#GROUP for a "
                "temporary session."
            )
        name = "group_id" if self.kind == "group" else "user_id"
        self.where = {name: int(found[1])}
        if found[2]:
            self.where["group_id"] = int(found[2])
        #: Only the first message is sent as a reply.
        self.reply: list[dict[str, Any]] = []
        if target.reply_to:
            self.reply.append({"type": "reply", "data": {"id": target.reply_to}})
