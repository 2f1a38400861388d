"""Convert a stored answer back to the model's steps: text, calls and results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import orjson

from ...agent.provider import ModelMessage
from ...messages import MEDIA_TYPES
from ...providers.conversation import NO_RESULT
from .budget import shorten

#: Maximum length of an old tool result. The model has already used it.
_OLD_RESULT_CHARS = 2000


def to_steps(
    parts: Iterable[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]] | None
) -> list[ModelMessage]:
    """Return an answer's parts as assistant and tool messages, without reasoning.

    :param steps: Number of calls and provider data of each step. If None, calls that began before
        the results of others arrived belong to the same step.
    """
    fold = _StepFold(steps)
    for part in parts:
        if part["type"] == "plain":
            fold.add_text(part["text"])
        elif part["type"] in MEDIA_TYPES:
            fold.add_note(f"[You sent the {part['type']} {part['filename']}.]")
        elif part["type"] == "tool_call":
            for call in part["tool_calls"]:
                fold.add_call(call)
    return fold.finish()


class _StepFold:
    def __init__(self, steps: Sequence[Mapping[str, Any]] | None) -> None:
        self._steps = list(steps or ())
        self._at = 0
        self._messages: list[ModelMessage] = []
        self._text: list[str] = []
        self._notes: list[str] = []
        self._calls: list[Mapping[str, Any]] = []

    def add_text(self, text: str) -> None:
        if self._calls:
            self._end_step()
        self._text.append(text)

    def add_note(self, text: str) -> None:
        # A file that a tool sent stands between the calls of its step.
        (self._notes if self._calls else self._text).append(text)

    def add_call(self, call: Mapping[str, Any]) -> None:
        if self._calls and self._is_full(call):
            self._end_step()
        self._calls.append(call)

    def finish(self) -> list[ModelMessage]:
        if self._calls or self._text:
            self._end_step()
        return self._messages

    def _is_full(self, call: Mapping[str, Any]) -> bool:
        step = self._find_step()
        if step is not None:
            return len(self._calls) >= int(step["calls"])
        ends = [one["finished_ts"] for one in self._calls if "finished_ts" in one]
        return len(ends) == len(self._calls) and float(call.get("ts", 0.0)) >= max(ends)

    def _find_step(self) -> Mapping[str, Any] | None:
        """Return the step of the next calls."""
        while self._at < len(self._steps) and not self._steps[self._at].get("calls"):
            self._at += 1
        return self._steps[self._at] if self._at < len(self._steps) else None

    def _end_step(self) -> None:
        text = "\n\n".join(filter(None, self._text))
        if self._calls:
            step = self._find_step()
            self._at += 1
            calls = [_to_call(one) for one in self._calls]
            message: ModelMessage = {
                "role": "assistant", "content": text or None, "tool_calls": calls,
            }  # fmt: skip
        else:
            step = self._steps[-1] if self._steps and not self._steps[-1].get("calls") else None
            message = {"role": "assistant", "content": text}
        if step and step.get("attached"):
            message["attached"] = deepcopy(step["attached"])  # the stored row is shared
        self._messages.append(message)
        self._messages += [_to_result(one) for one in self._calls]
        self._text, self._notes, self._calls = self._notes, [], []


def _to_call(call: Mapping[str, Any]) -> dict[str, Any]:
    args = call["args"]
    arguments = args if isinstance(args, str) else orjson.dumps(args).decode()
    function = {"name": call["name"], "arguments": arguments}
    return {"id": call["id"], "type": "function", "function": function}


def _to_result(call: Mapping[str, Any]) -> ModelMessage:
    result = shorten(str(call.get("result", NO_RESULT)), _OLD_RESULT_CHARS)
    return {"role": "tool", "tool_call_id": call["id"], "content": result}
