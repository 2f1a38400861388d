"""Compute where a run resumes, from its shown events and its stored steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ... import events
from ...agent.steps import Decision, Resumption
from ...db.approvals import ApprovalRow
from ...events import Event
from ..turns.checkpoints import StoredStep, list_calls
from ..turns.fold import ReplyFold, fold_events
from ..turns.turn import Resumed


class CannotResume(Exception):
    """Raised if no other worker can resume the run, with the reason."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where and how a run resumes.

    :param shown: Events to show first: a ``rewind``, text that the journal lost, or nothing.
    """

    resumed: Resumed
    shown: Sequence[Event]


def make_plan(
    run_id: str,
    seen: Sequence[Event],
    steps: Sequence[StoredStep],
    *,
    by_model: bool,
    streaming: bool,
    approvals: Sequence[ApprovalRow],
    before_calls: bool,
) -> Plan:
    """Return where and how a run resumes.

    :param by_model: Whether a model answers. Each tool call then has a stored step.
    :param streaming: Whether text is shown in pieces.
    :param approvals: The run's requests for approval.
    :param before_calls: Whether the calls of the last step were not begun.
    :raises CannotResume: if a tool may have been called without a stored step.
    """
    last = steps[-1] if steps else None
    calls = list_calls(last) if last else []
    to, shown, results = _find_end(seen, last.event if last else 0, calls)
    if last is not None and len(results) < len(calls):
        to = len(seen)  # the model was not asked again
    dropped = seen[to:]
    if by_model and any(_is_own_call(event) for event in dropped):
        raise CannotResume("a step of it was not stored")
    kept, held = _insert_held(run_id, seen[:to], steps)
    resumed = Resumed(events=kept)
    if last is not None:
        resumed = Resumed(
            events=kept,
            at=Resumption(
                last.step,
                [one for step in steps for one in step.messages],
                results,
                None if before_calls else shown,
                **_read_approvals(last, approvals),
            ),
            reply=last.reply,
            pictures=_list_pictures(seen[last.event : to]),
            counted=_find_counted(steps, approvals),
        )
    return Plan(resumed, _make_rewind(run_id, seen, to) + (held if streaming else []))


def _read_approvals(step: StoredStep, approvals: Sequence[ApprovalRow]) -> dict[str, Any]:
    """Return the calls of a step that need approval, and the decisions on them."""
    own = [one for one in approvals if one.call_id in step.pending]
    begun = {one.call_id for one in own if one.begun}
    decisions = {
        one.call_id: Decision(one.status == "approved", one.arguments or "", one.comment or "")
        for one in own
        if one.status != "pending" and not one.begun
    }
    return {"pending": [one for one in step.pending if one not in begun], "decisions": decisions}


def _find_counted(steps: Sequence[StoredStep], approvals: Sequence[ApprovalRow]) -> tuple[int, int]:
    """Return the tokens that were counted when the run last began to wait."""
    asked = {one.call_id for one in approvals}
    for step in reversed(steps):
        if not asked.isdisjoint(step.pending):
            other, cached, output = step.reply["usage"]
            return other + cached, output
    return 0, 0


def _find_end(
    seen: Sequence[Event], begin: int, calls: Sequence[str]
) -> tuple[int, set[str], dict[str, str]]:
    """Return the last valid event, and the shown calls and results of the last step.

    :param begin: Number of the last event before these calls, or 0 without a step.
    :returns: The event's number, the shown calls, and the results by call.
    """
    to = min(begin, len(seen))
    shown: set[str] = set()
    results: dict[str, str] = {}
    for number, event in enumerate(seen[to:], to + 1):
        kind, data = event["type"], str(event.get("data"))
        if kind in events.OPENING or (kind == "rewind" and event["data"].get("again")):
            to = number
        elif kind == "plain" and event["chain_type"] == "tool_call":
            call_id = orjson.loads(data)["id"]
            if call_id in calls:
                shown.add(call_id)
                to = number
        elif kind == "plain" and event["chain_type"] == "tool_call_result":
            result = orjson.loads(data)
            if result["id"] in calls:
                results[result["id"]] = result["result"]
                to = number
    return to, shown, results


def _is_own_call(event: Event) -> bool:
    """Return whether the server made a tool call."""
    if event["type"] != "plain" or event["chain_type"] != "tool_call":
        return False
    return not orjson.loads(event["data"]).get("by_caller")


def _insert_held(
    run_id: str, kept: Sequence[Event], steps: Sequence[StoredStep]
) -> tuple[list[Event], list[Event]]:
    """Insert stored text that was not shown, at the end of each step.

    :returns: All events, and the inserted ones.
    """
    found, added = list[Event](), list[Event]()
    fold, said, at = ReplyFold(), "", 0
    for step in steps:
        for event in kept[at : step.event]:
            fold.add(event)
            found.append(event)
        at = max(at, min(step.event, len(kept)))
        said += step.messages[-1].get("content") or ""
        held = [(step.reasoning, "reasoning"), (said[len(fold.text) :], None)]
        for text, chain_type in held:
            for event in events.plain_pieces(run_id, text, streaming=True, chain_type=chain_type):
                fold.add(event)
                found.append(event)
                added.append(event)
    return [*found, *kept[at:]], added


def _list_pictures(seen: Sequence[Event]) -> list[str]:
    files = (event["data"] for event in seen if event["type"] == "attachment_saved")
    return [one["id"] for one in files if one["type"] == "image"]


def _make_rewind(run_id: str, seen: Sequence[Event], to: int) -> list[Event]:
    """Return the event that rewinds all output after a number, if there was any."""
    counts = fold_events(seen).count_from(fold_events(seen[:to]))
    if not any(counts.values()):
        return []
    return [events.rewind(run_id, to, again=True, **counts)]
