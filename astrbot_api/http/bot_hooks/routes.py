"""``/hooks/{bot_id}``: webhooks that messengers call."""

from __future__ import annotations

import logging

import orjson
from flask import Response, request

from ...errors import ApiError
from ...im.adapter import BadSignature, InboundRequest
from ..blueprint import ApiBlueprint
from ..json_body import check_coding
from ..request_body import read_body
from ..schemas import plain_response
from ..state import get_state

log = logging.getLogger(__name__)

blp = ApiBlueprint(
    "hooks",
    __name__,
    tag="Hooks",
    public=True,
    description="Webhooks that messengers call.",
    path={"bot_id": ("The bot's id in bots.toml.", "tg")},
)

_ANSWER = plain_response(
    "The event was accepted. The body has the messenger's required format.", "text/plain"
)

_CODES = (
    "invalid_request", "unsupported_media_type", "bad_signature", "bot_not_found",
    "body_too_large", "server_busy", "shutting_down", "storage_error",
)  # fmt: skip


@blp.post("/hooks/<bot_id>", operation_id="receiveBotEvent")
@blp.doc(
    responses=_ANSWER,
    requestBody={
        "description": "The event in the messenger's own format. Its size in bytes is limited.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
)
@blp.raises(*_CODES)
def receive_event(bot_id: str) -> Response:
    """Receive an event from a messenger.

    Enter this URL in the settings of the messenger. No key is needed, but the request must have
    the messenger's signature. A message to the bot starts a turn, and the reply is sent through
    the messenger.
    """
    return _receive(bot_id)


@blp.get("/hooks/<bot_id>", operation_id="confirmBotHook")
@blp.doc(responses=_ANSWER)
@blp.raises(*_CODES)
def confirm_hook(bot_id: str) -> Response:
    """Confirm this webhook URL to a messenger.

    Some messengers verify the URL before they send events.
    """
    return _receive(bot_id)


def _receive(bot_id: str) -> Response:
    state = get_state()
    state.im.bots.get_running(bot_id)  # rejects unknown bots before the body is read
    check_coding(request)
    read = InboundRequest(
        method=request.method,
        headers={name.lower(): value for name, value in request.headers.items()},
        query=request.args.to_dict(),
        body=read_body(request, state.settings.max_hook_bytes),
    )
    try:
        reception = state.im.inbound.receive(bot_id, read)
    except BadSignature as error:
        log.warning("rejected a request to the hook of bot %s: %s", bot_id, error)
        message = "The signature of the request is missing or wrong"
        raise ApiError("bad_signature", message) from error
    if reception.status >= 400:
        code = "method_not_allowed" if reception.status == 405 else "invalid_request"
        raise ApiError(
            code, _read_message(reception.body) or "This bot does not accept the request"
        )
    return Response(reception.body, reception.status, content_type=reception.content_type)


def _read_message(body: bytes) -> str:
    """Return the ``message`` of an adapter's error response, or ""."""
    try:
        words = orjson.loads(body)["message"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""
    return words if isinstance(words, str) else ""
