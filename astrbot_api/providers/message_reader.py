"""Conversion of the messages in one answer's chunks to deltas: text, reasoning, media and calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..agent.provider import Delta, MediaDelta, ReasoningDelta, TextDelta
from ..event_lines import join_surrogates
from .attached import KNOWN_FIELDS, MAX_CHARS, REASONING_FIELDS, merge_fields
from .calls import CallCollector, to_json_text
from .end_tokens import EndTokens
from .generated import GEMINI_FIELDS, MediaCollector
from .inline_images import PICTURE, SCHEME, InlineImages
from .shapes import THOUGHT_TYPES, find_thought, join_texts, to_text
from .think import ThinkSplitter
from .usage import UsageCollector

#: Fields of a source, its maximum length, and the maximum number of sources.
_SOURCE = ("url", "title")
_MAX_SOURCE_CHARS = 2000
_MAX_SOURCES = 100

_CONTENT = "content"
_REASONING = "reasoning"

#: Fields of reasoning that is shown. Ollama sends ``thinking``. LiteLLM for Anthropic sends
#: ``thinking_blocks``, mostly with another field.
_THOUGHTS = (
    *REASONING_FIELDS, "thinking", "reasoning_text", "thinking_content", "thoughts", "thought",
    "reasoning_summary", "thinking_blocks",
)  # fmt: skip


class MessageReader:
    """Reads the messages of one answer.

    :param tags: Names of the tags around reasoning.
    :param tools: Names of the tools in the request.
    :param sound_format: Audio format in the request, if any.
    :param usage: Collects the token counts that some endpoints put into a message.
    """

    def __init__(
        self, tags: Sequence[str], tools: frozenset[str], sound_format: str, usage: UsageCollector
    ) -> None:
        self.has_text = self.has_thought = False
        #: Whether content was received, even without a delta.
        self.has_progress = False
        self.calls = CallCollector(tools)
        self.media = MediaCollector(sound_format)
        self._images = InlineImages(self.media)
        #: Fields that the endpoint gets back.
        self.attached: dict[str, Any] = {}
        self._chars = 0  # size of these fields
        #: Sources of the whole text, by address.
        self.sources: dict[str, dict[str, str]] = {}
        self._usage = usage
        self._think = ThinkSplitter(tags)
        self._ends = EndTokens()
        # High surrogates without their low surrogate, by channel.
        self._halves: dict[str, str] = {}

    @property
    def has_answer(self) -> bool:
        """Whether any part of an answer was received, or reasoning."""
        return self.has_thought or not self.is_empty

    @property
    def is_empty(self) -> bool:
        """Whether no text, no media and no tool call was received."""
        return not (self.has_text or self.media.found or self.calls)

    def finish(self) -> list[Delta]:
        """Return buffered text and media."""
        found: list[Delta] = []
        # Replace lone surrogates.
        waiting, self._halves = self._halves, {}
        for channel in waiting:
            self._add_text(found, channel, "\ufffd")
        self._add_pieces(found, [*self._images.finish(), self._ends.finish()])
        found += self._think.finish()
        self._note(found)
        found += self.media.finish()
        return found

    def read_text(self, found: list[Delta], text: str, joins: bool) -> None:
        """Add a piece of the answer's text to ``found``."""
        self._add_text(found, _CONTENT, text, joins)
        self._note(found)

    def read(self, found: list[Delta], message: dict[str, Any], joins: bool) -> None:
        """Add the deltas of a message, or of a piece of one, to ``found``.

        :param joins: Whether a surrogate pair may be split between two pieces.
        """
        content = message.get("content")
        if content and len(message) == 1 and isinstance(content, str):
            self._add_text(found, _CONTENT, content, joins)  # fast path for one token
            if not self.has_text:
                self._note(found)
            return
        if not self.has_progress:
            self.has_progress = any(message[key] for key in message if key != "role")
        if "usage" in message:
            self._usage.add(message["usage"])
        if message.get("annotations"):
            self._read_annotations(message["annotations"])
        if not KNOWN_FIELDS.issuperset(message):
            self._read_attached(found, message, joins)
        content = content or message.get("refusal")
        if content:
            if isinstance(content, dict):  # one part, or the object if JSON was requested
                content = (
                    [content] if "type" in content or "text" in content else to_json_text(content)
                )
            if isinstance(content, list):
                content = self._read_parts(found, content, joins)
            elif not isinstance(content, str):
                content = str(content)  # a number, if JSON was requested
            self._add_text(found, _CONTENT, content, joins)
        if message.get("tool_calls"):
            self.read_calls(message["tool_calls"])
        elif isinstance(message.get("function_call"), dict):
            self.calls.add({"index": 0, "function": message["function_call"]})
        if message.get("images") or message.get("image") or message.get("audio"):
            self._read_media(found, message)
        if not self.has_text:
            self._note(found)

    def read_reasoning(self, found: list[Delta], text: Any, joins: bool = False) -> None:
        """Add a piece of the reasoning to ``found``."""
        self._add_text(found, _REASONING, text, joins)
        self._note(found)

    def read_calls(self, calls: Any) -> None:
        """Add the tool calls of a message. Other values are ignored."""
        for call in calls if isinstance(calls, list) else [calls]:
            if isinstance(call, dict):
                self.calls.add(call)

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
        if self._chars < MAX_CHARS:
            fields = {key: one for key, one in message.items() if key not in KNOWN_FIELDS}
            self._chars += merge_fields(self.attached, fields)

    def _read_annotations(self, annotations: Any) -> None:
        """Note the sources of the whole text (OpenRouter), which some endpoints repeat.

        A source of a part of the text (OpenAI) is linked there.
        """
        for one in annotations if isinstance(annotations, list) else ():
            source = one.get("url_citation") if isinstance(one, dict) else None
            if isinstance(source, dict) and not source.get("end_index"):
                found = {key: to_text(source.get(key))[:_MAX_SOURCE_CHARS] for key in _SOURCE}
                if len(self.sources) < _MAX_SOURCES:
                    self.sources.setdefault(found["url"], found)

    def _read_media(self, found: list[Delta], message: dict[str, Any]) -> None:
        images, audio = message.get("images") or [message.get("image")], message.get("audio")
        for part in images if isinstance(images, list) else ():
            self._add_image(found, part)
        if isinstance(audio, dict):
            self._add_text(found, _CONTENT, self.media.add_audio(audio))

    def _add_image(self, found: list[Delta], part: Any) -> None:
        media = self.media.read_image(part)
        if isinstance(media, MediaDelta):
            found.append(media)
        elif media:
            # Show a remote image as a link: the server must not fetch a model's URL.
            self._add_text(found, _CONTENT, f"\n![image]({media})\n")

    def _add_text(self, found: list[Delta], channel: str, text: Any, joins: bool = False) -> None:
        if not isinstance(text, str):
            return
        text = text.replace("\x00", "")  # clients cannot send it back
        if joins or self._halves:
            text = self._join_halves(channel, text)
        if not text:
            return
        if channel == _REASONING:
            found.append(ReasoningDelta(text))
        elif PICTURE in text or SCHEME in text or self._images.is_reading:
            self._add_pieces(found, self._images.feed(self._ends.release() + text))
        elif "<" in text or self._ends.held:
            self._add_pieces(found, [self._ends.feed(text)])
        else:
            found += self._think.feed(text)

    def _add_pieces(self, found: list[Delta], pieces: Sequence[str | MediaDelta]) -> None:
        for piece in pieces:
            found += [piece] if isinstance(piece, MediaDelta) else self._think.feed(piece)

    def _note(self, found: Sequence[Delta]) -> None:
        for delta in found:
            if isinstance(delta, TextDelta):
                self.has_text = self.has_text or bool(delta.text.strip())
            elif isinstance(delta, ReasoningDelta):
                self.has_thought = True

    def _read_parts(self, found: list[Delta], parts: list[Any], joins: bool) -> str:
        """Add the media, reasoning and calls of typed parts, and return the text of the others."""
        for part in parts:
            kind = to_text(part.get("type")) if isinstance(part, dict) else ""
            if kind in THOUGHT_TYPES:
                self._add_text(found, _REASONING, find_thought(part), joins)
            elif kind in ("tool_use", "tool_call", "function_call"):
                self.calls.add(part)
            elif kind in ("image_url", "image", "output_image") or _is_from_gemini(part):
                self._add_image(found, part)
            elif kind in ("audio", "output_audio", "input_audio"):
                self._read_media(found, {"audio": part.get(kind) or part})
        return join_texts(parts)

    def _join_halves(self, channel: str, text: str) -> str:
        """Join a surrogate pair that was split between two deltas.

        A lone surrogate cannot be stored or sent, so a high surrogate at the end
        is buffered until the channel's next text.
        """
        text = self._halves.pop(channel, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[channel] = text[-1]
            text = text[:-1]
        return join_surrogates(text)


def _is_from_gemini(part: Any) -> bool:
    return isinstance(part, dict) and not part.keys().isdisjoint(GEMINI_FIELDS)
