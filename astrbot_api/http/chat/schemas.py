"""Request and response schemas of chat requests, and their conversion to turns."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ...chat.turns.turn import TurnRequest
from ...db.idempotency import ClientKey
from ...errors import refuse
from ...messages import parse_chat_message
from ..auth import get_caller
from ..fields import (
    Text,
    Username,
    optional_flag,
    optional_object,
    optional_text,
    request_field,
)
from ..openapi.shapes import MESSAGE_PART
from ..schemas import RUN_ID_EXAMPLE, RequestSchema, mapping, number, text
from ..state import get_state
from .modes import MODES, STREAMING

# Error text of the recorded AstrBot. Like AstrBot, this server ignores the field ``files``.
_NO_MESSAGE = "Missing key: message or files"
_WRONG_MODE = "response_mode must be streaming, blocking or background"


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


class _SessionId(Text):
    """An id of a session. An integer stays one, because the events show the id as it was sent."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        return value if isinstance(value, int) else text


def _session_id(description: str) -> _SessionId:
    return request_field(
        _SessionId, description, "my_session_001",
        load_default=None, allow_none=True, max_chars="max_session_id_chars",
    )  # fmt: skip


class ChatRequestSchema(RequestSchema):
    carries_message = True

    @ma.pre_load
    def _ignore_alias(self, data: Any, **_: Any) -> Any:
        """Ignore ``conversation_id``, whatever it is, if there is a ``session_id``."""
        both = data.get("session_id") is not None and "conversation_id" in data
        return {**data, "conversation_id": None} if both else data

    username = Username()
    message = ma.fields.Raw(
        required=True,
        error_messages={"required": _NO_MESSAGE, "null": _NO_MESSAGE},
        metadata=MESSAGE,
    )
    session_id = _session_id(
        "Id of the session. If it is absent, `null` or blank, a new session gets a UUID as its id. "
        "An unknown id creates a session with that id."
    )
    conversation_id = _session_id("Alias of `session_id`, used if that is absent or `null`.")
    enable_streaming = optional_flag(
        "With `true` (the default), the answer comes in many `plain` events, with `false` in one. "
        "The response is a stream in both cases.",
        default=True,
        example=True,
    )
    response_mode = request_field(
        ma.fields.String,
        "`streaming` (the default) returns a stream of events. `blocking` returns one JSON object "
        "at the end of the turn. `background` returns the turn's ids at once.",
        STREAMING,
        load_default=STREAMING,
        allow_none=True,
        validate=ma.validate.OneOf(MODES, error=_WRONG_MODE),
        error_messages={"invalid": _WRONG_MODE},
    )
    config_id = optional_text(
        "Id of the config for this session from now on. Takes precedence over `config_name`. "
        "`default` resets it.",
        "default",
    )
    config_name = optional_text(
        "Name of the config for this session from now on. An ambiguous name is rejected.",
        "default",
    )
    selected_provider = optional_text("A provider of the config, for this turn only.", "openai")
    selected_model = optional_text("A model of the provider, for this turn only.", "gpt-5-mini")
    skip_user_history = optional_flag(
        "With `true`, the user's message is answered but not stored.",
        default=False,
        example=False,
        data_key="_skip_user_history",
    )
    flags = optional_object(
        "The member `enable_streaming` takes precedence over the field. Other members are ignored.",
        {"enable_streaming": True},
    )


_SESSION = ("Id of the session.", "my_session_001")
_RUN = ("Id of the turn's run. Also in the header `X-Run-ID`.", RUN_ID_EXAMPLE)


class FinishedTurnSchema(ma.Schema):
    session_id = text(*_SESSION)
    run_id = text(*_RUN)
    message = text("Text of the whole answer.", "Hello! How can I help you?")
    reasoning = text("Text of the whole reasoning.", "")
    parts = ma.fields.List(
        ma.fields.Dict(),
        metadata={
            "description": (
                "The stored parts of the answer: `think`, `tool_call`, `plain` and files."
            ),
            "example": [{"type": "plain", "text": "Hello! How can I help you?"}],
        },
    )
    agent_stats = mapping(
        "Token counts and times, or `null` for a command's answer.",
        {
            "token_usage": {"input_other": 20, "input_cached": 0, "output": 7},
            "start_time": 1795452257.75,
            "end_time": 1795452258.76,
            "time_to_first_token": 0.21,
        },
        none=True,
    )
    message_id = number("Number of the stored answer.", 2, none=True)


class BegunTurnSchema(ma.Schema):
    session_id = text(*_SESSION)
    run_id = text(*_RUN)
    user_message = mapping(
        "`data` of the event `user_message_saved`, or `null` if the message is not stored.",
        {
            "id": 1,
            "created_at": "2026-11-23T16:41:51.860786+00:00",
            "llm_checkpoint_id": "0a6b9f0e-8a6d-4b8e-93f5-2a1f0f3d8f65",
        },
        none=True,
    )


def read_turn_request(body: dict[str, Any], client_key: ClientKey | None = None) -> TurnRequest:
    """Return the caller's turn of a validated body.

    :param body: Result of loading :class:`~.schemas.ChatRequestSchema`.
    :param client_key: The client's idempotency key, if it may repeat the request.
    :raises ApiError: ``invalid_request``, ``message_empty`` or ``key_restricted``.
    """
    settings, caller = get_state().settings, get_caller()
    shown = body["session_id"] if body["session_id"] is not None else body["conversation_id"]
    # For a key that is bound to a session, the session id is optional.
    session_id = ("" if shown is None else str(shown)) or caller.rules.session_id or ""
    caller.rules.check_session(session_id)
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
        client_key=client_key,
    )


def read_streaming(body: dict[str, Any]) -> bool:
    """Return ``flags.enable_streaming``, else the field ``enable_streaming``, else True."""
    flag = (body["flags"] or {}).get("enable_streaming")
    if flag is None:
        flag = body["enable_streaming"]
    elif not isinstance(flag, bool):
        raise refuse("flags.enable_streaming must be true or false")
    return True if flag is None else bool(flag)
