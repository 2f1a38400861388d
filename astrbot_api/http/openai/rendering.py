"""Conversion of a turn's events to a chat completion, whole or in chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...chat.turns.reply import ReplyFold
from ...chat.watching.watch import Numbered
from ...errors import STATUS_OF_CODE, StorageError
from ...events import Event
from ..continuing import BROKEN, ContinuedText
from ..openai_errors import describe_failure
from ..sse import LEAVING, Rendering, decode_own, frame, frame_json

_DONE = frame(b"[DONE]")


@dataclass(slots=True)
class Completion(Rendering):
    """One chat completion, built from the events of its turn.

    :param model: The ``model`` of the request.
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
    fold: ReplyFold = field(default_factory=ReplyFold)
    _text: ContinuedText = field(default_factory=ContinuedText)
    _reasoning: ContinuedText = field(default_factory=ContinuedText)

    def begin(self) -> bytes:
        """Return the first chunk."""
        return self._to_chunk({"role": "assistant", "content": ""})

    def render(self, events: Sequence[Numbered]) -> bytes:
        """Return the chunks of events."""
        deltas = [self._to_delta(event) for event in decode_own(events)]
        return b"".join(self._to_chunk(delta) for delta in deltas if delta is not None)

    def finish(self) -> bytes:
        """Return the final frames."""
        if self.fold.error is not None:
            error = self.fold.error
            return self._fail(error.get("reason") or error["code"], error["data"])
        fault = self.find_fault()
        if fault:
            return self._fail("provider_error", fault)
        if not self._text.is_whole():
            return self._fail("run_interrupted", BROKEN)
        frames = self._to_chunk({}, self._finish_reason())
        if self.include_usage:
            head = self._head("chat.completion.chunk")
            frames += frame_json({**head, "choices": [], "usage": self._to_usage()})
        return frames + _DONE

    def fail(self, error: StorageError) -> bytes:
        """Return the final frames if reading the events fails."""
        return self._fail("storage_error", str(error))

    def leave(self) -> bytes:
        """Return the final frames if the worker stops."""
        return self._fail("run_interrupted", LEAVING)

    def find_fault(self) -> str:
        """Return the fault in the whole answer's format, or an empty string."""
        return self.check_text(self.fold.text) if self._finish_reason() == "stop" else ""

    def _to_delta(self, event: Event) -> dict[str, Any] | None:
        """Add an event, and return its ``delta``, or None if the client does not see it.

        Calls of the server's tools and their results are not shown.
        """
        kind, fold = event["type"], self.fold
        if kind == "rewind" and event["data"].get("again"):
            self._text.take_back(fold.text)
            self._reasoning.take_back(fold.reasoning)
        fold.add(event)
        if kind == "plain" and event["chain_type"] == "tool_call":
            return self._show_last_call(event)
        if kind == "plain" and event["chain_type"] is None:
            text = self._text.add(event["data"], fold.text)
            return {"content": text} if text else None
        if kind == "plain" and event["chain_type"] == "reasoning":
            text = self._reasoning.add(event["data"], fold.reasoning)
            return {"reasoning_content": text} if text else None
        if kind == "attachment_saved":
            return {"attachments": [_describe_file(self.fold.files[-1])]}
        return None

    def _show_last_call(self, event: Event) -> dict[str, Any] | None:
        """Return the ``delta`` of a call of the client's tool, or None for a server's tool."""
        if not orjson.loads(event["data"]).get("by_caller"):
            return None
        calls = self.fold.caller_calls
        index = len(calls) - 1
        return {"tool_calls": [{"index": index, **_describe_call(calls[index])}]}

    def to_object(self) -> dict[str, Any]:
        """Return the whole ``chat.completion``."""
        message: dict[str, Any] = {
            "role": "assistant", "content": self.fold.text, "refusal": None,
        }  # fmt: skip
        if self.fold.caller_calls:
            message["content"] = self.fold.text or None
            message["tool_calls"] = list(map(_describe_call, self.fold.caller_calls))
        if self.fold.reasoning:
            message["reasoning_content"] = self.fold.reasoning
        if self.fold.files:
            message["attachments"] = [_describe_file(part) for part in self.fold.files]
        choice = {
            "index": 0, "message": message, "finish_reason": self._finish_reason(),
            "logprobs": None,
        }  # fmt: skip
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._to_usage()}

    def _to_chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        """Return a frame with a ``chat.completion.chunk``."""
        choice = {
            "index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None,
        }  # fmt: skip
        return frame_json({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _fail(self, code: str, message: str) -> bytes:
        failure = describe_failure(code, message, STATUS_OF_CODE.get(code, 500))
        return frame_json({"error": failure}) + _DONE

    def _head(self, kind: str) -> dict[str, Any]:
        head: dict[str, Any] = {
            "id": f"chatcmpl-{self.run_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }
        return {**head, "session_id": self.session_id} if self.session_id else head

    def _finish_reason(self) -> str:
        """Return OpenAI's ``finish_reason``. Only calls of the client's tools count as calls."""
        if self.fold.caller_calls:
            return "tool_calls"
        reason = (self.fold.stats or {}).get("finish_reason")
        return reason if reason in ("length", "content_filter") else "stop"

    def _to_usage(self) -> dict[str, Any]:
        tokens = self.fold.stats["token_usage"] if self.fold.stats else {}
        cached = tokens.get("input_cached", 0)
        prompt, output = tokens.get("input_other", 0) + cached, tokens.get("output", 0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


def _describe_file(part: dict[str, Any]) -> dict[str, Any]:
    return {key: part[key] for key in ("attachment_id", "type", "filename")}


def _describe_call(call: dict[str, Any]) -> dict[str, Any]:
    args = call["args"]
    text = args if isinstance(args, str) else orjson.dumps(args).decode()
    return {
        "id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": text},
    }  # fmt: skip
