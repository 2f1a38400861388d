"""Look up a caller's runs and decide their pending tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
import orjson
from flask import request

from ..chat.resuming.deciding import Verdict
from ..chat.turns.waiting import Decided
from ..db import approvals, runs
from ..db.runs import RunRow
from ..errors import ApiError, refuse
from ..messages import check_text
from .auth import get_caller
from .fields import optional_object, optional_text, request_field
from .schemas import RequestSchema
from .state import get_state
from .usernames import check_username, get_bound_username

_MAX_COMMENT_CHARS = 2000

#: Longer ids are truncated before the lookup.
_MAX_ID_CHARS = 255


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


class RunOwnerSchema(RequestSchema):
    username = optional_text(
        "The username of the session. If omitted, the run must have been started with this API "
        "key.",
        "alice",
    )


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


def find_own_run(run_id: str, username: str | None) -> RunRow:
    """Return a run that the caller may access.

    :param username: Must own the session. If empty, the caller's key must have started
        the run.
    :raises ApiError: ``run_not_found``, ``session_of_another_user`` or
        ``username_reserved``.
    """
    username = find_sent_username(username)
    run = _get_run(run_id, None if username else get_caller().key_id)
    if username and run.creator != username:
        raise ApiError("session_of_another_user", "session_id belongs to another username")
    rules = get_caller().rules
    rules.check_username(run.creator)
    rules.check_session(run.session_id)
    return run


def _get_run(run_id: str, key_id: str | None = None) -> RunRow:
    """Return a run, which this key must have started if a key is given."""
    with get_state().db.read() as db:
        run = runs.find_run(db, run_id[:_MAX_ID_CHARS])
    if run is None or key_id not in (None, run.key_id):
        raise ApiError("run_not_found", f"run not found: {run_id[:_MAX_ID_CHARS]}")
    return run


def find_sent_username(sent: str | None) -> str:
    """Return the username from the body or the query, or "" if it was not sent."""
    username = (sent or request.args.get("username", "")).strip()
    if username:
        check_username(username)
    return username


def find_run_to_decide(run_id: str, username: str | None) -> RunRow:
    """Return a run whose tool calls the caller may decide.

    :raises ApiError: like :func:`find_own_run`, or ``key_restricted`` for the owner.
    """
    if not get_caller().is_owner:
        return find_own_run(run_id, username)
    run = _get_run(run_id)
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
        raise ApiError("approval_not_found", f"approval not found: {approval_id[:100]}")
    return found


def decide_as_caller(run: RunRow, approval_id: str, body: Mapping[str, Any]) -> Decided:
    """Store the caller's decision on a tool call.

    :param body: Loaded by :class:`DecisionSchema`.
    :raises ApiError: ``invalid_request``, ``approval_not_found`` or ``approval_decided``.
    """
    arguments = body["arguments"]
    if (body["decision"] == "edit") != (arguments is not None):
        raise refuse("send arguments with the decision edit, and only with it")
    given = "" if arguments is None else orjson.dumps(arguments).decode()
    verdict = make_verdict(run, body["decision"] != "reject", given, body["comment"] or "")
    return get_state().chat.decisions.decide(run, approval_id[:_MAX_ID_CHARS], verdict)


def make_verdict(run: RunRow, approved: bool, arguments: str = "", comment: str = "") -> Verdict:
    """Return a decision of the caller, with the caller's name and address for the audit log."""
    actor = get_bound_username() if get_caller().is_owner else run.creator
    return Verdict(approved, arguments, comment, actor, address=request.remote_addr or "")
