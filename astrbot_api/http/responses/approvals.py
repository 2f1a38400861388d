"""Responses that continue a paused run after a person decided its pending calls.

The client answers an ``mcp_approval_request`` item with an ``mcp_approval_response`` item in its
next request. The rest of the run is the output of that next response.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
import peewee

from ...chat.turns.approvals import approval_not_found
from ...chat.turns.fold import fold_events
from ...db import approvals, responses, runs
from ...db.responses import EntryRow, Pause
from ...db.runs import RunRow
from ...errors import ApiError, refuse
from ...runtime.clock import now_us
from ..decisions import find_run_to_decide, make_verdict
from ..state import get_state
from .echo import echo_request
from .items import parse_item_id
from .reading import InputReader
from .stored import find_own_entry, get_conversation, get_response, make_fold
from .turns import read_conversation_id

_ANSWER, _QUESTION = "mcp_approval_response", "mcp_approval_request"


def answers_approvals(body: Mapping[str, Any]) -> bool:
    """Return whether the input ends with an answer to an approval request."""
    given = body["input"]
    last = given[-1] if isinstance(given, list) and given else None
    return isinstance(last, dict) and last.get("type") == _ANSWER


def continue_with_approvals(body: Mapping[str, Any]) -> tuple[EntryRow, RunRow]:
    """Decide a response's pending calls, and store the response that continues the run.

    A retry of the same request returns the response stored by the first one.

    :raises ApiError: ``approval_not_found``, ``approval_decided``, and the errors of a response and
        of a decision.
    """
    if body["store"] is False:
        raise refuse("store must not be false with an mcp_approval_response")
    given = InputReader(body["user"]).read_all(_take_last(body))
    answers = {one["approval_request_id"]: one for one in given if one["type"] == _ANSWER}
    entry = _find_asking(body, next(iter(answers)))
    run = find_run_to_decide(entry.run_id or "", body["user"] or entry.creator)
    state = get_state()
    if entry.paused is not None:
        return _find_made(entry, given), run
    run = state.chat.service.wait_until_suspended(run)
    events = list(state.chat.service.read_so_far(run))
    fold = make_fold(entry)
    fold.add_all(events)
    asked = fold.calls.asked
    _check(run, asked, answers)
    pause = Pause(int(time.time()), fold_events(events).to_parts(), list(asked.values()))
    verdicts = {
        asked[item_id]["id"]: make_verdict(run, one["approve"], comment=one["reason"] or "")
        for item_id, one in answers.items()
    }
    request = echo_request(body) | {"conversation": (entry.request or {}).get("conversation")}
    made = uuid.uuid4().hex

    def store(db: peewee.Database) -> None:
        responses.pause_entry(db, entry, pause)
        responses.add_entry(
            db, entry_id=made, session=entry.session, key_id=entry.key_id,
            input_json=orjson.dumps(given).decode(), request_json=orjson.dumps(request).decode(),
            run_id=run.run_id, previous=entry.id,
        )  # fmt: skip

    state.chat.decisions.decide(run, verdicts, store)
    with state.db.read() as db:
        found, run = responses.find_entry(db, made), runs.find_run(db, run.run_id) or run
    if found is None:  # its session was deleted in the meantime
        raise ApiError("response_not_found", f"response not found: resp_{made}")
    return found, run


def _take_last(body: Mapping[str, Any]) -> list[Any]:
    """Return the approval answers at the end of an input, with the requests among them."""
    given, begin = body["input"], len(body["input"])
    while begin and isinstance(given[begin - 1], dict):
        one = given[begin - 1]
        is_reference = str(one.get("id", "")).startswith("mcpr_")
        if one.get("type") not in (_ANSWER, _QUESTION) and not is_reference:
            break
        begin -= 1
    if begin and (body["previous_response_id"] or body["conversation"]):
        raise refuse(
            "input must have only approvals if it ends with an mcp_approval_response; send other "
            "items in the next request"
        )
    return [one for one in given[begin:] if one.get("type") in (_ANSWER, _QUESTION)]


def _find_asking(body: Mapping[str, Any], item_id: str) -> EntryRow:
    """Return the response that contains an approval request."""
    missing = approval_not_found(item_id)
    parsed = parse_item_id(item_id)
    entry = find_own_entry(parsed[0]) if parsed else None
    previous = body["previous_response_id"]
    conversation = read_conversation_id(body["conversation"])
    if entry is None or entry.run_id is None or body["user"] not in (None, "", entry.creator):
        raise missing
    if previous and get_response(previous).id != entry.id:
        raise missing
    if conversation and get_conversation(conversation).session != entry.session:
        raise missing
    return entry


def _find_made(entry: EntryRow, given: list[dict[str, Any]]) -> EntryRow:
    """Return the response that the same answers created earlier."""
    with get_state().db.read() as db:
        following = responses.find_following(db, entry)
    if following is None or following.input != given:
        raise ApiError("approval_decided", "the approval was already decided, or it expired")
    return following


def _check(run: RunRow, asked: Mapping[str, Any], answers: Mapping[str, Any]) -> None:
    """Reject answers without a request, answers after the deadline, and missing answers."""
    with get_state().db.read() as db:
        rows = {one.approval_id: one for one in approvals.list_approvals(db, run.id)}
    for item_id in answers:
        row = rows.get(asked[item_id]["id"]) if item_id in asked else None
        if row is None:
            raise approval_not_found(item_id)
        if row.status != "pending" or row.expires_at <= now_us():
            late = f"{row.tool}: the approval was already decided, or it expired"
            raise ApiError("approval_decided", late)
    pending = {one.approval_id for one in rows.values() if one.status == "pending"}
    for item_id, question in asked.items():
        if question["id"] in pending and item_id not in answers:
            raise refuse(f"input must answer every mcp_approval_request; {item_id} has no answer")
