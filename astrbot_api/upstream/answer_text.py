"""The text of one AstrBot answer, of which each part is shown once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import SEEK_END, StringIO

from ..agent.provider import TextDelta
from ..errors import ProviderError
from ..providers.failures import describe_status, find_reason

#: Beginnings of failure messages that AstrBot sends as the bot's text.
#: Source: answers of 4.25.1 and 4.29.3, and its users' reports (AstrBotDevs/AstrBot #526, #5961).
_FAILURES = (
    "LLM 响应错误",
    "AstrBot 请求失败",
    "Error occurred while processing agent",
    "Error occurred during AI execution",
    "All chat models failed",
)

#: Failure messages after the beginning of an interrupted answer. Sent in one piece by 4.29.3.
_BEHIND = re.compile("LLM 响应错误: |AstrBot 请求失败")

_STATUS = re.compile(r"Error code: (\d{3})\b")

#: Maximum length of a failure message. Longer text is shown: all that is held is copied per piece.
_MAX_FAILURE_CHARS = 65_536

BROKE_OFF = "The model of that AstrBot failed during the answer. See AstrBot's log."

NO_ANSWER = "AstrBot returned no answer: its model failed, or it was overloaded. See its log."


class AnswerText:
    """The text of an answer, in one or several messages, which an empty line separates.

    A possible failure message of AstrBot is held back until the answer ends.

    :ivar chars: Length of the text that is shown or held back.
    """

    def __init__(self) -> None:
        self.chars = 0
        self._held = ""
        self._ends_line = False  # whether the text ends with a line feed
        # Built in pieces, because adding strings would take quadratic time.
        self._said = StringIO()  # all text without the separators between messages
        self._complete_at = 0  # where the text since the last "complete" begins in it
        self._current_at = 0  # where the message that is being read begins
        self._between = False  # whether the current message was read to its end

    def add(self, text: str) -> Iterator[TextDelta]:
        """Add a piece of text, and yield what can be shown of it."""
        if not text:
            return
        self.begin_message()
        shown = text
        begins = self._said.tell() == self._current_at
        if self.chars and begins and not self._ends_line:
            shown = "\n\n" + text
        self._said.write(text)
        self.chars += len(shown)
        self._ends_line = shown.endswith("\n")
        held = self._held + shown
        end = self._find_failure(held)
        self._held = held[end:]
        if end:
            yield TextDelta(held[:end])

    def add_complete(self, text: str) -> Iterator[TextDelta]:
        """Add the text of a ``complete`` event: all text since the event before it."""
        since = self._find_said(self._complete_at, text)
        if text.startswith(since):
            yield from self.add(text[len(since) :])
        self._complete_at = self._said.tell()

    def add_message(self, text: str) -> Iterator[TextDelta]:
        """Add the text of a stored message, which may be the one that is being read."""
        if not text.startswith(self._find_said(self._current_at, text)):
            self.begin_message()
        if text.startswith(current := self._find_said(self._current_at, text)):
            more = text[len(current) :]
            self._between = self._between and not more
            yield from self.add(more)

    def begins(self, text: str) -> bool:
        """Return whether a text begins with the text so far, or with its unfinished message.

        :meth:`add_message` then adds the rest.
        """
        self.begin_message()
        if text.startswith(self._find_said(0, text)):
            self._current_at = 0
        return text.startswith(self._find_said(self._current_at, text))

    def end_message(self) -> None:
        """Let the next text begin another message."""
        self._between = True

    def begin_message(self) -> None:
        """Begin another message if the current one was read to its end."""
        if self._between:
            self._between, self._current_at = False, self._said.tell()

    def release(self) -> Iterator[TextDelta]:
        """Yield the text that is held back, which is no failure message."""
        held, self._held = self._held, ""
        if held:
            yield TextDelta(held)

    def finish(self) -> Iterator[TextDelta]:
        """Yield the text that is held back, after the end of the answer.

        :raises ProviderError: if it is a failure message.
        """
        held = self._held
        if held.lstrip().startswith(_FAILURES):
            found = _STATUS.search(held)
            if not found:
                raise ProviderError(NO_ANSWER if len(held) == self.chars else BROKE_OFF)
            status = int(found[1])
            why = describe_status(status)
            raise ProviderError(
                f"The model of that AstrBot failed. {why}", reason=find_reason(status, held)
            )
        yield from self.release()

    def _find_failure(self, held: str) -> int:
        """Return the position of a possible failure message in the text, or the text's length."""
        if len(held) > _MAX_FAILURE_CHARS:
            return len(held)
        if len(held) == self.chars:
            text = held.lstrip()
            if any(text.startswith(one) or one.startswith(text) for one in _FAILURES):
                return 0
        found = _BEHIND.search(held)
        return found.start() if found else len(held)

    def _find_said(self, begin: int, other: str) -> str:
        """Return the text from a position, at most one character longer than another text.

        That is enough for a comparison, and an event costs no more than its length.
        """
        self._said.seek(begin)
        said = self._said.read(len(other) + 1)
        self._said.seek(0, SEEK_END)
        return said
