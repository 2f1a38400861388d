"""The one table of error codes; the exceptions are in :mod:`astrbot_api.errors`.

The OpenAPI document, the page of errors and the messages of ``error`` events
are made from it. Its texts are English, and the Chinese is in the catalogue of
:mod:`astrbot_api.translations`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What a code of the error envelope means. Codes are stable: clients match them.

    :param status: The HTTP status of an answer with this code.
    :param meaning: What happened.
    :param remedy: What the caller does. Its first word is a verb, or names who acts.
    :param example: A message that really comes with it; ``{name}`` is a setting.
    :param event: The message of an ``error`` event with this code. The stream
        has begun, so no status can be set. "": no event has this code.
    """

    code: str
    status: int
    meaning: str
    remedy: str
    example: str
    event: str = ""


# fmt: off
_TABLE = (
    ErrorCode("invalid_request", 400, "A field or parameter has a wrong value.",
        "Correct the field that the message names.",
        "enable_streaming must be true or false"),
    ErrorCode("missing_field", 400, "A required field or parameter is missing.",
        "Send the field that the message names.",
        "Missing key: username"),
    ErrorCode("malformed_json", 400, "The body is not JSON.",
        "Send one JSON object, in UTF-8.",
        "the request body is not valid JSON: unexpected end of data: line 1 column 12 (char 11)"),
    ErrorCode("message_empty", 400, "The message has nothing to answer.",
        "Send a text or an attachment beside the quotation.",
        "Message content is empty (reply only is not allowed)"),
    ErrorCode("config_ambiguous", 400, "Several configs have this name; use the id.",
        "Send `config_id` instead; `GET /configs` lists the ids.",
        "config_name is ambiguous, please use config_id: support"),
    ErrorCode("context_length_exceeded", 400,
        "The conversation is too long for the model.",
        "Begin another session, or send less; `/reset` makes the model forget.",
        "The model's endpoint refused the request (HTTP 400)."),
    ErrorCode("missing_api_key", 401, "The request has no key.",
        "Send the key, best in the header `X-API-Key` or `Authorization: Bearer`.",
        "Missing API key"),
    ErrorCode("invalid_api_key", 401, "The key is unknown, revoked, deleted or expired.",
        "Ask the owner for a key that is valid; sending it again does not help.",
        "Invalid API key"),
    ErrorCode("login_failed", 401, "The owner's name or password is wrong.",
        "Check both; `astrbot-api admin set-password` sets a new password.",
        "用户名或密码错误"),
    ErrorCode("login_required", 401, "Log in first.",
        "Log in with `POST /api/auth/login`.",
        "未授权"),
    ErrorCode("login_expired", 401, "The login is not valid, or has ended.",
        "Log in again.",
        "Token 无效"),
    ErrorCode("bad_signature", 401, "The request does not bear the messenger's signature.",
        "Compare the secret of the bot in `bots.toml` with that of the messenger.",
        "The signature of the request is missing or wrong"),
    ErrorCode("insufficient_scope", 403, "The key lacks the scope of this route.",
        "Ask the owner to give the key the scope, or use another key.",
        "Insufficient API key scope"),
    ErrorCode("csrf_failed", 403, "A page sent something without its token.",
        "Reload the page.",
        "the X-CSRF-Token header is missing or wrong; reload the page"),
    ErrorCode("username_reserved", 403, "The username is an administrator's.",
        "Choose another username, or use a key with the scope `chat:admin`.",
        "username 'astrbot' is an administrator's; the API key needs the scope chat:admin to "
        "speak as it"),
    ErrorCode("key_restricted", 403,
        "A guard rail of the key does not allow it; the message names it.",
        "Keep to what `GET /keys/self` returns, or use another key.",
        "the API key may not speak as 'bob': its rule username does not allow it"),
    ErrorCode("path_not_found", 404, "There is no such path.",
        "Compare the path, and what is before `/api/v1`, with this documentation.",
        "There is no path /api/v1/nothing"),
    ErrorCode("config_not_found", 404, "There is no config of this id or name.",
        "Choose one of `GET /configs`.",
        "config_id not found: support"),
    ErrorCode("provider_not_found", 404, "The config has no such provider.",
        "Choose a provider that the config has, or leave the field out.",
        "selected_provider not found: openai"),
    ErrorCode("model_not_found", 404, "The provider has no such model.",
        "Choose a model that the provider lists, or leave the field out.",
        "selected_model not found: gpt-5-mini"),
    ErrorCode("bot_not_found", 404, "There is no such bot, or it is not running.",
        "Choose one of `GET /im/bots`; the server's log says what is wrong with it.",
        "Bot not found or not running for platform: tg"),
    ErrorCode("run_not_found", 404,
        "There is no such run, or it is of another key and no username was sent.",
        "Send the `username` of the session, too; read the session if it is long ago.",
        "run not found: 7254cd9a-814f-498e-a202-2c1777b1bd2d"),
    ErrorCode("attachment_not_found", 404, "There is no such attachment.",
        "Upload the file again and use the new id.",
        "Attachment not found"),
    ErrorCode("session_not_found", 404, "There is no such session.",
        "Check the id; a deleted session is gone for good.",
        "session not found: my_session_001"),
    ErrorCode("message_not_found", 404, "The session has no such message.",
        "Read the messages of the session again.",
        "message not found: 42"),
    ErrorCode("key_not_found", 404, "There is no such key.",
        "List the keys again.",
        "API key not found"),
    ErrorCode("delivery_not_found", 404, "There is no such delivery.",
        "Check the id; finished deliveries are forgotten after some weeks.",
        "Delivery not found"),
    ErrorCode("method_not_allowed", 405, "The path does not answer this method.",
        "Use one of the methods that the header `Allow` names.",
        "/api/v1/configs does not answer POST, only GET, HEAD, OPTIONS"),
    ErrorCode("session_of_another_user", 409, "The session belongs to another username.",
        "Send the session's own `username`, or begin another session.",
        "session_id belongs to another username"),
    ErrorCode("session_busy", 409, "A turn of the session runs or waits.",
        "Wait for the turn to end, or stop it, then try again.",
        "a turn of this session is running; wait for its end or stop it"),
    ErrorCode("idempotency_mismatch", 409, "The Idempotency-Key was used for another request.",
        "Use a new `Idempotency-Key` for a new request.",
        "this Idempotency-Key was sent with another request in the last 24 hours; use a new one "
        "for a new request"),
    ErrorCode("idempotency_in_flight", 409, "The same request is being answered.",
        "Send the request again after `Retry-After`.",
        "a request with this Idempotency-Key is being answered; try again soon"),
    ErrorCode("message_not_editable", 409, "Only the last turn of a session can be changed.",
        "Change the last turn alone; otherwise send a new message.",
        "message 42 is not of the session's last turn; only the last turn can be changed"),
    ErrorCode("attachment_in_use", 409, "A stored message uses the attachment.",
        "Add `?force=true` where it is to go all the same.",
        "a stored message uses this attachment; add ?force=true to delete it all the same"),
    ErrorCode("body_too_large", 413, "The body is larger than the limit.",
        "Send less; the owner sets the limit that the message names.",
        "the request body is larger than the limit of {max_json_bytes} bytes"),
    ErrorCode("quota_exceeded", 413, "The attachments of the key would take too much room.",
        "Delete attachments that are not needed.",
        "with this file the key's attachments would have more than 1073741824 bytes "
        "(ASTRBOT_MAX_BYTES_PER_KEY); delete some of them"),
    ErrorCode("unsupported_media_type", 415,
        "The body has another content type than this route reads.",
        "Send the type that the message names.",
        "Content-Type must be application/json"),
    ErrorCode("range_not_satisfiable", 416, "The range is outside of the attachment.",
        "Ask for a range within the size that the message names.",
        "the attachment has 70 bytes; the range is outside of them"),
    ErrorCode("upgrade_required", 426, "The path speaks another protocol.",
        "Connect with a WebSocket client of version 13.",
        "this path speaks WebSocket"),
    ErrorCode("too_many_turns", 429, "Too many turns of this session run or wait.",
        "Wait for the turns of the session, then try again after `Retry-After`.",
        "{max_turns_per_session} turns of this session are running or waiting; wait for them "
        "first"),
    ErrorCode("too_many_streams", 429, "The key has as many open streams as one worker allows it.",
        "Close a stream, then try again.",
        "20 streams of this API key are open on this worker; close one first"),
    ErrorCode("too_many_logins", 429, "Too many logins failed.",
        "Wait as long as `Retry-After` says.",
        "too many logins failed; try again in 600 s"),
    ErrorCode("rate_limited", 429,
        "The key has made, or has open, as many requests as it may; wait as long as Retry-After.",
        "Wait as long as `Retry-After` says.",
        "the API key may make 60 requests a minute (its rule requests_per_minute); wait 7 s"),
    ErrorCode("too_many_keys", 429, "The key has made as many session keys as it may.",
        "Make session keys that live for a shorter time.",
        "the API key has 10000 session keys that are valid; give them less time"),
    ErrorCode("budget_exhausted", 429,
        "The key has used up its turns or tokens; Retry-After, if any, is when it has more.",
        "Wait as long as `Retry-After` says; without it, a new key is needed.",
        "the API key has had its 100 turns of today (its rule turns_per_day)"),
    ErrorCode("too_many_deliveries", 429, "Too many messages to this target wait.",
        "Try again after `Retry-After`; the messenger may be out of order.",
        "{im_max_queued} messages to this target are waiting; try again later"),
    ErrorCode("provider_rate_limited", 429,
        "The model's endpoint takes no more requests for now.",
        "Wait as long as `Retry-After` says, or some seconds without it.",
        "The model's endpoint is rate limited (HTTP 429); try again later."),
    ErrorCode("internal_error", 500,
        "The server failed; its log has the reason under the request_id.",
        "Report the `request_id` to the owner, whose log has the reason.",
        "The server failed; its log has the details under this request_id.",
        event="An unforeseen fault of this server."),
    ErrorCode("configuration_error", 500, "The server's configuration is wrong.",
        "The owner corrects the file that the server's log names.",
        "The default config is missing or wrong; its fault is in the server's log."),
    ErrorCode("websocket_unsupported", 501, "The HTTP server in use cannot speak WebSocket.",
        "Use `POST /chat`; the owner can run the server with gunicorn.",
        "this HTTP server lends no socket to applications, so there is no WebSocket; use POST "
        "/api/v1/chat, or run the server with gunicorn"),
    ErrorCode("provider_error", 502, "The model's endpoint failed, or answered nothing.",
        "Try again later; the owner's log has the endpoint's own words.",
        "The model's endpoint refused the server's key (HTTP 401).",
        event="The model's endpoint failed, or answered nothing."),
    ErrorCode("delivery_failed", 502, "The messenger did not take the message.",
        "Correct the target or the message; `X-Delivery-ID` names the delivery.",
        "Failed to send message: The platform answered 403."),
    ErrorCode("server_busy", 503, "The server has as many turns as it can take.",
        "Try again after `Retry-After`.",
        "{max_runs_per_worker} turns are running on this worker; try again later."),
    ErrorCode("shutting_down", 503, "The server is going down; try again.",
        "Try again at once; another worker answers.",
        "The server is going down; try again."),
    ErrorCode("storage_error", 503, "The server could not reach or keep its state.",
        "Try again later, best with an `Idempotency-Key`.",
        "The server could not reach or keep its state; nothing was stored. Try again later.",
        event="The answer could not be stored."),
    ErrorCode("run_interrupted", 503, "The server stopped before the turn had ended.",
        "Ask again; what was said is in the session.",
        "The server stopped before the turn had ended. What was said is kept.",
        event="The server stopped before the turn had ended."),
    ErrorCode("turn_timeout", 504, "The turn takes longer than an answer waits; it goes on.",
        "Follow the run with `GET /chat/runs/{run_id}/stream`; `X-Run-ID` names it.",
        "the turn takes longer than {max_blocking_s:g} s; it goes on as run "
        "7254cd9a-814f-498e-a202-2c1777b1bd2d, and its answer will be in the session"),
)
# fmt: on

#: Code -> its facts, in the order of their statuses.
ERROR_CODES = {one.code: one for one in _TABLE}
