"""``/im``: list bots, send proactive messages and query deliveries."""

from __future__ import annotations

from typing import Any

from flask import Response

from ...db.deliveries import EVENT_PREFIX, find_delivery
from ...errors import ApiError, refuse
from ...im.proactive import Sending
from ..auth import get_caller
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..idempotency import CODES, PARAMETER, read_client_key, replay
from ..schemas import envelope_of
from ..state import get_state
from ..usernames import get_reach
from .schemas import BotListSchema, DeliverySchema, ImMessageSchema, SentSchema, describe_delivery

blp = ApiBlueprint(
    "im",
    __name__,
    tag="IM",
    scope="im",
    description="Bots and proactive messages.",
    path={
        "delivery_id": (
            "The `delivery_id` from the response to the message.",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
        )
    },
)

_CODES = (
    "missing_field", "message_empty", "username_reserved", "bot_not_found", "attachment_not_found",
    "session_of_another_user", "too_many_deliveries", "delivery_failed", *CODES,
)  # fmt: skip

_EXAMPLE = {
    "umo": "webchat:FriendMessage:webchat!alice!my_session_001",
    "message": "Your report is ready.",
}

_ANSWER = envelope_of("SentAnswer", SentSchema())


@blp.get("/im/bots", operation_id="listImBots")
@blp.answers(envelope_of("BotListAnswer", BotListSchema()))
def list_bots() -> Response:
    """List the ids of the configured bots.

    The list includes disabled bots. An id is the first part of a UMO. The built-in platform
    `webchat` is always available and not listed.
    """
    bot_ids = get_state().im.bots.list_ids()
    return ok({"bot_ids": get_caller().rules.choose_bots(bot_ids)})


@blp.post("/im/message", operation_id="sendOpenApiImMessage")
@blp.arguments(ImMessageSchema(), example=_EXAMPLE)
@blp.doc(parameters=[PARAMETER])
@blp.answers(_ANSWER)
@blp.answers(_ANSWER, 202)
@blp.raises(*_CODES)
def send_im_message(body: dict[str, Any]) -> Response:
    """Send a message to a conversation on a messenger or in the web chat.

    The server waits a few seconds for the messenger. A 200 with `sent` means that the messenger
    accepted the message. A 202 with `queued` means that the server keeps trying; query the
    `delivery_id` later.

    A message to the web chat is stored in its session and sent to all open streams of the
    session. The session is created if needed. With `umos` the message is sent to each target,
    and the response has one result for each.
    """
    return _send(body)


@blp.post("/im/messages", operation_id="sendImMessage")
@blp.arguments(ImMessageSchema(), example=_EXAMPLE)
@blp.doc(parameters=[PARAMETER])
@blp.answers(_ANSWER)
@blp.answers(_ANSWER, 202)
@blp.raises(*_CODES)
def send_im_messages(body: dict[str, Any]) -> Response:
    """Send a message to a conversation, like POST /im/message.

    This is the newer path of that route.
    """
    return _send(body)


@blp.get("/im/deliveries/<delivery_id>", operation_id="getImDelivery")
@blp.answers(envelope_of("DeliveryAnswer", DeliverySchema()))
@blp.raises("delivery_not_found")
def get_delivery(delivery_id: str) -> Response:
    """Return the state of a delivery.

    Finished deliveries are deleted after some weeks.
    """
    may_see, reach = get_state().im.proactive.may_see, get_reach()
    with get_state().db.read() as db:
        row = find_delivery(db, delivery_id)
    if row is None or row.platform_id.startswith(EVENT_PREFIX) or not may_see(row, reach):
        raise ApiError("delivery_not_found", "Delivery not found")
    return ok(describe_delivery(row))


def _send(body: dict[str, Any]) -> Response:
    state = get_state()
    idempotency = state.worker.idempotency
    with idempotency.claim(read_client_key("im/message", body)) as claim:
        if claim is not None and claim.earlier is not None:
            return replay(claim.earlier)
        sending = Sending(
            _read_umos(body), body["message"], get_caller().key_id, get_caller().root_id,
            get_reach(), get_caller().guard, listed="umo" not in body,
        )  # fmt: skip
        outcomes = state.im.proactive.send(sending, claim)
        if not sending.listed and outcomes[0].error is not None:
            raise outcomes[0].error
        data, status = sending.describe(outcomes)
        if claim is not None:
            idempotency.finish(claim.answer(data, status))
    return ok(data, status)


def _read_umos(body: dict[str, Any]) -> list[str]:
    """Return the UMOs to which a message is sent.

    :raises ApiError: ``invalid_request``.
    """
    one, several = body.get("umo"), body.get("umos")
    if one is not None and several is not None:
        raise refuse("umo and umos exclude each other; send one of them")
    if several is None:
        return [_to_text(one)]
    limit = get_state().settings.im_max_targets
    if not isinstance(several, list) or not several:
        raise refuse("umos must be a list of UMOs")
    if len(several) > limit:
        raise refuse(f"umos has {len(several)} UMOs; at most {limit} are allowed")
    texts = [_to_text(umo) for umo in several]
    if len(set(texts)) < len(texts):
        raise refuse("umos contains the same UMO twice; send each one once")
    return texts


def _to_text(umo: Any) -> str:
    if isinstance(umo, bool) or not isinstance(umo, (str, int, float)):
        raise refuse("Invalid umo: it must be a string")
    return str(umo)
