"""Convert stored messages to the model's input, within a token budget."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from ...agent.provider import ModelMessage
from ...db.messages import MessageRow, find_message
from ...db.store import Store, read_patiently
from ...messages import Reply, Segment, plain_text
from .budget import PastTurn, cost, drop_oldest, make_room, split_old, total
from .media import Content
from .recent import Reading, RecentMessages, Span
from .steps import to_steps
from .summary import Summariser, to_messages

#: Maximum number of pages without content for the model, such as commands, and the minimum tokens
#: of a page with content.
_MAX_PAGES = 40
_TOKENS_OF_PAGE = 250

_EMPTY_QUOTE = "[Empty Text]"

#: Maximum length of a speaker's name before a text, in characters.
MAX_NAME_CHARS = 64

#: Renders stored segments and quoted texts as the content of a user message: text, or a list of
#: ``text``, ``image_url`` and ``input_audio`` parts.
RenderUser = Callable[[Sequence[dict[str, Any]], Sequence[str]], Content]


@dataclass(slots=True)
class _Turn:
    """The messages of one turn. A pushed message is a turn of its own."""

    user: MessageRow | None = None
    bot: MessageRow | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """The part of a session that a turn's model may see.

    :param edition: The session's edition, see :class:`~.recent.Span`.
    :param after: Number of the last message outside the model's context.
    :param own_message: Number of this turn's user message. Later user messages belong to waiting
        turns.
    :param own_checkpoint: The ``llm_checkpoint_id`` of this turn's messages.
    """

    session: int
    edition: int
    after: int
    own_message: int | None
    own_checkpoint: str


def build_messages(
    store: Store,
    recent: RecentMessages,
    past: Past,
    *,
    segments: Sequence[Segment],
    render: RenderUser,
    system_prompt: str,
    budget: int,
    summariser: Summariser | None = None,
    sender_name: str | None = None,
) -> list[ModelMessage]:
    """Return the system prompt, the conversation so far and the new message.

    :param render: Renders a user message from its stored segments and quotes.
    :param budget: Maximum tokens of the conversation so far.
    :param summariser: Summarises old turns, or None to drop them.
    :param sender_name: The speaker's name in a group. Each user message then begins with its
        sender's name.
    """
    messages: list[ModelMessage] = []
    if system_prompt:
        messages.append({"role": "system", "content": system_prompt})
    messages += _build_past(recent, past, render, budget, summariser, named=sender_name is not None)
    quotes = [_quote(store, past.session, one) for one in segments if isinstance(one, Reply)]
    wire = [one.to_wire() for one in segments]
    if sender_name is not None:
        wire = _begin_with(sender_name, wire)
    messages.append({"role": "user", "content": render(wire, quotes)})
    return messages


def _build_past(
    recent: RecentMessages,
    past: Past,
    render: RenderUser,
    budget: int,
    summariser: Summariser | None,
    *,
    named: bool,
) -> list[ModelMessage]:
    """Return the conversation so far.

    If it exceeds the budget, old tool results are shortened first. Then the oldest whole turns are
    summarised or dropped. Commands and turns that failed without output are skipped.
    """
    after, room = past.after, budget
    begin: list[ModelMessage] = []
    summary = summariser.find(past.session, after) if summariser and budget > 0 else None
    if summary:
        after, begin = summary.until, to_messages(summary)
        room -= cost(begin)
    # A summary needs the turns beyond the budget, too.
    limit = 2 * room if summariser else room
    reading = recent.read(past.session, Span(past.edition, after, named), past.own_message)
    turns = _load_turns(reading, past, render, limit, named)
    make_room(turns, room)
    if summariser and total(turns) > room:
        old, new = split_old(turns, room // 2, past.own_message)
        made = summariser.make(past.session, summary, old) if old else None
        if made:
            turns, begin = new, to_messages(made)
            room = budget - cost(begin)
    kept = drop_oldest(turns, room)
    return [*begin, *[{**one} for turn in kept for one in turn.messages]]


def _load_turns(
    reading: Reading, past: Past, render: RenderUser, limit: int, named: bool
) -> list[PastTurn]:
    """Read backwards up to ``limit`` tokens; return whole turns, oldest first.

    Only content for the model is kept.
    """
    found: dict[str, _Turn] = {}
    turns: dict[str, PastTurn] = {}
    settled: set[str] = set()
    beyond: PastTurn | None = None
    used, left_pages, has_more = 0, _MAX_PAGES + limit // _TOKENS_OF_PAGE, limit > 0
    while has_more and used <= limit and left_pages > 0:
        page, has_more = next(reading.pages)
        changed: dict[str, None] = {}
        for item in page:
            if isinstance(item, PastTurn):
                if used > limit:
                    beyond = item
                    break
                if item.key != past.own_checkpoint:
                    turns[item.key] = item
                    settled.add(item.key)
                    used += item.tokens
                continue
            key = item.llm_checkpoint_id or f"pushed {item.id}"
            row = _with_name(item) if named else item
            _sort_in(found, key, row, past)
            changed[key] = None
        for key in changed:
            if key not in found or key in settled:
                continue
            if key in turns:
                used -= turns[key].least_tokens
            turns[key] = _to_past(key, found[key], render)
            used += turns[key].least_tokens
            if not turns[key].messages:
                del found[key], turns[key]
        left_pages -= 1
    reading.keep({} if named else _find_plain(found, turns, settled), beyond)
    # The page's end may have cut the oldest turn in two, but then it exceeds the budget anyway.
    return sorted(turns.values(), key=attrgetter("last"))


def _find_plain(
    found: dict[str, _Turn], turns: dict[str, PastTurn], settled: set[str]
) -> dict[int, PastTurn | None]:
    """Return the turns that look the same to every model, see :meth:`Reading.keep`."""
    plain: dict[int, PastTurn | None] = {}
    for key, turn in found.items():
        if turn.user is None or turn.bot is None or key in settled:
            continue
        if _is_plain(turn.user, turns[key]):
            plain[turn.bot.id], plain[turn.user.id] = turns[key], None
    return plain


def _is_plain(user: MessageRow, turn: PastTurn) -> bool:
    """Return whether a turn looks the same to every model: two texts, without files and calls."""
    texts = [one["content"] for one in turn.messages if isinstance(one["content"], str)]
    return len(turn.messages) == len(texts) == 2 and all(
        part["type"] in ("plain", "reply") for part in user.content["message"]
    )


def _with_name(row: MessageRow) -> MessageRow:
    """Return a user's message in a group with its sender's name in front."""
    if row.content.get("type") != "user":
        return row
    named = _begin_with(row.sender_name, row.content["message"])
    return row._replace(content={**row.content, "message": named})


def _begin_with(sender_name: str, segments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "plain", "text": f"{to_one_line(sender_name)[:MAX_NAME_CHARS]}: "}, *segments]


def _to_past(key: str, turn: _Turn, render: RenderUser) -> PastTurn:
    numbers = [row.id for row in (turn.user, turn.bot) if row is not None]
    return PastTurn(_to_model(turn, render), min(numbers), max(numbers), key)


def _sort_in(found: dict[str, _Turn], key: str, row: MessageRow, past: Past) -> None:
    """Add a message to its turn if the model should see it.

    Messages come newest first, so an answer comes before its question.
    """
    if key == past.own_checkpoint:
        return
    if row.content.get("type") != "user":
        found.setdefault(key, _Turn()).bot = row
    elif key in found and (past.own_message is None or row.id <= past.own_message):
        found[key].user = row


def _to_model(turn: _Turn, render: RenderUser) -> list[ModelMessage]:
    """Return the turn's messages for the model, or nothing if the model should not see it."""
    if turn.bot is None:
        return []
    content = turn.bot.content
    pushed = turn.bot.llm_checkpoint_id is None
    if not pushed and "agent_stats" not in content:
        return []  # a command
    answer = to_steps(content.get("message", []), turn.bot.steps)
    if not answer:
        return []
    if turn.user is None:
        return answer
    segments = turn.user.content["message"]
    quotes = [
        part["selected_text"]
        for part in segments
        if part["type"] == "reply" and part.get("selected_text")
    ]
    return [{"role": "user", "content": render(segments, quotes)}, *answer]


