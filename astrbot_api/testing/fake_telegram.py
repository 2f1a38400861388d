"""Fake of Telegram's Bot API.

::

    with FakeTelegram() as telegram:
        # bots.toml: token = telegram.token, base_url = telegram.url
        telegram.queue(telegram.make_update("Hello"))
        [answer] = telegram.wait_for_messages(1)

Source of its checks and responses: https://core.telegram.org/bots/api
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from werkzeug import Response

from .fake_platform import FakeFile, FakePlatform, FakeRequest, answer_json, make_post

MAX_TEXT_UNITS = 4096
_MAX_CAPTION_UNITS = 1024
_MAX_FILE_BYTES = 50 * 1024 * 1024
_MAX_PHOTO_BYTES = 10 * 1024 * 1024
_MAX_DOWNLOAD_BYTES = 20 * 1024 * 1024
_MAX_POLL_S = 50

#: Method -> name of its file field.
_FILE_METHODS = {
    "sendPhoto": "photo", "sendAudio": "audio", "sendVoice": "voice", "sendVideo": "video",
    "sendDocument": "document", "sendAnimation": "animation",
}  # fmt: skip
_ENTITY_TYPES = {
    "bold", "italic", "underline", "strikethrough", "spoiler", "code", "pre", "text_link",
    "blockquote", "expandable_blockquote", "text_mention", "custom_emoji",
}  # fmt: skip


class Refusal(Exception):
    """Raised for an error response, with its status and description."""

    def __init__(self, status: int, description: str, **parameters: Any) -> None:
        super().__init__(description)
        self.status = status
        self.parameters = parameters


class FakeTelegram(FakePlatform):
    """The Bot API of one bot.

    :param username: Name of the bot, without ``@``.
    """

    def __init__(self, token: str = "110201543:AAHdqTcvCH1vGWJxfSe", username: str = "tea_bot"):
        super().__init__()
        self.token = token
        self.username = username
        self.bot_id = int(token.partition(":")[0])
        #: Fields of the last ``setWebhook``, or empty after ``deleteWebhook``.
        self.webhook: dict[str, Any] = {}
        #: Id of a migrated group -> id of its supergroup.
        self.migrated: dict[str, int] = {}
        #: Deleted topic -> error for messages to it.
        self.gone_topics: dict[int, str] = {}
        #: Messages that cannot be replied to, even with ``allow_sending_without_reply``.
        self.gone_messages: set[int] = set()
        #: Maximum length of a text, in UTF-16 code units.
        self.max_text_units = MAX_TEXT_UNITS
        #: Error for texts with entities, or empty to validate the entities.
        self.entities_refusal = ""
        #: Folder in the file paths of a server with ``--local``, or empty.
        self.local_folder = ""
        self._updates: list[dict[str, Any]] = []
        self._update_ids = itertools.count(10_000)
        self._files: dict[str, tuple[str, bytes]] = {}

    def make_update(
        self, text: str | None = None, *, chat_id: int = 1111111, chat_type: str = "private",
        **message: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Return an update with a message as in Telegram's documentation.

        :param message: Keys of the message to add or replace.
        """
        made: dict[str, Any] = {
            "message_id": next(self._numbers) + 1000,
            "from": {
                "id": 1111111, "is_bot": False, "first_name": "Test", "last_name": "Lastname",
                "username": "Test", "language_code": "en",
            },
            "chat": {"id": chat_id, "type": chat_type},
            "date": 1441645532,
        }  # fmt: skip
        if text is not None:
            made["text"] = text
            entities = [
                {"type": kind, "offset": found.start(), "length": found.end() - found.start()}
                for kind, pattern in (("mention", r"@\w+"), ("bot_command", r"^/\w+(@\w+)?"))
                for found in re.finditer(pattern, text)
                if kind == "bot_command" or not text.startswith("/")
            ]
            if entities:
                made["entities"] = entities
        return {"update_id": next(self._update_ids), "message": made | message}

    def make_press(self, message: dict[str, Any], label: str, *, sender_id: int = 1111111) -> Any:
        """Return the update for a pressed button.

        :param message: The message with the button, from :attr:`messages`.
        """
        keys = [one for row in message["reply_markup"]["inline_keyboard"] for one in row]
        chat = message["chat_id"]
        below = {
            "message_id": 5, "from": {"id": self.bot_id, "is_bot": True, "first_name": "T"},
            "chat": {"id": chat, "type": "private" if int(chat) > 0 else "supergroup"},
            "text": message["text"],
        }  # fmt: skip
        query = {
            "id": str(next(self._update_ids)), "chat_instance": "1", "message": below,
            "from": {"id": sender_id, "is_bot": False, "first_name": "Test"},
            "data": next(one["callback_data"] for one in keys if one["text"] == label),
        }  # fmt: skip
        return {"update_id": next(self._update_ids), "callback_query": query}

    def add_file(self, data: bytes, path: str = "documents/file_0.bin") -> str:
        """Store a file and return its ``file_id`` for an update."""
        file_id = f"file{len(self._files)}"
        self._files[file_id] = (path, data)
        return file_id

    def queue(self, update: dict[str, Any]) -> None:
        """Queue an update for ``getUpdates``."""
        with self._changed:
            self._updates.append(update)
            self._changed.notify_all()

    @property
    def unconfirmed(self) -> int:
        """Number of queued updates, including delivered updates that are not confirmed."""
        return len(self._updates)

    def make_request(
        self, update: dict[str, Any], secret: str | None = None
    ) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of Telegram's webhook request for an update."""
        secret = self.webhook.get("secret_token", "") if secret is None else secret
        return make_post(update, **({"X_Telegram_Bot_Api_Secret_Token": secret} if secret else {}))

    def describe_failure(self, status: int, retry_after_s: int | None) -> Response:
        words = {
            403: "Forbidden: bot was blocked by the user",
            429: f"Too Many Requests: retry after {retry_after_s}",
        }
        parameters = {} if retry_after_s is None else {"retry_after": retry_after_s}
        return _refuse(Refusal(status, words.get(status, "Internal Server Error"), **parameters))

    def answer(self, request: FakeRequest) -> Response:
        if request.path.startswith("/file/"):
            return self._download(request.path)
        found = re.fullmatch(r"/bot([^/]+)/(\w+)", request.path)
        try:
            if found is None:
                raise Refusal(404, "Not Found")
            if found[1] != self.token:
                raise Refusal(401, "Unauthorized")
            result = self._call(found[2], request.read_fields())
        except Refusal as error:
            return _refuse(error)
        return answer_json({"ok": True, "result": result})

    def _call(self, method: str, fields: dict[str, Any]) -> Any:
        if method == "getMe":
            return {"id": self.bot_id, "is_bot": True, "first_name": "T", "username": self.username}
        if method == "getUpdates":
            return self._get_updates(fields)
        if method == "setWebhook":
            if not str(fields.get("url", "")).startswith("https://"):
                raise Refusal(400, "Bad Request: bad webhook: An HTTPS URL must be provided")
            self.webhook = fields
            return True
        if method == "deleteWebhook":
            self.webhook = {}
            return True
        if method == "getFile":
            return self._get_file(fields)
        if method == "answerCallbackQuery":
            return True
        if method == "sendChatAction":
            self._check_chat(fields)
            return True
        if method == "sendMessage":
            return self._send_message(fields)
        if method in _FILE_METHODS:
            return self._send_file(method, fields)
        raise Refusal(404, "Not Found")

    def _send_message(self, fields: dict[str, Any]) -> Any:
        self._check_chat(fields)
        text = fields.get("text", "")
        if not text.strip():
            raise Refusal(400, "Bad Request: message text is empty")
        if _units(text) > self.max_text_units:
            raise Refusal(400, "Bad Request: message is too long")
        entities = _as_json(fields.get("entities")) or []
        if entities and self.entities_refusal:
            raise Refusal(400, self.entities_refusal)
        _check_entities(text, entities)
        keyboard = (fields.get("reply_markup") or {}).get("inline_keyboard") or []
        if any(len(one["callback_data"].encode()) > 64 for row in keyboard for one in row):
            raise Refusal(400, "Bad Request: BUTTON_DATA_INVALID")
        return self._accept("sendMessage", fields)

    def _send_file(self, method: str, fields: dict[str, Any]) -> Any:
        self._check_chat(fields)
        kind = _FILE_METHODS[method]
        file = fields.get(kind)
        if not isinstance(file, FakeFile) or not file.data:
            raise Refusal(400, "Bad Request: file must be non-empty")
        if len(file.data) > _MAX_FILE_BYTES:
            raise Refusal(413, "Request Entity Too Large")
        if method == "sendPhoto" and len(file.data) > _MAX_PHOTO_BYTES:
            raise Refusal(400, "Bad Request: file is too big for a photo")
        if method == "sendPhoto" and not file.data.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF")):
            raise Refusal(400, "Bad Request: IMAGE_PROCESS_FAILED")
        if _units(fields.get("caption", "")) > _MAX_CAPTION_UNITS:
            raise Refusal(400, "Bad Request: message caption is too long")
        return self._accept(method, fields)

    def _accept(self, method: str, fields: dict[str, Any]) -> Any:
        message_id = next(self._numbers)
        self.accept({**fields, "method": method, "message_id": message_id})
        chat = {"id": fields["chat_id"], "type": "private"}
        return {"message_id": message_id, "date": 1441645532, "chat": chat}

    def _check_chat(self, fields: dict[str, Any]) -> None:
        chat = str(fields.get("chat_id", ""))
        if not chat:
            raise Refusal(400, "Bad Request: chat_id is empty")
        if chat in self.migrated:
            raise Refusal(
                400, "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=self.migrated[chat],
            )  # fmt: skip
        if not self.knows(chat):
            raise Refusal(400, "Bad Request: chat not found")
        topic = self.gone_topics.get(int(fields.get("message_thread_id") or 0))
        if topic:
            raise Refusal(400, topic)
        answered = _as_json(fields.get("reply_parameters")) or {}
        if answered.get("message_id") in self.gone_messages:
            raise Refusal(400, "Bad Request: message to be replied not found")

    def _get_updates(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        if self.webhook:
            raise Refusal(
                409, "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            )  # fmt: skip
        offset = int(fields.get("offset") or 0)
        wait_s = min(int(fields.get("timeout") or 0), _MAX_POLL_S)
        with self._changed:
            self._updates = [one for one in self._updates if one["update_id"] >= offset]
            self._changed.wait_for(lambda: self._updates or self._ended, wait_s)
            return list(self._updates[: int(fields.get("limit") or 100)])

    def _get_file(self, fields: dict[str, Any]) -> Any:
        file_id = str(fields.get("file_id", ""))
        if file_id not in self._files:
            raise Refusal(400, "Bad Request: invalid file_id")
        path, data = self._files[file_id]
        if len(data) > _MAX_DOWNLOAD_BYTES:
            raise Refusal(400, "Bad Request: file is too big")
        if self.local_folder:
            path = f"{self.local_folder}/{self.token}/{path}"
        return {"file_id": file_id, "file_size": len(data), "file_path": path}

    def _download(self, path: str) -> Response:
        for name, data in self._files.values():
            if path == f"/file/bot{self.token}/{name}":
                return Response(data, mimetype="application/octet-stream")
        return _refuse(Refusal(404, "Not Found"))


def _refuse(error: Refusal) -> Response:
    body = {"ok": False, "error_code": error.status, "description": str(error)}
    if error.parameters:
        body["parameters"] = error.parameters
    return answer_json(body, error.status)


def _check_entities(text: str, entities: list[dict[str, Any]]) -> None:
    total = _units(text)
    for one in entities:
        start, length = one["offset"], one["length"]
        if one["type"] not in _ENTITY_TYPES or start < 0 or length <= 0 or start + length > total:
            raise Refusal(400, "Bad Request: can't parse entities: an entity is out of bounds")
        if one["type"] == "text_link" and not one.get("url"):
            raise Refusal(400, "Bad Request: can't parse entities: a link has no URL")
        # An entity must not split a surrogate pair.
        part = text.encode("utf-16-le")[2 * start : 2 * (start + length)]
        part.decode("utf-16-le")


def _as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
