"""Conversion of chat completion chunks to deltas.

Source: https://platform.openai.com/docs/api-reference/chat-streaming. It also accepts the
deviations of known endpoints: fields that are null, calls without an index, other names of
reasoning, a whole message instead of a delta.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..agent.provider import Delta, Finished, TextDelta
from ..errors import ProviderError
from . import failures
from .attached import join_pieces
from .calls import read_index
from .endpoint import Endpoint
from .finish_reasons import find_finish_reason, find_own_reason, join_finish_reasons
from .message_reader import MessageReader
from .reported_errors import ReportedErrors
from .shapes import load_bounded, load_leniently, to_text, unwrap
from .usage import UsageCollector

#: Fields of the usual chunk, and of its choice, which need not be searched for others.
_CHUNK_FIELDS = frozenset({"id", "object", "created", "model", "choices", "system_fingerprint"})
_CHOICE_FIELDS = frozenset({"index", "delta", "logprobs", "finish_reason"})

_WEB_URL = re.compile(r"https?://[^\s<>]+")


@dataclass(frozen=True, slots=True)
class Reading:
    """Parameters for reading the chunks of one answer.

    :param provider: Id of the endpoint, stored with the fields that it gets back.
    :param shown_provider: Id of the provider in the config.
    :param tags: Names of the tags around reasoning.
    :param tools: Names of the tools in the request.
    :param sound_format: Audio format in the request, if any.
    :param lists_sources: Whether the sources that the text cites may follow it.
    """

    provider: str
    shown_provider: str
    model: str
    tags: Sequence[str]
    tools: frozenset[str]
    sound_format: str
    lists_sources: bool


class ChunkReader:
    """Turns the chunks of one answer into deltas."""

    def __init__(self, reading: Reading, endpoint: Endpoint) -> None:
        #: The finish reason, or an empty string before it was received.
        self.finish_reason = ""
        #: Whether the chunk with the finish reason added nothing to the answer.
        self.ended_alone = False
        #: What the endpoint sent beside the answer.
        self.reported = ReportedErrors(endpoint)
        self._reading = reading
        self._choice: int | None = None  # index of the choice that is read
        self._has_deltas = False
        self._model = ""
        self._sources: Any = None
        self._usage = UsageCollector()
        self._message = MessageReader(
            reading.tags, reading.tools, reading.sound_format, self._usage
        )

    @property
    def finished(self) -> bool:
        """Whether the finish reason was received."""
        return bool(self.finish_reason)

    def take_progress(self) -> bool:
        """Return whether content was received since the last call, even without a delta."""
        progress, self._message.has_progress = self._message.has_progress, False
        return progress

    def read(self, payload: bytes) -> list[Delta]:
        """Parse one chunk, or one whole completion.

        :returns: New deltas. Calls and usage are returned by :meth:`finish`.
        :raises ProviderError: when the chunk reports an error.
        """
        found: list[Delta] = []
        try:
            whole = load_bounded(payload)
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
                    self.reported.add_text(payload)
        return found

    def finish(self) -> list[Delta]:
        """Return buffered text, calls, usage and the final delta."""
        message = self._message
        found = message.finish()
        if message.has_text and self._reading.lists_sources:
            sources = self._sources or list(message.sources.values())
            found += map(TextDelta, _write_sources(sources))
        calls, extras = message.calls.finish()
        found += calls
        usage = self._usage.finish()
        if usage is not None:
            found.append(usage)
        reason = self.finish_reason
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if calls else "stop"
        attached: dict[str, Any] = {}
        if message.attached:
            attached["fields"] = join_pieces(message.attached)
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
        message = self._message
        if not message.is_empty:
            return
        if self.finish_reason == "content_filter":
            raise ProviderError(failures.FILTERED)
        if message.has_thought:
            raise ProviderError(failures.THOUGHT_ONLY)
        if self.finish_reason == "length":
            raise ProviderError(failures.NO_ROOM)
        if self.reported.words:
            raise self.reported.explain(failures.FAILED_MIDWAY)
        if self.reported.has_invalid_json:
            raise ProviderError(failures.NOT_JSON, retryable=True)
        raise ProviderError(failures.nothing_for(self.finish_reason), retryable=True)

    def _read_chunk(self, found: list[Delta], chunk: dict[str, Any], joins: bool) -> None:
        if not _CHUNK_FIELDS.issuperset(chunk) or chunk.get("object") == "error":
            self._read_beside(chunk)
        if not self._model and isinstance(chunk.get("model"), str):
            self._model = chunk["model"][:200]
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            choices = [choices]
        choice = choices[0] if choices else None
        if not isinstance(choice, dict):
            inner = unwrap(chunk)
            if inner is not None:
                self._read_chunk(found, inner, joins)
            else:
                self.reported.add_chunk(chunk)
        elif choice.get("index") or len(choices) > 1:
            for one in self._choose(choices):
                self._read_choice(found, one, joins)
        else:
            self._read_choice(found, choice, joins)
        if self.finish_reason and self._message.is_empty:
            self.reported.add_chunk(chunk)  # MiniMax: the reason is beside the choices

    def _read_beside(self, chunk: dict[str, Any]) -> None:
        """Read an error, token counts and sources beside the choices."""
        error = chunk.get("error")
        if error or chunk.get("object") == "error" or chunk.get("type") == "error":
            raise self.reported.read_error(error if isinstance(error, (dict, list)) else chunk)
        self._usage.add(chunk.get("usage") or chunk.get("x_groq") or chunk.get("usageMetadata"))
        self._sources = chunk.get("search_results") or chunk.get("web_search") or self._sources

    def _read_choice(self, found: list[Delta], choice: dict[str, Any], joins: bool) -> None:
        message = self._find_message(choice)
        size = len(found)
        if message is not None:
            self._message.read(found, message, joins)
        elif isinstance(choice.get("text"), str):
            self._message.read_text(found, choice["text"], joins)
        if not _CHOICE_FIELDS.issuperset(choice):
            self._read_beside_message(choice)
        reason = find_finish_reason(choice)
        if reason == "error":
            raise self.reported.read_error({**choice, "reason": find_own_reason(choice)})
        if reason:
            self.finish_reason = join_finish_reasons(self.finish_reason, reason)
            self.ended_alone = len(found) == size

    def _read_beside_message(self, choice: dict[str, Any]) -> None:
        if "tool_calls" in choice:
            self._message.read_calls(choice["tool_calls"])
        if choice.get("error"):
            raise self.reported.read_error(choice["error"])
        self._usage.add(choice.get("usage"))

    def _choose(self, choices: list[Any]) -> list[dict[str, Any]]:
        """Return the choices with the index of the first one: only one answer is requested.

        Copilot's endpoint sends a text and its calls as two choices with one index.
        """
        known = [
            (read_index(one.get("index")) or 0, one) for one in choices if isinstance(one, dict)
        ]
        if self._choice is None:
            self._choice = 0 if self._message.has_answer else min(index for index, _ in known)
        return [one for index, one in known if index == self._choice]

    def _find_message(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        """Return the delta of a choice, or its message unless that repeats the deltas.

        MiniMax sends the whole message after its deltas.
        """
        delta, message = choice.get("delta"), choice.get("message")
        self._has_deltas = self._has_deltas or "delta" in choice
        if isinstance(delta, dict) and (delta or self._message.has_answer):
            return delta
        if delta and isinstance(delta, str):
            return {"content": delta}
        if not isinstance(message, dict):
            return None
        if not (self._has_deltas and self._message.has_answer):
            return message
        return None if self._message.calls else {"tool_calls": message.get("tool_calls")}


def _write_sources(results: Any) -> Iterator[str]:
    """Yield a list of search results. Perplexity and Zhipu cite their numbers, as in ``[1]``."""
    start = "\n\n"
    for number, one in enumerate(results if isinstance(results, list) else (), 1):
        address = to_text(one.get("url") or one.get("link")) if isinstance(one, dict) else ""
        if url := _WEB_URL.fullmatch(address):
            title = re.sub(r"[\s\[\]]+", " ", to_text(one.get("title"))).strip()
            yield f"{start}{number}. [{title or url[0]}]({url[0].replace(')', '%29')})"
            start = "\n"
