"""Frames of the chat WebSockets: parsing, validation, and conversion of events."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
import orjson

from ...errors import ApiError, StorageError
from ...events import Event
from ...messages import EMPTY_MESSAGE
from ...runtime.bounded_json import JsonLimitError, load_json
from ..blueprint import first_message
from ..decisions import DecisionSchema
from .schemas import ChatRequestSchema

_CODES = {
    "username_reserved": "BAD_USER",
    "session_of_another_user": "SESSION_ERROR",
    "config_not_found": "CONFIG_ERROR",
    "config_ambiguous": "CONFIG_ERROR",
    "provider_not_found": "CONFIG_ERROR",
    "model_not_found": "CONFIG_ERROR",
    "missing_api_key": "UNAUTHORIZED",
    "invalid_api_key": "UNAUTHORIZED",
    "insufficient_scope": "UNAUTHORIZED",
    "missing_field": "INVALID_MESSAGE",
    "invalid_request": "INVALID_MESSAGE",
    "message_empty": "INVALID_MESSAGE",
    "attachment_not_found": "INVALID_MESSAGE",
}

_REQUEST = ChatRequestSchema()
_DECISION = DecisionSchema()

#: Maximum length of a client's id of a turn, in characters. Longer ids are truncated.
_MAX_ID_CHARS = 255


class BadFrame(ApiError):
    """An invalid frame. ``frame_code`` is a code of the contract."""

    def __init__(self, frame_code: str, message: str) -> None:
        super().__init__("invalid_request", message)
        self.frame_code = frame_code


def parse_frame(raw: str | bytes) -> dict[str, Any]:
    """Return the JSON object of a text or binary frame.

    :raises BadFrame: if the frame is not a JSON object.
    """
    try:
        value = load_json(raw)
    except JsonLimitError as error:
        raise BadFrame("INVALID_MESSAGE", f"the frame is rejected: {error}") from error
    except orjson.JSONDecodeError as error:
        raise BadFrame("INVALID_MESSAGE", f"the frame is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadFrame("INVALID_MESSAGE", "message must be an object")
    return value


def load_request(frame: dict[str, Any]) -> dict[str, Any]:
    """Validate a ``send`` frame as a chat request, and return its fields.

    :raises BadFrame: for the first invalid field. ``username`` comes first.
    """
    try:
        body: dict[str, Any] = _REQUEST.load(frame)
    except ma.ValidationError as error:
        wrong = error.messages_dict
        if "username" in wrong:
            raise BadFrame("BAD_USER", first_message(wrong["username"])) from error
        missing = frame.get("message") is None  # AstrBot's error has another text here
        message = "Missing key: message" if missing else first_message(wrong)
        raise BadFrame("INVALID_MESSAGE", message) from error
    if not isinstance(body["message"], (str, list)):
        raise BadFrame("INVALID_MESSAGE", EMPTY_MESSAGE)
    return body


def load_decision(frame: dict[str, Any]) -> dict[str, Any]:
    """Validate a ``decide`` frame, and return the fields of the decision.

    :raises BadFrame: for the first invalid field.
    """
    for name in ("run_id", "id"):
        if not isinstance(frame.get(name), str):
            raise BadFrame("INVALID_MESSAGE", f"Missing key: {name}")
    try:
        body: dict[str, Any] = _DECISION.load(frame)
    except ma.ValidationError as error:
        raise BadFrame("INVALID_MESSAGE", first_message(error.messages_dict)) from error
    return body


def read_message_id(frame: dict[str, Any]) -> str:
    """Return the client's id of a turn, or empty if it sent none."""
    value = frame.get("message_id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value[:_MAX_ID_CHARS] if isinstance(value, str) else ""


class ChatFrames:
    """Frames of ``/chat/ws``."""

    kinds: tuple[str, ...] = ("send", "decide", "ping")

    def check(self, frame: dict[str, Any]) -> None:
        """Check the type of a frame.

        :raises BadFrame: if the type is unknown.
        """
        kind = frame.get("t", "send")
        if kind not in self.kinds:
            raise BadFrame("INVALID_MESSAGE", f"Unsupported message type: {str(kind)[:100]}")

    def write_event(
        self, event: Event, run_id: str, session_id: str | int, message_id: str = ""
    ) -> dict[str, Any] | None:
        """Return an event as a frame, or None if the WebSocket does not send this event.

        Several turns may share a connection, so each frame has ``message_id``.

        :param message_id: The client's id of the turn, or empty for the run's id.
        """
        kind = event["type"]
        if kind == "user_message_saved":
            return None
        if kind == "message_saved":
            saved = {key: event["data"][key] for key in ("id", "created_at")}
            event = {**event, "data": saved, "session_id": session_id}
        return _name(event, run_id, message_id)

    def write_error(self, error: ApiError | StorageError, frame: dict[str, Any]) -> dict[str, Any]:
        """Return the ``error`` frame of a rejected frame.

        If the contract has no specific code, ``error_code`` has the code of the HTTP API.
        """
        if isinstance(error, StorageError):
            error = ApiError("storage_error", str(error))
        code = error.frame_code if isinstance(error, BadFrame) else _CODES.get(error.code)
        written = {"type": "error", "code": code or "PROCESSING_ERROR", "data": error.message}
        return written if code else {**written, "error_code": error.code}

    def write_decided(self, frame: dict[str, Any], pending: int) -> dict[str, Any]:
        """Return the frame that confirms a decision."""
        data = {"id": frame["id"], "pending": pending}
        return {"type": "decided", "data": data, "message_id": frame["run_id"]}


class UnifiedFrames(ChatFrames):
    """Frames of ``/unified-chat/ws``, as recorded from AstrBot 4.29.3."""

    kinds = ("send", "decide", "ping", "interrupt")

    def check(self, frame: dict[str, Any]) -> None:
        if frame.get("ct", "chat") != "chat":
            raise BadFrame("INVALID_MESSAGE", f"Unsupported ct: {str(frame['ct'])[:100]}")
        super().check(frame)

    def write_event(
        self, event: Event, run_id: str, session_id: str | int, message_id: str = ""
    ) -> dict[str, Any]:
        return {"ct": "chat", **_name(event, run_id, message_id)}

    def write_error(self, error: ApiError | StorageError, frame: dict[str, Any]) -> dict[str, Any]:
        written = super().write_error(error, frame)
        if written["code"] == "INVALID_MESSAGE":
            written["code"] = "INVALID_MESSAGE_FORMAT"
        message_id = read_message_id(frame)
        named = {"message_id": message_id} if message_id else {}
        # AstrBot's errors have ``t``, its events ``type``.
        return {"ct": "chat", "t": "error", **written, **named}

    def write_decided(self, frame: dict[str, Any], pending: int) -> dict[str, Any]:
        return {"ct": "chat", **super().write_decided(frame, pending)}


def _name(event: Event, run_id: str, message_id: str) -> dict[str, Any]:
    named = {"message_id": message_id} if message_id else {}
    return {"message_id": run_id, **event, **named}
