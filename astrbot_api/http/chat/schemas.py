"""Request and response schemas of chat requests, and their conversion to turns."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ...chat.turns.turn import TurnRequest
from ...config.settings import Settings
from ...errors import refuse
from ...keys.caller import Caller
from ...messages import check_text, parse_chat_message, to_whole
from ..fields import AnyObject, Flag, Text, Username
from ..openapi.shapes import MESSAGE_PART
from .modes import MODES, STREAMING

# Error text of the recorded AstrBot. Like AstrBot, this server ignores the field ``files``.
_NO_MESSAGE = "Missing key: message or files"


#: OpenAPI schema of a message.
MESSAGE: dict[str, Any] = {
    "description": (
        'A string, or a list of segments: `{"type":"plain","text"}`, '
        '`{"type":"reply","message_id","selected_text"?}`, '
        '`{"type":"image","attachment_id"}`. A text that begins with `/` and the name of a '
        "command runs the command."
    ),
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": MESSAGE_PART},
    ],
    "example": "Hello",
}


def _optional(description: str, **kwargs: Any) -> Text:
    metadata = {"description": description, **kwargs.pop("metadata", {})}
    return Text(load_default="", allow_none=True, metadata=metadata, **kwargs)


class ChatRequestSchema(ma.Schema):
    """Request for a turn. Unknown fields are ignored."""

    carries_message = True

    class Meta:
        unknown = ma.EXCLUDE

    username = Username()
    message = ma.fields.Raw(
        required=True,
        error_messages={"required": _NO_MESSAGE, "null": _NO_MESSAGE},
        metadata=MESSAGE,
    )
    session_id = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": (
                "Id of the session. If it is absent, `null` or blank, a new session gets a UUID "
                "as its id. An unknown id creates a session with that id."
            ),
            "type": ["string", "integer"],  # apispec adds null
            "example": "my_session_001",
        },
    )
    conversation_id = ma.fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "Alias of `session_id`, used if that is absent or `null`.",
            "type": ["string", "integer"],
            "example": "my_session_001",
        },
    )
    enable_streaming = Flag(
        metadata={
            "description": (
                "With `true` (the default), the answer comes in many `plain` events, with `false` "
                "in one. The response is a stream in both cases."
            ),
            "default": True,
            "example": True,
        }
    )
    response_mode = ma.fields.String(
        load_default=STREAMING,
        allow_none=True,
        validate=ma.validate.OneOf(
            MODES, error="response_mode must be streaming, blocking or background"
        ),
        error_messages={"invalid": "response_mode must be streaming, blocking or background"},
        metadata={
            "description": (
                "`streaming` (the default) returns a stream of events. `blocking` returns one "
                "JSON object at the end of the turn. `background` returns the turn's ids at once."
            ),
            "example": STREAMING,
        },
    )
    config_id = _optional(
        "Id of the config for this session from now on. Takes precedence over `config_name`. "
        "`default` resets it.",
        metadata={"example": "default"},
    )
    config_name = _optional(
        "Name of the config for this session from now on. An ambiguous name is rejected.",
        metadata={"example": "default"},
    )
    selected_provider = _optional(
        "A provider of the config, for this turn only.", metadata={"example": "openai"}
    )
    selected_model = _optional(
        "A model of the provider, for this turn only.", metadata={"example": "gpt-5-mini"}
    )
    skip_user_history = Flag(
        data_key="_skip_user_history",
        metadata={
            "description": "With `true`, the user's message is answered but not stored.",
            "default": False,
            "example": False,
        },
    )
    flags = AnyObject(
        load_default=None,
        allow_none=True,
        metadata={
            "description": (
                "The member `enable_streaming` takes precedence over the field. Other members are "
                "ignored."
            ),
            "example": {"enable_streaming": True},
        },
    )


_SESSION = {"description": "Id of the session.", "example": "my_session_001"}
_RUN = {
    "description": "Id of the turn's run. Also in the header `X-Run-ID`.",
    "example": "7254cd9a-814f-498e-a202-2c1777b1bd2d",
}


class FinishedTurnSchema(ma.Schema):
    """A finished turn."""

    session_id = ma.fields.String(metadata=_SESSION)
    run_id = ma.fields.String(metadata=_RUN)
    message = ma.fields.String(
        metadata={
            "description": "Text of the whole answer.",
            "example": "Hello! How can I help you?",
        }
    )
    reasoning = ma.fields.String(
        metadata={"description": "Text of the whole reasoning.", "example": ""}
    )
    parts = ma.fields.List(
        ma.fields.Dict(),
        metadata={
            "description": (
                "The stored parts of the answer: `think`, `tool_call`, `plain` and files."
            ),
            "example": [{"type": "plain", "text": "Hello! How can I help you?"}],
        },
    )
    agent_stats = ma.fields.Dict(
        allow_none=True,
        metadata={
            "description": "Token counts and times, or `null` for a command's answer.",
            "example": {
                "token_usage": {"input_other": 20, "input_cached": 0, "output": 7},
                "start_time": 1795452257.75,
                "end_time": 1795452258.76,
                "time_to_first_token": 0.21,
            },
        },
    )
    message_id = ma.fields.Integer(
        allow_none=True, metadata={"description": "Number of the stored answer.", "example": 2}
    )


class BegunTurnSchema(ma.Schema):
    """A turn that has started."""

    session_id = ma.fields.String(metadata=_SESSION)
    run_id = ma.fields.String(metadata=_RUN)
    user_message = ma.fields.Dict(
        allow_none=True,
        metadata={
            "description": (
                "`data` of the event `user_message_saved`, or `null` if the message is not stored."
            ),
            "example": {
                "id": 1,
                "created_at": "2026-11-23T16:41:51.860786+00:00",
                "llm_checkpoint_id": "0a6b9f0e-8a6d-4b8e-93f5-2a1f0f3d8f65",
            },
        },
    )


def read_turn_request(body: dict[str, Any], settings: Settings, caller: Caller) -> TurnRequest:
    """Return the turn of a validated body.

    :param body: Result of loading :class:`~.schemas.ChatRequestSchema`.
    :raises ApiError: ``invalid_request``, ``message_empty`` or ``key_restricted``.
    """
    shown = body["session_id"] if body["session_id"] is not None else body["conversation_id"]
    session_id = _read_session_id(shown, settings.max_session_id_chars)
    if caller.guard is not None and caller.guard.rules.session_id is not None:
        # For a key that is bound to a session, the session id is optional.
        session_id = session_id or caller.guard.rules.session_id
        caller.guard.rules.check_session(session_id)
    segments = parse_chat_message(
        body["message"],
        max_chars=settings.max_message_chars,
        max_segments=settings.max_segments,
    )
    return TurnRequest(
        username=body["username"],
        segments=segments,
        session_id=session_id,
        shown_session_id=shown if isinstance(shown, int) else session_id,
        streaming=read_streaming(body),
        config_id=body["config_id"] or "",
        config_name=body["config_name"] or "",
        provider_id=body["selected_provider"] or "",
        model=body["selected_model"] or "",
        skip_user_history=bool(body["skip_user_history"]),
        may_wait=True,
        key_id=caller.key_id,
        guard=caller.guard,
    )


def read_streaming(body: dict[str, Any]) -> bool:
    """Return ``flags.enable_streaming``, else the field ``enable_streaming``, else True."""
    flag = (body["flags"] or {}).get("enable_streaming")
    if flag is None:
        flag = body["enable_streaming"]
    elif not isinstance(flag, bool):
        raise refuse("flags.enable_streaming must be true or false")
    return True if flag is None else bool(flag)


def _read_session_id(value: Any, max_chars: int) -> str:
    value = to_whole(value)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise refuse("session_id must be a string")
    text = str(value).strip()
    check_text("session_id", text)
    if len(text) > max_chars:
        raise refuse(f"session_id has {len(text)} characters; at most {max_chars} are allowed")
    return text
