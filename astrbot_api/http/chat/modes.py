"""A turn answered with one JSON envelope: at its end, or at once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response

from ...chat.turns.outcome import text_of
from ...chat.turns.reply import ReplyFold
from ...chat.watching.watch import Watch
from ...db import messages
from ...errors import STATUS_OF_CODE, ApiError, StorageError
from ...events import Event, decode_event
from ..envelope import ok
from ..state import get_state

STREAMING, BLOCKING, BACKGROUND = "streaming", "blocking", "background"

#: Every ``response_mode``; the first is the default.
MODES = (STREAMING, BLOCKING, BACKGROUND)

#: Header that names the turn's run, also where the turn failed.
RUN_HEADER = "X-Run-ID"


def iter_batches(watch: Watch, heartbeat_s: float) -> Iterator[list[Event]]:
    """Yield the run's new events each time, or nothing after a silence; close the watch.

    A database that is away makes a silence, too. What is pushed meanwhile is left out.

    :raises ApiError: ``shutting_down`` when this worker stops before the turn has ended.
    """
    try:
        while not watch.ended:
            if watch.leaving:
                raise ApiError(
                    "shutting_down",
                    f"the server restarts; the turn goes on as run {watch.run_id}, and its answer "
                    "will be in the session",
                    headers={RUN_HEADER: watch.run_id}, retry_after_s=1,
                )  # fmt: skip
            try:
                batch = watch.take(heartbeat_s)
            except StorageError:  # the turn goes on, wherever it runs
                time.sleep(heartbeat_s)
                batch = []
            yield [decode_event(line) for number, line in batch if number is not None]
    finally:
        watch.close()


def answer_blocking(watch: Watch) -> Response:
    """Wait for the turn's end and answer with all of it.

    :raises ApiError: what made it fail, ``turn_timeout`` or ``shutting_down``.
    """
    settings = get_state().settings
    fold, asked = ReplyFold(), list[dict[str, Any]]()
    until = time.monotonic() + settings.max_blocking_s
    for batch in iter_batches(watch, settings.heartbeat_s):
        for event in batch:
            fold.add(event)
            if event["type"] == "approval_required":
                asked.append(event["data"])
        if time.monotonic() > until and not watch.ended:
            raise ApiError(
                "turn_timeout",
                f"the turn takes longer than {settings.max_blocking_s:g} s; it goes on as run "
                f"{watch.run_id}, and its answer will be in the session",
                headers={RUN_HEADER: watch.run_id},
            )
    if fold.error is not None:
        raise describe_failure(fold.error, {RUN_HEADER: watch.run_id})
    described = _describe(watch.run_id, fold)
    if asked and fold.message_id is None:
        waits = {**described, "status": "waiting", "approvals": asked}
        answer = ok(waits, 202)
        answer.headers[RUN_HEADER] = watch.run_id
        return answer
    answer = ok(described)
    answer.headers[RUN_HEADER] = watch.run_id
    return answer


def answer_background(watch: Watch) -> Response:
    """Answer at once with the turn's ids; it goes on."""
    fold = ReplyFold()
    for batch in iter_batches(watch, get_state().settings.heartbeat_s):
        for event in batch:
            fold.add(event)
        if fold.session_id != "":
            break
    data = {
        "session_id": str(fold.session_id),
        "run_id": watch.run_id,
        "user_message": fold.user_message,
    }
    answer = ok(data, 202)
    answer.headers[RUN_HEADER] = watch.run_id
    return answer


def describe_failure(event: Event, headers: Mapping[str, str]) -> ApiError:
    """Return the error of a turn that failed, with a status of its own.

    :param event: Its ``error`` event.
    :param headers: Headers of the answer.
    """
    code = str(event.get("reason") or event["code"])
    if code not in STATUS_OF_CODE:
        code = "internal_error"
    wait_s = event.get("retry_after_s") or (2 if STATUS_OF_CODE[code] == 503 else None)
    return ApiError(
        code, event["data"], headers=headers,
        retry_after_s=None if wait_s is None else math.ceil(wait_s),
    )  # fmt: skip


def _describe(run_id: str, fold: ReplyFold) -> dict[str, Any]:
    """Return the ``data`` of a blocking answer: what is stored, where it is."""
    content = None
    if fold.message_id is not None:
        with get_state().db.read() as db:
            content = messages.find_content(db, fold.message_id)
    content = content or fold.to_content()
    return {
        "session_id": str(fold.session_id),
        "run_id": run_id,
        "message": text_of(content),
        "reasoning": content.get("reasoning", ""),
        "parts": content["message"],
        "agent_stats": fold.stats,
        "message_id": fold.message_id,
    }
