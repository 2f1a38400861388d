"""Converts the events of one AstrBot answer to the events of a turn.

The answer may arrive in several parts: an interrupted stream, the resumed run, or the message
that AstrBot stored. Content that was already shown is not repeated.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..agent.provider import ReasoningDelta, TextDelta, Usage
from ..agent.steps import AgentEvent, ToolFinished, ToolStarted
from ..errors import ProviderError
from ..messages import MEDIA_TYPES
from ..providers.failures import describe_status

#: Beginnings of failure messages that AstrBot sends as the bot's text.
#: Source: answers of 4.25.1 and 4.29.3, and its users' reports (AstrBotDevs/AstrBot #526, #5961).
_FAILURES = (
    "LLM 响应错误",
    "AstrBot 请求失败",
    "Error occurred while processing agent",
    "Error occurred during AI execution",
    "All chat models failed",
)

#: Failure messages after the beginning of an interrupted answer. Sent in one piece by 4.29.3.
_BEHIND = re.compile("LLM 响应错误: |AstrBot 请求失败")

_STATUS = re.compile(r"Error code: (\d{3})\b")

BROKE_OFF = "The model of that AstrBot failed during the answer. See AstrBot's log."

NO_ANSWER = "AstrBot returned no answer: its model failed, or it was overloaded. See its log."


@dataclass(frozen=True, slots=True)
class UpstreamAttachment:
    """A file of the answer that is still at AstrBot."""

    id: str
    name: str


AnswerPart = AgentEvent | UpstreamAttachment


class AnswerReader:
    """Converts the events of one answer.

    :ivar run_id: AstrBot's id of the run, or empty in older versions.
    :ivar user_message: AstrBot's number of the user's message, or None if unknown.
    :ivar ended: Whether the answer is complete.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.user_message: int | None = None
        self.ended = False
        self._text = ""  # shown or held back
        self._held = ""  # possible failure message of AstrBot
        self._reasoning = ""
        self._since = ""  # text since the last "complete"
        self._skip = 0  # characters that a resumed stream repeats
        self._output: int | None = None  # tokens, if AstrBot reported them
        self._known: set[str] = set()  # ids of calls, results and files that were shown
        self._name = ""

    def restart(self) -> None:
        """Prepare for reading the same answer again from its first event."""
        self._skip = len(self._text)
        self._since = ""

    def read(self, event: Mapping[str, Any]) -> Iterator[AnswerPart]:
        """Yield the new content of an event."""
        kind, data = event["type"], event.get("data")
        if kind == "plain" and isinstance(data, str):
            yield from self._read_plain(event.get("chain_type"), data)
        elif kind in MEDIA_TYPES and isinstance(data, str):
            self._name = data.partition("]")[2] or data
        elif kind == "attachment_saved" and isinstance(data, dict):
            yield from self._read_file(str(data.get("id") or ""), self._name)
        elif kind == "complete" and isinstance(data, str):
            yield from self._read_complete(data)
        elif kind == "agent_stats" and isinstance(data, dict):
            yield from self._read_usage(data)
        elif kind == "run_started" and isinstance(data, dict):
            self.run_id = str(data.get("run_id") or "")
        elif kind == "user_message_saved" and isinstance(data, dict):
            self.user_message = data["id"] if isinstance(data.get("id"), int) else None
        elif kind == "run_snapshot" and isinstance(data, dict):
            self._skip = 0
            content = data.get("content")
            yield from self.read_stored(content if isinstance(content, dict) else data)
        elif kind == "error":
            raise ProviderError("AstrBot reported an error. See its log.")
        elif kind == "end":
            self.ended = True

    def read_stored(self, content: Mapping[str, Any]) -> Iterator[AnswerPart]:
        """Yield the new content of a stored message or of a snapshot."""
        text, reasoning = "", str(content.get("reasoning") or "")
        for part in list_objects(content.get("message")):
            if part.get("type") == "plain":
                text += str(part.get("text") or "")
            elif part.get("type") == "think" and not content.get("reasoning"):
                reasoning += str(part.get("think") or "")
            elif part.get("type") == "tool_call":
                for call in list_objects(part.get("tool_calls")):
                    yield from self._read_call(call)
                    if call.get("result") is not None:
                        yield from self._read_result({**call, "ts": call.get("finished_ts")})
            elif part.get("attachment_id"):
                name = str(part.get("filename") or "")
                yield from self._read_file(str(part["attachment_id"]), name)
        if reasoning.startswith(self._reasoning) and len(reasoning) > len(self._reasoning):
            yield from self._read_plain("reasoning", reasoning[len(self._reasoning) :])
        if text.startswith(self._text):
            yield from self._show_text(text[len(self._text) :])
        stats = content.get("agent_stats")
        if isinstance(stats, dict):
            yield from self._read_usage(stats)

    def finish(self) -> Iterator[AnswerPart]:
        """Yield text that was held back, after the end of the answer.

        :raises ProviderError: if AstrBot sent a failure message or nothing.
        """
        held, self._held = self._held, ""
        if not self._output and held.lstrip().startswith(_FAILURES):
            found = _STATUS.search(held)
            if not found:
                raise ProviderError(NO_ANSWER if held == self._text else BROKE_OFF)
            why = describe_status(int(found[1]))
            raise ProviderError(f"The model of that AstrBot failed. {why}")
        if held:
            yield TextDelta(held)
        if not self._text and not self._known:
            raise ProviderError(NO_ANSWER)

    def _read_plain(self, chain_type: Any, data: str) -> Iterator[AnswerPart]:
        if chain_type == "reasoning":
            self._reasoning += data
            yield ReasoningDelta(data)
        elif chain_type == "tool_call":
            yield from self._read_call(_parse(data))
        elif chain_type == "tool_call_result":
            yield from self._read_result(_parse(data))
        else:
            skipped, self._skip = data[: self._skip], max(0, self._skip - len(data))
            yield from self._show_text(data[len(skipped) :])

    def _show_text(self, text: str) -> Iterator[AnswerPart]:
        if not text:
            return
        self._text += text
        self._since += text
        held = self._held + text
        end = self._find_failure(held)
        self._held = held[end:]
        if end:
            yield TextDelta(held[:end])

    def _find_failure(self, held: str) -> int:
        """Return the position of a possible failure message in the text, or the text's length."""
        if len(held) == len(self._text):
            text = held.lstrip()
            if any(text.startswith(one) or one.startswith(text) for one in _FAILURES):
                return 0
        found = None if self._output else _BEHIND.search(held)
        return found.start() if found else len(held)

    def _read_complete(self, data: str) -> Iterator[AnswerPart]:
        """Yield text that only the ``complete`` event contains."""
        since, self._since = self._since, ""
        if data.startswith(since) and not self._skip:
            yield from self._show_text(data[len(since) :])
        self._since = ""

    def _read_call(self, call: Mapping[str, Any]) -> Iterator[AnswerPart]:
        key = f"call {call.get('id')}"
        if call.get("name") and key not in self._known:
            self._known.add(key)
            yield ToolStarted(
                str(call.get("id")), str(call["name"]), call.get("args"), _read_time(call)
            )

    def _read_result(self, result: Mapping[str, Any]) -> Iterator[AnswerPart]:
        key = f"result {result.get('id')}"
        if "result" in result and key not in self._known:
            self._known.add(key)
            yield ToolFinished(str(result.get("id")), str(result["result"]), _read_time(result))

    def _read_file(self, attachment_id: str, name: str) -> Iterator[AnswerPart]:
        key = f"file {attachment_id}"
        if attachment_id and key not in self._known:
            self._known.add(key)
            yield UpstreamAttachment(attachment_id, name or attachment_id)

    def _read_usage(self, stats: Mapping[str, Any]) -> Iterator[AnswerPart]:
        usage = stats.get("token_usage")
        if self._output is not None or not isinstance(usage, dict):
            return
        counted = [usage.get(key) for key in ("input_other", "input_cached", "output")]
        other, cached, output = (one if isinstance(one, int) else 0 for one in counted)
        self._output = output
        yield Usage(other, cached, output)


def find_answer(
    rows: Sequence[Mapping[str, Any]], user_message: int | None, since: float
) -> Mapping[str, Any] | None:
    """Return the bot's last message after the user's message, or None.

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

    begun = [number for number, row in enumerate(rows) if is_mine(row)]
    after = rows[begun[-1] + 1 :] if begun else ()
    return next((row for row in reversed(after) if _is_bots(row)), None)


def list_objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a JSON list, or an empty list for another value."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _is_bots(row: Mapping[str, Any]) -> bool:
    content = row.get("content")
    return isinstance(content, dict) and content.get("type") == "bot"


def _read_iso(value: Any) -> float:
    with suppress(TypeError, ValueError):
        return datetime.fromisoformat(str(value)).timestamp()
    return 0.0


def _parse(data: str) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read_time(call: Mapping[str, Any]) -> float:
    ts = call.get("ts")
    return float(ts) if isinstance(ts, (int, float)) else time.time()