def quote_by_text(store: Store, session: int, segments: Sequence[Segment]) -> list[Segment]:
    """Return segments for a server with other message numbers: each quote names only its text."""
    return [
        Reply(0, _quote(store, session, one)) if isinstance(one, Reply) else one for one in segments
    ]


def _quote(store: Store, session: int, reply: Reply) -> str:
    """Return the quoted text: the selected words, or ``(sender): text`` of the message.

    Only messages of this session can be quoted.
    """
    if reply.selected_text:
        return reply.selected_text
    try:
        number = int(reply.message_id)
    except ValueError:
        return _EMPTY_QUOTE
    if not 0 < number < 2**63:
        return _EMPTY_QUOTE
    row = read_patiently(store, lambda db: find_message(db, session, number))
    if row is None:
        return _EMPTY_QUOTE
    return f"({row.sender_name}): {plain_text(row.content.get('message', []))}"


#: Placeholders that a prompt may have in braces. Other braces stay unchanged.
_PLACEHOLDERS = ("username", "time", "platform")


_PLACEHOLDER = re.compile(r"\{(" + "|".join(_PLACEHOLDERS) + r")\}")


def fill_prompt(prompt: str, *, username: str, platform: str) -> str:
    """Return the prompt with ``{username}``, ``{time}`` and ``{platform}`` filled in.

    ``{time}`` is the server's local time to the minute, with its offset.
    """
    values: dict[str, Callable[[], str]] = {
        "username": lambda: to_one_line(username),
        "time": lambda: f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z (%A)}",
        "platform": lambda: platform,
    }
    return _PLACEHOLDER.sub(lambda found: values[found[1]](), prompt)


def to_one_line(name: str) -> str:
    """Return a user-chosen name without line breaks, so that it cannot add lines to the prompt."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())
