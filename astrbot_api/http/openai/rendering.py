"""Conversion of a turn's events to a chat completion, whole or in chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...errors import STATUS_OF_CODE
from ...events import Event, count_tokens
from ..openai_errors import describe_error
from ..rendering import ReplyRendering, describe_call, describe_file
from ..sse import frame, frame_json

_DONE = frame(b"[DONE]")


@dataclass(slots=True)
class Completion(ReplyRendering):
    """One chat completion, built from the events of its turn.

    :param session_id: Session of the stored turn, or empty if the turn is not stored.
    :param include_usage: Whether a stream ends with a chunk that has ``usage``.
    :param check_text: Returns the fault in an answer's format, or an empty string.
    """

    run_id: str
    model: str
    session_id: str
    include_usage: bool = False
    check_text: Callable[[str], str] = lambda text: ""
    created: int = field(default_factory=lambda: int(time.time()))
    #: Number of the client's calls that were sent. Each has its own index, also after a rewind.
    _calls: int = 0

    def begin(self) -> bytes:
        """Return the first chunk. With an empty text, AI SDK would show a text before each call."""
        return frame_json(self._to_chunk({"role": "assistant"}))

    def show(self, event: Event) -> Iterator[dict[str, Any]]:
        """Add an event, and yield its chunk, if the client sees it."""
        delta = self._to_delta(event)
        if delta is not None:
            yield self._to_chunk(delta)

    def wait(self) -> bytes:
        """Return a chunk without changes.

        OpenAI sends no comments, and some clients give them to the application as an event without
        data. Source: ``parse.ts`` of ``@microsoft/fetch-event-source``; issue 91 of ``sse.js``.
        """
        return frame_json(self._to_chunk({}))

    def finish(self) -> bytes:
        failure = self.find_failure()
        if failure is not None:
            return self.end_with_error(*failure)
        if fault := self.find_fault():
            return self.end_with_error("provider_error", fault)
        frames = frame_json(self._to_chunk({}, self._finish_reason()))
        if self.include_usage:
            head = self._head("chat.completion.chunk")
            frames += frame_json({**head, "choices": [], "usage": self._to_usage()})
        return frames + _DONE

    def find_early_error(self) -> Event | None:
        """Return the turn's error if the turn failed before its first output and call."""
        return None if self.fold.to_parts() else self.fold.error

    def find_fault(self) -> str:
        """Return the fault in the whole answer's format, or an empty string."""
        return self.check_text(self.fold.text) if self._finish_reason() == "stop" else ""

    def _to_delta(self, event: Event) -> dict[str, Any] | None:
        """Add an event, and return its ``delta``, or None if the client does not see it.

        Calls of the server's tools and their results are not shown.
        """
        kind, chain_type = event["type"], event.get("chain_type")
        if kind == "rewind" and event["data"].get("again"):
            self.rewind()
        self.fold.add(event)
        if kind == "attachment_saved":
            return {"attachments": [describe_file(self.fold.files[-1])]}
        if kind != "plain" or chain_type == "tool_call_result":
            return None
        if chain_type == "tool_call":
            return self._show_last_call(event)
        text = self.add_text(chain_type, event["data"])
        name = "content" if chain_type is None else "reasoning_content"
        return {name: text} if text else None

    def _show_last_call(self, event: Event) -> dict[str, Any] | None:
        """Return the ``delta`` of a call of the client's tool, or None if the client sees none."""
        call = orjson.loads(event["data"])
        if not call.get("by_caller") or self.has_call(call):
            return None
        self._calls += 1
        return {"tool_calls": [{"index": self._calls - 1, **describe_call(call)}]}

    def to_object(self) -> dict[str, Any]:
        """Return the whole ``chat.completion``."""
        calls = self.fold.caller_calls
        content = self.fold.text or (None if calls else "")
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message["tool_calls"] = list(map(describe_call, calls))
        if self.fold.reasoning:
            message["reasoning_content"] = self.fold.reasoning
        if self.fold.files:
            message["attachments"] = [describe_file(part) for part in self.fold.files]
        choice = {
            "index": 0, "message": message, "finish_reason": self._finish_reason(),
            "logprobs": None,
        }  # fmt: skip
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._to_usage()}

    def _to_chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """Return a ``chat.completion.chunk``."""
        choice = {
            "index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None,
        }  # fmt: skip
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def end_with_error(self, code: str, message: str) -> bytes:
        failure = describe_error(code, message, STATUS_OF_CODE.get(code, 500))
        return frame_json({"error": failure}) + _DONE

    def _head(self, kind: str) -> dict[str, Any]:
        head: dict[str, Any] = {
            "id": f"chatcmpl-{self.run_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            # Cerebras's client takes a chunk without it for a whole completion.
            "system_fingerprint": "astrbot-api",
        }
        return {**head, "session_id": self.session_id} if self.session_id else head

    def _finish_reason(self) -> str:
        """Return OpenAI's ``finish_reason``. Only calls of the client's tools count as calls."""
        reason: str = (self.fold.stats or {}).get("finish_reason", "")
        if reason in ("length", "content_filter"):  # also if the model was cut off in a call
            return reason
        return "tool_calls" if self.fold.caller_calls else "stop"

    def _to_usage(self) -> dict[str, Any]:
        prompt, cached, output = count_tokens(self.fold.stats)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
