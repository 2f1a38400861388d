"""``/im``: the bots, proactive messages and their deliveries."""

from __future__ import annotations

from typing import Any

import peewee
from flask import Response

from ...db.deliveries import EVENT_PREFIX, DeliveryRow, find_delivery
from ...db.sessions import WEBCHAT
from ...errors import ApiError
from ...im.accepting import Outcome
from ...im.umo import Umo
from ..auth import check_username, get_caller
from ..blueprint import ApiBlueprint
from ..envelope import ok
from ..idempotency import CODES, PARAMETER, Remember, answer_once
from ..schemas import envelope_of
from ..state import get_state
from .schemas import BotListSchema, DeliverySchema, ImMessageSchema, SentSchema, describe_delivery

blp = ApiBlueprint(
    "im", __name__, tag="IM", scope="im", description="Bots and messages on messengers."
)

_CODES = (
    "missing_field", "invalid_request", "malformed_json", "message_empty", "username_reserved",
    "bot_not_found", "attachment_not_found", "session_of_another_user", "body_too_large",
    "unsupported_media_type", "too_many_deliveries", "delivery_failed", *CODES,
)  # fmt: skip

_EXAMPLE = {
    "umo": "webchat:FriendMessage:webchat!alice!my_session_001",
    "message": "Your report is ready.",
}

_ANSWER = envelope_of("SentAnswer", SentSchema())


@blp.route("/im/bots", methods=["GET"])
@blp.doc(operationId="listImBots")
@blp.answers(envelope_of("BotListAnswer", BotListSchema()))
@blp.raises()
def list_bots() -> Response:
    """List the ids of the configured bots.

    Bots that are switched off are listed too. An id is the first part of a
    UMO. The built-in platform `webchat` is always there and is not listed.
    """
    return ok({"bot_ids": get_state().im.bots.list_ids()})


@blp.route("/im/message", methods=["POST"])
@blp.arguments(ImMessageSchema(), example=_EXAMPLE)
@blp.doc(operationId="sendOpenApiImMessage", parameters=[PARAMETER])
@blp.answers(_ANSWER)
@blp.answers(_ANSWER, 202)
@blp.raises(*_CODES)
def send_im_message(body: dict[str, Any]) -> Response:
    """Send a message into a conversation on a messenger or in the web chat.

    The answer waits some seconds for the messenger: a 200 has `sent`; a 202
    has `queued`, and the server goes on trying. Ask for its `delivery_id`
    later. A message to the web chat is stored in its session, which is made
    when it is new, and shown in every open stream of it. With `umos` the
    message goes to each of them, and the answer tells of each.
    """
    return answer_once("im/message", body, lambda remember: _send(body, remember))


@blp.route("/im/messages", methods=["POST"])
@blp.arguments(ImMessageSchema(), example=_EXAMPLE)
@blp.doc(operationId="sendImMessage", parameters=[PARAMETER])
@blp.answers(_ANSWER)
@blp.answers(_ANSWER, 202)
@blp.raises(*_CODES)
def send_im_messages(body: dict[str, Any]) -> Response:
    """Send a message into a conversation; the same as POST /im/message.

    A newer spelling of that route.
    """
    return answer_once("im/message", body, lambda remember: _send(body, remember))


@blp.route(
    "/im/deliveries/<delivery_id>",
    methods=["GET"],
    parameters=[
        {
            "in": "path",
            "name": "delivery_id",
            "schema": {"type": "string"},
            "description": "Of the answer to the message.",
            "example": "0f8fad5b-d9cb-469f-a165-70867728950e",
        }
    ],
)
@blp.doc(operationId="getImDelivery")
@blp.answers(envelope_of("DeliveryAnswer", DeliverySchema()))
@blp.raises("delivery_not_found")
def get_delivery(delivery_id: str) -> Response:
    """Tell what became of a message.

    Finished deliveries are forgotten after some weeks.
    """
    with get_state().db.read() as db:
        row = find_delivery(db, delivery_id)
    if row is None or row.platform_id.startswith(EVENT_PREFIX) or not _may_see(row):
        raise ApiError("delivery_not_found", "Delivery not found")
    return ok(describe_delivery(row))


def _send(body: dict[str, Any], remember: Remember | None) -> Response:
    umos, single = _read_umos(body), "umo" in body

    def note(db: peewee.Database, outcomes: list[Outcome]) -> None:
        if remember is not None and any(one.error is None for one in outcomes):
            remember(db, _answer(outcomes, single=single))

    outcomes = get_state().im.proactive.send(
        umos, body["message"], key_id=get_caller().key_id, check=_check_target, on_accepted=note
    )
    if single and outcomes[0].error is not None:
        raise outcomes[0].error
    return _answer(outcomes, single=single)


def _answer(outcomes: list[Outcome], *, single: bool) -> Response:
    status = 202 if any(one.status in ("queued", "sending") for one in outcomes) else 200
    if not single:
        return ok({"deliveries": [_describe(one) for one in outcomes]}, status)
    return ok({"delivery_id": outcomes[0].delivery_id, "status": outcomes[0].status}, status)


def _may_see(row: DeliveryRow) -> bool:
    """Tell whether the key could have made the delivery."""
    guard = get_caller().guard
    if guard is None:
        return True
    try:
        guard.rules.check_bot(row.platform_id)
        guard.rules.check_umo(row.target)
    except ApiError:
        return False
    return True


def _check_target(umo: Umo, session_id: str, username: str) -> None:
    """Refuse a target that the key may not send to.

    :raises ApiError: ``username_reserved`` or ``key_restricted``.
    """
    guard = get_caller().guard
    if guard is not None:
        guard.rules.check_bot(umo.platform_id)
        guard.rules.check_umo(str(umo))
    if umo.platform_id != WEBCHAT:
        return
    if guard is not None:
        guard.rules.check_session(session_id)
    if username or (guard is not None and guard.rules.binds_username):
        check_username(username)


def _read_umos(body: dict[str, Any]) -> list[str]:
    """Return the UMOs that a message goes to.

    :raises ApiError: ``invalid_request``.
    """
    one, several = body.get("umo"), body.get("umos")
    if one is not None and several is not None:
        raise ApiError("invalid_request", "umo and umos are both there; send one of them")
    if several is None:
        return [_to_text(one)]
    limit = get_state().settings.im_max_targets
    if not isinstance(several, list) or not several:
        raise ApiError("invalid_request", "umos must be a list of UMOs")
    if len(several) > limit:
        raise ApiError("invalid_request", f"umos has {len(several)} UMOs; at most {limit}")
    texts = [_to_text(umo) for umo in several]
    if len(set(texts)) < len(texts):
        raise ApiError("invalid_request", "umos has the same UMO twice")
    return texts


def _to_text(umo: Any) -> str:
    if isinstance(umo, bool) or not isinstance(umo, (str, int, float)):
        raise ApiError("invalid_request", "Invalid umo: it must be a string")
    return str(umo)


def _describe(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "umo": outcome.umo,
        "delivery_id": outcome.delivery_id or None,
        "status": outcome.status,
        "code": None if error is None else error.code,
        "message": None if error is None else error.message,
    }
