"""The events of a turn as chat completions, whole or in chunks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...errors import STATUS_OF_CODE
from ...events import Event
from ..openai_errors import describe_failure

_DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Completion:
    """One turn on its way to a client of OpenAI's API.

    :param model: What the client called the model.
    :param session_id: The session that the turn is kept in; empty: none is.
    """

    run_id: str
    model: str
    session_id: str
    created: int = field(default_factory=lambda: int(time.time()))
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    error: tuple[str, str] | None = None
    _file_name: str = ""

    def take(self, event: Event) -> dict[str, Any] | None:
        """Note an event; return the ``delta`` that shows it, if anything does.

        What tools are called with and what they answer is not shown: they run
        on the server. Neither is a message that was pushed meanwhile.
        """
        if event.get("message_id", self.run_id) != self.run_id:
            return None
        kind, data = event["type"], event.get("data")
        if kind == "plain" and event["chain_type"] is None:
            self.text.append(event["data"])
            return {"content": data}
        if kind == "plain" and event["chain_type"] == "reasoning":
            self.reasoning.append(event["data"])
            return {"reasoning_content": data}
        if kind in ("image", "record", "file", "video"):
            self._file_name = event["data"].partition("]")[2]
        elif kind == "attachment_saved":
            file = {
                "attachment_id": event["data"]["id"],
                "type": event["data"]["type"],
                "filename": self._file_name,
            }
            self.files.append(file)
            return {"attachments": [file]}
        elif kind == "agent_stats":
            self.usage = _to_usage(event["data"]["token_usage"])
        elif kind == "error":
            self.error = (event["code"], event["data"])
        return None

    def to_object(self) -> dict[str, Any]:
        """Return the whole ``chat.completion``."""
        message: dict[str, Any] = {
            "role": "assistant", "content": "".join(self.text), "refusal": None,
        }  # fmt: skip
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.files:
            message["attachments"] = self.files
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = self.usage or _to_usage({})
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage}

    def to_chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        """Return a frame with a ``chat.completion.chunk``."""
        choice = {
            "index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None,
        }  # fmt: skip
        return _frame({**self._head("chat.completion.chunk"), "choices": [choice]})

    def to_last_chunks(self, *, include_usage: bool) -> bytes:
        """Return the frames that end the stream."""
        if self.error is not None:
            code, message = self.error
            failure = describe_failure(code, message, STATUS_OF_CODE.get(code, 500))
            return _frame({"error": failure}) + _DONE
        frames = self.to_chunk({}, "stop")
        if include_usage:
            usage = self.usage or _to_usage({})
            head = self._head("chat.completion.chunk")
            frames += _frame({**head, "choices": [], "usage": usage})
        return frames + _DONE

    def _head(self, kind: str) -> dict[str, Any]:
        head: dict[str, Any] = {
            "id": f"chatcmpl-{self.run_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }
        return {**head, "session_id": self.session_id} if self.session_id else head


def _to_usage(tokens: dict[str, int]) -> dict[str, Any]:
    cached = tokens.get("input_cached", 0)
    prompt, output = tokens.get("input_other", 0) + cached, tokens.get("output", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _frame(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
