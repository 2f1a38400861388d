"""Fake OneBot 11 implementation over HTTP, similar to NapCat.

::

    with FakeOneBot() as qq:
        # bots.toml: base_url = qq.url, access_token and secret as here
        headers, body = qq.make_request(qq.make_event("Hello"))
        # … posted to /api/v1/hooks/BOT, and then:
        [answer] = qq.wait_for_messages(1)

Source of its checks and responses: https://github.com/botuniverse/onebot-11
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from werkzeug import Response

from .fake_platform import FakePlatform, FakeRequest, answer_json, make_digest, make_post

_SEND = {
    "send_private_msg": "user_id",
    "send_group_msg": "group_id",
    "upload_private_file": "user_id",
    "upload_group_file": "group_id",
}
_MEDIA = ("image", "record", "video")


class FakeOneBot(FakePlatform):
    """One QQ account.

    :param access_token: Required bearer token of calls, or empty for none.
    :param secret: Key of the signatures of events, or empty for none.
    """

    def __init__(
        self, access_token: str = "kSLuTF2GC2Q4q4ugm3", secret: str = "event-secret"
    ) -> None:
        super().__init__()
        self.access_token = access_token
        self.secret = secret
        self.self_id = 10001000
        #: Name -> bytes for ``get_file``, ``get_image`` and ``get_record``.
        self.files: dict[str, bytes] = {}
        #: Id -> name of a document for ``get_group_file_url`` and ``get_private_file_url``.
        self.documents: dict[str, str] = {}
        #: Message id -> message for ``get_msg``, see :meth:`add_message`.
        self.stored: dict[int, dict[str, Any]] = {}
        #: Id -> messages of a bundle for ``get_forward_msg``.
        self.bundles: dict[str, list[dict[str, Any]]] = {}
        #: User who is not a friend -> group through which the user writes to the bot.
        self.strangers: dict[int, int] = {}

    def make_event(
        self, message: Any, *, user_id: int = 12345678, group_id: int | None = None, **event: Any
    ) -> dict[str, Any]:
        """Return a message event as in the specification.

        :param message: Text with CQ codes, or an array of segments.
        :param event: Keys to add or replace.
        """
        made: dict[str, Any] = {
            "time": 1515204254,
            "self_id": self.self_id,
            "post_type": "message",
            "message_type": "private" if group_id is None else "group",
            "sub_type": "friend" if group_id is None else "normal",
            "message_id": next(self._numbers) + 1000,
            "user_id": user_id,
            "message": message,
            "raw_message": message if isinstance(message, str) else "",
            "font": 456,
            "sender": {"nickname": "小不点", "sex": "male", "age": 18},
        }
        if group_id is not None:
            made |= {"group_id": group_id, "anonymous": None}
        return made | event

    def add_message(self, message: Any, *, group_id: int | None = None, **more: Any) -> str:
        """Store a message that can be quoted, and return its id."""
        event = self.make_event(message, group_id=group_id, **more)
        names = ("time", "message_type", "message_id", "user_id", "sender", "message", "group_id")
        found = {name: event[name] for name in names if name in event}
        self.stored[event["message_id"]] = found | {"real_id": event["message_id"]}
        return str(event["message_id"])

    def make_request(
        self, event: dict[str, Any], secret: str | None = None
    ) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of the webhook request for an event."""
        headers, body = make_post(event, X_Self_ID=str(self.self_id))
        secret = self.secret if secret is None else secret
        if secret:
            headers["X-Signature"] = f"sha1={make_digest(secret, body, 'sha1')}"
        return headers, body

    def add_file(self, data: bytes, name: str = "a.png") -> str:
        """Store a file and return its URL."""
        self.files[name] = data
        return f"{self.url}/files/{name}"

    def answer(self, request: FakeRequest) -> Response:
        action = request.path.strip("/")
        if action.startswith("files/"):
            data = self.files.get(action.removeprefix("files/"))
            if data is None:
                return Response(status=404)
            return Response(data, mimetype="application/octet-stream")
        given = request.headers.get("authorization")
        if self.access_token and given != f"Bearer {self.access_token}":
            return Response(status=401 if given is None else 403)
        fields = request.read_fields()
        if action in _SEND:
            fault = self._find_fault(action, fields)
            if fault:
                return _failed(100, fault)
            message_id = next(self._numbers)
            self.accept({**fields, "action": action, "message_id": message_id})
            made = None if action.startswith("upload") else {"message_id": message_id}
            return answer_json({"status": "ok", "retcode": 0, "data": made})
        if action in ("get_group_file_url", "get_private_file_url"):
            name = self.documents.get(fields["file_id"])
            return _give(name and {"url": f"{self.url}/files/{name}"}, "文件不存在")
        if action in ("get_file", "get_image", "get_record"):
            content = self.files.get(fields.get("file", ""))
            if content is None:
                return _failed(1200, "file not found")
            found = {"file": fields["file"], "base64": base64.b64encode(content).decode()}
            return answer_json({"status": "ok", "retcode": 0, "data": found})
        if action == "get_msg":
            return _give(self.stored.get(int(fields["message_id"])), "消息不存在")
        if action == "get_forward_msg":
            messages = self.bundles.get(str(fields.get("message_id") or fields.get("id")))
            return _give(messages and {"messages": messages}, "找不到相关的聊天记录")
        return Response(status=404)

    def _find_fault(self, action: str, fields: dict[str, Any]) -> str:
        """Return the error of an invalid message, or an empty string."""
        target = fields.get(_SEND[action])
        if not isinstance(target, int):
            return "BAD_PARAM"
        if not self.knows(target):
            return "群聊不存在"
        if action == "send_private_msg":
            group = self.strangers.get(target)
            if group is not None and fields.get("group_id") != group:
                return "请先添加对方为好友"
        if action.startswith("upload"):
            if not fields.get("name"):
                return "BAD_PARAM"
            fields["data"] = _decode(fields.get("file"))
            return "" if fields["data"] is not None else "FILE_NOT_FOUND"
        segments = fields.get("message")
        if not isinstance(segments, list) or not segments:
            return "EMPTY_MESSAGE"
        for one in segments:
            data = one["data"]
            if one["type"] in _MEDIA:
                one["bytes"] = _decode(data.get("file"))
                if one["bytes"] is None:
                    return "IMAGE_NOT_FOUND"
            elif one["type"] == "text" and not data.get("text"):
                return "EMPTY_TEXT"
            elif one["type"] not in ("text", "reply", "at", "face"):
                return f"UNKNOWN_SEGMENT {one['type']}"
        return ""


def _decode(file: Any) -> bytes | None:
    if not isinstance(file, str) or not file.startswith("base64://"):
        return None
    try:
        return base64.b64decode(file.removeprefix("base64://"), validate=True)
    except binascii.Error:
        return None


def _give(data: Any, words: str) -> Response:
    if not data:
        return _failed(1200, words)
    return answer_json({"status": "ok", "retcode": 0, "data": data})


def _failed(retcode: int, words: str) -> Response:
    return answer_json(
        {"status": "failed", "retcode": retcode, "data": None, "msg": words, "wording": words}
    )
