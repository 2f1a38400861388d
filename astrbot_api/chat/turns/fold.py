"""The message that a run's events form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ... import events
from ...events import OPENING, Event, decode_event, encode_event
from ...messages import MEDIA_TYPES

#: Members of a part that are lists of pieces while the part grows.
_PIECES = ("text", "think")

#: Counters of a rewind, as in ``events.rewind``.
_TAKEN_BACK = ("chars", "reasoning_chars", "calls", "files")


class ReplyFold:
    """Builds one message from a run's events.

    The only fold of events: used for a growing reply, an interrupted run, a snapshot, and answers
    without streaming.
    """

    def __init__(self) -> None:
        self.session_id: str | int = ""
        self.user_message: dict[str, Any] | None = None
        self.message_id: int | None = None
        self.stats: dict[str, Any] | None = None
        self.error: Event | None = None
        self._parts: list[dict[str, Any]] = []
        self._calls: dict[str, dict[str, Any]] = {}
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._filename = ""

    @property
    def text(self) -> str:
        """The whole answer so far, without reasoning and tool calls."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The whole reasoning so far."""
        return "".join(self._reasoning)

    @property
    def files(self) -> list[dict[str, Any]]:
        """The file parts, in order."""
        return [part for part in self._parts if "attachment_id" in part]

    @property
    def caller_calls(self) -> list[dict[str, Any]]:
        """The calls that the turn's caller runs."""
        return [call for call in self._calls.values() if call.get("by_caller")]

    def add(self, event: Event) -> None:
        """Add an event of the run. Events without content are ignored."""
        kind = event["type"]
        if kind == "plain" and self.error is None:  # afterwards, it is the error's text
            self._add_plain(event["chain_type"], event["data"])
        elif kind in MEDIA_TYPES:
            self._filename = event["data"].partition("]")[2]
        elif kind == "attachment_saved":
            data = event["data"]
            self._parts.append(
                {"type": data["type"], "attachment_id": data["id"], "filename": self._filename}
            )
        elif kind == "rewind":
            self._rewind(**{key: event["data"].get(key, 0) for key in _TAKEN_BACK})
        elif kind == "session_id":
            self.session_id = event["session_id"]
        elif kind == "user_message_saved":
            self.user_message = event["data"]
        elif kind == "agent_stats":
            self.stats = event["data"]
        elif kind == "message_saved":
            self.message_id = event["data"]["id"]
        elif kind == "error":
            self.error = event

    def to_parts(self) -> list[dict[str, Any]]:
        """Return the parts of the message, in order of arrival."""
        return [
            {key: "".join(value) if key in _PIECES else value for key, value in part.items()}
            for part in self._parts
        ]

    def to_content(self) -> dict[str, Any]:
        """Return the content of a stored message: ``{"type", "message", "reasoning"?}``."""
        content: dict[str, Any] = {"type": "bot", "message": self.to_parts()}
        if self._reasoning:
            content["reasoning"] = self.reasoning
        return content

    def _add_plain(self, chain_type: str | None, data: str) -> None:
        if chain_type is None:
            self._text.append(data)
            self._add_text("plain", "text", data)
        elif chain_type == "reasoning":
            self._reasoning.append(data)
            self._add_text("think", "think", data)
        elif chain_type == "tool_call":
            call = orjson.loads(data)
            self._calls[call["id"]] = call
            self._parts.append({"type": "tool_call", "tool_calls": [call]})
        elif chain_type == "tool_call_result":
            result = orjson.loads(data)
            call = self._calls.get(result["id"], {})
            call.update(result=result["result"], finished_ts=result["ts"])

    def count_from(self, earlier: ReplyFold) -> dict[str, int]:
        """Return how much this fold has beyond an earlier one, in the counters of a rewind."""
        counts = (
            len(self.text) - len(earlier.text),
            len(self.reasoning) - len(earlier.reasoning),
            len(self._calls) - len(earlier._calls),
            len(self.files) - len(earlier.files),
        )
        return dict(zip(_TAKEN_BACK, counts, strict=True))

    def _rewind(self, chars: int, reasoning_chars: int, calls: int, files: int) -> None:
        """Remove the newest content from the parts that hold it."""
        self._text = [_without_end(self.text, chars)]
        if reasoning_chars:
            self._reasoning = [_without_end(self.reasoning, reasoning_chars)]
        left = {"text": chars, "think": reasoning_chars}
        kept: list[dict[str, Any]] = []
        for part in reversed(self._parts):
            key = next((one for one in _PIECES if one in part), "")
            if key and left[key]:
                said = "".join(part[key])
                part[key] = [_without_end(said, left[key])]
                left[key] = max(0, left[key] - len(said))
            elif "attachment_id" in part and files:
                files -= 1
                continue
            elif part["type"] == "tool_call" and calls:
                calls -= 1
                self._calls.pop(part["tool_calls"][0]["id"], None)
                continue
            if not key or any(part[key]):
                kept.append(part)
        self._parts = kept[::-1]

    def _add_text(self, kind: str, key: str, data: str) -> None:
        if not self._parts or self._parts[-1]["type"] != kind:
            self._parts.append({"type": kind, key: []})
        self._parts[-1][key].append(data)


def fold_events(events: Iterable[Event]) -> ReplyFold:
    """Return the message that a run's events form."""
    fold = ReplyFold()
    for event in events:
        fold.add(event)
    return fold


def make_rewind(run_id: str, to: int, lines: list[bytes]) -> tuple[int, list[bytes]]:
    """Return the last event to keep, and the event that takes back the others.

    :param to: Number of the event before these lines.
    """
    shown = [decode_event(line) for line in lines]
    while shown and shown[0]["type"] in OPENING:  # the other worker shows the same ones
        to += 1
        del shown[0]
    counts = fold_events(shown).count_from(ReplyFold())
    event = events.rewind(run_id, to, again=True, **counts)
    return to, [encode_event(event)] if any(counts.values()) else []


def _without_end(text: str, chars: int) -> str:
    return text[: max(0, len(text) - chars)]
