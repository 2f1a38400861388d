"""Typed events of streams. Unknown types become :class:`UnknownEvent`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One event.

    :param raw: The event's JSON object.
    :param number: The event's number in the run, or None if the server sends none.
    :param pushed: Whether the event belongs to a pushed message instead of the reply.
    """

    raw: dict[str, Any] = field(repr=False)
    number: int | None = None
    pushed: bool = False


@dataclass(frozen=True)
class SessionStarted(Event):
    """The first event."""

    session_id: str = ""


@dataclass(frozen=True)
class UserMessageSaved(Event):
    """The user's message is stored, with this number."""

    message_id: int | None = None


@dataclass(frozen=True)
class RunStarted(Event):
    """The turn has an id, which can be used to resume and stop it."""

    run_id: str = ""


@dataclass(frozen=True)
class TextDelta(Event):
    """A piece of the answer's text."""

    text: str = ""


@dataclass(frozen=True)
class ReasoningDelta(Event):
    """A piece of the reasoning's text."""

    text: str = ""


@dataclass(frozen=True)
class ToolCall(Event):
    """The model calls a tool."""

    id: str = ""
    name: str = ""
    arguments: Any = None


@dataclass(frozen=True)
class ToolResult(Event):
    """A tool has returned."""

    id: str = ""
    result: str = ""


@dataclass(frozen=True)
class ApprovalRequired(Event):
    """The run waits until a person decides a tool call with ``stream.decide``.

    Without a decision, the stream ends here. ``client.runs.resume`` continues it.
    """

    id: str = ""
    name: str = ""
    arguments: Any = None
    expires_at: str = ""


@dataclass(frozen=True)
class Media(Event):
    """A file was created. :class:`AttachmentSaved` follows with its id."""

    kind: str = ""
    filename: str = ""


@dataclass(frozen=True)
class AttachmentSaved(Event):
    """The id of the previous event's file."""

    attachment_id: str = ""
    kind: str = ""


@dataclass(frozen=True)
class AgentStats(Event):
    """Tokens and times."""

    stats: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Complete(Event):
    """The whole text and the whole reasoning."""

    text: str = ""
    reasoning: str = ""
    truncated: bool = False


@dataclass(frozen=True)
class MessageSaved(Event):
    """The reply is stored, with this number."""

    message_id: int | None = None
    created_at: str = ""


@dataclass(frozen=True)
class TurnError(Event):
    """The turn has failed."""

    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Rewind(Event):
    """The last ``chars`` characters of the text do not belong to the answer.

    With ``again``, a step of the turn is repeated. Its ``reasoning_chars`` characters of reasoning,
    ``calls`` tool calls and ``files`` files are also removed.
    """

    chars: int = 0
    reasoning_chars: int = 0
    calls: int = 0
    files: int = 0
    again: bool = False


@dataclass(frozen=True)
class RunSnapshot(Event):
    """The content of the run so far."""

    content: dict[str, Any] = field(default_factory=dict)
    status: str = ""


@dataclass(frozen=True)
class End(Event):
    """The last event."""


@dataclass(frozen=True)
class InboxOpened(Event):
    """Start of an inbox. With ``reset``, messages were missed: read the sessions."""

    after: int = 0
    reset: bool = False


@dataclass(frozen=True)
class InboxMessage(Event):
    """A message of one of the username's sessions."""

    session_id: str = ""
    message: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UnknownEvent(Event):
    """An event of an unknown type. See ``raw``."""


_MEDIA = ("image", "record", "file", "video")


def parse_event(raw: dict[str, Any], number: int | None = None, pushed: bool = False) -> Event:
    """Return the event of a JSON object."""
    kind, data = raw.get("type"), raw.get("data")
    base: dict[str, Any] = {"raw": raw, "number": number, "pushed": pushed}
    fields = data if isinstance(data, dict) else {}
    if kind == "plain":
        return _parse_plain(raw.get("chain_type"), data, base)
    if kind == "session_id":
        return SessionStarted(session_id=str(raw.get("session_id") or ""), **base)
    if kind == "user_message_saved":
        return UserMessageSaved(message_id=fields.get("id"), **base)
    if kind == "run_started":
        return RunStarted(run_id=str(fields.get("run_id") or ""), **base)
    if kind in _MEDIA:
        return Media(kind=str(kind), filename=_read_filename(data), **base)
    if kind == "attachment_saved":
        return AttachmentSaved(
            attachment_id=str(fields.get("id") or ""), kind=str(fields.get("type") or ""), **base
        )
    if kind == "approval_required":
        return ApprovalRequired(
            id=str(fields.get("id") or ""),
            name=str(fields.get("tool") or ""),
            arguments=fields.get("arguments"),
            expires_at=str(fields.get("expires_at") or ""),
            **base,
        )
    if kind == "agent_stats":
        return AgentStats(stats=fields, **base)
    if kind == "complete":
        return Complete(
            text=str(data or ""),
            reasoning=str(raw.get("reasoning") or ""),
            truncated=bool(raw.get("truncated")),
            **base,
        )
    if kind == "message_saved":
        return MessageSaved(
            message_id=fields.get("id"), created_at=str(fields.get("created_at") or ""), **base
        )
    if kind == "error":
        return TurnError(code=str(raw.get("code") or ""), message=str(data or ""), **base)
    return _parse_rare(kind, fields, base)


def _parse_rare(kind: Any, fields: dict[str, Any], base: dict[str, Any]) -> Event:
    raw = base["raw"]
    if kind == "end":
        return End(**base)
    if kind == "rewind":
        names = ("chars", "reasoning_chars", "calls", "files")
        counts: dict[str, Any] = {one: max(0, int(fields.get(one) or 0)) for one in names}
        return Rewind(**counts, again=bool(fields.get("again")), **base)
    if kind == "run_snapshot":
        content = fields.get("content")
        return RunSnapshot(
            content=content if isinstance(content, dict) else {},
            status=str(fields.get("status") or ""),
            **base,
        )
    if kind == "inbox_opened":
        return InboxOpened(
            after=int(fields.get("after") or 0), reset=bool(fields.get("reset")), **base
        )
    if kind == "message" and "session_id" in raw:
        return InboxMessage(session_id=str(raw["session_id"]), message=fields, **base)
    return UnknownEvent(**base)


def _parse_plain(chain: Any, data: Any, base: dict[str, Any]) -> Event:
    if chain == "reasoning":
        return ReasoningDelta(text=str(data or ""), **base)
    if chain in ("tool_call", "tool_call_result"):
        fields = _read_object(data)
        if chain == "tool_call":
            return ToolCall(
                id=str(fields.get("id") or ""),
                name=str(fields.get("name") or ""),
                arguments=fields.get("args"),
                **base,
            )
        return ToolResult(
            id=str(fields.get("id") or ""), result=str(fields.get("result") or ""), **base
        )
    if chain is None:
        return TextDelta(text=str(data or ""), **base)
    return UnknownEvent(**base)  # AstrBot has other types


def _read_object(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _read_filename(data: Any) -> str:
    # AstrBot sends "[FILE]stored name|displayed name".
    return str(data or "").partition("]")[2].rpartition("|")[2]
