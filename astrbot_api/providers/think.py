"""Separation of reasoning and answer for endpoints that send both as content.

Ollama, and vLLM without a reasoning parser, send the model's raw text: ``<think>…</think>``
and then the answer. Some chat templates write the opening tag, so only the closing tag is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ..agent.provider import ReasoningDelta, Rewind, TextDelta

#: Tags of known models. A config's ``reasoning_tags`` replaces them.
DEFAULT_TAGS = ("think", "thinking", "thought", "reasoning", "seed:think", "mm:think")

#: Other forms of the ``think`` tag whose closing tag may also come alone: Gemma 4, Cohere.
_OTHER_TAGS = (("<|channel>thought", "<channel|>"), ("<|start_thinking|>", "<|END_THINKING|>"))

#: All other forms, also of Magistral, Kimi and gpt-oss.
_OTHER_PAIRS = (
    *_OTHER_TAGS,
    ("[think]", "[/THINK]"), ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>",
     "<|end|><|start|>assistant<|channel|>final<|message|>"),
)  # fmt: skip

#: First characters of all opening tags.
_FIRSTS = frozenset(("<", *(opening[0] for opening, _ in _OTHER_PAIRS)))

#: Maximum length of text that a late closing tag can turn into reasoning, in characters.
_MAX_UNOPENED_CHARS = 200_000

#: Maximum number of tags around reasoning at the start. Each is a copy of the rest of a piece.
_MAX_BLOCKS = 20

#: Opening and closing tags.
_Pairs = Sequence[tuple[str, str]]

Found = TextDelta | ReasoningDelta | Rewind


class ThinkSplitter:
    """Splits content that begins with ``<think>``; leaves other content alone.

    An opening tag counts only at the start and after reasoning, and optional whitespace. Later tags
    are part of the answer. A closing tag without an opening tag counts unless it is quoted.

    :param tags: Tag names without brackets. Without tags, nothing is split.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        #: Whether a piece without ``<`` can be returned unchanged from now on.
        self.settled = not tags
        self._whole, self._pairs = _list_pairs(tuple(tags))
        self._close = ""  # closing tag of the reasoning, while inside it
        self._skip_blanks = False
        self._blocks_left = _MAX_BLOCKS
        self._held = ""
        # Answer text so far, or None if closing tags are no longer searched.
        self._said: list[str] | None = [] if tags else None

    def feed(self, text: str) -> list[Found]:
        """Add a piece of content and return the deltas that are certain."""
        if self.settled:
            return self._pass_on(text) if text else []
        text, self._held = self._held + text, ""
        return self._split(text)

    def _split(self, text: str) -> list[Found]:
        found: list[Found] = []
        while True:
            if not self._close:
                text = self._open(text)
                if self.settled:
                    return [*found, *self._pass_on(text)]
                if not self._close:
                    return found
            if self._skip_blanks:
                text = text.lstrip()
                self._skip_blanks = not text
            thought, tag, answer = text.partition(self._close)
            if not tag:
                kept = _count_start(text, (self._close,))
                thought, self._held = text[: len(text) - kept], text[len(text) - kept :]
            if thought:
                found.append(ReasoningDelta(thought))
            if not tag:
                return found
            self._close, self._skip_blanks, text = "", True, answer

    def _open(self, text: str) -> str:
        """Return the text behind an opening tag, or the answer, or buffer what may be a tag.

        Blank lines between reasoning and answer are dropped.
        """
        start = text.lstrip()
        if self._skip_blanks:
            text = start
        if start and start[0] not in _FIRSTS:  # the usual case
            self.settled, self._held = True, ""
            return text
        longest = max(len(opening) for opening, _ in self._pairs)
        small = start[: longest + 1].lower()
        for opening, closing in self._pairs if self._blocks_left else ():
            if small.startswith(opening):
                self._blocks_left -= 1
                written = start[1 : len(opening)]
                self._close = closing if (opening, closing) in _OTHER_PAIRS else f"</{written}"
                self._skip_blanks, self._said = True, None
                return start[len(opening) :]
        self.settled = not any(opening.startswith(small) for opening, _ in self._pairs)
        self._held = "" if self.settled else text
        return text

    def finish(self) -> list[Found]:
        """Return the buffered text after the end of the content."""
        held, self._held = self._held, ""
        self.settled = True
        if self._close:
            return [ReasoningDelta(held)] if held else []
        return [TextDelta(held)] if held else []

    def _pass_on(self, text: str) -> list[Found]:
        """Return answer text, or turn it into reasoning if a closing tag follows."""
        if self._said is None:
            return [TextDelta(text)]
        if not self._held and "<" not in text:
            self._said.append(text)
            return [TextDelta(text)]
        text, self._held = self._held + text, ""
        said = "".join(self._said)
        self._said = [said]  # joining thousands of pieces at each "<" would take quadratic time
        whole = said + text
        if len(whole) > _MAX_UNOPENED_CHARS:
            self._said = None
            return [TextDelta(text)]
        for opening, closing in self._whole:
            at = whole.find(closing, max(0, len(whole) - len(text)))
            if at >= 0 and _ends_thinking(whole[:at], opening):
                return self._take_back(whole[:at], whole[at + len(closing) :])
        return self._hold(text, _count_start(text, [closing for _, closing in self._whole]))

    def _hold(self, text: str, chars: int) -> list[Found]:
        assert self._said is not None
        passed, self._held = text[: len(text) - chars], text[len(text) - chars :]
        self.settled = True
        if not passed:
            return []
        self._said.append(passed)
        return [TextDelta(passed)]

    def _take_back(self, thought: str, answer: str) -> list[Found]:
        """Rewind the answer text returned so far and return it as reasoning."""
        shown = sum(map(len, self._said or ()))
        self._said, self._held = None, ""
        self._skip_blanks, self.settled = True, False
        found: list[Found] = [Rewind(shown)] if shown else []
        if thought.strip():
            found.append(ReasoningDelta(thought.strip()))
        return found + self._split(answer)


@lru_cache(maxsize=64)
def _list_pairs(tags: Sequence[str]) -> tuple[_Pairs, _Pairs]:
    """Return the pairs whose closing tag may come alone, and all pairs in lower case.

    Each answer needs both, so they are made once.
    """
    whole = [(f"<{tag}>", f"</{tag}>") for tag in tags]
    pairs = [(opening.lower(), closing) for opening, closing in whole]
    if "think" not in tags:
        return whole, pairs
    return [*whole, *_OTHER_TAGS], [*pairs, *_OTHER_PAIRS]


def _ends_thinking(before: str, opening: str) -> bool:
    """Return whether a closing tag ends the reasoning and is not quoted in it."""
    quoted = before.endswith(("`", '"', "'")) or before.count("```") % 2
    return not quoted and opening.lower() not in before.lower()


def _count_start(text: str, tags: Sequence[str]) -> int:
    """Return the number of characters at the end that may start a tag."""
    for size in range(min(len(text), max(map(len, tags)) - 1), 0, -1):
        if any(tag.startswith(text[-size:]) for tag in tags):
            return size
    return 0
