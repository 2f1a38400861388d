"""What each error code means, and a message that really comes with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config.settings import Settings
from .error_remedies import ERROR_REMEDIES

#: Code -> meaning and message. ``{name}`` in a message is a setting.
ERROR_EXAMPLES: Mapping[str, tuple[str, str]] = {
    "invalid_request": (
        "A field or parameter has a wrong value.",
        "enable_streaming must be true or false",
    ),
    "missing_field": ("A required field or parameter is missing.", "Missing key: username"),
    "malformed_json": (
        "The body is not JSON.",
        "the request body is not valid JSON: unexpected end of data: line 1 column 12 (char 11)",
    ),
    "message_empty": (
        "The message has nothing to answer.",
        "Message content is empty (reply only is not allowed)",
    ),
    "config_ambiguous": (
        "Several configs have this name; use the id.",
        "config_name is ambiguous, please use config_id: support",
    ),
    "missing_api_key": ("The request has no key.", "Missing API key"),
    "invalid_api_key": (
        "The key is unknown, revoked, deleted or expired.",
        "Invalid API key",
    ),
    "bad_signature": (
        "The request does not bear the messenger's signature.",
        "The signature of the request is missing or wrong",
    ),
    "insufficient_scope": (
        "The key lacks the scope of this route.",
        "Insufficient API key scope",
    ),
    "login_failed": ("The owner's name or password is wrong.", "用户名或密码错误"),
    "login_required": ("Log in first.", "未授权"),
    "login_expired": ("The login is not valid, or has ended.", "Token 无效"),
    "csrf_failed": (
        "A page sent something without its token.",
        "the X-CSRF-Token header is missing or wrong; reload the page",
    ),
    "key_not_found": ("There is no such key.", "API key not found"),
    "too_many_logins": (
        "Too many logins failed.",
        "too many logins failed; try again in 600 s",
    ),
    "username_reserved": (
        "The username is an administrator's.",
        "username 'astrbot' is an administrator's; "
        "the API key needs the scope chat:admin to speak as it",
    ),
    "key_restricted": (
        "A guard rail of the key does not allow it; the message names it.",
        "the API key may not speak as 'bob': its rule username does not allow it",
    ),
    "rate_limited": (
        "The key has made, or has open, as many requests as it may; wait as long as Retry-After.",
        "the API key may make 60 requests a minute (its rule requests_per_minute); wait 7 s",
    ),
    "too_many_keys": (
        "The key has made as many session keys as it may.",
        "the API key has 10000 session keys that are valid; give them less time",
    ),
    "budget_exhausted": (
        "The key has used up its turns or tokens; Retry-After, if any, is when it has more.",
        "the API key has had its 100 turns of today (its rule turns_per_day)",
    ),
    "path_not_found": ("There is no such path.", "There is no path /api/v1/nothing"),
    "config_not_found": (
        "There is no config of this id or name.",
        "config_id not found: support",
    ),
    "provider_not_found": (
        "The config has no such provider.",
        "selected_provider not found: openai",
    ),
    "model_not_found": (
        "The provider has no such model.",
        "selected_model not found: gpt-5-mini",
    ),
    "bot_not_found": (
        "There is no such bot, or it is not running.",
        "Bot not found or not running for platform: tg",
    ),
    "delivery_not_found": ("There is no such delivery.", "Delivery not found"),
    "too_many_deliveries": (
        "Too many messages to this target wait.",
        "{im_max_queued} messages to this target are waiting; try again later",
    ),
    "delivery_failed": (
        "The messenger did not take the message.",
        "Failed to send message: The platform answered 403.",
    ),
    "attachment_not_found": ("There is no such attachment.", "Attachment not found"),
    "session_not_found": (
        "There is no such session.",
        "session not found: my_session_001",
    ),
    "run_not_found": (
        "There is no such run, or it is of another key and no username was sent.",
        "run not found: 7254cd9a-814f-498e-a202-2c1777b1bd2d",
    ),
    "message_not_found": (
        "The session has no such message.",
        "message not found: 42",
    ),
    "method_not_allowed": (
        "The path does not answer this method.",
        "/api/v1/configs does not answer POST, only GET, HEAD, OPTIONS",
    ),
    "session_of_another_user": (
        "The session belongs to another username.",
        "session_id belongs to another username",
    ),
    "session_busy": (
        "A turn of the session runs or waits.",
        "a turn of this session is running; wait for its end or stop it",
    ),
    "idempotency_mismatch": (
        "The Idempotency-Key was used for another request.",
        "this Idempotency-Key was sent with another request in the last 24 hours; "
        "use a new one for a new request",
    ),
    "idempotency_in_flight": (
        "The same request is being answered.",
        "a request with this Idempotency-Key is being answered; try again soon",
    ),
    "message_not_editable": (
        "Only the last turn of a session can be changed.",
        "message 42 is not of the session's last turn; only the last turn can be changed",
    ),
    "attachment_in_use": (
        "A stored message uses the attachment.",
        "a stored message uses this attachment; add ?force=true to delete it all the same",
    ),
    "body_too_large": (
        "The body is larger than the limit.",
        "the request body is larger than the limit of {max_json_bytes} bytes",
    ),
    "unsupported_media_type": (
        "The body has another content type than this route reads.",
        "Content-Type must be application/json",
    ),
    "quota_exceeded": (
        "The attachments of the key would take too much room.",
        "with this file the key's attachments would have more than 1073741824 bytes "
        "(ASTRBOT_MAX_BYTES_PER_KEY); delete some of them",
    ),
    "range_not_satisfiable": (
        "The range is outside of the attachment.",
        "the attachment has 70 bytes; the range is outside of them",
    ),
    "upgrade_required": (
        "The path speaks another protocol.",
        "this path speaks WebSocket",
    ),
    "websocket_unsupported": (
        "The HTTP server in use cannot speak WebSocket.",
        "this HTTP server lends no socket to applications, so there is no WebSocket; use "
        "POST /api/v1/chat, or run the server with gunicorn",
    ),
    "too_many_turns": (
        "Too many turns of this session run or wait.",
        "{max_turns_per_session} turns of this session are running or waiting; wait for them first",
    ),
    "too_many_streams": (
        "The key has as many open streams as one worker allows it.",
        "20 streams of this API key are open on this worker; close one first",
    ),
    "internal_error": (
        "The server failed; its log has the reason under the request_id.",
        "The server failed; its log has the details under this request_id.",
    ),
    "configuration_error": (
        "The server's configuration is wrong.",
        "The default config is missing or wrong; its fault is in the server's log.",
    ),
    "provider_error": (
        "The model's endpoint failed, or answered nothing.",
        "The model's endpoint refused the server's key (HTTP 401).",
    ),
    "server_busy": (
        "The server has as many turns as it can take.",
        "{max_runs_per_worker} turns are running on this worker; try again later.",
    ),
    "shutting_down": (
        "The server is going down; try again.",
        "The server is going down; try again.",
    ),
    "storage_error": (
        "The server could not reach or keep its state.",
        "The server could not reach or keep its state; nothing was stored. Try again later.",
    ),
    "run_interrupted": (
        "The server stopped before the turn had ended.",
        "The server stopped before the turn had ended. What was said is kept.",
    ),
    "turn_timeout": (
        "The turn takes longer than an answer waits; it goes on.",
        "the turn takes longer than {max_blocking_s:g} s; it goes on as run "
        "7254cd9a-814f-498e-a202-2c1777b1bd2d, and its answer will be in the session",
    ),
}


def build_example(code: str, settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI Example Object of an error code.

    :param settings: The limits that its message names.
    """
    summary, message = ERROR_EXAMPLES.get(code, (code, code))
    envelope = {
        "status": "error",
        "message": message.format_map(vars(settings)),
        "data": None,
        "code": code,
        "request_id": "6d0f1a1f8b7e4a43a3c1d2a9",
    }
    remedy = ERROR_REMEDIES.get(code)
    example = {"summary": summary, "description": remedy, "value": envelope}
    return {key: value for key, value in example.items() if value is not None}
