"""Stored responses and conversations: access checks, and their JSON objects."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ...chat.resuming.replay import list_closing_events, list_part_events
from ...db import response_conversations, responses, runs
from ...db.response_conversations import ConversationRow
from ...db.responses import EntryRow
from ...db.runs import RunRow
from ...errors import ApiError
from ...events import Event
from ...state import AppState
from ..auth import get_caller
from ..openai.parameters import read_format
from ..state import get_state
from ..usernames import check_username
from . import items
from .parameters import asks_for_approvals
from .rendering import WAITING, ResponseFold, ended_early

_RESPONSE_ID = re.compile(r"resp_([0-9a-f]{32})")
_CONVERSATION_ID = re.compile(r"conv_([0-9a-f]{32})")

#: Maximum length of an invalid id in an error message, in characters.
_SHOWN_CHARS = 100

#: Statuses of a run that has not ended.
ACTIVE = ("queued", "running", WAITING)


def get_response(response_id: str) -> EntryRow:
    """Return a response that the caller may access.

    :raises ApiError: ``response_not_found``.
    """
    found = _RESPONSE_ID.fullmatch(response_id)
    entry = find_own_entry(found[1]) if found else None
    if entry is None or entry.request is None:
        raise ApiError("response_not_found", f"response not found: {response_id[:_SHOWN_CHARS]}")
    return entry


def find_own_entry(entry_id: str) -> EntryRow | None:
    """Return an entry that the caller may access, or None if there is none."""
    with get_state().db.read() as db:
        entry = responses.find_entry(db, entry_id)
    return entry if entry is not None and _is_own(entry) else None


def get_conversation(conversation_id: str) -> ConversationRow:
    """Return a conversation that the caller may access.

    :raises ApiError: ``conversation_not_found``.
    """
    found = _CONVERSATION_ID.fullmatch(conversation_id)
    row = None
    if found is not None:
        with get_state().db.read() as db:
            row = response_conversations.find_conversation(db, found[1])
    if row is None or not _is_own(row):
        shown = conversation_id[:_SHOWN_CHARS]
        raise ApiError("conversation_not_found", f"conversation not found: {shown}")
    return row


def get_item(item_id: str, session: int) -> tuple[EntryRow, dict[str, Any]]:
    """Return an item of a session that the caller may access, and its entry.

    :param session: Number of the session.
    :raises ApiError: ``item_not_found``.
    """
    parsed = items.parse_item_id(item_id)
    entry = find_own_entry(parsed[0]) if parsed else None
    if entry is not None and entry.session == session:
        for item in list_entry(entry):
            if item["id"] == item_id:
                return entry, item
    raise item_not_found(item_id)


def choose_item(found: list[dict[str, Any]], item_id: str) -> dict[str, Any] | None:
    """Return the item with an id from the items of its entry.

    An item is also found under the higher number that it had before a rewind.
    """
    for item in found:
        if item["id"] == item_id:
            return item
    # Ids of the same kind and entry have the same length, so they compare by number.
    near = [one for one in found if one["id"][:-4] == item_id[:-4] and one["id"] < item_id]
    return near[-1] if near and int(item_id[-4:], 16) > items.OUTPUT_FROM else None


def item_not_found(item_id: str) -> ApiError:
    """Return the error for an id without an item that the caller may access."""
    return ApiError("item_not_found", f"item not found: {item_id[:_SHOWN_CHARS]}")


def list_entry(entry: EntryRow, *, with_deleted: bool = False) -> list[dict[str, Any]]:
    """Return the items of an entry, input before output.

    :param with_deleted: Whether to include deleted output items.
    """
    found = list(items.iter_input(entry.entry_id, entry.input))
    if entry.reply is not None or entry.paused is not None:
        fold = make_fold(entry, lambda text: "")
        fold.hide_events()
        fold.add_own_events(list_own_events(entry))
        stats = (entry.reply.content.get("agent_stats") or {}) if entry.reply else {}
        fold.close_items(cut=entry.paused is None and ended_early(entry.status, stats))
        output = fold.output.list_items()
        found += [one for one in output if with_deleted or not is_deleted(entry, one["id"])]
    return found


def is_deleted(entry: EntryRow, item_id: str) -> bool:
    """Return whether an output item of an entry was deleted."""
    return int(item_id[-4:], 16) - items.OUTPUT_FROM in entry.removed


def list_own_events(entry: EntryRow) -> list[Event]:
    """Return the events of a response's own part of its run, from the database."""
    ends, reply = entry.paused, entry.reply
    parts = ends.parts if ends else reply.content["message"] if reply else ()
    said = list_part_events("", parts, entry.begins.parts if entry.begins else ())
    asked = ends.asked if ends else ()
    return said + [{"type": "approval_required", "data": one} for one in asked]


