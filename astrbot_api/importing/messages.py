"""Converts a row of AstrBot's history to this server's stored message format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from ..db.imported import join_parts
from ..messages import MEDIA_TYPES
from .values import read_json_value, read_text

#: Called with a description of each part that was skipped or changed.
Note = Callable[[str], None]

#: Reported for a part with no type, an unknown type or missing fields.
BAD_PART = "a part of the message has an unknown form and was skipped"

#: Older versions stored text without parts.
_OLD_TEXT = "the message was a plain string and became one text part"


def read_content(value: Any, note: Note) -> dict[str, Any]:
    """Return ``{"type", "message", …}`` as in section 3 of the contract.

    Source: the rows stored by the recorded server (``20-chat.jsonl``,
    ``21-chat-stream.jsonl``, ``50-im-message.jsonl``).

    :param value: The column's JSON text.
    :raises ValueError: with the reason why it is not a message.
    """
    if value is None:
        raise ValueError("its content is empty or too long")
    try:
        loaded = read_json_value(value)
    except ValueError as error:
        raise ValueError("its content is not JSON") from error
    if not isinstance(loaded, dict) or loaded.get("type") not in ("user", "bot"):
        raise ValueError("its content is not of type user or bot")
    parts = loaded.get("message")
    if isinstance(parts, str):
        note(_OLD_TEXT)
        parts = [{"type": "plain", "text": parts}]
    if not isinstance(parts, list):
        raise ValueError("its content has no list of parts")
    # "type" comes first, because later readers look for it at the start.
    content: dict[str, Any] = {"type": loaded["type"], "message": []}
    for part in parts:
        kept = _read_part(part)
        if kept is None:
            note(BAD_PART)
        else:
            content["message"].append(kept)
    _add_extras(content, loaded)
    try:
        orjson.dumps(content)
    except orjson.JSONEncodeError as error:
        raise ValueError("its content is nested too deep") from error
    return content


def _add_extras(content: dict[str, Any], loaded: dict[str, Any]) -> None:
    if isinstance(loaded.get("reasoning"), str) and loaded["reasoning"]:
        content["reasoning"] = read_text(loaded["reasoning"])
    if isinstance(loaded.get("agent_stats"), dict) and loaded["agent_stats"]:
        content["agent_stats"] = loaded["agent_stats"]


def _read_part(part: Any) -> dict[str, Any] | None:
    """Return a part with the fields that readers of history need, or None."""
    if not isinstance(part, dict):
        return None
    kind = part.get("type")
    if kind == "plain" and isinstance(part.get("text"), str):
        return part
    if kind == "think" and isinstance(part.get("think"), str):
        return part
    if kind == "reply" and isinstance(part.get("message_id"), (int, str)):
        return part
    if kind in MEDIA_TYPES and isinstance(part.get("attachment_id"), str):
        filename = part.get("filename")
        return {**part, "filename": filename if isinstance(filename, str) else ""}
    if kind == "tool_call" and isinstance(part.get("tool_calls"), list):
        calls = [call for call in part["tool_calls"] if _is_call(call)]
        return {**part, "tool_calls": calls} if calls else None
    return None


def _is_call(call: Any) -> bool:
    """Return whether this is a call, or the result of a call in an earlier message.

    Source: ``unknown-extra-fields`` and similar recordings. A push during a turn separates a
    call from its result.
    """
    if not isinstance(call, dict) or not isinstance(call.get("id"), str):
        return False
    if "name" not in call:
        return "result" in call
    return isinstance(call["name"], str) and "args" in call


def drop_lone_results(content: dict[str, Any]) -> bool:
    """Remove results whose calls are in no message. Return whether any were removed."""
    kept = join_parts([], content["message"])
    lone = len(kept) < len(content["message"])
    content["message"] = kept
    return lone
