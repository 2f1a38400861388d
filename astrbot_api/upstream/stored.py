"""Messages that AstrBot stored: those of a session, and the context of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from typing import Any

from ..runtime.bounded_json import load_json, load_with_halves


def find_answer(
    rows: Sequence[Mapping[str, Any]], checkpoint: str, since: float
) -> Sequence[Mapping[str, Any]]:
    """Return the bot's messages of the turn, or an empty list.

    :param rows: Messages of AstrBot's session, oldest first.
    :param checkpoint: Id of the turn, or empty if unknown.
    :param since: Earliest time of the user's message if ``checkpoint`` is unknown, in seconds since
        1970.
    """
    if checkpoint:
        return [row for row in rows if row.get("llm_checkpoint_id") == checkpoint and _is_bots(row)]
    begun = [
        number
        for number, row in enumerate(rows)
        if not _is_bots(row) and _read_iso(row.get("created_at")) >= since
    ]
    return list(takewhile(_is_bots, rows[begun[-1] + 1 :])) if begun else []


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
        value = load_json(data, parse=load_with_halves)
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
