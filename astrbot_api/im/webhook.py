"""Adapter for any other system: signed JSON in both directions.

Both directions use one format::

    {"type": "message", "message_type": "FriendMessage", "session_id": "42",
     "message": [{"type": "plain", "text": "Hello"},
                 {"type": "image", "filename": "a.png", "mime": "image/png", "data": "BASE64"}]}

Signatures: :mod:`astrbot_api.deliveries.signing`.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

import marshmallow as ma
import orjson

from ..config.secrets import Secret
from ..config.tables import HttpUrl, find_first_error
from ..deliveries.attempts import Progress, Sent
from ..deliveries.http import HttpResponse, PlatformError, PlatformHttp
from ..deliveries.signing import check_secret, sign, verify
from ..messages import MEDIA_TYPES
from ..runtime.bounded_json import load_json
from ..runtime.decoding import decode_base64
from ..runtime.threads import run_native
from ..runtime.tracing import current_span
from .adapter import (
    MESSAGE_TYPES,
    Adapter,
    BadSignature,
    Bot,
    InboundRequest,
    InFile,
    InMessage,
    OutFile,
    OutMessage,
    Receipt,
    Reception,
    Target,
)

_MAX_WORDS_CHARS = 200
_MAX_SEGMENTS = 100

#: Blanks around a session's id do not survive in a UMO. The reply would reach another session.
_SESSION_ID = ma.validate.Regexp(
    r"(?!\s)[^\0]{1,200}(?<!\s)\Z",
    error="must have 1 to 200 characters, no blanks around them and no U+0000",
)
_OTHER_ID = ma.validate.Regexp(
    r"[^\0]{0,200}\Z", error="must have at most 200 characters and no U+0000"
)

#: Many systems number their conversations and users.
_IDS = ("session_id", "sender_id", "message_id")


class SettingsSchema(ma.Schema):
    """Settings of a bot of type ``webhook``."""

    url = HttpUrl(required=True)
    secret = Secret(required=True, validate=check_secret)
    max_file_mb = ma.fields.Integer(load_default=10, validate=ma.validate.Range(1, 100))
    timeout_s = ma.fields.Integer(load_default=30, validate=ma.validate.Range(1, 600))


class _InboundSchema(ma.Schema):
    """An inbound object. Unknown keys are ignored, and ``null`` counts as absent."""

    class Meta:
        unknown = ma.EXCLUDE

    @ma.pre_load
    def read_loosely(self, data: Any, **_: Any) -> Any:
        """Remove keys without a value, and write ids that are numbers as texts."""
        if not isinstance(data, dict):
            return data
        return {
            key: str(value) if key in _IDS and type(value) is int else value
            for key, value in data.items()
            if value is not None
        }


class _FileSchema(_InboundSchema):
    """A file of an inbound message."""

    type = ma.fields.String(required=True, validate=ma.validate.OneOf(MEDIA_TYPES))
    filename = ma.fields.String(load_default="file", validate=ma.validate.Length(1, 255))
    data = ma.fields.String(required=True)


class _MessageSchema(_InboundSchema):
    """An inbound message. Its ``message`` is parsed separately."""

    type = ma.fields.String(load_default="message", validate=ma.validate.Equal("message"))
    message_type = ma.fields.String(
        load_default="FriendMessage", validate=ma.validate.OneOf(MESSAGE_TYPES)
    )
    session_id = ma.fields.String(required=True, validate=_SESSION_ID)
    sender_id = ma.fields.String(load_default="", validate=_OTHER_ID)
    sender_name = ma.fields.String(load_default="", validate=ma.validate.Length(max=200))
    addressed = ma.fields.Boolean(load_default=True)
    quoted = ma.fields.String(load_default=None)
    message_id = ma.fields.String(load_default=None, validate=_OTHER_ID)
    message = ma.fields.Raw(required=True)


def build(bot: Bot, http: PlatformHttp) -> WebhookAdapter:
    """Return the adapter of a bot, without any request."""
    return WebhookAdapter(bot.id, bot.settings, http)


class WebhookAdapter(Adapter):
    """A system that posts messages here and receives messages at its own URL."""

    type = "webhook"
    capabilities = frozenset({"text", "image", "record", "video", "file", "group", "reply"})

    def __init__(self, bot_id: str, settings: Mapping[str, Any], http: PlatformHttp) -> None:
        self._bot_id = bot_id
        self._settings = settings
        self._http = http

    def send(self, target: Target, message: OutMessage, *, progress: Progress) -> Receipt:
        """Post the whole message as one request. It arrives completely or not at all."""
        size_bytes = sum(one.size_bytes for one in message.parts if isinstance(one, OutFile))
        limit = self._settings["max_file_mb"] * 1024 * 1024
        if size_bytes > limit:
            raise PlatformError(
                f"The message's files have {size_bytes} bytes; this bot sends at most {limit} "
                "(max_file_mb)."
            )
        segments = [_make_segment(part) for part in message.parts]
        body = run_native(
            orjson.dumps,
            {
                "type": "message",
                "bot_id": self._bot_id,
                "message_type": target.message_type,
                "session_id": target.session_id,
                "reply_to": target.reply_to,
                "message": segments,
            },
        )
        headers = sign(self._settings["secret"], message.delivery_id or str(uuid.uuid4()), body)
        response = self._http.request(
            "POST", self._settings["url"], body=body, timeout_s=self._settings["timeout_s"],
            headers={"Content-Type": "application/json", **headers, **current_span().to_headers()},
            # The status decides. A message that was accepted must not be sent again.
            status_only=True,
        )  # fmt: skip
        ids = _read_response(response)
        progress(Sent(len(message.parts), platform_ids=ids))
        return Receipt(ids)

    def receive(self, request: InboundRequest) -> Reception:
        """Parse a message that the system posted."""
        event_id = verify(self._settings["secret"], request.headers, request.body)
        if event_id is None:
            raise BadSignature("the request has no valid, recent signature with the bot's secret")
        try:
            message = _read_message(event_id, load_json(request.body))
        except (ma.ValidationError, ValueError) as error:
            return _refuse(_explain(error))
        return Reception((message,), 202, b'{"status":"accepted"}', "application/json")


def _make_segment(part: str | OutFile) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "plain", "text": part}
    data = b"".join(part.iter_bytes())
    return {
        "type": part.type,
        "filename": part.filename,
        "mime": part.mime,
        "size_bytes": part.size_bytes,
        "data": run_native(base64.b64encode, data).decode(),
    }


def _read_response(response: HttpResponse) -> tuple[str, ...]:
    """Return the ids that a receiver assigned to the message.

    :raises PlatformError: if the receiver rejected it.
    """
    status = response.status
    if not 200 <= status < 300:
        words = response.body[: 4 * _MAX_WORDS_CHARS].decode("utf-8", "replace")
        shown = "".join(letter for letter in words if letter.isprintable())[:_MAX_WORDS_CHARS]
        raise response.to_error(f"The receiver answered {status}: {shown or 'with an empty body'}")
    try:
        found = load_json(response.body).get("message_id")
    except (ValueError, AttributeError):
        return ()
    return (str(found)[:200],) if isinstance(found, (str, int)) else ()


def _read_message(event_id: str, body: Any) -> InMessage:
    """Parse a message.

    :raises ValueError: or ``ValidationError``, if it is invalid.
    """
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    loaded = _MessageSchema().load(body)
    text, files = _read_segments(loaded["message"])
    if not text and not files:
        raise ValueError("message: is empty")
    return InMessage(
        event_id=event_id,
        message_type=loaded["message_type"],
        session_id=loaded["session_id"],
        sender_id=loaded["sender_id"] or loaded["session_id"],
        sender_name=loaded["sender_name"],
        text=text,
        files=files,
        addressed=loaded["addressed"] or loaded["message_type"] == "FriendMessage",
        quoted=loaded["quoted"],
        platform_message_id=loaded["message_id"] or event_id,
    )


def _read_segments(message: Any) -> tuple[str, tuple[InFile, ...]]:
    if isinstance(message, str):
        return message.strip(), ()
    if not isinstance(message, list):
        raise ValueError("message: must be a string or a list of segments")
    if len(message) > _MAX_SEGMENTS:
        raise ValueError(
            f"message: has {len(message)} segments; at most {_MAX_SEGMENTS} are allowed"
        )
    texts, files = [], []
    for at, one in enumerate(message):
        if isinstance(one, dict) and one.get("type") == "plain":
            if not isinstance(one.get("text"), str):
                raise ValueError(f"message[{at}].text: must be a string")
            texts.append(one["text"])
            continue
        try:
            file = _FileSchema().load(one)
        except ma.ValidationError as error:
            raise ValueError(f"message[{at}].{_explain(error)}") from error
        try:
            data = run_native(decode_base64, file["data"])
        except ValueError as error:
            raise ValueError(f"message[{at}].data: must be base64") from error
        files.append(InFile(file["type"], file["filename"], data=data))
    return "".join(texts).strip(), tuple(files)


def _explain(error: Exception) -> str:
    if isinstance(error, ma.ValidationError):
        place, what = find_first_error(error.messages)
        return f"{place}: {what}"
    if isinstance(error, orjson.JSONDecodeError):
        return "the body is not valid JSON"
    return str(error)


def _refuse(words: str) -> Reception:
    body = orjson.dumps({"status": "error", "message": words})
    return Reception((), 400, body, "application/json")
