"""Intended differences from the recorded server, by case.

The numbers are those of section 8 of the contract. ``§3`` and ``§7`` are its sections, for
behaviour that the recorded server leaves undefined. A case that is not listed here must respond
exactly as recorded, with two exceptions: divergence 1 (errors have a real status, a ``code`` and a
``request_id``), and streams, which have a ``run_started`` event (§3) and ``id:`` lines (12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Events = list[dict[str, Any]]


@dataclass(frozen=True)
class Refusal:
    """An error where the recorded server failed, returned HTML or continued."""

    divergence: str
    status: int
    code: str
    message: str = ""


@dataclass(frozen=True)
class Change:
    """A stream, or its stored rows, with a known difference."""

    divergence: str
    events: Callable[[Events], Events] | None = None
    rows: Callable[[Events], Events] | None = None


@dataclass(frozen=True)
class Uploaded:
    """An upload with a different description. ``data`` replaces recorded values."""

    divergence: str
    data: dict[str, str]


@dataclass(frozen=True)
class Downloaded:
    """A download with differences. Values that are not given are as recorded."""

    divergence: str
    status: int = 200
    content_type: str = ""
    body: str = ""


@dataclass(frozen=True)
class Delivered:
    """An accepted push message: ``data`` contains its delivery instead of being empty."""

    divergence: str


def _one_reply(events: Events) -> Events:
    """8: one bot message per turn, and ``complete``, also without streaming."""
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
    """8: one message with the parts of the recorded server's several bot messages."""
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


def _pushed_row(rows: Events) -> Events:
    """7: it is stored separately, and the reply contains the call with its result."""
    user, pushed, reply = rows
    (text, called), (answered, said) = pushed["content"]["message"], reply["content"]["message"]
    call = {**called["tool_calls"][0], **answered["tool_calls"][0]}
    parts = [{"type": "tool_call", "tool_calls": [call]}, said]
    return [
        user,
        {**pushed, "content": {"type": "bot", "message": [text]}},
        {**reply, "content": {**reply["content"], "message": parts}},
    ]


def failed(message: str) -> Callable[[Events], Events]:
    """5: ``error`` before ``complete``, which has the error's text if there is no answer."""

    def change(events: Events) -> Events:
        error = {
            "type": "error",
            "code": "provider_error",
            "data": message,
            "message_id": "<message_id>",
        }
        *said, complete, saved, end = [one for one in events if one["type"] != "agent_stats"]
        shown = {**complete, "data": complete["data"] or message}
        return [*said, error, shown, saved, end]

    return change


def marked(message: str, *, tokens_in: int = 0) -> Callable[[Events], Events]:
    """5: the text so far is stored, with the reason of its end.

    :param tokens_in: Tokens counted by the endpoint. The recorded server stores none for a failed
        turn.
    """

    def change(rows: Events) -> Events:
        user, bot = rows
        content = {**bot["content"], "error": {"code": "provider_error", "message": message}}
        content["agent_stats"]["token_usage"]["input_other"] = tokens_in
        return [user, {**bot, "content": content}]

    return change


def _described(recorded: str, ours: str) -> Change:
    """15: the description of an attachment for the model contains no server path."""

    def reword(values: Events) -> Events:
        return [_replace(value, recorded, ours) for value in values]

    return Change("15", reword, reword)


