"""Schemas of bots, proactive messages and deliveries."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ...db.deliveries import DeliveryRow
from ...im.adapter import MESSAGE_TYPES
from ...im.umo import MAX_UMO_CHARS
from ...runtime.clock import to_iso, to_iso_or_none
from ..openapi.shapes import SENT_PART
from ..schemas import RequestSchema, list_of, number, text, text_list, time

_LATER = "2026-11-23T16:44:05.643831+00:00"

_DELIVERY_ID = ("The delivery's id.", "0f8fad5b-d9cb-469f-a165-70867728950e")

_STATUS = {
    "description": (
        "`queued`: waiting for its first or next attempt. `sending`: an attempt is running. "
        "`sent`: the messenger accepted it. `failed`: the server stopped trying."
    ),
    "enum": ["queued", "sending", "sent", "failed"],
    "example": "sent",
}

_UMO = {
    "description": (
        "The target conversation (UMO): `platform_id:message_type:session_id`, split at the "
        "first two colons. `message_type` is `FriendMessage`, `GroupMessage` or `OtherMessage`. "
        "The UMO of a web chat is `webchat:FriendMessage:webchat!USERNAME!SESSION_ID` or "
        "`webchat:FriendMessage:SESSION_ID`. Send `/sid` in a conversation to see its UMO."
    ),
    "type": ["string", "null"],
    "pattern": rf"^[^:]*[^:\s][^:]*:({'|'.join(MESSAGE_TYPES)}):.*\S",
    "maxLength": MAX_UMO_CHARS,
    "example": "webchat:FriendMessage:webchat!alice!my_session_001",
}


class BotListSchema(ma.Schema):
    bot_ids = text_list("The ids, as used in a UMO.", ["tg"])


class ImMessageSchema(RequestSchema):
    carries_message = True

    umo = ma.fields.Raw(metadata=_UMO)
    umos = ma.fields.Raw(
        metadata={
            "description": "Several UMOs instead of `umo`. The message is sent to each.",
            "type": ["array", "null"],
            "items": {key: _UMO[key] for key in ("pattern", "maxLength")} | {"type": "string"},
            "minItems": 1,
            "uniqueItems": True,
            "example": ["webchat:FriendMessage:webchat!alice!my_session_001"],
        },
    )
    message = ma.fields.Raw(
        required=True,
        metadata={
            "description": (
                'A string or a list of segments: `{"type":"plain","text"}`, '
                '`{"type":"image","attachment_id"}`.'
            ),
            "oneOf": [{"type": "string"}, {"type": "array", "items": SENT_PART}],
            "example": "Your report is ready.",
        },
    )

    @ma.pre_load
    def _check_umo(self, data: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Check the UMO first, like the recorded server. ``null`` counts as absent."""
        kept = {key: data[key] for key in data if data[key] is not None}
        if kept.get("umo", "") == "" and "umos" not in kept:
            raise ma.ValidationError("Missing key: umo")
        return kept


class OutcomeSchema(ma.Schema):
    """The result for one of several targets."""

    umo = text("The UMO from the request.", "tg:FriendMessage:1001")
    delivery_id = text(*_DELIVERY_ID, none=True)
    status = ma.fields.String(metadata=_STATUS)
    code = text("The error code of a failure.", None, none=True)
    message = text("The error message of a failure, for people.", None, none=True)


class SentSchema(ma.Schema):
    """An accepted message. With `umos`, only the list is present."""

    delivery_id = text(*_DELIVERY_ID)
    status = ma.fields.String(metadata=_STATUS)
    deliveries = list_of(OutcomeSchema, "One result for each target in `umos`, in the same order.")


class DeliverySchema(ma.Schema):
    delivery_id = text(*_DELIVERY_ID)
    umo = text("The target (UMO).", "tg:FriendMessage:1001")
    status = ma.fields.String(metadata=_STATUS)
    attempts = number("Number of attempts.", 1)
    error = text("Why the last attempt failed.", None, none=True)
    platform_ids = text_list("The messenger's ids of the sent messages.", ["4711"])
    created_at = time("Time of the request, ISO 8601, UTC.", "2026-11-23T16:44:05.343831+00:00")
    updated_at = time("Time of the last change, ISO 8601, UTC.", _LATER)
    next_attempt_at = time(
        "Time of the next attempt of a queued delivery, ISO 8601, UTC.", None, none=True
    )
    finished_at = time("Time at which it was sent or failed, ISO 8601, UTC.", _LATER, none=True)


def describe_delivery(row: DeliveryRow) -> dict[str, Any]:
    """Return the public fields of a delivery."""
    return {
        "delivery_id": row.delivery_id,
        "umo": row.target,
        "status": row.status,
        "attempts": row.attempts,
        "error": row.error,
        "platform_ids": row.platform_ids,
        "created_at": to_iso(row.created_at),
        "updated_at": to_iso(row.updated_at),
        "next_attempt_at": to_iso(row.due_at) if row.status == "queued" else None,
        "finished_at": to_iso_or_none(row.finished_at),
    }
