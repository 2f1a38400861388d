"""Intended differences between a gateway to an AstrBot and the recorded server.

Responses that do not need AstrBot differ as in ``DIVERGENCES``. AstrBot's own responses are
returned as recorded, with the exceptions below.
"""

from __future__ import annotations

from typing import Any

from astrbot_api.upstream.answer_text import NO_ANSWER

from .checking import SPECIAL, Check, Divergence
from .divergences import DIVERGENCES, Change, Events, Refusal, failed, marked

#: Cases that this server answers without AstrBot.
_OWN: dict[str, Divergence] = {
    case: one for case, one in DIVERGENCES.items() if not isinstance(one, Change)
}

_STATS: dict[str, Any] = {
    "token_usage": {"input_other": 0, "input_cached": 0, "output": 0},
    "start_time": "<start_time>",
    "end_time": "<end_time>",
    "time_to_first_token": "<time_to_first_token>",
}


def _as_reply(events: Events) -> Events:
    """8: AstrBot's stream does not mark answers of commands, so the text is a normal reply."""
    *head, said, saved, end = events
    complete = {
        "type": "complete",
        "data": said["data"],
        "reasoning": "",
        "streaming": True,
        "message_id": "<message_id>",
    }
    stats = {"type": "agent_stats", "data": _STATS}
    return [*head, {**said, "streaming": True}, stats, complete, saved, end]


def _as_reply_row(rows: Events) -> Events:
    user, bot = rows
    return [user, {**bot, "content": {**bot["content"], "agent_stats": _STATS}}]


def _one_complete(events: Events) -> Events:
    """7 and 8: a message of AstrBot's tool is a part of the reply, before an empty line."""
    at = next(at for at, one in enumerate(events) if one["type"] == "complete")
    pushed, rest = events[at], events[at + 2 :]
    last = next(one for one in rest if one["type"] == "complete")
    whole = {**last, "data": f"{pushed['data']}\n\n{last['data']}"}
    said = next(one for one in rest if one["type"] == "plain" and one["chain_type"] is None)
    divided = {**said, "data": f"\n\n{said['data']}"}
    changed = {id(last): whole, id(said): divided}
    return events[:at] + [changed.get(id(one), one) for one in rest]


def _one_row(rows: Events) -> Events:
    user, pushed, reply = rows
    (text, called), (answered, said) = pushed["content"]["message"], reply["content"]["message"]
    call = {**called["tool_calls"][0], **answered["tool_calls"][0]}
    parts = [
        {"type": "tool_call", "tool_calls": [call]},
        {"type": "plain", "text": f"{text['text']}\n\n{said['text']}"},
    ]
    return [user, {**reply, "content": {**reply["content"], "message": parts}}]


def _unanswered(events: Events) -> Events:
    """5: a turn that AstrBot ends without an answer has failed."""
    head, end = events[:-1], events[-1]
    complete = {
        "type": "complete", "data": "", "reasoning": "", "streaming": True,
        "message_id": "<message_id>",
    }  # fmt: skip
    saved = {"type": "message_saved", "data": head[-1]["data"]}
    return failed(NO_ANSWER)([*head, complete, saved, end])


def _unanswered_rows(rows: Events) -> Events:
    (user,) = rows
    content = {
        "type": "bot", "message": [], "agent_stats": _STATS,
        "error": {"code": "provider_error", "message": NO_ANSWER},
    }  # fmt: skip
    return [user, {**user, "sender": "bot", "name": "bot", "content": content}]


_FAILED = Change("5", failed(NO_ANSWER), marked(NO_ANSWER))

_COMMAND = Change("8", _as_reply, _as_reply_row)

#: The recorded bytes are replayed without pauses.
_AT_ONCE = Change("replayed without its pauses")

_REFUSED_BY_BOT = Refusal("1", 502, "delivery_failed")

GATEWAY_DIVERGENCES: dict[str, Divergence] = {
    **_OWN,
    # The gateway always requests a stream from AstrBot, never its other formats.
    "string-streaming-false": DIVERGENCES["string-streaming-false"],
    "tool-call-streaming-false": DIVERGENCES["tool-call-streaming-false"],
    "reasoning-shown-streaming-false": DIVERGENCES["reasoning-shown-streaming-false"],
    "unknown-extra-fields": DIVERGENCES["unknown-extra-fields"],
    "heartbeats-before-first-token": _AT_ONCE,
    "heartbeats-between-tokens": _AT_ONCE,
    "tool-sends-message": Change("7 and 8", _one_complete, _one_row),
    "command-help": _COMMAND,
    "command-sid": _COMMAND,
    "provider-error-401": _FAILED,
    "provider-empty-reply": _FAILED,
    # Only AstrBot knows its providers.
    "selected-provider-unknown": Change("5", _unanswered, _unanswered_rows),
    "running-platform-not-connected": _REFUSED_BY_BOT,
    "running-platform-bad-session": _REFUSED_BY_BOT,
}

GATEWAY_SPECIAL: dict[str, Check] = {
    case: SPECIAL[case] for case in ("expect-100-continue", "config_id-missing")
}
