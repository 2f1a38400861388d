"""Turns of the fake AstrBot."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from ..agent.cancel import Cancellation
from ..agent.provider import (
    ModelOptions,
    Provider,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from ..errors import ProviderError, RunCancelled

Version = Literal["4.25", "4.29"]

_TOOL = {"type": "function", "function": {"name": "future_task", "parameters": {}}}

#: Ids of stored messages.
_NUMBERS = itertools.count(3001)


class FakeRun:
    """One turn, with its events and stored messages."""

    def __init__(self, session_id: str, username: str, version: Version) -> None:
        self.id = str(uuid.uuid4())
        self.session_id = session_id
        self.cancel = Cancellation()
        self.over = False
        #: The turn in the model's context, once the run has ended.
        self.context: list[dict[str, Any]] = []
        self.stopping = False
        self._checkpoint = str(uuid.uuid4())
        self._username = username
        self._version = version
        self._changed = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._history: list[dict[str, Any]] = []
        self._text = ""
        self._since = ""
        self._reasoning = ""
        self._parts: list[dict[str, Any]] = []
        self._add({"type": "session_id", "data": None, "session_id": session_id})

    def begin(self, history: list[dict[str, Any]], parts: Any, *, skip: bool) -> None:
        """Store the user's message."""
        self._history = history
        if not skip:
            row = self._store({"type": "user", "message": parts}, self._username)
            self._add({"type": "user_message_saved", "data": self._describe(row)})
        if self._version != "4.25":
            self._add({"type": "run_started", "data": {"run_id": self.id}, "streaming": False,
                       "message_id": self.id})  # fmt: skip

    def answer(self, text: str, model: Provider, picture: str | None) -> None:
        """Answer a message with a model, and end the text of the answer.

        :param picture: Id of a picture to add to the answer, or None.
        """
        usage = Usage()
        try:
            usage = self._ask(text, model)
            if picture is not None:
                self.show_file(picture, "image", "picture.png")
            self.show_stats(usage)
        except RunCancelled:
            pass
        except ProviderError as error:
            self.show_stats(usage)
            if self._version != "4.25":
                status = getattr(error, "status", 500)
                self.say(f"LLM 响应错误: All chat models failed: Error code: {status}")
        self.complete()

    def _ask(self, text: str, model: Provider) -> Usage:
        """Show the model's answer and the calls of its tool, and return the used tokens."""
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": text},
        ]
        used = Usage()
        while True:
            calls: list[ToolCallDelta] = []
            for delta in model.stream(messages, [_TOOL], ModelOptions(self.cancel)):
                if isinstance(delta, TextDelta):
                    self.say(delta.text)
                elif isinstance(delta, ReasoningDelta):
                    self.say(delta.text, "reasoning")
                elif isinstance(delta, ToolCallDelta):
                    calls.append(delta)
                elif isinstance(delta, Usage):
                    used += delta
            if not calls:
                return used
            result = "error: action must be one of create, edit, delete, or list."
            self.show_call(calls[0].id, calls[0].name, result)
            messages.append({"role": "assistant", "content": None, "tool_calls": []})
            messages.append({"role": "tool", "tool_call_id": calls[0].id, "content": result})

    def say(self, text: str, chain_type: str | None = None, *, streaming: bool = True) -> None:
        """Add text or reasoning."""
        if chain_type is None:
            self._text += text
            self._since += text
        else:
            self._reasoning += text
        self._plain(text, chain_type, streaming=streaming)

    def show_call(self, call_id: str, name: str, result: str) -> None:
        """Add a tool call and its result."""
        call = {"id": call_id, "name": name, "args": {}, "ts": time.time()}
        self._plain(json.dumps(call), "tool_call", streaming=False)
        done = {"id": call_id, "ts": time.time(), "result": result}
        self._plain(json.dumps(done), "tool_call_result", streaming=False)
        self._parts.append({"type": "tool_call", "tool_calls": [
            {**call, "result": result, "finished_ts": done["ts"]}]})  # fmt: skip

    def show_file(self, attachment_id: str, kind: str, name: str) -> None:
        """Add a file."""
        self._add({"type": kind, "data": f"[{kind.upper()}]{name}", "streaming": True,
                   "message_id": self.id})  # fmt: skip
        self._add({"type": "attachment_saved", "data": {"id": attachment_id, "type": kind}})
        self._parts.append({"type": kind, "attachment_id": attachment_id, "filename": name})

    def show_stats(self, usage: Usage) -> None:
        """Add token counts and times."""
        counted = {"input_other": usage.input_other, "input_cached": usage.input_cached,
                   "output": usage.output}  # fmt: skip
        now = time.time()
        self._add({"type": "agent_stats", "data": {
            "token_usage": counted, "start_time": now, "end_time": now,
            "time_to_first_token": 0.0}})  # fmt: skip

    def complete(self) -> None:
        """End the text of one answer."""
        self._add({"type": "complete", "data": self._since, "reasoning": self._reasoning,
                   "streaming": True, "message_id": self.id})  # fmt: skip
        self._since = ""

    def finish(self) -> None:
        """Store the bot's message and end the stream."""
        self.save()
        self._add({"type": "end", "data": "", "streaming": False, "message_id": self.id}, last=True)

    def save(self) -> None:
        """Store what the bot said so far as a message."""
        parts = [*self._parts, {"type": "plain", "text": self._text}]
        content = {"type": "bot", "message": parts}
        if self._reasoning:
            content["reasoning"] = self._reasoning
        self._keep_context()
        saved = self._describe(self._store(content, "bot"))
        self._add({"type": "message_saved", "data": saved})

    def iter_frames(self, after: int = 0) -> Iterator[bytes]:
        """Yield all frames, starting after an index."""
        while True:
            with self._changed:
                if len(self._events) == after and not self.over:
                    self._changed.wait(1.0)
                news, over = self._events[after:], self.over
            for event in news:
                yield f"data: {json.dumps(event)}\n\n".encode()
            after += len(news)
            if over and not news:
                return
            if not news:
                yield b": heartbeat\n\n"

    def iter_resumed(self) -> Iterator[bytes]:
        """Yield a snapshot, then the following frames."""
        with self._changed:
            after = len(self._events)
            content: dict[str, Any] = {
                "type": "bot", "message": [*self._parts, {"type": "plain", "text": self._text}],
                "reasoning": self._reasoning,
            }  # fmt: skip
            ended = self._events[-1] if self.over else None
        snapshot = {"type": "run_snapshot", "data": {"run_id": self.id, "content": content}}
        yield f"data: {json.dumps(snapshot)}\n\n".encode()
        if ended is not None:
            yield f"data: {json.dumps(ended)}\n\n".encode()
        yield from self.iter_frames(after)

    def _keep_context(self) -> None:
        """Keep the turn as the model sees it later."""
        self.context = [{"role": "user", "content": [{"type": "text", "text": "asked"}]}]
        for part in self._parts:
            for call in part.get("tool_calls", ()):
                function = {"name": call["name"], "arguments": json.dumps(call["args"])}
                self.context += [
                    {"role": "assistant", "content": None, "tool_calls": [
                        {"type": "function", "id": call["id"], "function": function}]},
                    {"role": "tool", "tool_call_id": call["id"], "content": call["result"]},
                ]  # fmt: skip
        said = [{"type": "think", "think": self._reasoning, "encrypted": None},
                {"type": "text", "text": self._text}]  # fmt: skip
        self.context += [
            {"role": "assistant", "content": said},
            {"role": "_checkpoint", "content": {"id": self._checkpoint}},
        ]

    @staticmethod
    def _describe(row: dict[str, Any]) -> dict[str, Any]:
        return {key: row[key] for key in ("id", "created_at", "llm_checkpoint_id")}

    def _plain(self, text: str, chain_type: str | None, *, streaming: bool) -> None:
        self._add({"type": "plain", "data": text, "streaming": streaming,
                   "chain_type": chain_type, "message_id": self.id})  # fmt: skip

    def _store(self, content: dict[str, Any], sender: str) -> dict[str, Any]:
        row = {"id": next(_NUMBERS), "content": content, "sender_id": sender,
               "created_at": now(), "llm_checkpoint_id": self._checkpoint}  # fmt: skip
        self._history.append(row)
        return row

    def _add(self, event: dict[str, Any], *, last: bool = False) -> None:
        with self._changed:
            self._events.append(event)
            self.over = self.over or last
            self._changed.notify_all()


def now() -> str:
    """Return the current time in AstrBot's format."""
    return datetime.now(UTC).isoformat()
