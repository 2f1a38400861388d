"""Decisions of pending tool calls that a client sends in its next request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..chat.resuming.deciding import Verdict
from ..chat.watching.watch import Watch
from ..db import approvals, runs
from ..db.approvals import ApprovalRow
from ..db.runs import RunRow
from ..errors import refuse
from .auth import get_holder
from .own_runs import find_call, find_run_to_decide, make_verdict
from .sse import find_abort
from .state import get_state
from .usernames import get_bound_username

MAX_ANSWERS = 100

_MAX_ID_CHARS = 255


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's decision on a pending tool call.

    :param arguments: Arguments that replace the model's, or None to keep the model's.
    """

    approval_id: str
    approved: bool
    comment: str = ""
    arguments: dict[str, Any] | None = None


def continue_with_answers(
    answers: Sequence[Answer], username: str
) -> tuple[RunRow, int, Watch | Sequence[ApprovalRow]]:
    """Decide pending calls of a run, and watch the run continue.

    :returns: The run, the number of its last event that asked for one of these approvals, and the
        watch. Instead of the watch, the other calls of the run that are undecided, if any.
    :raises ApiError: ``approval_not_found``, or the error of a rejected decision.
    """
    run = decide(answers, username)
    state = get_state()
    asked = {one.approval_id for one in answers}
    numbers = [
        number
        for number, event in enumerate(state.chat.service.read_so_far(run), 1)
        if event["type"] == "approval_required" and event["data"]["id"] in asked
    ]
    # A client that knows the id can answer before the event is stored.
    after = max(numbers, default=0)
    with state.db.read() as db:
        run = runs.find_run(db, run.run_id) or run
        calls = approvals.list_approvals(db, run.id)
    waiting = [one for one in calls if one.status == "pending"]
    if waiting:
        return run, after, waiting
    watch = state.chat.service.resume(run, after, get_holder(), find_abort())
    return run, after, watch or ()


def decide(answers: Sequence[Answer], username: str) -> RunRow:
    """Decide pending calls of a run, all or none of them.

    Calls that are already decided stay unchanged, since the request may be a retry.

    :raises ApiError: ``approval_not_found``, or the error of a rejected decision.
    """
    if len(answers) > MAX_ANSWERS:  # one transaction decides them all
        raise refuse(f"the request answers {len(answers)} calls; at most {MAX_ANSWERS} are allowed")
    run_id, _ = find_call(answers[0].approval_id)
    run = find_run_to_decide(run_id, username or get_bound_username())
    verdicts = {
        one.approval_id[:_MAX_ID_CHARS]: _make_verdict(run, one) for one in reversed(answers)
    }
    get_state().chat.decisions.decide_all(run, verdicts, again=True)
    return run


def _make_verdict(run: RunRow, answer: Answer) -> Verdict:
    edited = answer.approved and answer.arguments
    arguments = orjson.dumps(answer.arguments).decode() if edited else ""
    return make_verdict(run, answer.approved, arguments, answer.comment)
