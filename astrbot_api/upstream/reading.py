"""Converts the events of one AstrBot answer to the events of a turn.

The answer may arrive in several parts: an interrupted stream, the resumed run, or the messages
that AstrBot stored. Content that was already shown is not repeated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ..agent.provider import ReasoningDelta, Usage
from ..agent.steps import AgentEvent, ToolFinished, ToolStarted
from ..errors import ProviderError
from ..messages import MEDIA_TYPES
from .answer_text import NO_ANSWER, AnswerText
from .stored import list_objects, parse_object, read_context
from .transport import HEARTBEAT


@dataclass(frozen=True, slots=True)
class UpstreamAttachment:
    """A file of the answer that is still at AstrBot."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause after a whole message. A command of AstrBot may wait for the user's next message."""


AnswerPart = AgentEvent | UpstreamAttachment | Pause

#: Maximum number of calls, results and files of an answer, and of characters that AstrBot streams.
#: The limits of replies apply to their shown text only.
_MAX_PARTS = 2000
_MAX_CHARS = 64 * 1024 * 1024

_TOO_LONG = "The answer was cut off: AstrBot sends calls, files or text without end."


class AnswerReader:
    """Converts the events of one answer, which may consist of several messages.

    :ivar run_id: AstrBot's id of the run, or empty in older versions.
    :ivar checkpoint: AstrBot's id of the turn in its stored messages, or empty if unknown.
    :ivar ended: Whether the answer is complete.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.checkpoint = ""
        self.ended = False
        self._text = AnswerText()
        # Built in pieces, because adding strings would take quadratic time.
        self._reasoning = StringIO()
        self._chars = 0  # of all pieces in streams
        self._messages = 0  # messages that were read to their end
        self._after_saved = False  # whether the last event was "message_saved"
        self._used = Usage()  # by all model calls of the turn, as AstrBot counts
        self._paused = False
        self._known: set[str] = set()  # ids of calls, results and files that were shown
        self._name = ""

    @property
    def is_command(self) -> bool:
        """Whether a command answers, not a model. Always true in versions without runs."""
        return bool(self.checkpoint and self._text.chars and not self.run_id)

    def read(self, event: Mapping[str, Any]) -> Iterator[AnswerPart]:
        """Yield the new content of an event."""
        kind, data = event["type"], event.get("data")
        if kind == HEARTBEAT:
            if self._after_saved and not self._paused and not self._runs_tool():
                self._paused = True
                yield Pause()
            return
        after_saved, self._after_saved = self._after_saved, kind == "message_saved"
        if kind == "plain" and isinstance(data, str):
            yield from self._read_plain(event.get("chain_type"), data)
        elif kind in MEDIA_TYPES and isinstance(data, str):
            stored, _, shown = (data.partition("]")[2] or data).partition("|")
            self._name = shown or stored
        elif kind == "attachment_saved" and isinstance(data, dict):
            yield from self._read_file(str(data.get("id") or ""), self._name)
        elif kind == "complete" and isinstance(data, str):
            yield from self._text.add_complete(data)
            # A /reset from elsewhere stopped the turn. 4.29.3 sends no "end" then, 4.25.1 does.
            if after_saved and not data:
                self.ended = True
        elif kind == "agent_stats" and isinstance(data, dict):
            yield from self._read_usage(data)
        elif kind == "run_started" and isinstance(data, dict):
            self.run_id = str(data.get("run_id") or "")
        elif kind == "user_message_saved" and isinstance(data, dict):
            self.checkpoint = str(data.get("llm_checkpoint_id") or "")
        elif kind == "message_saved":
            self._end_message()
        elif kind == "run_snapshot" and isinstance(data, dict):
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
        known = self._reasoning.tell()
        if len(reasoning) > known and reasoning.startswith(self._reasoning.getvalue()):
            yield from self._read_plain("reasoning", reasoning[known:])
        yield from self._text.add_message(text)
        stats = content.get("agent_stats")
        if isinstance(stats, dict):
            yield from self._read_usage(stats)

    def read_rows(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[AnswerPart]:
        """Yield the new content of the turn's stored messages, and end the answer."""
        for row in rows[self._messages :]:
            self._text.begin_message()
            yield from self.read_stored(row["content"])
            self._end_message()
        self.ended = True

    def read_context(self, messages: Sequence[Mapping[str, Any]]) -> Iterator[AnswerPart]:
        """Yield the new content of the turn in the model's context, and end the answer.

        Nothing happens if the text so far is not in it, for example text of a command.
        """
        content = read_context(messages)
        text = "".join(part.get("text", "") for part in content)
        if self._text.begins(text):
            yield from self.read_stored({"message": content})
            self.ended = True

    def finish(self) -> Iterator[AnswerPart]:
        """Yield text that was held back, after the end of the answer.

        :raises ProviderError: if AstrBot sent a failure message or nothing.
        """
        yield from self._text.finish()
        if not self._text.chars and not self._known:
            raise ProviderError(NO_ANSWER)

    def _read_plain(self, chain_type: Any, data: str) -> Iterator[AnswerPart]:
        self._chars += len(data)
        if self._chars > _MAX_CHARS:
            raise ProviderError(_TOO_LONG)
        if chain_type == "reasoning":
            self._reasoning.write(data)
            yield ReasoningDelta(data)
        elif chain_type == "tool_call":
            yield from self._read_call(parse_object(data))
        elif chain_type == "tool_call_result":
            yield from self._read_result(parse_object(data))
        else:
            yield from self._text.add(data)

    def _end_message(self) -> None:
        self._messages += 1
        self._text.end_message()

    def _read_call(self, call: Mapping[str, Any]) -> Iterator[AnswerPart]:
        if call.get("name") and self._is_new(f"call {call.get('id')}"):
            yield ToolStarted(
                str(call.get("id")), str(call["name"]), call.get("args"), _read_time(call)
            )

    def _read_result(self, result: Mapping[str, Any]) -> Iterator[AnswerPart]:
        if "result" in result and self._is_new(f"result {result.get('id')}"):
            yield ToolFinished(str(result.get("id")), str(result["result"]), _read_time(result))

    def _runs_tool(self) -> bool:
        """Return whether a call has no result yet."""
        kinds = [one.partition(" ")[0] for one in self._known]
        return kinds.count("call") > kinds.count("result")

    def _read_file(self, attachment_id: str, name: str) -> Iterator[AnswerPart]:
        if attachment_id and self._is_new(f"file {attachment_id}"):
            yield UpstreamAttachment(attachment_id, name or attachment_id)

    def _is_new(self, part: str) -> bool:
        """Return whether a part of the answer was not shown before."""
        if part in self._known:
            return False
        self._known.add(part)
        if len(self._known) > _MAX_PARTS:
            raise ProviderError(_TOO_LONG)
        return True

    def _read_usage(self, stats: Mapping[str, Any]) -> Iterator[AnswerPart]:
        """Yield the tokens since the last report. AstrBot reports the sum after each model call."""
        usage = stats.get("token_usage")
        if not isinstance(usage, dict):
            return
        counted = [usage.get(key) for key in ("input_other", "input_cached", "output")]
        other, cached, output = (one if isinstance(one, int) else 0 for one in counted)
        before = self._used
        if output > before.output:
            # The model's own words. AstrBot's failure messages follow the report.
            yield from self._text.release()
        more = (
            max(0, other - before.input_other), max(0, cached - before.input_cached),
            max(0, output - before.output),
        )  # fmt: skip
        if any(more):
            self._used = before + Usage(*more)
            yield Usage(*more)


def _read_time(call: Mapping[str, Any]) -> float:
    ts = call.get("ts")
    return float(ts) if isinstance(ts, (int, float)) else time.time()