def _replace(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: _replace(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replace(inner, old, new) for inner in value]
    return value


_REFUSED_KEY = "The model's endpoint refused the server's credentials (HTTP 401)."
_BROKE_OFF = "The model's endpoint broke off the answer."
_NOTHING = "The model's endpoint answered nothing."

_WHOLE = Change("8", _one_reply, _one_row)

#: 4: the recorded server stored a file under its name, or under an invented one. This server stores
#: the client's name, cleaned.
_NAMELESS = Uploaded("4", {"filename": "file"})

_IS_IMAGE = Uploaded("9", {"type": "image"})
_PNG = Downloaded("9", content_type="image/png")

#: §4: ``data`` is an object. Ours contains the delivery.
_DELIVERED = Delivered("§4")

_BAD_UMO = Refusal(
    "§4", 400, "invalid_request", "Invalid umo: expected platform_id:message_type:session_id"
)

DIVERGENCES: dict[str, Refusal | Change | Uploaded | Downloaded | Delivered] = {
    # 01-auth
    "unknown-path-with-chat-only-key": Refusal("2", 404, "path_not_found"),
    "root-of-api-slash": Refusal("2", 404, "path_not_found"),
    "trailing-slash-wrong-scope": Refusal("2", 404, "path_not_found"),
    "upper-case-path": Refusal("2", 404, "path_not_found"),
    "wrong-method-post-bots": Refusal("2", 405, "method_not_allowed"),
    # 02-login
    "wrong-password": Refusal("1", 401, "login_failed", "用户名或密码错误"),
    # The recorded text refers to AstrBot's own history.
    "default-password-refused": Refusal("1", 401, "login_failed", "用户名或密码错误"),
    "malformed-json": Refusal("3", 400, "malformed_json"),
    "no-content-type": Refusal("1", 415, "unsupported_media_type"),
    "wrong-method": Refusal("2", 405, "method_not_allowed"),
    # No route of §4: it returns data of AstrBot's own pages.
    "cookie-on-admin-route": Refusal("§4", 401, "missing_api_key", "Missing API key"),
    # 03-apikey-admin
    "create-expires-huge": Refusal("3", 400, "invalid_request"),
    "create-not-an-object": Refusal("3", 400, "invalid_request"),
    "create-malformed": Refusal("3", 400, "malformed_json"),
    "wrong-method-list": Refusal("2", 405, "method_not_allowed"),
    "create-scopes-all-unknown": Refusal("20", 400, "invalid_request", "Invalid scopes: nope"),
    # 20-chat
    "segments-image-missing-attachment-and-plain": Refusal("17", 404, "attachment_not_found"),
    "segments-image-no-attachment_id": Refusal(
        "17", 400, "invalid_request", "image part missing attachment_id"
    ),
    "segments-image-by-path": Refusal(
        "17", 400, "invalid_request", "image part missing attachment_id"
    ),
    "username-list": Refusal("3", 400, "invalid_request", "username must be a string"),
    "files-without-message": Refusal("3", 400, "missing_field", "Missing key: message or files"),
    "json-array-body": Refusal("3", 400, "invalid_request"),
    "json-number-body": Refusal("3", 400, "invalid_request"),
    "json-bad-utf8": Refusal("3", 400, "malformed_json"),
    "content-type-form": Refusal("1", 415, "unsupported_media_type"),
    "content-type-none": Refusal("1", 415, "unsupported_media_type"),
    "body-too-large": Refusal("2", 413, "body_too_large"),
    "string-streaming-false": _WHOLE,
    # The recorded server stored the reply under a platform of the caller's choice.
    "unknown-extra-fields": Change(
        "§3", rows=lambda rows: [{**row, "platform": "webchat"} for row in rows]
    ),
    "segments-image": _described(
        "[Image Attachment: path DATA/attachments/dot.png]",
        "[Image Attachment: name dot.png, type image/png, 70 bytes]\n"
        "[This model cannot take it in.]",
    ),
    "segments-file": _described(
        "[File Attachment: name note.txt, path DATA/attachments/note.txt]",
        "[File Attachment: name note.txt, type text/plain, 7 bytes]\n"
        "<Attachment>\na note\n\n</Attachment>",
    ),
    "segments-video": _described(
        "[Video Attachment: name clip.mp4, path DATA/attachments/clip.mp4]",
        "[Video Attachment: name clip.mp4, type video/mp4, 24 bytes]\n"
        "[It could not be read: it is damaged or its format is not supported.]",
    ),
    # 21-chat-stream
    "tool-call-streaming-false": _WHOLE,
    "reasoning-shown-streaming-false": _WHOLE,
    "provider-error-401": Change("5", failed(_REFUSED_KEY), marked(_REFUSED_KEY)),
    "provider-drops-after-2-tokens": Change("5", failed(_BROKE_OFF), marked(_BROKE_OFF)),
    "provider-empty-reply": Change("5", failed(_NOTHING), marked(_NOTHING, tokens_in=20)),
    "tool-sends-message": Change("7", rows=_pushed_row),
    "selected-provider-unknown": Refusal(
        "§3 and 16", 404, "provider_not_found", "selected_provider not found: no-such"
    ),
    "enable_streaming-string-false": Refusal(
        "§3", 400, "invalid_request", "enable_streaming must be true or false"
    ),
    "enable_streaming-zero": Refusal(
        "§3", 400, "invalid_request", "enable_streaming must be true or false"
    ),
    # 40-file
    "upload-png-no-content-type": _IS_IMAGE,
    "upload-png-no-content-type-get": _PNG,
    "upload-content-type-upper": _IS_IMAGE,
    "upload-content-type-upper-get": _PNG,
    "upload-content-type-garbage-get": Downloaded("9", content_type="text/plain; charset=utf-8"),
    # Not as a page, which would run in the origin of the admin pages.
    "upload-html-get": Downloaded("9", content_type="text/plain; charset=utf-8"),
    "filename-empty": _NAMELESS,
    "filename-dot": _NAMELESS,
    "filename-blank": _NAMELESS,
    # In the recorded server, a name that is not UTF-8 made the file disappear. The recorder's 0xFF
    # is Latin-1's ÿ.
    "filename-latin1-bytes": Uploaded("3", {"filename": "cafÿ.txt", "type": "file"}),
    "filename-300-chars": Uploaded("3", {"filename": "n" * 251 + ".txt", "type": "file"}),
    "same-name-get-first": Downloaded("4", body="FIRST CONTENT"),
    "upload-too-large-announced": Refusal("2", 413, "body_too_large"),
    "get-range": Downloaded("9", status=206, body="hello"),
    "get-range-suffix": Downloaded("9", status=206, body="ld\n"),
    # 50-im-message
    "webchat-string": _DELIVERED,
    "webchat-segments": _DELIVERED,
    "webchat-image": _DELIVERED,
    "webchat-file": _DELIVERED,
    "webchat-record": _DELIVERED,
    "webchat-reply-and-plain": Refusal(
        "13", 400, "invalid_request", "reply segments are not supported by im/message"
    ),
    "webchat-short-session": _DELIVERED,
    # The recorded server returned the text of a Python exception.
    "umo-one-part": _BAD_UMO,
    "umo-number": _BAD_UMO,
    "order-umo-before-message": _BAD_UMO,
    "umo-empty-session": Refusal("15", 400, "invalid_request", "Invalid umo: session_id is empty"),
    "running-platform-not-connected": Refusal(
        "1", 502, "delivery_failed", "Failed to send message: no client is connected"
    ),
    "running-platform-bad-session": Refusal(
        "1", 502, "delivery_failed", "Failed to send message: the session_id is no number"
    ),
    "content-type-text": Refusal("1", 415, "unsupported_media_type"),
    "into-open-stream-request": _DELIVERED,
    "into-open-stream-request-2": _DELIVERED,
    "into-open-stream-other-user": _DELIVERED,
}

#: Cases with two connections or a lost one. They are in test_workers.py and test_push.py, and
#: ``stopped-stream`` in test_replay.py.
ELSEWHERE = {
    "into-open-stream-result",
    "disconnect-mid-stream",
    "turn-after-disconnect",
    "two-turns-at-once-a",
    "two-turns-at-once-b",
    "stopped-stream",
}

#: Divergences from the recordings of 4.29.3, of which only the shapes are compared.
NEWER_DIVERGENCES: dict[str, Refusal] = {
    "sessions-by-key-without-username": Refusal("1", 400, "missing_field"),
    "unknown-run": Refusal("1", 404, "run_not_found"),
    "session-delete-by-login": Refusal("1", 404, "session_not_found"),
    "upload-complete-again": Refusal("1", 404, "upload_not_found"),
    "upload-status-after-abort": Refusal("1", 404, "upload_not_found"),
    "upload-status-unknown": Refusal("1", 404, "upload_not_found"),
    "upload-complete-missing-chunks": Refusal("1", 409, "upload_incomplete"),
    # An error event, and no agent_stats.
    "chat-failed-model": Refusal("5", 200, ""),
    # Here, a key acts for its users and has no sessions itself.
    "sessions-new-by-key": Refusal("11", 400, "missing_field"),
    # Here, the key that created a session may read it for any user.
    "session-by-key-not-its-own": Refusal("23", 200, ""),
}
