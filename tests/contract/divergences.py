"""Where we differ from the recorded server on purpose, case by case.

The numbers are those of section 8 of the contract; ``§3`` and ``§7`` are its
sections, where it fixes what the recorded server leaves to chance. A case
that is not named here must answer exactly as recorded, but for divergence 1
(a business error has a real status, a ``code`` and a ``request_id``) and for
what every stream has: a ``run_started`` event (§3) and ``id:`` lines (12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Events = list[dict[str, Any]]


@dataclass(frozen=True)
class Refusal:
    """An error where the recorded server failed, answered HTML or went on."""

    divergence: str
    status: int
    code: str
    message: str = ""


@dataclass(frozen=True)
class Change:
    """A stream, or what is stored of it, that differs in a known way."""

    divergence: str
    events: Callable[[Events], Events] | None = None
    rows: Callable[[Events], Events] | None = None


def _one_reply(events: Events) -> Events:
    """8: one bot message of the whole turn, and ``complete``, also without streaming."""
    head = [one for one in events if one["type"] in ("session_id", "user_message_saved")]
    calls = [one for one in events if one.get("chain_type") in ("tool_call", "tool_call_result")]
    stats = next(one for one in events if one["type"] == "agent_stats")
    saved = next(one for one in events if one["type"] == "message_saved")
    texts = [
        one
        for one in events
        if one["type"] == "plain" and one["chain_type"] is None and "思考" not in one["data"]
    ]
    thoughts = [one for one in events if "思考" in str(one.get("data"))]
    reasoning = [
        {**one, "data": "Let me think about it.", "chain_type": "reasoning"} for one in thoughts
    ]
    complete = {
        "type": "complete",
        "data": texts[0]["data"],
        "reasoning": "".join(one["data"] for one in reasoning),
        "streaming": False,
        "message_id": "<message_id>",
    }
    return [*head, *calls, *reasoning, *texts, stats, complete, saved, events[-2]]


def _one_row(rows: Events) -> Events:
    """8: the parts of the recorded server's several bot messages in one."""
    user, *bots = rows
    parts: list[dict[str, Any]] = []
    content: dict[str, Any] = {"type": "bot", "message": parts}
    for row in bots:
        for part in row["content"]["message"]:
            if "思考" in part.get("text", ""):
                part = {"type": "think", "think": "Let me think about it."}
                content["reasoning"] = part["think"]
            parts.append(part)
    content["agent_stats"] = bots[-1]["content"]["agent_stats"]
    return [user, {**bots[0], "content": content}]


def _failed(message: str) -> Callable[[Events], Events]:
    """5: an ``error`` event where the recorded server completed as if nothing were."""

    def change(events: Events) -> Events:
        kept = [
            one for one in events if one["type"] not in ("agent_stats", "complete", "message_saved")
        ]
        error = {
            "type": "error",
            "code": "provider_error",
            "data": message,
            "message_id": "<message_id>",
        }
        return [*kept[:-1], error, kept[-1]]

    return change


def _marked(message: str, *, tokens_in: int = 0) -> Callable[[Events], Events]:
    """5: what was said is stored, with the reason why there is no more.

    :param tokens_in: What the endpoint counted; the recorded server kept no
        count of a turn that failed.
    """

    def change(rows: Events) -> Events:
        user, bot = rows
        content = {**bot["content"], "error": {"code": "provider_error", "message": message}}
        content["agent_stats"]["token_usage"]["input_other"] = tokens_in
        return [user, {**bot, "content": content}]

    return change


_REFUSED_KEY = "The model's endpoint refused the server's credentials (HTTP 401)."
_BROKE_OFF = "The model's endpoint broke off the answer."
_NOTHING = "The model's endpoint answered nothing."

_WHOLE = Change("8", _one_reply, _one_row)

DIVERGENCES: dict[str, Refusal | Change] = {
    # 01-auth
    "unknown-path-with-chat-only-key": Refusal("2", 404, "path_not_found"),
    "root-of-api-slash": Refusal("2", 404, "path_not_found"),
    "trailing-slash-wrong-scope": Refusal("2", 404, "path_not_found"),
    "upper-case-path": Refusal("2", 404, "path_not_found"),
    "wrong-method-post-bots": Refusal("2", 405, "method_not_allowed"),
    # 20-chat
    "username-list": Refusal("3", 400, "invalid_request", "username must be a string"),
    "files-without-message": Refusal("3", 400, "missing_field", "Missing key: message or files"),
    "json-array-body": Refusal("3", 400, "invalid_request"),
    "json-number-body": Refusal("3", 400, "invalid_request"),
    "json-bad-utf8": Refusal("3", 400, "malformed_json"),
    "content-type-form": Refusal("1", 415, "unsupported_media_type"),
    "content-type-none": Refusal("1", 415, "unsupported_media_type"),
    "body-too-large": Refusal("2", 413, "body_too_large"),
    "string-streaming-false": _WHOLE,
    # The recorded server stored the reply under a platform that the caller named.
    "unknown-extra-fields": Change(
        "§3", rows=lambda rows: [{**row, "platform": "webchat"} for row in rows]
    ),
    # 21-chat-stream
    "tool-call-streaming-false": _WHOLE,
    "reasoning-shown-streaming-false": _WHOLE,
    "provider-error-401": Change("5", _failed(_REFUSED_KEY), _marked(_REFUSED_KEY)),
    "provider-drops-after-2-tokens": Change("5", _failed(_BROKE_OFF), _marked(_BROKE_OFF)),
    "provider-empty-reply": Change("5", _failed(_NOTHING), _marked(_NOTHING, tokens_in=20)),
    "selected-provider-unknown": Refusal(
        "§3 and 16", 404, "provider_not_found", "selected_provider not found: no-such"
    ),
    "enable_streaming-string-false": Refusal(
        "§3", 400, "invalid_request", "enable_streaming must be true or false"
    ),
    "enable_streaming-zero": Refusal(
        "§3", 400, "invalid_request", "enable_streaming must be true or false"
    ),
}

#: Cases of what later issues build, and the issue that they wait for.
LATER: dict[str, str] = {
    "dashboard-root": "the owner's pages",
    "scope-chat-on-POST-/api/v1/file": "attachments",
    "scope-file-on-POST-/api/v1/file": "attachments",
    "scope-im-on-GET-/api/v1/file?attachment_id=nope": "attachments",
    "scope-config-on-POST-/api/v1/file": "attachments",
    "scope-file-on-POST-/api/v1/im/message": "proactive messages",
    "segments-image": "attachments",
    "segments-file": "attachments",
    "segments-record": "attachments",
    "segments-video": "attachments",
    "segments-type-differs-from-attachment": "attachments",
    "tool-sends-message": "proactive messages (divergence 7)",
    "stopped-stream": "stop (and divergence 15: the name astrbot is reserved)",
}

#: Cases that take two connections or a lost one: test_turns.py has them.
ELSEWHERE = {
    "disconnect-mid-stream",
    "turn-after-disconnect",
    "two-turns-at-once-a",
    "two-turns-at-once-b",
}
