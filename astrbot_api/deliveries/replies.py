"""The reply to a message of a messenger: stored and queued in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peewee

from ..db.deliveries import add_delivery
from ..db.inbound import find_event_of_run
from ..messages import MEDIA_TYPES

#: Appended to an incomplete answer, by the model's finish reason.
_CUT = {
    "length": "(The answer was cut off at the model's length limit.)",
    "content_filter": "(The model's provider withheld the rest of the answer.)",
}


def queue_reply(
    db: peewee.Database, run_id: str, content: Mapping[str, Any], traceparent: str | None
) -> None:
    """Queue the reply of a turn if a messenger's message started it.

    Runs in the transaction that stores the bot's message. After a crash the turn is
    either repeated or its reply is queued, never both or neither.

    :param traceparent: The trace context of the turn.
    """
    event = find_event_of_run(db, run_id)
    if event is not None and (segments := _to_segments(content)):
        add_delivery(
            db, platform_id=event.bot_id, target=event.umo, content=segments,
            reply_to=event.reply_to, traceparent=traceparent,
        )  # fmt: skip


def _to_segments(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the texts and files of a stored message that are sent to a messenger.

    Thinking and tool calls are left out. A failed turn or a truncated answer ends with the
    reason. Texts separated only by tool calls are joined as paragraphs.
    """
    segments: list[dict[str, Any]] = []
    for part in content.get("message", ()):
        if part["type"] in MEDIA_TYPES:
            segments.append(part)
        elif part["type"] == "plain" and part["text"].strip():
            _add_text(segments, part["text"].strip())
    error = content.get("error")
    if error:
        _add_text(segments, error["message"])
    elif cut := _CUT.get((content.get("agent_stats") or {}).get("finish_reason", "")):
        _add_text(segments, cut)
    return segments


def _add_text(segments: list[dict[str, Any]], text: str) -> None:
    if segments and segments[-1]["type"] == "plain":
        text = f"{segments.pop()['text']}\n\n{text}"
    segments.append({"type": "plain", "text": text})
