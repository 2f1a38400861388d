"""What the JSON of chat completions means, piece by piece.

Source: https://platform.openai.com/docs/api-reference/chat-streaming, and what
endpoints in use make of it: fields that are null, calls without an index,
reasoning under two names, a whole message where a delta should be.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from ..agent.provider import Delta, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from ..errors import ProviderError
from . import failures
from .think import ThinkSplitter

log = logging.getLogger(__name__)

_CONTENT = "content"
_REASONING = "reasoning"


class ChunkReader:
    """Turns the chunks of one answer into deltas.

    :param redact: Prepares an endpoint's text for the log.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        #: Whether a chunk named the reason for which the answer ended.
        self.finished = False
        self._redact = redact
        self._answered = False
        self._think = ThinkSplitter()
        self._calls = _CallIndex()
        self._usage: Usage | None = None
        # First halves of surrogate pairs: by channel, or by tool call.
        self._halves: dict[str | int, str] = {}

    def read(self, payload: bytes) -> list[Delta]:
        """Understand one chunk, or one whole completion.

        :returns: What it adds to the answer; usage is kept for :meth:`finish`.
        :raises ProviderError: when it is not JSON, or reports an error.
        """
        chunk, joins = _load(payload)
        if not isinstance(chunk, dict):
            raise ProviderError(failures.NOT_JSON)
        if chunk.get("error") or chunk.get("object") == "error":
            raise self._failure(chunk)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            # Some endpoints send a running total: the last one counts.
            self._usage = read_usage(usage)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return []
        choice = choices[0]
        if choice.get("finish_reason"):
            self.finished = True
        message = choice.get("delta") or choice.get("message")
        return self._read_message(message, joins) if isinstance(message, dict) else []

    def finish(self) -> list[Delta]:
        """Give what was held back, then the usage."""
        found: list[Delta] = []
        # A half that is left has waited for its other half in vain.
        waiting, self._halves = self._halves, {}
        for channel in waiting:
            if isinstance(channel, int):
                found.append(ToolCallDelta(channel, arguments="\ufffd"))
            else:
                self._add_text(found, channel, "\ufffd")
        found += self._think.finish()
        self._answered = self._answered or bool(found)
        if self._usage is not None:
            found.append(self._usage)
        return found

    def check_answered(self) -> None:
        """:raises ProviderError: when neither text nor a tool call came."""
        if not self._answered:
            raise ProviderError(failures.ANSWERED_NOTHING)

    def _read_message(self, message: dict[str, Any], joins: bool) -> list[Delta]:
        found: list[Delta] = []
        thought = message.get("reasoning_content") or message.get("reasoning")
        if thought:
            self._add_text(found, _REASONING, thought, joins)
        content = message.get("content") or message.get("refusal")
        if content:
            if isinstance(content, list):
                content = self._read_parts(found, content, joins)
            self._add_text(found, _CONTENT, content, joins)
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            found += self._read_calls(calls, joins)
        if found:
            self._answered = True
        return found

    def _add_text(self, found: list[Delta], channel: str, text: Any, joins: bool = False) -> None:
        if not isinstance(text, str):
            return
        if joins or self._halves:
            text = self._mend(channel, text)
        if not text:
            return
        if channel == _REASONING:
            found.append(ReasoningDelta(text))
        elif self._think.settled:
            found.append(TextDelta(text))
        else:
            found += self._think.feed(text)

    def _read_parts(self, found: list[Delta], parts: list[Any], joins: bool) -> str:
        """Take content that comes as a list of typed parts."""
        for part in parts:
            if isinstance(part, dict) and part.get("type") == "thinking":
                self._add_text(found, _REASONING, _join_texts(part.get("thinking")), joins)
        return _join_texts(parts)

    def _read_calls(self, calls: list[Any], joins: bool) -> list[Delta]:
        found: list[Delta] = []
        for call in calls:
            if not isinstance(call, dict):
                continue
            function = call.get("function")
            if not isinstance(function, dict):
                function = {}
            name, call_id = _text(function.get("name")), _text(call.get("id"))
            if joins:
                name, call_id = _whole(name), _whole(call_id)
            index, call_id = self._calls.place(call.get("index"), call_id, name)
            arguments = function.get("arguments")
            if isinstance(arguments, dict):
                arguments = json.dumps(arguments, ensure_ascii=False)
            arguments = _text(arguments)
            if joins or self._halves:
                arguments = self._mend(index, arguments)
            if call_id or name or arguments:
                found.append(ToolCallDelta(index, call_id, name, arguments))
        return found

    def _mend(self, channel: str | int, text: str) -> str:
        """Join a surrogate pair that was cut between two deltas.

        Half a pair is no character: it cannot be stored or sent on. So the
        first half waits for the next text of its channel.
        """
        text = self._halves.pop(channel, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[channel] = text[-1]
            text = text[:-1]
        return _whole(text)

    def _failure(self, chunk: dict[str, Any]) -> ProviderError:
        error = chunk.get("error") or chunk
        log.warning(
            "the endpoint reported an error inside its answer: %s",
            self._redact(json.dumps(error, ensure_ascii=False)),
        )
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and 400 <= code < 600:
            return failures.EndpointRefusal(code)
        return ProviderError(failures.FAILED_MIDWAY)


class _CallIndex:
    """Numbers the tool calls of one answer in the order of their beginning.

    Endpoints leave the index out, or give each of several whole calls the
    index 0, or give no id: a call still needs one of each.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._place_of: dict[int, int] = {}

    def place(self, index: Any, call_id: str, name: str) -> tuple[int, str]:
        """Find the call to which a piece belongs, or begin a new one.

        :returns: Its number, and the id for this piece.
        """
        known: int | None
        if isinstance(index, int):
            known = self._place_of.get(index)
            if known is not None and name and call_id and call_id != self._ids[known]:
                known = None
        elif call_id in self._ids:
            known = self._ids.index(call_id)
        else:
            known = None if call_id or name or not self._ids else len(self._ids) - 1
        if known is not None:
            return known, call_id
        call_id = call_id or f"call_{uuid.uuid4().hex[:24]}"
        self._ids.append(call_id)
        if isinstance(index, int):
            self._place_of[index] = len(self._ids) - 1
        return len(self._ids) - 1, call_id


def read_usage(usage: dict[str, Any]) -> Usage:
    """Understand a ``usage`` object; what it does not say is 0."""
    prompt = _count(usage.get("prompt_tokens"))
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    # DeepSeek's name of it.
    cached = min(cached or _count(usage.get("prompt_cache_hit_tokens")), prompt)
    return Usage(
        input_other=prompt - cached,
        input_cached=cached,
        output=_count(usage.get("completion_tokens")),
    )


def _load(payload: bytes) -> tuple[Any, bool]:
    """Parse JSON.

    :returns: The value, and whether its texts may hold half a character.
    """
    try:
        return orjson.loads(payload), False
    except orjson.JSONDecodeError:
        pass
    # orjson refuses half of a surrogate pair, and NaN; both do come.
    try:
        return json.loads(payload), True
    except (ValueError, RecursionError) as error:
        raise ProviderError(failures.NOT_JSON) from error


def _whole(text: str) -> str:
    """Join the surrogate pairs of a text; a half without its other is U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _join_texts(parts: Any) -> str:
    if not isinstance(parts, list):
        return _text(parts)
    return "".join(
        _text(part.get("text"))
        for part in parts
        if isinstance(part, dict) and part.get("type") == "text"
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
