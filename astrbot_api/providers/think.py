"""Separates thinking from the answer where an endpoint sends both as content.

Ollama and vLLM without a reasoning parser pass on what the model writes: ``<think>…</think>``
and then the answer. Templates that write the opening tag themselves leave only the closing one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..agent.provider import ReasoningDelta, Rewind, TextDelta

#: What models in use write; a config's ``reasoning_tags`` takes its place.
DEFAULT_TAGS = ("think", "thinking", "thought", "reasoning", "seed:think")

#: The same in other letters, where ``think`` is a tag: Magistral, Kimi, gpt-oss.
_OTHER_PAIRS = (
    ("[think]", "[/THINK]"), ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>",
     "<|end|><|start|>assistant<|channel|>final<|message|>"),
)  # fmt: skip

#: Longest thinking that is taken back when its end shows what it was, in characters.
_MAX_UNOPENED_CHARS = 200_000

Found = TextDelta | ReasoningDelta | Rewind


class ThinkSplitter:
    """Splits content that begins with ``<think>``; leaves other content alone.

    An opening tag counts only as the first thing but blanks: later on it is something that
    the model writes about. A closing tag that was never opened counts unless it is quoted.

    :param tags: Names of the tags, without brackets; none: nothing is split.
    """

    def __init__(self, tags: Sequence[str] = DEFAULT_TAGS) -> None:
        #: Whether a piece without ``<`` is passed on as it stands from now on.
        self.settled = not tags
        self._opens = tuple(f"<{tag}>" for tag in tags)
        # What opens, in lower case, and what closes it.
        self._pairs = [(f"<{tag.lower()}>", f"</{tag}>") for tag in tags]
        if "think" in tags:
            self._pairs += _OTHER_PAIRS
        self._closes = tuple(f"</{tag}>" for tag in tags)
        self._close = ""  # the tag that ends the thinking, while the model thinks
        self._skip_blanks = False
        self._held = ""
        # What the answer's text began with; None: it is not looked through any more.
        self._said: list[str] | None = [] if tags else None

    def feed(self, text: str) -> list[Found]:
        """Take the next piece of content and give what is certain by now."""
        if self.settled:
            return self._pass_on(text) if text else []
        text, self._held = self._held + text, ""
        if self._close:
            return self._think(text)
        if self._skip_blanks:
            return self._begin_answer(text)
        start = text.lstrip()
        small = start.lower()
        for opening, closing in self._pairs:
            if small.startswith(opening):
                written = start[1 : len(opening)]
                self._close = closing if (opening, closing) in _OTHER_PAIRS else f"</{written}"
                self._skip_blanks, self._said = True, None
                return self._think(start[len(opening) :])
        if any(opening.startswith(small) for opening, _ in self._pairs):
            self._held = text
            return []
        self.settled = True
        return self._pass_on(text)

    def finish(self) -> list[Found]:
        """Give what was held back, because no more content comes."""
        held, self._held = self._held, ""
        self.settled = True
        if self._close:
            return [ReasoningDelta(held)] if held else []
        return [TextDelta(held)] if held else []

    def _think(self, text: str) -> list[Found]:
        if self._skip_blanks:
            text = text.lstrip()
            self._skip_blanks = not text
        thought, tag, answer = text.partition(self._close)
        if not tag:
            kept = _count_start(text, (self._close,))
            thought, self._held = text[: len(text) - kept], text[len(text) - kept :]
        found: list[Found] = [ReasoningDelta(thought)] if thought else []
        if tag:
            self._close = ""
            self._skip_blanks = True
            found += self._begin_answer(answer)
        return found

    def _begin_answer(self, text: str) -> list[Found]:
        """Drop the blank lines that models write between thinking and answer."""
        text = text.lstrip()
        if not text:
            return []
        self._skip_blanks = False
        self.settled = True
        return [TextDelta(text)]

    def _pass_on(self, text: str) -> list[Found]:
        """Pass text of the answer on, until a closing tag shows that it was thinking."""
        if self._said is None:
            return [TextDelta(text)]
        if not self._held and "<" not in text:
            self._said.append(text)
            return [TextDelta(text)]
        text, self._held = self._held + text, ""
        whole = "".join(self._said) + text
        if len(whole) > _MAX_UNOPENED_CHARS:
            self._said = None
            return [TextDelta(text)]
        for opening, closing in zip(self._opens, self._closes, strict=True):
            at = whole.find(closing, max(0, len(whole) - len(text)))
            if at >= 0 and _ends_thinking(whole[:at], opening):
                return self._take_back(whole[:at], whole[at + len(closing) :])
        return self._hold(text, _count_start(text, self._closes))

    def _hold(self, text: str, chars: int) -> list[Found]:
        assert self._said is not None
        passed, self._held = text[: len(text) - chars], text[len(text) - chars :]
        self.settled = True
        if not passed:
            return []
        self._said.append(passed)
        return [TextDelta(passed)]

    def _take_back(self, thought: str, answer: str) -> list[Found]:
        """Make thinking of what was passed on as the answer."""
        shown = sum(map(len, self._said or ()))
        self._said, self._held = None, ""
        self._skip_blanks, self.settled = True, False
        found: list[Found] = [Rewind(shown)] if shown else []
        if thought.strip():
            found.append(ReasoningDelta(thought.strip()))
        return found + self._begin_answer(answer)


def _ends_thinking(before: str, opening: str) -> bool:
    """Return whether a closing tag is the model's own, and nothing that it writes about."""
    quoted = before.endswith(("`", '"', "'")) or before.count("```") % 2
    return not quoted and opening not in before


def _count_start(text: str, tags: Sequence[str]) -> int:
    """Count the characters at the end that may be the start of a tag."""
    for size in range(min(len(text), max(map(len, tags)) - 1), 0, -1):
        if any(tag.startswith(text[-size:]) for tag in tags):
            return size
    return 0
