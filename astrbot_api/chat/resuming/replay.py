"""From a run's events back to its reply, and from a stored reply to its last events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from ... import events
from ...db.messages import MessageRow
from ...db.runs import RunRow
from ...errors import EVENT_CODES
from ...events import Event
from ...runtime.clock import to_iso

_MEDIA = ("image", "record", "video", "file")


def parse_frames(frames: Iterable[str]) -> list[Event]:
    """Return the events of SSE frames as this server writes them."""
    return [orjson.loads(frame[6 : frame.index("\n")]) for frame in frames]


class RebuiltReply:
    """What a reply was up to some event: for a run that was cut off, and for snapshots.

    :param seen: The events, in their order; those that say nothing are skipped.
    """

    def __init__(self, seen: Sequence[Event]) -> None:
        self.parts: list[dict[str, Any]] = []
        self._calls: dict[str, dict[str, Any]] = {}
        self._reasoning: list[str] = []
        self._filename = ""
        for event in seen:
            self._add(event)
        for part in self.parts:
            for key in ("text", "think"):
                if key in part:
                    part[key] = "".join(part[key])

    @property
    def attachment_ids(self) -> list[str]:
        """The ids of the files among the parts."""
        return [part["attachment_id"] for part in self.parts if "attachment_id" in part]

    def to_content(self) -> dict[str, Any]:
        """Return the content of a stored message: ``{"type", "message", "reasoning"?}``."""
        content: dict[str, Any] = {"type": "bot", "message": self.parts}
        if self._reasoning:
            content["reasoning"] = "".join(self._reasoning)
        return content

    def _add(self, event: Event) -> None:
        kind = event["type"]
        if kind == "plain":
            self._add_plain(event["chain_type"], event["data"])
        elif kind in _MEDIA:
            self._filename = event["data"].partition("]")[2]
        elif kind == "attachment_saved":
            data = event["data"]
            part = {"type": data["type"], "attachment_id": data["id"], "filename": self._filename}
            self.parts.append(part)

    def _add_plain(self, chain_type: str | None, data: str) -> None:
        if chain_type == "tool_call":
            call = orjson.loads(data)
            self._calls[call["id"]] = call
            self.parts.append({"type": "tool_call", "tool_calls": [call]})
        elif chain_type == "tool_call_result":
            result = orjson.loads(data)
            call = self._calls.get(result["id"], {})
            call.update(result=result["result"], finished_ts=result["ts"])
        elif chain_type == "reasoning":
            self._reasoning.append(data)
            self._add_text("think", "think", data)
        else:
            self._add_text("plain", "text", data)

    def _add_text(self, kind: str, key: str, data: str) -> None:
        if not self.parts or self.parts[-1]["type"] != kind:
            self.parts.append({"type": kind, key: []})
        self.parts[-1][key].append(data)


def list_last_events(run: RunRow, reply: MessageRow | None) -> list[Event]:
    """Return the events that a run which has ended must close with.

    :param reply: Its stored bot message, where there is one.
    """
    last: list[Event] = []
    failure = reply.content.get("error") if reply else None
    if reply is not None and failure is None:
        if "agent_stats" in reply.content:
            last.append(events.agent_stats(reply.content["agent_stats"]))
        text = text_of(reply.content)
        reasoning = reply.content.get("reasoning", "")
        last.append(events.complete(run.run_id, text, reasoning, streaming=True))
        checkpoint = reply.llm_checkpoint_id or ""
        last.append(events.message_saved(reply.id, to_iso(reply.created_at), checkpoint))
    elif failure is not None:
        last.append(events.error(run.run_id, failure["code"], failure["message"]))
    elif run.error_code:
        message = EVENT_CODES.get(run.error_code, run.error_code)
        last.append(events.error(run.run_id, run.error_code, message))
    last.append(events.end(run.run_id))
    return last


def list_all_events(run: RunRow, reply: MessageRow | None) -> list[Event]:
    """Return the events of a run whose own are no longer kept, made from what is stored."""
    shown: list[Event] = [events.session_id(run.session_id), events.run_started(run.run_id)]
    for part in reply.content["message"] if reply else ():
        shown += _show_part(run.run_id, part)
    return shown + list_last_events(run, reply)


def text_of(content: dict[str, Any]) -> str:
    """Return the answer's text of a stored message, without thinking and tools."""
    return "".join(part["text"] for part in content["message"] if part["type"] == "plain")


def _show_part(run_id: str, part: dict[str, Any]) -> list[Event]:
    kind = part["type"]
    if kind == "plain":
        return events.plain_pieces(run_id, part["text"], streaming=True)
    if kind == "think":
        return events.plain_pieces(run_id, part["think"], streaming=True, chain_type="reasoning")
    if kind == "tool_call":
        return [event for call in part["tool_calls"] for event in _show_call(run_id, call)]
    if kind in _MEDIA:
        return [
            events.media(run_id, kind, part["filename"], streaming=True),
            events.attachment_saved(part["attachment_id"], kind),
        ]
    return []


def _show_call(run_id: str, call: dict[str, Any]) -> list[Event]:
    shown = [events.tool_call(run_id, {key: call.get(key) for key in ("id", "name", "args", "ts")})]
    if "result" in call:
        result = {"id": call["id"], "ts": call.get("finished_ts"), "result": call["result"]}
        shown.append(events.tool_call_result(run_id, result))
    return shown
