"""``/admin/data/bots``: the bots, their last deliveries, and test messages."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from ..db import deliveries
from ..db.deliveries import DeliveryRow
from ..errors import ApiError
from ..http.envelope import ok
from ..http.json_body import read_json_object
from ..http.state import get_state
from ..im.proactive import Sending
from ..runtime.clock import to_iso
from .access import AdminBlueprint, note_action

blp = AdminBlueprint("bots", "/admin/data/bots")


@blp.get("")
def list_bots() -> Response:
    """Return the bots of ``bots.toml``, each with its last delivery."""
    state = get_state()
    bots = state.im.bots.list_bots()
    with state.db.read() as db:
        newest = {bot.id: deliveries.list_newest(db, bot.id, 1) for bot in bots}
    return ok(
        {
            "bots": [
                {
                    "id": bot.id,
                    "type": bot.type,
                    "enabled": bot.enabled,
                    "config": bot.config,
                    "fault": bot.fault,
                    "last_delivery": _describe(newest[bot.id]),
                }
                for bot in bots
            ]
        }
    )


@blp.post("/test")
def send_test() -> Response:
    """Send a message to a target, as ``POST /im/message`` would."""
    body = read_json_object(request)
    umo, message = body.get("umo"), body.get("message")
    if not isinstance(umo, str):
        raise ApiError("missing_field", "Missing key: umo")
    if not isinstance(message, str):
        raise ApiError("missing_field", "Missing key: message")
    (outcome,) = get_state().im.proactive.send(Sending([umo], message))
    if outcome.error is not None:
        raise outcome.error
    note_action("bot_tested", umo, outcome.status)
    return ok({"status": outcome.status, "delivery_id": outcome.delivery_id})


def _describe(rows: list[DeliveryRow]) -> dict[str, Any] | None:
    if not rows:
        return None
    (row,) = rows
    return {"status": row.status, "at": to_iso(row.updated_at), "error": row.error}
