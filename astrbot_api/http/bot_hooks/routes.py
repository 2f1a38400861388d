"""``/hooks/{bot_id}``: where messengers deliver messages."""

from __future__ import annotations

import logging

import orjson
from flask import Response, request

from ...errors import ApiError
from ...im.adapter import BadSignature, InboundRequest
from ..blueprint import ApiBlueprint
from ..request_body import read_body
from ..schemas import in_path
from ..state import get_state

log = logging.getLogger(__name__)

blp = ApiBlueprint(
    "hooks", __name__, tag="Hooks", public=True, description="Where messengers deliver messages."
)

_PARAMETERS = [in_path("bot_id", "The bot's id in bots.toml.", "tg")]

_ANSWER = {
    200: {
        "description": "The event is taken in; the body is what the messenger expects.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}

_CODES = (
    "invalid_request", "bad_signature", "bot_not_found", "body_too_large", "server_busy",
    "shutting_down", "storage_error",
)  # fmt: skip


@blp.route("/hooks/<bot_id>", methods=["POST"], parameters=_PARAMETERS)
@blp.doc(
    operationId="receiveBotEvent",
    security=[],
    responses=_ANSWER,
    requestBody={
        "description": "The messenger's own event, of a limited number of bytes.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
)
@blp.raises(*_CODES)
def receive_event(bot_id: str) -> Response:
    """Take in an event of a messenger.

    For the messenger itself: enter this address there. No key is needed; the
    request must bear the messenger's own signature. A message that the bot is
    to answer starts a turn, and the answer goes back through the messenger.
    """
    return _receive(bot_id)


@blp.route("/hooks/<bot_id>", methods=["GET"], parameters=_PARAMETERS)
@blp.doc(operationId="confirmBotHook", security=[], responses=_ANSWER)
@blp.raises(*_CODES)
def confirm_hook(bot_id: str) -> Response:
    """Answer a messenger that asks whether this address is its bot's.

    Some do before they send events.
    """
    return _receive(bot_id)


def _receive(bot_id: str) -> Response:
    state = get_state()
    state.im.bots.get_running(bot_id)  # before anything of the body is read
    read = InboundRequest(
        method=request.method,
        headers={name.lower(): value for name, value in request.headers.items()},
        query=request.args.to_dict(),
        body=read_body(request, state.settings.max_hook_bytes),
    )
    try:
        reception = state.im.inbound.receive(bot_id, read)
    except BadSignature as error:
        log.warning("a request to the hook of the bot %s is refused: %s", bot_id, error)
        message = "The signature of the request is missing or wrong"
        raise ApiError("bad_signature", message) from error
    if reception.status >= 400:
        code = "method_not_allowed" if reception.status == 405 else "invalid_request"
        raise ApiError(code, _read_words(reception.body) or "This bot takes no such request")
    return Response(reception.body, reception.status, content_type=reception.content_type)


def _read_words(body: bytes) -> str:
    """Return what an adapter says is wrong with a request, as its ``message``."""
    try:
        words = orjson.loads(body)["message"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""
    return words if isinstance(words, str) else ""
