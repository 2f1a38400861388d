"""Messages that AstrBot stored: those of a session, and the context of its model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from typing import Any

from ..runtime.bounded_json import load_json


def find_answer(
    rows: Sequence[Mapping[str, Any]], user_message: int | None, since: float, checkpoint: str = ""
) -> Sequence[Mapping[str, Any]]:
    """Return the bot's messages of the turn, or an empty list.

    They are found by their checkpoint or, in a turn without one, after the user's message.

    :param rows: Messages of AstrBot's session, oldest first.
    :param user_message: Number of the user's message, or None to find it by its time.
    :param since: Earliest time of the user's message, in seconds since 1970.
    """

    def is_mine(row: Mapping[str, Any]) -> bool:
        if user_message is not None:
            return bool(row.get("id") == user_message)
        if _is_bots(row) or not isinstance(row.get("content"), dict):
            return False
        return _read_iso(row.get("created_at")) >= since

    if checkpoint:
        mine = [row for row in rows if row.get("llm_checkpoint_id") == checkpoint]
        return [row for row in mine if _is_bots(row)]
    begun = [number for number, row in enumerate(rows) if is_mine(row)]
    after = rows[begun[-1] + 1 :] if begun else ()
    return list(takewhile(_is_bots, after))


def find_turn(
    messages: Sequence[Mapping[str, Any]], checkpoint: str
) -> Sequence[Mapping[str, Any]] | None:
    """Return a turn's messages in a model's context, or None if it is not in it, or not yet.

    AstrBot adds a message of the role ``_checkpoint`` at the end of each turn.
    Source: answers of 4.29.3.
    """
    turn: list[Mapping[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if message.get("role") != "_checkpoint":
            turn.append(message)
        elif isinstance(content, dict) and content.get("id") == checkpoint:
            return turn
        else:
            turn = []
    return None


def read_context(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages of chat completions as the parts of a stored message."""
    parts: list[dict[str, Any]] = []
    calls: dict[str, dict[str, Any]] = {}
    for message in messages:
        content, role = message.get("content"), message.get("role")
        if role == "tool" and str(message.get("tool_call_id")) in calls:
            text = content if isinstance(content, str) else _join_texts(content, "text")
            calls[str(message["tool_call_id"])]["result"] = text
        if role != "assistant":
            continue
        parts.append({"type": "think", "think": _join_texts(content, "think")})
        text = content if isinstance(content, str) else _join_texts(content, "text")
        parts.append({"type": "plain", "text": text})
        for call in list_objects(message.get("tool_calls")):
            asked = call.get("function")
            if isinstance(asked, dict):
                args = parse_object(str(asked.get("arguments") or ""))
                one = {"id": call.get("id"), "name": asked.get("name"), "args": args}
                calls[str(call.get("id"))] = one
                parts.append({"type": "tool_call", "tool_calls": [one]})
    return parts


def _join_texts(content: Any, kind: str) -> str:
    texts = (one.get(kind) for one in list_objects(content) if one.get("type") == kind)
    return "".join(one for one in texts if isinstance(one, str))


def list_objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a JSON list, or an empty list for another value."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def parse_object(data: str) -> Mapping[str, Any]:
    """Return the object of a JSON text, or an empty one for another text."""
    try:
        value = load_json(data, parse=json.loads)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_bots(row: Mapping[str, Any]) -> bool:
    content = row.get("content")
    return isinstance(content, dict) and content.get("type") == "bot"


def _read_iso(value: Any) -> float:
    with suppress(TypeError, ValueError):
        return datetime.fromisoformat(str(value)).timestamp()
    return 0.0
