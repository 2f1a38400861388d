"""Separates thinking from the answer where an endpoint sends both as content.

Ollama and vLLM without a reasoning parser pass on what the model writes:
``<think>…</think>`` and then the answer.
"""

from __future__ import annotations

from ..agent.provider import ReasoningDelta, TextDelta

_OPEN = "<think>"
_CLOSE = "</think>"


class ThinkSplitter:
    """Splits content that begins with ``<think>``; leaves other content alone.

    Only a tag that is the first thing but blanks counts: later on it is
    something that the model writes about.
    """

    def __init__(self) -> None:
        #: Whether content is passed on as it stands from now on.
        self.settled = False
        self._thinking = False
        self._skip_blanks = False
        self._held = ""

    def feed(self, text: str) -> list[TextDelta | ReasoningDelta]:
        """Take the next piece of content and give what is certain by now."""
        if self.settled:
            return [TextDelta(text)] if text else []
        text, self._held = self._held + text, ""
        if self._thinking:
            return self._think(text)
        if self._skip_blanks:
            return self._begin_answer(text)
        start = text.lstrip()
        if start.startswith(_OPEN):
            self._thinking = self._skip_blanks = True
            return self._think(start[len(_OPEN) :])
        if _OPEN.startswith(start):
            self._held = text
            return []
        self.settled = True
        return [TextDelta(text)]

    def finish(self) -> list[TextDelta | ReasoningDelta]:
        """Give what was held back, because no more content comes."""
        held, self._held = self._held, ""
        self.settled = True
        if not held:
            return []
        return [ReasoningDelta(held) if self._thinking else TextDelta(held)]

    def _think(self, text: str) -> list[TextDelta | ReasoningDelta]:
        if self._skip_blanks:
            text = text.lstrip()
            self._skip_blanks = not text
        thought, tag, answer = text.partition(_CLOSE)
        if not tag:
            kept = _count_tag_start(text)
            thought, self._held = text[: len(text) - kept], text[len(text) - kept :]
        found: list[TextDelta | ReasoningDelta] = [ReasoningDelta(thought)] if thought else []
        if tag:
            self._thinking = False
            self._skip_blanks = True
            found += self._begin_answer(answer)
        return found

    def _begin_answer(self, text: str) -> list[TextDelta | ReasoningDelta]:
        """Drop the blank lines that models write between thinking and answer."""
        text = text.lstrip()
        if not text:
            return []
        self.settled = True
        return [TextDelta(text)]


def _count_tag_start(text: str) -> int:
    """Count the characters at the end that may be the start of ``</think>``."""
    for size in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if _CLOSE.startswith(text[-size:]):
            return size
    return 0
