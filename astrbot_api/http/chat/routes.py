"""Routes ``POST /chat`` and ``GET /chat/configs``."""

from __future__ import annotations

from typing import Any

from flask import Response

from ..blueprint import ApiBlueprint
from ..configs.routes import CONFIG_LIST, describe_configs
from ..envelope import ok
from ..idempotency import CODES, PARAMETER, read_client_key
from ..openapi.shapes import CHAT_EVENT
from ..schemas import envelope_of
from ..sse import find_abort, stream_response
from ..state import get_state
from ..usernames import check_username
from .modes import BACKGROUND, BLOCKING, answer_background, answer_blocking
from .schemas import BegunTurnSchema, ChatRequestSchema, FinishedTurnSchema, read_turn_request

blp = ApiBlueprint(
    "chat", __name__, tag="Chat", scope="chat", description="Send messages to agents."
)

_BLOCKING_ANSWER = envelope_of("BlockingAnswer", FinishedTurnSchema())

_BACKGROUND_ANSWER = envelope_of("BackgroundAnswer", BegunTurnSchema())

_EXAMPLE_STREAM = (
    'data: {"type":"session_id","data":null,"session_id":"my_session_001"}\n\n'
    'data: {"type":"plain","data":"Hello","streaming":true,"chain_type":null,'
    '"message_id":"7254cd9a-814f-498e-a202-2c1777b1bd2d"}\n\n'
    'data: {"type":"complete","data":"Hello","reasoning":"","streaming":true,'
    '"message_id":"7254cd9a-814f-498e-a202-2c1777b1bd2d"}\n\n'
    'data: {"type":"end","data":"","streaming":false,'
    '"message_id":"7254cd9a-814f-498e-a202-2c1777b1bd2d"}\n\n'
)


@blp.post("/chat", operation_id="sendChatMessage")
@blp.arguments(ChatRequestSchema(), example={"message": "Hello", "username": "alice"})
@blp.doc(
    parameters=[PARAMETER],
    responses={
        200: {
            "description": (
                "A stream of events that ends with `end`, or one JSON object with `response_mode` "
                "`blocking`."
            ),
            "content": {
                "application/json": {"schema": _BLOCKING_ANSWER},
                "text/event-stream": {
                    "schema": CHAT_EVENT,
                    "example": _EXAMPLE_STREAM,
                },
            },
        },
        202: {
            "description": "The turn has started (`response_mode` `background`).",
            "content": {"application/json": {"schema": _BACKGROUND_ANSWER}},
        },
    },
)
@blp.raises(
    "missing_field", "message_empty", "config_ambiguous", "username_reserved", "config_not_found",
    "provider_not_found", "model_not_found", "session_of_another_user", "too_many_turns",
    "too_many_streams", "server_busy", "shutting_down", "provider_error", "provider_rate_limited",
    "provider_refused", "context_length_exceeded", "run_interrupted", "turn_timeout", *CODES,
)  # fmt: skip
def send_chat_message(body: dict[str, Any]) -> Response:
    """Send a message to the agent and stream its answer.

    The response is `text/event-stream`. Each event is `data: ` and one line of JSON, in this order:
    `session_id`, `user_message_saved`, `run_started`, any number of `plain` (with `chain_type`
    `null` for the answer's text, `reasoning` for reasoning, `tool_call` and `tool_call_result` for
    tools), `agent_stats`, `complete` with the whole text, `message_saved`, `end`. A failed turn has
    `error` (with a `code`), then `complete` with the text so far, or with the error's text. Comment
    lines (`: heartbeat`) keep the connection open.

    The turn continues after a disconnect, and its answer is stored. Turns of one session run one
    after another.

    If a client does not know whether its request arrived, it can retry with the same
    `Idempotency-Key`. It gets the same turn, from its first event.

    With `response_mode` `blocking`, a failed turn is an error response (`provider_error` is a 502).
    The text so far is stored nevertheless.
    """
    check_username(body["username"])
    turn = read_turn_request(body, read_client_key("chat", body))
    watch = get_state().chat.service.open(turn, find_abort())
    if body["response_mode"] == BLOCKING:
        return answer_blocking(watch)
    if body["response_mode"] == BACKGROUND:
        return answer_background(watch)
    return stream_response(watch)


@blp.get("/chat/configs", operation_id="listChatConfigs")
@blp.answers(CONFIG_LIST)
def list_chat_configs() -> Response:
    """List the configs that a chat may choose; the same as GET /configs.

    For keys that have only the scope `chat`.
    """
    described = describe_configs()
    return ok({"configs": described, "info_list": described})
