"""Responses to a turn as one JSON envelope: at its end (blocking) or at once (background)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flask import Response

from ...chat.turns.fold import ReplyFold
from ...chat.watching.watch import Watch
from ...db import messages
from ...errors import STATUS_OF_CODE, ApiError, StorageError, refuse
from ...events import Event
from ...messages import plain_text
from ..envelope import ok
from ..sse import decode_own, is_disconnected
from ..state import get_state

STREAMING, BLOCKING, BACKGROUND = "streaming", "blocking", "background"

#: All values of ``response_mode``. The first is the default.
MODES = (STREAMING, BLOCKING, BACKGROUND)

#: Header with the id of the turn's run. Failed turns have it, too.
RUN_HEADER = "X-Run-ID"


def iter_batches(watch: Watch, heartbeat_s: float) -> Iterator[list[Event]]:
    """Yield a run's new events, or an empty list after a silence, and close the watch at the end.

    A database failure counts as silence. Pushed messages are skipped.

    :raises ApiError: ``shutting_down`` if this worker stops before the turn ends.
    """
    try:
        while not watch.ended:
            if watch.leaving:
                raise ApiError(
                    "shutting_down",
                    f"the server is restarting; the turn continues as run {watch.run_id}, and "
                    "its answer will be stored in the session",
                    headers={RUN_HEADER: watch.run_id}, retry_after_s=1,
                )  # fmt: skip
            try:
                batch = watch.take(heartbeat_s)
            except StorageError:  # the turn continues regardless
                time.sleep(heartbeat_s)
                batch = []
            yield list(decode_own(batch))
    finally:
        watch.close()


def wait_for_end(
    watch: Watch,
    add: Callable[[Event], None],
    remedy: str,
    *,
    half_open: bool = False,
    on_disconnect: Callable[[], object] = lambda: None,
) -> None:
    """Pass all events of a turn to ``add`` until the turn ends.

    :param remedy: End of the error message for a timeout.
    :param half_open: Whether a client that only ended its sending gets the answer.
    :param on_disconnect: Called if the client disconnects before the end.
    :raises ApiError: ``turn_timeout``, ``shutting_down``, or if the client disconnects.
    """
    settings = get_state().settings
    until = time.monotonic() + settings.max_blocking_s
    for batch in iter_batches(watch, settings.heartbeat_s):
        for event in batch:
            add(event)
        if time.monotonic() > until and not watch.ended:
            late = f"the turn takes longer than {settings.max_blocking_s:g} s{remedy}"
            raise ApiError("turn_timeout", late, headers={RUN_HEADER: watch.run_id})
        if not (half_open or watch.ended) and is_disconnected():
            on_disconnect()
            raise refuse("the client disconnected before the end of the turn")


def answer_blocking(watch: Watch) -> Response:
    """Wait for the end of the turn and return its result.

    :raises ApiError: the error of a failed turn, ``turn_timeout`` or ``shutting_down``.
    """
    fold, asked = ReplyFold(), list[dict[str, Any]]()

    def add(event: Event) -> None:
        fold.add(event)
        if event["type"] == "approval_required":
            asked.append(event["data"])

    remedy = f"it continues as run {watch.run_id}, and its answer will be stored in the session"
    wait_for_end(watch, add, f"; {remedy}", half_open=True)
    if fold.error is not None:
        raise describe_failure(fold.error, {RUN_HEADER: watch.run_id})
    described = _describe(watch.run_id, fold)
    if waits := bool(asked) and fold.message_id is None:
        described |= {"status": "waiting", "approvals": asked}
    answer = ok(described, 202 if waits else 200)
    answer.headers[RUN_HEADER] = watch.run_id
    return answer


def answer_background(watch: Watch) -> Response:
    """Return the turn's ids at once. The turn continues."""
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
    """Return the error of a failed turn, with the status of its error code."""
    code = str(event.get("reason") or event["code"])
    if code not in STATUS_OF_CODE:
        code = "internal_error"
    wait_s = event.get("retry_after_s") or (2 if STATUS_OF_CODE[code] == 503 else None)
    return ApiError(
        code, event["data"], headers=headers,
        retry_after_s=None if wait_s is None else math.ceil(wait_s),
    )  # fmt: skip


def _describe(run_id: str, fold: ReplyFold) -> dict[str, Any]:
    """Return the ``data`` of a blocking response, from the stored message if there is one."""
    content = None
    if fold.message_id is not None:
        with get_state().db.read() as db:
            content = messages.find_content(db, fold.message_id)
    content = content or fold.to_content()
    return {
        "session_id": str(fold.session_id),
        "run_id": run_id,
        "message": plain_text(content["message"]),
        "reasoning": content.get("reasoning", ""),
        "parts": content["message"],
        "agent_stats": fold.stats,
        "message_id": fold.message_id,
    }
