"""A Telegram bot: sends messages, receives them through a webhook or long polling."""

from __future__ import annotations

import contextlib
import hmac
import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from ...deliveries.http import PlatformError, PlatformHttp
from ...files.storage.protocol import BlobReader
from ...runtime.bounded_json import load_json
from ..adapter import BadSignature, Choice, InboundRequest, InMessage, OutFile, Reception, Target
from ..markdown import read_markdown
from ..piecewise import PiecewiseAdapter, check_size
from ..rich_text import RichText, count_units
from ..splitting import split_markdown
from .api import DEFAULT_BASE_URL, TelegramApi, TelegramRefusal, hide_tokens
from .entities import make_entities, show_other_links
from .inbound import UpdateReader, find_pressed

log = logging.getLogger(__name__)

#: Limits of the Bot API. Source: https://core.telegram.org/bots/api#sending-files
#: and https://core.telegram.org/bots/api#using-a-local-bot-api-server
_MAX_TEXT_UNITS = 4096
#: A shorter text is not split again if Telegram refuses it as too long.
_MIN_PIECE_UNITS = 256
_MAX_FILE_BYTES = 50 * 1000 * 1000
_MAX_LOCAL_FILE_BYTES = 2000 * 1000 * 1000
_MAX_PHOTO_BYTES = 10 * 1000 * 1000

#: MIME types that Telegram can show as media -> method and parameter.
_METHODS = {
    "image/jpeg": ("sendPhoto", "photo"),
    "image/png": ("sendPhoto", "photo"),
    "image/webp": ("sendPhoto", "photo"),
    "image/gif": ("sendAnimation", "animation"),
    "audio/ogg": ("sendVoice", "voice"),
    "audio/mpeg": ("sendAudio", "audio"),
    "audio/mp4": ("sendAudio", "audio"),
    "audio/x-m4a": ("sendAudio", "audio"),
    "video/mp4": ("sendVideo", "video"),
}
_DOCUMENT = ("sendDocument", "document")

#: Chat and optional topic, as :class:`UpdateReader` writes them.
_SESSION = re.compile(r"(-?\d{1,20}|@\w{4,64})(?:#(\d{1,20}))?", re.ASCII)

#: Timeout of ``getUpdates``, in seconds. Stopping the poll may take as long.
_POLL_S = 25
_POLL_SLACK_S = 10.0

#: Requested update types: messages and button presses.
_UPDATES = ["message", "callback_query"]


