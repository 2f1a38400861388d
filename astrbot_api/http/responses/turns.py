"""Conversion of a request body to a turn."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ...chat.context.thread import ThreadEntry
from ...chat.turns.turn import TurnRequest
from ...db import response_conversations, responses, runs
from ...db.response_conversations import ConversationRow
from ...db.responses import EntryRow
from ...errors import ApiError, refuse
from ..auth import get_caller
from ..idempotency import read_client_key
from ..openai.answering import find_config
from ..openai.parameters import Parameters
from ..state import get_state
from ..usernames import choose_username
from .echo import echo_request
from .parameters import asks_for_approvals
from .reading import InputReader
from .stored import get_conversation, get_response, make_conversation_id


@dataclass(frozen=True, slots=True)
class _Place:
    """Session, previous response and conversation of a new response.

    :param creator: Owner of the session, or empty if the session is new.
    """

    session_id: str
    creator: str = ""
    previous: EntryRow | None = None
    conversation: ConversationRow | None = None


def read_turn(
    body: Mapping[str, Any], parameters: Parameters
) -> tuple[TurnRequest, dict[str, Any]]:
    """Return the turn of a request, and the request's fields that the response repeats.

    :raises ApiError: if the request is rejected before the turn is opened.
    """
    caller = get_caller()
    stored, asks = body["store"] is not False, asks_for_approvals(body["tools"])
    if not stored:
        _check_unstored(body, asks)
    config = find_config(body["model"])
    place = _find_place(body, keeps_session=config.upstream is not None)
    if place.conversation is not None and not stored:
        raise refuse("store must not be false in a conversation; leave out store or conversation")
    username = _choose_username(body["user"], place)
    request = _echo(body, place, stored)
    continues = place.previous is not None or place.conversation is not None
    given = InputReader(username).read(
        body["input"], body["instructions"] or "", continues=continues
    )
    previous = None if place.previous is None else place.previous.id
    kept = stored or caller.rules.session_id is not None
    turn = TurnRequest(
        username=username,
        segments=given.segments,
        session_id=place.session_id,
        config_id=config.id,
        key_id=caller.key_id,
        guard=caller.guard,
        context=replace(given.context, previous=previous),
        caller_tools=parameters.tools,
        model_fields=parameters.fields,
        skip_user_history=not given.segments or not kept,
        kept=kept,
        entry=_make_entry(request, given.items, place) if stored else None,
        # Clients without these fields wait for the end, and cannot handle a paused turn.
        may_wait=asks or body["background"] is True,
        client_key=read_client_key("responses", dict(body)),
    )
    return turn, request


def _check_unstored(body: Mapping[str, Any], asks: bool) -> None:
    """Reject features that need a stored response."""
    if body["background"]:
        raise refuse("background needs store; leave out store or background")
    if asks:
        raise refuse(
            "tools of the type mcp need store, because approvals come later; leave out store or "
            "these tools"
        )


def _echo(body: Mapping[str, Any], place: _Place, stored: bool) -> dict[str, Any]:
    """Return the request's fields that the response repeats."""
    conversation = place.conversation and {"id": make_conversation_id(place.session_id)}
    request = echo_request(body) | {"conversation": conversation}
    if not stored:
        request["previous_response_id"] = body["previous_response_id"] or None
    return request


def _make_entry(
    request: Mapping[str, Any], given: list[dict[str, Any]], place: _Place
) -> ThreadEntry:
    return ThreadEntry(
        key_id=get_caller().root_id,
        request_json=orjson.dumps(request).decode(),
        input_json=orjson.dumps(given).decode(),
        previous=None if place.previous is None else place.previous.id,
        newest=place.conversation is not None,
    )


def _choose_username(sent: str, place: _Place) -> str:
    if not place.creator:
        return choose_username("openai", sent)
    if sent and sent != place.creator:
        kind, shown = "conversation", make_conversation_id(place.session_id)
        if place.previous is not None:
            kind, shown = "response", f"resp_{place.previous.entry_id}"
        raise ApiError(f"{kind}_not_found", f"{kind} not found for the user {sent}: {shown}")
    return place.creator


def _find_place(body: Mapping[str, Any], *, keeps_session: bool) -> _Place:
    """Return the session of a response, with its previous response and its conversation.

    :param keeps_session: Whether a branch stays in the session of its thread. An upstream AstrBot
        keeps the history by session.
    """
    bound = get_caller().rules.session_id
    conversation_id = read_conversation_id(body["conversation"])
    previous_id = body["previous_response_id"]
    if conversation_id and previous_id:
        raise refuse("previous_response_id and conversation exclude each other; send one of them")
    if conversation_id:
        row = get_conversation(conversation_id)
        return _Place(row.session_id, row.creator, conversation=row)
    if not previous_id:
        return _Place(bound or str(uuid.uuid4()))
    previous = get_response(previous_id)
    if bound or body["store"] is False:
        return _Place(bound or str(uuid.uuid4()), previous.creator, previous)
    if keeps_session or _is_last(previous):
        return _Place(previous.session_id, previous.creator, previous)
    return _Place(str(uuid.uuid4()), previous.creator, previous)


def _is_last(entry: EntryRow) -> bool:
    """Return whether a response can follow an entry in its session. A branch needs a new session.

    Turns of one session run one after the other. Turns of two branches can run in parallel.
    """
    with get_state().db.read() as db:
        run = runs.find_run(db, entry.run_id or "")
        if run is not None and run.active:
            return True
        newest = responses.find_newest(db, entry.session) == entry.id
        return newest and not response_conversations.is_conversation(db, entry.session)


def read_conversation_id(value: Any) -> str:
    """Return the id in the field ``conversation``, or an empty string if it is absent.

    :raises ApiError: ``invalid_request``.
    """
    if value is None:
        return ""
    found = value.get("id") if isinstance(value, dict) else value
    if not isinstance(found, str) or not found:
        raise refuse("conversation must be the id of a conversation, or an object with its id")
    return found
