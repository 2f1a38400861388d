"""From the body of a chat request to a turn that is asked for."""

from __future__ import annotations

from typing import Any

from ...chat.turns.turn import TurnRequest
from ...config.settings import Settings
from ...errors import ApiError
from ...keys.caller import Caller
from ...messages import check_text, parse_chat_message


def read_turn_request(body: dict[str, Any], settings: Settings, caller: Caller) -> TurnRequest:
    """Return the turn that a checked body asks for.

    :param body: What :class:`~.schemas.ChatRequestSchema` loaded.
    :raises ApiError: ``invalid_request``, ``message_empty`` or ``key_restricted``.
    """
    shown = body["session_id"] if body["session_id"] is not None else body["conversation_id"]
    session_id = _read_session_id(shown, settings.max_session_id_chars)
    if caller.guard is not None and caller.guard.rules.session_id is not None:
        # Whoever is bound to a session need not name it.
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
        key_id=caller.key_id,
        guard=caller.guard,
    )


def read_streaming(body: dict[str, Any]) -> bool:
    """Return the flag of ``flags``, else the field, else true."""
    flag = (body["flags"] or {}).get("enable_streaming")
    if flag is None:
        flag = body["enable_streaming"]
    elif not isinstance(flag, bool):
        raise ApiError("invalid_request", "flags.enable_streaming must be true or false")
    return True if flag is None else bool(flag)


def _read_session_id(value: Any, max_chars: int) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ApiError("invalid_request", "session_id must be a string")
    text = str(value).strip()
    check_text("session_id", text)
    if len(text) > max_chars:
        raise ApiError(
            "invalid_request",
            f"session_id has {len(text)} characters; at most {max_chars} are allowed",
        )
    return text
