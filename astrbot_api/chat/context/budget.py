"""The room that a conversation has in the model's context, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from ...agent.provider import ModelMessage

#: What is left of a tool's result where room is needed.
SHORT_RESULT_CHARS = 200

#: What a picture or a recording is taken for, in tokens.
_MEDIA_TOKENS = 1000


def estimate_tokens(text: str) -> int:
    """Guess the tokens of a text: four bytes of UTF-8 each, as a rule of thumb.

    Every model has a tokenizer of its own; a guess on the safe side costs a
    little room and needs no vocabulary.
    """
    return len(text.encode("utf-8", "replace")) // 4 + 1


#: Longest piece of an answer that is taken for one token, in bytes, on average.
_TOKEN_BYTES = 8


@dataclass(slots=True)
class Said:
    """What a model said and reported no tokens for.

    Most endpoints stream a token a piece. Where pieces are longer, they have several.
    """

    pieces: int = 0
    size_bytes: int = 0

    def add(self, text: str) -> None:
        """Add a piece as it came."""
        self.pieces += bool(text)
        # Bytes: a character of Chinese is about a token.
        self.size_bytes += len(text if text.isascii() else text.encode("utf-8", "replace"))

    @property
    def tokens(self) -> int:
        """Their number, estimated."""
        if self.size_bytes <= self.pieces * _TOKEN_BYTES:
            return self.pieces
        return max(self.pieces, self.size_bytes // 4)


def cost(messages: Sequence[ModelMessage]) -> int:
    """Estimate the tokens of messages as the model is given them."""
    tokens = 0
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            # Text as it is; a picture or a recording counts as a fixed amount,
            # not by the length of its encoding.
            texts = [part["text"] for part in content if part["type"] == "text"]
            tokens += _MEDIA_TOKENS * (len(content) - len(texts)) + estimate_tokens("".join(texts))
            tokens += 4
        else:
            tokens += estimate_tokens(orjson.dumps(message).decode())
    return tokens


@dataclass(slots=True)
class PastTurn:
    """One turn of the conversation so far, as the model is given it.

    :param first: Number of its first stored message; ``last`` of its last.
    """

    messages: list[ModelMessage]
    first: int
    last: int
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = cost(self.messages)

    @property
    def least_tokens(self) -> int:
        """Its tokens with short results."""
        if all(one["role"] != "tool" for one in self.messages):
            return self.tokens
        short = PastTurn(self.messages, self.first, self.last)
        short.shorten_results()
        return short.tokens

    def shorten_results(self) -> None:
        """Cut the tools' results to their beginnings; the calls stay."""
        self.messages = [
            {**one, "content": shorten(one["content"], SHORT_RESULT_CHARS)}
            if one["role"] == "tool"
            else one
            for one in self.messages
        ]
        self.tokens = cost(self.messages)


def shorten(text: str, max_chars: int) -> str:
    """Return a text, cut with a remark where it is too long."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}\n[cut]"


def total(turns: Sequence[PastTurn]) -> int:
    """Return the tokens of turns together."""
    return sum(turn.tokens for turn in turns)


def make_room(turns: Sequence[PastTurn], budget: int) -> None:
    """Shorten tools' results, the oldest first, until the turns fit or none is left."""
    used = total(turns)
    for turn in turns:
        if used <= budget:
            return
        used -= turn.tokens
        turn.shorten_results()
        used += turn.tokens


def drop_oldest(turns: Sequence[PastTurn], budget: int) -> list[PastTurn]:
    """Return the newest turns that fit, each of them whole.

    :param turns: Oldest first, as what is returned.
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
    """Part turns in those to sum up and those to keep.

    The number of one message says what is summed up: none that is kept
    may have a smaller one. A message that waited for its turn may.

    :param budget: Tokens that those to keep may have.
    :param own_message: Number of the message to be answered, which is kept.
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
