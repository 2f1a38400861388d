"""``/admin/data/approvals``: pending tool calls of all turns."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response, request

from ..chat.turns.approvals import Verdict, approval_not_found, show_arguments
from ..db import approvals, runs
from ..db.approvals import LISTED_ARGS_CHARS, PendingCall
from ..errors import ApiError, refuse
from ..http.decisions import check_owner_decides, find_call, read_comment
from ..http.envelope import ok
from ..http.json_body import read_json_object
from ..http.state import get_state
from ..runtime.clock import to_iso
from .access import MAX_NUMBER, AdminBlueprint, get_address, get_owner

blp = AdminBlueprint("approvals", "/admin/data/approvals")

_PAGE = 30
_MAX_ID_CHARS = 255


@blp.get("")
def list_approvals() -> Response:
    """Return a page of the pending calls, those that expire first at the top.

    ``after`` is ``next`` of the previous page. ``may_decide`` is whether the owner may decide
    for all users, not only about calls of their own turns.
    """
    state = get_state()
    after = _read_cursor(request.args.get("after", ""))
    with state.db.read() as db:
        calls = approvals.list_pending(db, after=after, limit=_PAGE)
    last = calls[-1] if len(calls) == _PAGE else None
    return ok(
        {
            "calls": [_describe(call) for call in calls],
            "next": f"{last.expires_at}.{last.approval_id}" if last else None,
            "may_decide": state.settings.owner_approves,
        }
    )


@blp.get("/arguments")
def get_arguments() -> Response:
    """Return the complete arguments of a call, as JSON text."""
    _, args = find_call(request.args.get("id", ""))
    return ok({"arguments": _indent(args)})


@blp.post("")
def decide_approval() -> Response:
    """Approve or reject a call. After the last pending call, the turn continues."""
    body = read_json_object(request)
    approval_id = body.get("id")
    if not isinstance(approval_id, str):
        raise ApiError("missing_field", "Missing key: id")
    if body.get("decision") not in ("approve", "reject"):
        raise refuse("decision must be approve or reject")
    comment = read_comment("comment", body.get("comment"))
    run_id, _ = find_call(approval_id)
    state = get_state()
    with state.db.read() as db:
        run = runs.find_run(db, run_id)
    if run is None:
        raise approval_not_found(approval_id)
    check_owner_decides(run.creator, get_owner())
    verdict = Verdict(
        body["decision"] == "approve", comment=comment.strip(), actor=get_owner(),
        address=get_address(),
    )  # fmt: skip
    return ok({"pending": state.chat.decisions.decide(run, {approval_id: verdict}).left})


def _read_cursor(text: str) -> tuple[int, str] | None:
    """Return the cursor of the previous page, or None on the first page."""
    if not text:
        return None
    expires_at, _, approval_id = text[:_MAX_ID_CHARS].partition(".")
    if not (expires_at.isascii() and expires_at.isdigit() and int(expires_at) <= MAX_NUMBER):
        raise refuse("after must be the value of next from the previous page")
    return int(expires_at), approval_id


def _indent(args: str) -> str:
    """Return JSON in lines. The page would round its long numbers."""
    return show_arguments(orjson.dumps(orjson.loads(args), option=orjson.OPT_INDENT_2).decode())


def _describe(call: PendingCall) -> dict[str, Any]:
    return {
        "id": call.approval_id,
        "run_id": call.run_id,
        "tool": call.tool,
        "arguments": show_arguments(call.args[:LISTED_ARGS_CHARS])
        if call.cut
        else _indent(call.args),
        "cut": call.cut,
        "asked_at": to_iso(call.created_at),
        "expires_at": to_iso(call.expires_at),
        "session_id": call.session_id,
        "display_name": call.display_name,
        "platform_id": call.platform_id,
        "username": call.creator,
        "config_id": call.config_id,
        "key_id": call.key_id,
        "key_name": call.key_name,
        "own": call.creator == get_owner(),
    }
