"""Decisions of pending tool calls by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import marshmallow as ma
import orjson
from flask import request

from ..chat.turns.approvals import Decided, Verdict, approval_not_found
from ..chat.watching.watch import Watch
from ..db import approvals, runs
from ..db.approvals import ApprovalRow
from ..db.runs import RunRow
from ..errors import ApiError, refuse
from ..messages import check_text
from .auth import get_caller, get_holder
from .fields import optional_object, optional_text, request_field
from .idempotency import read_client_key
from .own_runs import RunOwnerSchema, find_own_run, get_run
from .sse import find_abort
from .state import get_state
from .usernames import get_bound_username

MAX_ANSWERS = 100

#: Longer ids are truncated before the lookup.
_MAX_ID_CHARS = 255

_MAX_COMMENT_CHARS = 2000


class DecisionSchema(RunOwnerSchema):
    """A person's decision on a tool call."""

    decision = request_field(
        ma.fields.String,
        "`edit` approves the call with different `arguments`.",
        "approve",
        required=True,
        validate=ma.validate.OneOf(
            ["approve", "reject", "edit"], error="decision must be approve, reject or edit"
        ),
    )
    arguments = optional_object("Only with `edit`: the new arguments of the tool call.", None)
    comment = optional_text(
        "The reason. The model receives it if the call is rejected.",
        "too much",
        validate=ma.validate.Length(
            max=_MAX_COMMENT_CHARS, error=f"comment has {_MAX_COMMENT_CHARS} characters at most"
        ),
    )


def read_comment(name: str, value: Any) -> str:
    """Return the comment of a decision, which is empty if the value is None.

    :param name: Name of the field, for the error.
    :raises ApiError: ``invalid_request``.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refuse(f"{name} must be a string")
    if len(value) > _MAX_COMMENT_CHARS:
        raise refuse(f"{name} must have at most {_MAX_COMMENT_CHARS} characters")
    check_text(name, value)
    return value


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
) -> tuple[RunRow, int, set[str], Watch | Sequence[ApprovalRow]]:
    """Decide pending calls of a run, and watch the run continue.

    :returns: The run, the number of its last event that asked for one of these approvals, the ids
        of its rejected approvals, and the watch. Instead of the watch, the other calls of the run
        that are undecided, if any.
    :raises ApiError: ``approval_not_found``, or the error of a rejected decision.
    """
    read_client_key("decision")  # rejects an invalid one; a decision may be repeated without one
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
    rejected = {one.approval_id for one in calls if one.status == "rejected"}
    waiting = [one for one in calls if one.status == "pending"]
    if waiting:
        return run, after, rejected, waiting
    watch = state.chat.service.resume(run, after, get_holder(), find_abort())
    return run, after, rejected, watch or ()


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
        one.approval_id[:_MAX_ID_CHARS]: make_verdict(
            run, one.approved, (one.approved and one.arguments) or None, one.comment
        )
        for one in reversed(answers)
    }
    get_state().chat.decisions.decide(run, verdicts, again=True)
    return run


def find_run_to_decide(run_id: str, username: str | None) -> RunRow:
    """Return a run whose tool calls the caller may decide.

    :raises ApiError: like :func:`find_own_run`, or ``key_restricted`` for the owner.
    """
    if not get_caller().is_owner:
        return find_own_run(run_id, username)
    run = get_run(run_id)
    check_owner_decides(run.creator, get_bound_username())
    return run


def check_owner_decides(creator: str, owner: str) -> None:
    """Reject the owner's decision on another user's turn, unless the setting allows it.

    :raises ApiError: ``key_restricted``.
    """
    if creator != owner and not get_state().settings.owner_approves:
        raise ApiError(
            "key_restricted",
            "the owner may decide for other users only with ASTRBOT_OWNER_APPROVES=1",
        )


def find_call(approval_id: str) -> tuple[str, str]:
    """Return the run's id and the arguments of a call that waits or waited for an approval.

    :raises ApiError: ``approval_not_found``.
    """
    with get_state().db.read() as db:
        found = approvals.find_call(db, approval_id[:_MAX_ID_CHARS])
    if found is None:
        raise approval_not_found(approval_id)
    return found


def decide_as_caller(run: RunRow, approval_id: str, body: Mapping[str, Any]) -> Decided:
    """Store the caller's decision on a tool call.

    :param body: Loaded by :class:`DecisionSchema`.
    :raises ApiError: ``invalid_request``, ``approval_not_found`` or ``approval_decided``.
    """
    arguments = body["arguments"]
    if (body["decision"] == "edit") != (arguments is not None):
        raise refuse("send arguments with the decision edit, and only with it")
    verdict = make_verdict(run, body["decision"] != "reject", arguments, body["comment"] or "")
    return get_state().chat.decisions.decide(run, {approval_id[:_MAX_ID_CHARS]: verdict})


def make_verdict(
    run: RunRow, approved: bool, arguments: dict[str, Any] | None = None, comment: str = ""
) -> Verdict:
    """Return a decision of the caller, with the caller's name and address for the audit log.

    :param arguments: Arguments that replace the model's, or None to keep the model's.
    """
    given = "" if arguments is None else orjson.dumps(arguments).decode()
    actor = get_bound_username() if get_caller().is_owner else run.creator
    return Verdict(approved, given, comment, actor, address=request.remote_addr or "")
