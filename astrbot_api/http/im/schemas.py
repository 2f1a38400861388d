"""Bots, proactive messages and their deliveries."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from ...db.deliveries import DeliveryRow
from ...im.adapter import MESSAGE_TYPES
from ...im.umo import MAX_UMO_CHARS
from ...runtime.clock import to_iso, to_iso_or_none
from ..fields import missing
from ..openapi.shapes import SENT_PART
from ..schemas import RequestSchema, list_of, number, text, texts, time

_LATER = "2026-11-23T16:44:05.643831+00:00"

_DELIVERY_ID = ("Names the delivery.", "0f8fad5b-d9cb-469f-a165-70867728950e")

_STATUS = {
    "description": (
        "`queued`: not sent yet, or to be tried again. `sending`: on its way. `sent`: the "
        "messenger has taken it. `failed`: given up."
    ),
    "enum": ["queued", "sending", "sent", "failed"],
    "example": "sent",
}

_UMO = {
    "description": (
        "The conversation: `platform_id:message_type:session_id`, split at the first two "
        "colons. `message_type` is `FriendMessage`, `GroupMessage` or `OtherMessage`. For a web "
        "chat `webchat:FriendMessage:webchat!USERNAME!SESSION_ID`, or with the session alone "
        "`webchat:FriendMessage:SESSION_ID`. `/sid` in a conversation shows its own."
    ),
    "type": ["string", "null"],
    "pattern": rf"^[^:]*[^:\s][^:]*:({'|'.join(MESSAGE_TYPES)}):.*\S",
    "maxLength": MAX_UMO_CHARS,
    "example": "webchat:FriendMessage:webchat!alice!my_session_001",
}


class BotListSchema(ma.Schema):
    """The bots that are configured."""

    bot_ids = texts("Ids, as they stand in a UMO.", ["tg"])


class ImMessageSchema(RequestSchema):
    """A proactive message."""

    carries_message = True

    umo = ma.fields.Raw(metadata=_UMO)
    umos = ma.fields.Raw(
        metadata={
            "description": "Several UMOs instead of `umo`: each gets the message.",
            "type": ["array", "null"],
            "items": {key: _UMO[key] for key in ("pattern", "maxLength")} | {"type": "string"},
            "minItems": 1,
            "uniqueItems": True,
            "example": ["webchat:FriendMessage:webchat!alice!my_session_001"],
        },
    )
    message = ma.fields.Raw(
        required=True,
        error_messages=missing("message"),
        metadata={
            "description": (
                'A string, or a list of segments: `{"type":"plain","text"}`, '
                '`{"type":"image","attachment_id"}`.'
            ),
            "oneOf": [{"type": "string"}, {"type": "array", "items": SENT_PART}],
            "example": "Your report is ready.",
        },
    )

    @ma.pre_load
    def _check_umo(self, data: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Ask for the UMO first, as the recorded server does; ``null`` is none."""
        kept = {key: data[key] for key in data if data[key] is not None}
        if kept.get("umo", "") == "" and "umos" not in kept:
            raise ma.ValidationError("Missing key: umo")
        return kept


class OutcomeSchema(ma.Schema):
    """What became of a message to one conversation of several."""

    umo = text("As it was sent.", "tg:FriendMessage:1001")
    delivery_id = text(*_DELIVERY_ID, none=True)
    status = ma.fields.String(metadata=_STATUS)
    code = text("Why it failed: a stable word to match.", None, none=True)
    message = text("Why it failed, for people.", None, none=True)


class SentSchema(ma.Schema):
    """A message that was accepted; with `umos` the list alone."""

    delivery_id = text(*_DELIVERY_ID)
    status = ma.fields.String(metadata=_STATUS)
    deliveries = list_of(OutcomeSchema, "Of `umos`: one result each, in their order.")


class DeliverySchema(ma.Schema):
    """A message on its way, or at its end."""

    delivery_id = text(*_DELIVERY_ID)
    umo = text("Where it goes.", "tg:FriendMessage:1001")
    status = ma.fields.String(metadata=_STATUS)
    attempts = number("How often it was tried.", 1)
    error = text("Why the last attempt failed.", None, none=True)
    platform_ids = texts("Ids of the messenger's own messages.", ["4711"])
    created_at = time("When it was accepted; ISO 8601, UTC.", "2026-11-23T16:44:05.343831+00:00")
    updated_at = time("When it last changed; ISO 8601, UTC.", _LATER)
    next_attempt_at = time("When a queued one is tried next; ISO 8601, UTC.", None, none=True)
    finished_at = time("When it was sent or given up; ISO 8601, UTC.", _LATER, none=True)


def describe_delivery(row: DeliveryRow) -> dict[str, Any]:
    """Return a delivery as it is shown."""
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