def make_fold(
    entry: EntryRow,
    check_text: Callable[[str], str] | None = None,
    *,
    after: int = -1,
    run: RunRow | None = None,
) -> ResponseFold:
    """Return a fold for the events of a stored response.

    :param check_text: Returns the fault in an answer's format. None for the format in the request.
    :param after: Number of the last event that the client has.
    :param run: The run whose status is shown, or None to read the current status when needed.
    """
    state, run_id = get_state(), entry.run_id or ""
    if check_text is None:
        form = (entry.request or {})["text"]["format"]
        check_text = read_format(form["type"], form, "text.format", "text.format")[1]
    ends = entry.paused

    def find_end() -> tuple[str, int | None] | None:
        if ends is not None:
            return "completed", ends.at
        known = run
        if known is None:
            with state.db.read() as db:
                known = runs.find_run(db, run_id)
        if known is None:
            return None
        return known.status, known.finished_at and known.finished_at // 1_000_000

    tools = (entry.request or {}).get("tools")
    return ResponseFold(
        entry.entry_id, run_id, _make_head(entry), find_end, check_text, after,
        asks=entry.begins is not None or ends is not None or asks_for_approvals(tools),
        begins=entry.begins, list_stored=lambda: list_own_events(entry),
        list_asked=lambda: _list_asked(state, run_id),
    )  # fmt: skip


def describe_response(entry: EntryRow) -> dict[str, Any]:
    """Return the current object of a stored response."""
    state = get_state()
    with state.db.read() as db:
        run = runs.find_run(db, entry.run_id or "")
        # Read after the run, so the reply of an ended run is there. The status is read before the
        # events, so a response is never complete before its output.
        found = responses.find_entry(db, entry.entry_id)
    if run is None or found is None:
        raise ApiError("response_not_found", f"response not found: resp_{entry.entry_id}")
    entry, fold = found, make_fold(found, run=run)
    if run.active and entry.paused is None:
        fold.add_all(state.chat.service.read_so_far(run))
        return fold.to_object()
    fold.hide_events()
    fold.add_own_events(list_own_events(entry))
    if entry.paused is None:
        fold.add_all(list_closing_events(run, entry.reply))
    return fold.to_object(ended=True)


def _make_head(entry: EntryRow) -> dict[str, Any]:
    """Return the fields of a stored response's object that do not depend on its run."""
    return {
        "id": f"resp_{entry.entry_id}",
        "object": "response",
        "created_at": entry.created_at // 1_000_000,
        **(entry.request or {}),
        "previous_response_id": _previous_id(entry),
        "store": True,
        "session_id": entry.session_id,
    }


def make_unstored_head(run_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an unstored response's object that do not depend on its run."""
    return {
        "id": f"resp_{uuid.UUID(run_id).hex}",
        "object": "response",
        "created_at": int(time.time()),
        **request,
        "store": False,
    }


def describe_conversation(row: ConversationRow) -> dict[str, Any]:
    """Return a conversation's object."""
    return {
        "id": make_conversation_id(row.session_id),
        "object": "conversation",
        "created_at": row.created_at // 1_000_000,
        "metadata": row.metadata,
        "session_id": row.session_id,
    }


def make_conversation_id(session_id: str) -> str:
    return f"conv_{session_id}"


def _previous_id(entry: EntryRow) -> str | None:
    # A response in a conversation follows an entry that its request did not name.
    named = (entry.request or {}).get("conversation") is None
    return f"resp_{entry.previous_id}" if named and entry.previous_id else None


def _is_own(row: EntryRow | ConversationRow) -> bool:
    """Return whether a row belongs to the caller's key, and to a username allowed for the key."""
    caller = get_caller()
    if row.key_id != caller.root_id:
        return False
    if caller.rules.session_id not in (None, row.session_id):
        return False
    try:
        check_username(row.creator)
    except ApiError:
        return False
    return True


def _list_asked(state: AppState, run_id: str) -> list[Event]:
    with state.db.read() as db:
        run = runs.find_run(db, run_id)
    if run is None:
        return []
    run = state.chat.service.wait_until_suspended(run)
    said = state.chat.service.read_so_far(run)
    return [event for event in said if event["type"] == "approval_required"]
