"""A turn answered with one JSON envelope: at its end, or at once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from flask import Response

from ...db import messages
from ...errors import STATUS_OF_CODE, ApiError
from ...events import Event
from ..envelope import ok
from ..state import get_state
from .watching import TurnWatch, iter_batches

STREAMING, BLOCKING, BACKGROUND = "streaming", "blocking", "background"

#: Every ``response_mode``; the first is the default.
MODES = (STREAMING, BLOCKING, BACKGROUND)

#: Header that names the turn's run, also where the turn failed.
RUN_HEADER = "X-Run-ID"


@dataclass(slots=True)
class TurnSummary:
    """What a turn's events come to."""

    run_id: str
    session_id: str | int = ""
    user_message: dict[str, Any] | None = None
    message_id: int | None = None
    text: str = ""
    reasoning: str = ""
    stats: dict[str, Any] | None = None
    error: tuple[str, str] | None = None
    _pieces: list[str] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Add an event; one of another message, which was pushed, is left out."""
        if event.get("message_id", self.run_id) != self.run_id:
            return
        kind = event["type"]
        if kind == "session_id":
            self.session_id = event["session_id"]
        elif kind == "user_message_saved":
            self.user_message = event["data"]
        elif kind == "plain" and event["chain_type"] is None:
            self._pieces.append(event["data"])
        elif kind == "agent_stats":
            self.stats = event["data"]
        elif kind == "complete":
            self.text, self.reasoning = event["data"], event["reasoning"]
        elif kind == "message_saved":
            self.message_id = event["data"]["id"]
        elif kind == "error":
            self.error = (event["code"], event["data"])
        elif kind == "end" and not self.text:
            self.text = "".join(self._pieces)

    def raise_error(self) -> None:
        """:raises ApiError: what made the turn fail, with a status of its own."""
        if self.error is None:
            return
        code, message = self.error
        headers = {RUN_HEADER: self.run_id}
        if STATUS_OF_CODE.get(code) == 503:
            headers["Retry-After"] = "2"
        raise ApiError(code if code in STATUS_OF_CODE else "internal_error", message,
                       headers=headers)  # fmt: skip


def answer_blocking(watch: TurnWatch) -> Response:
    """Wait for the turn's end and answer with all of it.

    :raises ApiError: what made it fail, or ``turn_timeout``.
    """
    settings = get_state().settings
    summary = TurnSummary(watch.run_id)
    until = time.monotonic() + settings.max_blocking_s
    for batch in iter_batches(watch, settings.heartbeat_s):
        for event in batch:
            summary.take(event)
        if time.monotonic() > until and not watch.ended:
            raise ApiError(
                "turn_timeout",
                f"the turn takes longer than {settings.max_blocking_s:g} s; it goes on as run "
                f"{watch.run_id}, and its answer will be in the session",
                headers={RUN_HEADER: watch.run_id},
            )
    summary.raise_error()
    answer = ok(describe_summary(summary))
    answer.headers[RUN_HEADER] = watch.run_id
    return answer


def answer_background(watch: TurnWatch) -> Response:
    """Answer at once with the turn's ids; it goes on."""
    summary = TurnSummary(watch.run_id)
    for batch in iter_batches(watch, get_state().settings.heartbeat_s):
        for event in batch:
            summary.take(event)
        if summary.session_id != "":
            break
    data = {
        "session_id": str(summary.session_id),
        "run_id": watch.run_id,
        "user_message": summary.user_message,
    }
    answer = ok(data, 202)
    answer.headers[RUN_HEADER] = watch.run_id
    return answer


def describe_summary(summary: TurnSummary) -> dict[str, Any]:
    """Return the ``data`` of a blocking answer: what is stored, where it is."""
    parts: Any = [{"type": "plain", "text": summary.text}] if summary.text else []
    text, reasoning = summary.text, summary.reasoning
    if summary.message_id is not None:
        with get_state().db.read() as db:
            stored = messages.find_content(db, summary.message_id)
        if stored is not None:
            # Whole, where an event had to be cut to fit into a line.
            parts = stored["message"]
            reasoning = stored.get("reasoning", "")
            text = "".join(part["text"] for part in parts if part["type"] == "plain")
    return {
        "session_id": str(summary.session_id),
        "run_id": summary.run_id,
        "message": text,
        "reasoning": reasoning,
        "parts": parts,
        "agent_stats": summary.stats,
        "message_id": summary.message_id,
    }
