"""The reply to a message of a messenger: stored and queued in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peewee

from ..db.deliveries import add_delivery
from ..db.inbound import find_event_of_run
from ..messages import MEDIA_TYPES

#: Said where a turn failed without a word that could be shown.
_FAILED = "Something went wrong; please try again."

#: Said behind an answer that is not whole, by why the model ended it.
_CUT = {
    "length": "(The answer was cut here: the model may not say more at once.)",
    "content_filter": "(The model's provider withheld the rest of the answer.)",
}


def queue_reply(
    db: peewee.Database, run_id: str, content: Mapping[str, Any], traceparent: str | None = None
) -> bool:
    """Queue the reply of a turn, where a messenger asked for it.

    In the transaction that stores the bot's message: after a crash the reply
    is either to be made again or on its way, never both and never neither.

    :param content: The bot's message as it is stored.
    :param traceparent: The turn, in a trace.
    :returns: Whether there is something to send.
    """
    event = find_event_of_run(db, run_id)
    if event is None:
        return False
    segments = to_segments(content)
    if not segments:
        return False
    add_delivery(
        db, platform_id=event.bot_id, target=event.umo, content=segments,
        reply_to=event.reply_to, traceparent=traceparent,
    )  # fmt: skip
    return True


def to_segments(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a messenger is sent of a stored message: its texts and files.

    Thinking and tool calls are not; of a turn that failed, or an answer that was cut, the
    reason is.
    Texts that only tool calls stand between are one, in paragraphs.
    """
    segments: list[dict[str, Any]] = []
    for part in content.get("message", ()):
        if part["type"] in MEDIA_TYPES:
            segments.append(part)
        elif part["type"] == "plain" and part["text"].strip():
            _add_text(segments, part["text"].strip())
    error = content.get("error")
    if error:
        _add_text(segments, error.get("message") or _FAILED)
    elif cut := _CUT.get((content.get("agent_stats") or {}).get("finish_reason", "")):
        _add_text(segments, cut)
    return segments


def _add_text(segments: list[dict[str, Any]], text: str) -> None:
    if segments and segments[-1]["type"] == "plain":
        text = f"{segments.pop()['text']}\n\n{text}"
    segments.append({"type": "plain", "text": text})
