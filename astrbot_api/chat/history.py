"""Stored messages become what the model is given, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..agent.provider import ModelMessage
from ..db.messages import MessageRow, find_message, list_messages_before
from ..db.store import Store
from ..messages import Reply, Segment, plain_text

#: Messages that are read at a time, newest first, until the budget is full.
_PAGE = 50

#: What is kept of an old tool result: the model has drawn its conclusion.
_OLD_RESULT_CHARS = 2000

_EMPTY_QUOTE = "[Empty Text]"


@dataclass(slots=True)
class _Turn:
    """The messages of one turn. A pushed message is a turn of its own."""

    user: MessageRow | None = None
    bot: MessageRow | None = None


def estimate_tokens(text: str) -> int:
    """Guess the tokens of a text: four bytes of UTF-8 each, as a rule of thumb.

    Every model has a tokenizer of its own; a guess on the safe side costs a
    little room and needs no vocabulary.
    """
    return len(text.encode("utf-8", "replace")) // 4 + 1


def build_messages(
    store: Store,
    *,
    session: int,
    context_after: int,
    own_message: int | None,
    own_checkpoint: str,
    segments: Sequence[Segment],
    system_prompt: str,
    budget: int,
) -> list[ModelMessage]:
    """Return the system prompt, the conversation so far and the new message.

    The oldest turns are left out, each of them whole, until the rest fits.
    Turns that failed without a word and commands are no part of it.

    :param context_after: Number of the last message the model no longer sees.
    :param own_message: Number of this turn's own user message; later user
        messages belong to turns that are still waiting.
    :param budget: Tokens that the conversation so far may have.
    """
    messages: list[ModelMessage] = []
    if system_prompt:
        messages.append({"role": "system", "content": system_prompt})
    turns = _load_turns(store, session, context_after, own_message, own_checkpoint, budget)
    for turn in turns:
        messages.extend(turn)
    messages.append({"role": "user", "content": _text_for_model(store, session, segments)})
    return messages


def _load_turns(
    store: Store,
    session: int,
    after: int,
    own_message: int | None,
    own_checkpoint: str,
    budget: int,
) -> list[list[ModelMessage]]:
    """Read backwards until the budget is full; return whole turns, oldest first."""
    found: dict[str, _Turn] = {}
    before = 2**63 - 1
    while budget > 0:
        with store.read() as db:
            page = list_messages_before(db, session, before=before, after=after, limit=_PAGE)
        for row in page:
            _sort_in(found, row, own_message, own_checkpoint)
        used = sum(_cost(turn) for turn in found.values())
        if len(page) < _PAGE or used > budget:
            break
        before = page[-1].id
    kept: list[list[ModelMessage]] = []
    # Newest first; the page's end may have cut the oldest turn in two, which
    # only happens to one that is over the budget anyway.
    for turn in found.values():
        budget -= _cost(turn)
        if budget < 0:
            break
        kept.append(_to_model(turn))
    return [turn for turn in reversed(kept) if turn]


def _sort_in(
    found: dict[str, _Turn], row: MessageRow, own_message: int | None, own_checkpoint: str
) -> None:
    checkpoint = row.llm_checkpoint_id
    if checkpoint == own_checkpoint:
        return
    is_user = row.content.get("type") == "user"
    if is_user and own_message is not None and row.id > own_message:
        return
    turn = found.setdefault(checkpoint or f"pushed {row.id}", _Turn())
    if is_user:
        turn.user = row
    else:
        turn.bot = row


def _cost(turn: _Turn) -> int:
    return sum(estimate_tokens(orjson.dumps(message).decode()) for message in _to_model(turn))


def _to_model(turn: _Turn) -> list[ModelMessage]:
    """Return the turn as the model is given it; nothing for one it should not see."""
    if turn.bot is None:
        return []
    content = turn.bot.content
    pushed = turn.bot.llm_checkpoint_id is None
    if not pushed and "agent_stats" not in content:
        return []  # a command
    answer = _answer(content.get("message", []))
    if not answer:
        return []
    if turn.user is None:
        return answer
    text = plain_text(turn.user.content["message"])
    quoted = [
        f"\n<Quoted Message>\n{part['selected_text']}\n</Quoted Message>"
        for part in turn.user.content["message"]
        if part.get("type") == "reply" and part.get("selected_text")
    ]
    return [{"role": "user", "content": text + "".join(quoted)}, *answer]


def _answer(parts: list[dict[str, Any]]) -> list[ModelMessage]:
    """Return the bot's parts as assistant and tool messages; thinking is left out."""
    messages: list[ModelMessage] = []
    for part in parts:
        if part["type"] == "plain":
            messages.append({"role": "assistant", "content": part["text"]})
        elif part["type"] == "tool_call":
            for call in part["tool_calls"]:
                messages += _call_and_result(call)
    return messages


def _call_and_result(call: dict[str, Any]) -> list[ModelMessage]:
    args = call["args"]
    arguments = args if isinstance(args, str) else orjson.dumps(args).decode()
    result = str(call.get("result", "error: the turn ended before the tool answered"))
    if len(result) > _OLD_RESULT_CHARS:
        result = f"{result[:_OLD_RESULT_CHARS]}\n[cut]"
    function = {"name": call["name"], "arguments": arguments}
    return [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call["id"], "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    ]


def _text_for_model(store: Store, session: int, segments: Sequence[Segment]) -> str:
    """Return the new message's text, with what it quotes below it."""
    text = plain_text([one.to_wire() for one in segments])
    for segment in segments:
        if isinstance(segment, Reply):
            quoted = segment.selected_text or _find_quote(store, session, segment.message_id)
            text += f"\n<Quoted Message>\n{quoted}\n</Quoted Message>"
    return text


def _find_quote(store: Store, session: int, message_id: int | str) -> str:
    """Return ``(sender): text`` of a message of this session, never of another's."""
    try:
        number = int(message_id)
    except ValueError:
        return _EMPTY_QUOTE
    if not 0 < number < 2**63:
        return _EMPTY_QUOTE
    with store.read() as db:
        row = find_message(db, session, number)
    if row is None:
        return _EMPTY_QUOTE
    return f"({row.sender_name}): {plain_text(row.content.get('message', []))}"