class TelegramAdapter(PiecewiseAdapter):
    """One bot. Its only state is its name, which it fetches once."""

    type = "telegram"
    capabilities = PiecewiseAdapter.capabilities | {"typing"}
    max_text_units = _MAX_TEXT_UNITS

    def __init__(self, settings: Mapping[str, Any], http: PlatformHttp) -> None:
        hide_tokens()
        self._settings = settings
        token: str = settings["token"]
        self._bot_id = int(token.partition(":")[0])
        self._username: str = settings["username"].removeprefix("@")
        self._api = TelegramApi(http, settings["base_url"], token, settings["timeout_s"])
        self.polls = settings["updates"] == "polling"

    def receive(self, request: InboundRequest) -> Reception:
        """Parse an update that Telegram posted."""
        secret: str = self._settings["webhook_secret"]
        given = request.headers.get("x-telegram-bot-api-secret-token", "")
        if self._settings["updates"] != "webhook" or not hmac.compare_digest(
            given.encode(), secret.encode()
        ):
            raise BadSignature("the secret token is not the bot's")
        try:
            update = load_json(request.body)
        except ValueError:
            return Reception(status=400)
        messages = tuple(filter(None, [self._make_reader().read(update)]))
        pressed = find_pressed(update)
        if not pressed:
            return Reception(messages)
        # Telegram shows the button as pressed until the press is answered.
        answer = {"method": "answerCallbackQuery", "callback_query_id": pressed}
        return Reception(messages, body=orjson.dumps(answer), content_type="application/json")

    def show_typing(self, target: Target) -> None:
        """Show "typing …" for five seconds or until a message is sent."""
        self._api.call("sendChatAction", {**_Chat(target).where, "action": "typing"})

    def check(self) -> str:
        """Return the bot's Telegram name.

        :raises PlatformError: if Telegram rejects the token.
        """
        return str(self._api.call("getMe", {}).get("username", ""))

    def poll(self, stop: threading.Event) -> Iterator[Sequence[InMessage]]:
        """Poll for updates. Each request confirms the updates before it."""
        if not self._username:
            self._username = self.check()
        # With a webhook set, Telegram refuses getUpdates.
        self._api.call("deleteWebhook", {})
        reader, offset = self._make_reader(), 0
        while not stop.is_set():
            asked = {"offset": offset, "timeout": _POLL_S, "allowed_updates": _UPDATES}
            updates = self._api.call("getUpdates", asked, timeout_s=_POLL_S + _POLL_SLACK_S)
            yield list(filter(None, map(reader.read, updates)))
            for pressed in filter(None, map(find_pressed, updates)):
                with contextlib.suppress(PlatformError):  # the press may be too old
                    self._api.call("answerCallbackQuery", {"callback_query_id": pressed})
            offset = max((update["update_id"] + 1 for update in updates), default=offset)

    def open_file(self, source: str) -> BlobReader:
        """Open a file by its ``file_id``."""
        return self._api.download(source)

    def _make_reader(self) -> UpdateReader:
        return UpdateReader(self._bot_id, self._username)

    def _find_address(self, target: Target) -> _Chat:
        return _Chat(target)

    def _send_choices(self, address: _Chat, text: str, choices: Sequence[Choice]) -> Sequence[str]:
        if not choices:
            return self._send_text(address, text)
        keys = [{"text": one.label, "callback_data": one.text} for one in choices]
        fields = {"text": text, "reply_markup": {"inline_keyboard": [keys]}}
        try:
            return self._deliver(address, "sendMessage", fields)
        except TelegramRefusal as error:
            if not error.is_too_long:
                raise
            return self._send_text(address, text)

    def _send_text(self, address: _Chat, text: str) -> Sequence[str]:
        rich = RichText(text)
        if self._settings["format"] == "markdown":
            read = show_other_links(read_markdown(text))
            # A formatted table may be longer than its Markdown.
            if count_units(read.text) <= _MAX_TEXT_UNITS:
                rich = read
        entities = make_entities(rich)
        fields = {"text": rich.text, **({"entities": entities} if entities else {})}
        try:
            return self._deliver(address, "sendMessage", fields, plain=rich.to_plain())
        except TelegramRefusal as error:
            if not error.is_too_long or len(text) < _MIN_PIECE_UNITS:
                raise
            # Telegram counts differently from this code. Send two halves.
            halves = split_markdown(text, count_units(text) // 2 + 1)
            return [one for half in halves for one in self._send_text(address, half.text)]

    def _send_file(self, address: _Chat, file: OutFile) -> Sequence[str]:
        public = self._settings["base_url"] == DEFAULT_BASE_URL
        check_size(file, _MAX_FILE_BYTES if public else _MAX_LOCAL_FILE_BYTES, "Telegram")
        method, name = _METHODS.get(file.mime, _DOCUMENT)
        if method == "sendPhoto" and file.size_bytes > _MAX_PHOTO_BYTES:
            method, name = _DOCUMENT
        try:
            return self._deliver(address, method, {}, name, file)
        except TelegramRefusal as error:
            # For example, the photo is too wide or the user forbids voice messages.
            if method == "sendDocument" or error.status != 400:
                raise
            method, name = _DOCUMENT
            return self._deliver(address, method, {}, name, file)

    def _deliver(
        self,
        chat: _Chat,
        method: str,
        fields: dict[str, Any],
        name: str = "",
        file: OutFile | None = None,
        *,
        plain: str = "",
    ) -> Sequence[str]:
        """Send one message and return its id.

        :param plain: The text to send if Telegram refuses the formatting.
        """
        while True:
            parameters = {**chat.where, **chat.reply, **fields}
            try:
                if file is None:
                    result = self._api.call(method, parameters)
                else:
                    result = self._api.upload(method, parameters, name, file)
            except TelegramRefusal as error:
                # At least the text is sent.
                field = error.find_field()
                if not chat.change_address(error):
                    if not fields.pop(field, None):
                        raise
                    if field == "entities":
                        fields["text"] = plain
                log.info("sending again without the refused part: %s", error)
                continue
            chat.reply.clear()
            return (str(result.get("message_id", "")),)


class _Chat:
    """The parameters that address a chat."""

    def __init__(self, target: Target) -> None:
        found = _SESSION.fullmatch(target.session_id)
        if found is None:
            raise PlatformError(
                "The session must be a Telegram chat: a number as /sid shows it, "
                "or @name of a channel."
            )
        chat, topic = found.groups()
        self.where: dict[str, Any] = {"chat_id": chat if chat.startswith("@") else int(chat)}
        if topic:
            self.where["message_thread_id"] = int(topic)
        self._moved = False
        #: Only the first message is sent as a reply.
        self.reply: dict[str, Any] = {}
        if target.reply_to and re.fullmatch(r"\d{1,20}", target.reply_to, re.ASCII):
            self.reply["reply_parameters"] = {
                "message_id": int(target.reply_to),
                # The original message may have been deleted.
                "allow_sending_without_reply": True,
            }

    def change_address(self, error: TelegramRefusal) -> bool:
        """Change the address after its chat, topic or reply is gone.

        :returns: Whether anything changed. Each change is made at most once.
        """
        if error.migrated_to is not None:
            again, self._moved = self._moved, True
            self.where["chat_id"] = error.migrated_to
            return not again
        if error.is_topic_gone:
            return self.where.pop("message_thread_id", None) is not None
        if error.is_reply_gone and self.reply:
            self.reply.clear()
            return True
        return False
