"""``POST /chat``."""

from __future__ import annotations

from typing import Any

from flask import Response

from ...chat.turn import TurnRequest
from ...errors import ApiError
from ...messages import check_text, parse_chat_message
from ..auth import check_username, get_caller
from ..blueprint import ApiBlueprint
from ..sse import stream_response
from ..state import get_state
from .schemas import ChatRequestSchema

blp = ApiBlueprint("chat", __name__, tag="Chat", scope="chat", description="Talk to the agent.")

_EXAMPLE_STREAM = (
    'data: {"type":"session_id","data":null,"session_id":"my_session_001"}\n\n'
    'data: {"type":"plain","data":"Hello","streaming":true,"chain_type":null,'
    '"message_id":"7254cd9a-814f-498e-a202-2c1777b1bd2d"}\n\n'
    'data: {"type":"complete","data":"Hello","reasoning":"","streaming":true,'
    '"message_id":"7254cd9a-814f-498e-a202-2c1777b1bd2d"}\n\n'
    'data: {"type":"end","data":"","streaming":false,'
    '"message_id":"7254cd9a-814f-498e-a202-2c1777b1bd2d"}\n\n'
)


@blp.route("/chat", methods=["POST"])
@blp.arguments(ChatRequestSchema(), example={"message": "Hello", "username": "alice"})
@blp.doc(
    operationId="sendChatMessage",
    responses={
        200: {
            "description": "A stream of events, the last of which is `end`.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string", "description": "Server-sent events."},
                    "example": _EXAMPLE_STREAM,
                }
            },
        }
    },
)
@blp.raises(
    "missing_field", "invalid_request", "malformed_json", "message_empty", "config_ambiguous",
    "username_reserved", "config_not_found", "provider_not_found", "model_not_found",
    "session_of_another_user", "body_too_large", "unsupported_media_type", "too_many_turns",
    "server_busy", "shutting_down",
)  # fmt: skip
def send_chat_message(body: dict[str, Any]) -> Response:
    """Send a message to the agent and stream its answer.

    The answer is `text/event-stream`: each event is `data: ` and one line of
    JSON, in this order: `session_id`, `user_message_saved`, `run_started`, any
    number of `plain` (with `chain_type` `null` for the answer's text,
    `reasoning` for thinking, `tool_call` and `tool_call_result` for tools),
    `agent_stats`, `complete` with the whole text, `message_saved`, `end`. A
    turn that fails has `error` (with a `code`) before `end`. Comment lines
    (`: heartbeat`) fill silences.

    The turn belongs to the server: a client that leaves does not stop it, and
    the answer is stored. Turns of one session run one after another.
    """
    state = get_state()
    check_username(body["username"])
    request = _to_turn_request(body)
    log = state.runs.start(request)
    return stream_response(log, state.settings.heartbeat_s)


def _to_turn_request(body: dict[str, Any]) -> TurnRequest:
    settings = get_state().settings
    shown = body["session_id"] if body["session_id"] is not None else body["conversation_id"]
    session_id = _read_session_id(shown, settings.max_session_id_chars)
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
        streaming=_read_streaming(body),
        config_id=body["config_id"] or "",
        config_name=body["config_name"] or "",
        provider_id=body["selected_provider"] or "",
        model=body["selected_model"] or "",
        skip_user_history=bool(body["skip_user_history"]),
        key_id=get_caller().key_id,
    )


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


def _read_streaming(body: dict[str, Any]) -> bool:
    """Return the flag of ``flags``, else the field, else true."""
    flag = (body["flags"] or {}).get("enable_streaming")
    if flag is None:
        flag = body["enable_streaming"]
    elif not isinstance(flag, bool):
        raise ApiError("invalid_request", "flags.enable_streaming must be true or false")
    return True if flag is None else bool(flag)
