"""Conversion of chat completion chunks to deltas.

Source: https://platform.openai.com/docs/api-reference/chat-streaming. It also accepts the
deviations of known endpoints: fields that are null, calls without an index, other names of
reasoning, a whole message instead of a delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..agent.provider import Delta, Finished, MediaDelta, ReasoningDelta, TextDelta
from ..errors import ProviderError
from ..event_lines import join_surrogates
from . import failures
from .attached import KNOWN_FIELDS, MAX_CHARS, REASONING_FIELDS, merge_fields
from .calls import CallCollector, read_index
from .complaints import Complaints
from .endpoint import Endpoint
from .finish_reasons import find_finish_reason, join_finish_reasons
from .generated import MediaCollector
from .shapes import (
    THOUGHT_TYPES,
    find_thought,
    join_texts,
    load_leniently,
    to_text,
    unwrap,
)
from .think import ThinkSplitter
from .usage import UsageCollector

_CONTENT = "content"
_REASONING = "reasoning"

#: Fields of reasoning that is shown. Ollama sends ``thinking``. LiteLLM for Anthropic sends
#: ``thinking_blocks``, mostly with another field.
_THOUGHTS = (
    *REASONING_FIELDS, "thinking", "reasoning_text", "thinking_content", "thoughts", "thought",
    "reasoning_summary", "thinking_blocks",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """Parameters for reading the chunks of one answer.

    :param provider: Id of the endpoint, stored with the fields that it gets back.
    :param shown_provider: Id of the provider in the config.
    :param model: Model in the request.
    :param tags: Names of the tags around reasoning.
    :param tools: Names of the tools in the request.
    :param sound_format: Audio format in the request, if any.
    """

    provider: str
    shown_provider: str
    model: str
    tags: Sequence[str]
    tools: frozenset[str]
    sound_format: str


class ChunkReader:
    """Turns the chunks of one answer into deltas."""

    def __init__(self, reading: Reading, endpoint: Endpoint) -> None:
        #: The finish reason, or an empty string before it was received.
        self.finish_reason = ""
        #: Whether the chunk with the finish reason added nothing to the answer.
        self.ended_alone = False
        #: What the endpoint sent beside the answer.
        self.complaints = Complaints(endpoint)
        self._reading = reading
        self._has_text = self._has_thought = self._has_progress = False
        self._choice: int | None = None  # index of the choice that is read
        self._model = ""
        self._attached: dict[str, Any] = {}
        self._attached_chars = 0
        self._think = ThinkSplitter(reading.tags)
        self._calls = CallCollector(reading.tools)
        self._media = MediaCollector(reading.sound_format)
        self._usage = UsageCollector()
        # High surrogates without their low surrogate, by channel.
        self._halves: dict[str, str] = {}

    @property
    def finished(self) -> bool:
        """Whether the finish reason was received."""
        return bool(self.finish_reason)

    def take_progress(self) -> bool:
        """Return whether content was received since the last call, even without a delta."""
        progress, self._has_progress = self._has_progress, False
        return progress

    def read(self, payload: bytes) -> list[Delta]:
        """Parse one chunk, or one whole completion.

        :returns: New deltas. Calls and usage are returned by :meth:`finish`.
        :raises ProviderError: when the chunk reports an error.
        """
        found: list[Delta] = []
        try:
            whole = orjson.loads(payload)
        except orjson.JSONDecodeError:
            values = load_leniently(payload)
        else:
            if isinstance(whole, dict):  # fast path for the usual chunk
                self._read_chunk(found, whole, False)
                return found
            values = iter([(whole, False)])
        for chunk, joins in values:
            # Gemini sends its errors as a list.
            for one in chunk if isinstance(chunk, list) and chunk else (chunk,):
                if isinstance(one, dict):
                    self._read_chunk(found, one, joins)
                else:
                    self.complaints.add_text(payload)
        return found

    def finish(self) -> list[Delta]:
        """Return buffered text, calls, usage and the final delta."""
        found: list[Delta] = []
        # Replace lone surrogates.
        waiting, self._halves = self._halves, {}
        for channel in waiting:
            self._add_text(found, channel, "\ufffd")
        found += self._think.finish()
        self._note(found)
        found += self._media.finish()
        calls, extras = self._calls.finish()
        found += calls
        usage = self._usage.finish()
        if usage is not None:
            found.append(usage)
        reason = "tool_calls" if calls and self.finish_reason == "stop" else self.finish_reason
        attached: dict[str, Any] = {}
        if self._attached:
            attached["fields"] = self._attached
        if any(extras):
            attached["calls"] = extras
        if attached or calls:
            attached["provider"] = self._reading.provider
        model = self._model or self._reading.model
        found.append(Finished(reason, self._reading.shown_provider, model, attached))
        return found

    def check_answered(self) -> None:
        """Check that the answer is not empty.

        :raises ProviderError: when it has no text, no tool call and no media.
        """
        if self._has_text or self._media.found or self._calls:
            return
        if self.finish_reason == "content_filter":
            raise ProviderError(failures.FILTERED)
        if self._has_thought:
            raise ProviderError(failures.THOUGHT_ONLY)
        if self.finish_reason == "length":
            raise ProviderError(failures.NO_ROOM)
        if self.complaints.words:
            raise self.complaints.explain(failures.FAILED_MIDWAY)
        misread = self.complaints.misread
        message = failures.NOT_JSON if misread else failures.ANSWERED_NOTHING
        raise ProviderError(message, retryable=True)

    def _read_chunk(self, found: list[Delta], chunk: dict[str, Any], joins: bool) -> None:
        error = chunk.get("error")
        if error or chunk.get("object") == "error" or chunk.get("type") == "error":
            error = error if isinstance(error, (dict, list)) else chunk
            raise self.complaints.read_error(error)
        choices = chunk.get("choices")
        if chunk.get("usage") or "x_groq" in chunk or "usageMetadata" in chunk:
            self._usage.add(chunk.get("usage") or chunk.get("x_groq") or chunk.get("usageMetadata"))
        if not self._model and isinstance(chunk.get("model"), str):
            self._model = chunk["model"][:200]
        if not isinstance(choices, list):
            choices = [choices]
        choice = choices[0] if choices else None
        if not isinstance(choice, dict):
            inner = unwrap(chunk)
            if inner is not None:
                self._read_chunk(found, inner, joins)
            else:
                self.complaints.add_chunk(chunk)
        elif choice.get("index") or len(choices) > 1:
            for one in self._choose(choices):
                self._read_choice(found, one, joins)
        else:
            self._read_choice(found, choice, joins)

    def _read_choice(self, found: list[Delta], choice: dict[str, Any], joins: bool) -> None:
        message = self._find_message(choice)
        size = len(found)
        if message is not None:
            self._read_message(found, message, joins)
        elif isinstance(choice.get("text"), str):
            self._add_text(found, _CONTENT, choice["text"], joins)
            self._note(found)
        if "tool_calls" in choice:
            self._read_calls(choice["tool_calls"])
        if choice.get("error"):
            raise self.complaints.read_error(choice["error"])
        if choice.get("usage"):
            self._usage.add(choice["usage"])
        reason = find_finish_reason(choice)
        if reason == "error":
            raise self.complaints.read_error(choice)
        if reason:
            self.finish_reason = join_finish_reasons(self.finish_reason, reason)
            self.ended_alone = len(found) == size

    def _choose(self, choices: list[Any]) -> list[dict[str, Any]]:
        """Return the choices with the index of the first one: only one answer is requested.

        Copilot's endpoint sends a text and its calls as two choices with one index.
        """
        known = [
            (read_index(one.get("index")) or 0, one) for one in choices if isinstance(one, dict)
        ]
        if self._choice is None:
            self._choice = 0 if self._has_answer() else min(index for index, _ in known)
        return [one for index, one in known if index == self._choice]

    def _find_message(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        """Return the delta of a choice, or its message unless that repeats the deltas."""
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, dict) and (delta or self._has_answer()):
            return delta
        if delta and isinstance(delta, str):
            return {"content": delta}
        if isinstance(message, dict) and not ("delta" in choice and self._has_answer()):
            return message
        return None

    def _has_answer(self) -> bool:
        return self._has_text or self._has_thought or bool(self._calls)

    def _read_message(self, found: list[Delta], message: dict[str, Any], joins: bool) -> None:
        content = message.get("content")
        if content and len(message) == 1 and isinstance(content, str):
            self._add_text(found, _CONTENT, content, joins)  # fast path for one token
            if not self._has_text:
                self._note(found)
            return
        if not self._has_progress:
            self._has_progress = any(message[key] for key in message if key != "role")
        if "usage" in message:
            self._usage.add(message["usage"])
        if not KNOWN_FIELDS.issuperset(message):
            self._read_attached(found, message, joins)
        content = content or message.get("refusal")
        if content:
            if isinstance(content, dict):
                content = [content]
            if isinstance(content, list):
                content = self._read_parts(found, content, joins)
            elif not isinstance(content, str):
                content = str(content)  # a number, if JSON was requested
            self._add_text(found, _CONTENT, content, joins)
        if message.get("tool_calls"):
            self._read_calls(message["tool_calls"])
        elif isinstance(message.get("function_call"), dict):
            self._calls.add({"index": 0, "function": message["function_call"]})
        if message.get("images") or message.get("audio"):
            self._read_media(found, message)
        if not self._has_text:
            self._note(found)

    def _read_calls(self, calls: Any) -> None:
        for call in calls if isinstance(calls, list) else [calls]:
            if isinstance(call, dict):
                self._calls.add(call)

    def _read_attached(self, found: list[Delta], message: dict[str, Any], joins: bool) -> None:
        """Add reasoning, and the fields that the endpoint gets back."""
        thought = next((one for key in _THOUGHTS if (one := message.get(key))), None)
        details = message.get("reasoning_details")
        if not thought and isinstance(details, list):
            thought = "".join(
                to_text(one.get("text") or one.get("summary"))
                for one in details
                if isinstance(one, dict)
            )
        if thought:
            self._add_text(found, _REASONING, find_thought(thought), joins)
        if self._attached_chars < MAX_CHARS:
            fields = {key: one for key, one in message.items() if key not in KNOWN_FIELDS}
            self._attached_chars += merge_fields(self._attached, fields)

    def _read_media(self, found: list[Delta], message: dict[str, Any]) -> None:
        images, audio = message.get("images"), message.get("audio")
        for part in images if isinstance(images, list) else ():
            self._add_image(found, part)
        if isinstance(audio, dict):
            self._add_text(found, _CONTENT, self._media.add_audio(audio))

    def _add_image(self, found: list[Delta], part: Any) -> None:
        media = self._media.read_image(part)
        if isinstance(media, MediaDelta):
            found.append(media)
        elif media:
            # Show a remote image as a link: the server must not fetch a model's URL.
            self._add_text(found, _CONTENT, f"\n![image]({media})\n")

    def _add_text(self, found: list[Delta], channel: str, text: Any, joins: bool = False) -> None:
        if not isinstance(text, str):
            return
        if joins or self._halves:
            text = self._mend(channel, text)
        if not text:
            return
        if channel == _REASONING:
            found.append(ReasoningDelta(text))
        else:
            found += self._think.feed(text)

    def _note(self, found: Sequence[Delta]) -> None:
        for delta in found:
            if isinstance(delta, TextDelta):
                self._has_text = self._has_text or bool(delta.text.strip())
            elif isinstance(delta, ReasoningDelta):
                self._has_thought = True

    def _read_parts(self, found: list[Delta], parts: list[Any], joins: bool) -> str:
        """Add the media, reasoning and calls of typed parts, and return the text of the others."""
        for part in parts:
            kind = to_text(part.get("type")) if isinstance(part, dict) else ""
            if kind in THOUGHT_TYPES:
                self._add_text(found, _REASONING, find_thought(part), joins)
            elif kind in ("tool_use", "tool_call", "function_call"):
                self._calls.add(part)
            elif kind in ("image_url", "image", "output_image"):
                self._add_image(found, part)
            elif kind in ("audio", "output_audio", "input_audio"):
                self._read_media(found, {"audio": part.get(kind) or part})
        return join_texts(parts)

    def _mend(self, channel: str, text: str) -> str:
        """Join a surrogate pair that was split between two deltas.

        A lone surrogate cannot be stored or sent, so a high surrogate at the end
        is buffered until the channel's next text.
        """
        text = self._halves.pop(channel, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[channel] = text[-1]
            text = text[:-1]
        return join_surrogates(text)
