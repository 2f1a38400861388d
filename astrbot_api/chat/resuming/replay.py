"""Rebuild the events of a run from its stored reply, after the originals were deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import events
from ...db.messages import MessageRow
from ...db.runs import RunRow
from ...events import Event
from ...messages import MEDIA_TYPES
from ...runtime.clock import to_iso
from ..turns.ending import EndingRun, list_last_events
from ..turns.outcome import read_outcome

Parts = Sequence[dict[str, Any]]

#: Parts that are shown in pieces, and the member with their text.
_TEXTS = {"plain": "text", "think": "think"}


def list_all_events(run: RunRow, reply: MessageRow | None) -> list[Event]:
    """Return every event of a run.

    :param reply: Its stored bot message, if there is one.
    """
    shown = list_opening_events(run, None)
    shown += list_part_events(run.run_id, reply.content["message"] if reply else ())
    return shown + list_closing_events(run, reply)


def list_opening_events(run: RunRow, user: MessageRow | None) -> list[Event]:
    """Return the opening events of a run, including all that its clients may have received.

    :param user: The stored message that it answers.
    """
    shown = [events.session_id(run.session_id), events.run_started(run.run_id)]
    if user is not None:
        time, checkpoint = to_iso(user.created_at), run.llm_checkpoint_id or ""
        shown.insert(1, events.user_message_saved(user.id, time, checkpoint))
    return shown


def list_closing_events(run: RunRow, reply: MessageRow | None) -> list[Event]:
    """Return the closing events of an ended run."""
    return list_last_events(EndingRun.of_row(run), *read_outcome(run, reply))


def list_part_events(run_id: str, parts: Parts, said: Parts = ()) -> list[Event]:
    """Return events for the parts of a reply that were not shown.

    :param said: The shown parts, a prefix of them.
    """
    shown: list[Event] = []
    for at, part in enumerate(parts):
        if at >= len(said):
            shown += _show_part(run_id, part)
        elif said[at]["type"] != part["type"]:
            return []  # a turn without streaming shows its text at the end
        elif part["type"] == "tool_call":
            calls = zip(part["tool_calls"], said[at]["tool_calls"], strict=True)
            late = (call for call, old in calls if "result" in call and "result" not in old)
            shown += (event for call in late for event in _show_call(run_id, call)[1:])
        elif part["type"] in _TEXTS:
            key = _TEXTS[part["type"]]
            shown += _show_part(run_id, {**part, key: part[key][len(said[at][key]) :]})
    return shown


def _show_part(run_id: str, part: dict[str, Any]) -> list[Event]:
    kind = part["type"]
    if kind == "plain":
        return events.plain_pieces(run_id, part["text"], streaming=True)
    if kind == "think":
        return events.plain_pieces(run_id, part["think"], streaming=True, chain_type="reasoning")
    if kind == "tool_call":
        return [event for call in part["tool_calls"] for event in _show_call(run_id, call)]
    if kind in MEDIA_TYPES:
        return [
            events.media(run_id, kind, part["filename"], streaming=True),
            events.attachment_saved(part["attachment_id"], kind),
        ]
    return []


def _show_call(run_id: str, call: dict[str, Any]) -> list[Event]:
    started = {key: call.get(key) for key in ("id", "name", "args", "ts")}
    if call.get("by_caller"):
        started["by_caller"] = True
    shown = [events.tool_call(run_id, started)]
    if "result" in call:
        result = {"id": call["id"], "ts": call.get("finished_ts"), "result": call["result"]}
        shown.append(events.tool_call_result(run_id, result))
    return shown
