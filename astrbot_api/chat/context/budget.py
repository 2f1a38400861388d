"""Token budget of a conversation in the model's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from sys import getsizeof

import orjson

from ...agent.provider import ModelMessage

_SHORT_RESULT_CHARS = 200

#: Tokens counted for a picture or a recording.
_MEDIA_TOKENS = 1000


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text as a quarter of its UTF-8 bytes.

    Tokenizers differ between models. A high estimate costs little context and needs no vocabulary.
    """
    return len(text.encode("utf-8", "replace")) // 4 + 1


#: Streamed pieces up to this average size, in bytes, count as one token each.
_TOKEN_BYTES = 8


@dataclass(slots=True)
class Said:
    """Streamed output of a model that reported no tokens for it.

    Most endpoints stream one token per piece. Longer pieces count as several tokens.
    """

    pieces: int = 0
    size_bytes: int = 0

    def add(self, text: str) -> None:
        """Add one streamed piece."""
        self.pieces += bool(text)
        # In bytes, since a Chinese character is about one token.
        self.size_bytes += len(text if text.isascii() else text.encode("utf-8", "replace"))

    @property
    def tokens(self) -> int:
        """Estimated number of tokens."""
        if self.size_bytes <= self.pieces * _TOKEN_BYTES:
            return self.pieces
        return max(self.pieces, self.size_bytes // 4)


def cost(messages: Sequence[ModelMessage]) -> int:
    """Estimate the tokens of messages in the model's input."""
    tokens = 0
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            # A picture or recording counts as a fixed amount, not by the length of its encoding.
            texts = [part["text"] for part in content if part["type"] == "text"]
            tokens += _MEDIA_TOKENS * (len(content) - len(texts)) + estimate_tokens("".join(texts))
            tokens += 4
        else:
            tokens += len(orjson.dumps(message)) // 4 + 1
    return tokens


#: Memory of a turn without its texts (Source: measured).
_TURN_BYTES = 750


@dataclass(slots=True)
class PastTurn:
    """One earlier turn in the model's input.

    :param first: Number of its first stored message. ``last`` is that of its last.
    :param key: What its messages have in common: their checkpoint.
    :ivar size_bytes: Its memory, if its contents are texts.
    """

    messages: list[ModelMessage]
    first: int
    last: int
    key: str = ""
    tokens: int = field(init=False)
    has_results: bool = field(init=False)
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = cost(self.messages)
        self.size_bytes = _TURN_BYTES + sum(getsizeof(one["content"]) for one in self.messages)
        self.has_results = any(one["role"] == "tool" for one in self.messages)

    @property
    def least_tokens(self) -> int:
        """Its tokens with shortened tool results."""
        if not self.has_results:
            return self.tokens
        short = PastTurn(self.messages, self.first, self.last)
        short.shorten_results()
        return short.tokens

    def shorten_results(self) -> None:
        """Truncate tool results. The calls stay unchanged."""
        if not self.has_results:
            return
        self.messages = [
            {**one, "content": shorten(one["content"], _SHORT_RESULT_CHARS)}
            if one["role"] == "tool"
            else one
            for one in self.messages
        ]
        self.tokens = cost(self.messages)


def shorten(text: str, max_chars: int) -> str:
    """Return a text, truncated with a note if it is too long."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}\n[cut]"


def total(turns: Sequence[PastTurn]) -> int:
    """Return the total tokens of turns."""
    return sum([turn.tokens for turn in turns])


def make_room(turns: Sequence[PastTurn], budget: int) -> None:
    """Shorten tool results, the oldest first, until the turns fit or all are short."""
    used = total(turns)
    for turn in turns:
        if used <= budget:
            return
        used -= turn.tokens
        turn.shorten_results()
        used += turn.tokens


def drop_oldest(turns: Sequence[PastTurn], budget: int) -> list[PastTurn]:
    """Return the newest turns that fit, each as a whole.

    :param turns: Turns, oldest first.
    """
    used = total(turns)
    for at, turn in enumerate(turns):
        if used <= budget:
            return list(turns[at:])
        used -= turn.tokens
    return []


def split_old(
    turns: Sequence[PastTurn], budget: int, own_message: int | None
) -> tuple[list[PastTurn], list[PastTurn]]:
    """Split turns into old ones to summarise and new ones to keep.

    A summary covers all messages up to one number, so every kept turn must have higher numbers. A
    message that waited for its turn may have a lower one.

    :param budget: Maximum tokens of the kept turns.
    :param own_message: Number of the message to answer, which is kept.
    """
    at = len(turns) - len(drop_oldest(turns, budget))
    while at:
        last = max(turn.last for turn in turns[:at])
        kept = [turn.first for turn in turns[at:]]
        if own_message is not None:
            kept.append(own_message)
        if all(number > last for number in kept):
            break
        at -= 1
    return list(turns[:at]), list(turns[at:])
