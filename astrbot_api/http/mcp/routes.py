"""Route ``/mcp``: streamable HTTP without protocol sessions, so that any worker can answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson
from flask import Response, request

from ...chat.watching.watch import Watch
from ...db.idempotency import ClientKey
from ...errors import ApiError
from ...runtime.threads import let_others_run
from ..auth import require_scope
from ..blueprint import ApiBlueprint
from ..chat.modes import RUN_HEADER, wait_for_end
from ..cors import is_of_host, is_of_named_origin
from ..idempotency import CODES, PARAMETER, read_client_key
from ..json_body import read_json
from ..openai.answering import answer_json
from ..sse import stream_response
from ..state import get_state
from ..usernames import choose_username
from . import messages as rpc
from .chat_tool import (
    CHAT,
    ChatAnswer,
    cancel_chat,
    describe_chat,
    describe_refusal,
    open_chat,
)
from .messages import Call, RpcError
from .resources import list_resources, list_templates, read_resource
from .schemas import DOCUMENTED_BODY, DOCUMENTED_QUERY, DOCUMENTED_RESPONSES

blp = ApiBlueprint(
    "mcp",
    __name__,
    tag="MCP",
    scope="chat",
    description="The server's agents over the Model Context Protocol.",
)

_INSTRUCTIONS = (
    "The tool chat sends a message to an agent. To continue a conversation, send the session_id "
    "of an earlier answer. Sessions are available as resources."
)

_CAPABILITIES: dict[str, Any] = {"tools": {}, "resources": {}}

#: Beginning of each error of the API.
_ENVELOPE = b'{"status":"error"'


@blp.after_request
def _add_error(answer: Response) -> Response:
    """Make an error of the API, such as a wrong key, also a JSON-RPC error.

    The client for Python shows no other errors.
    """
    if answer.mimetype == "application/json" and answer.data.startswith(_ENVELOPE):
        error = answer.get_json()
        described = rpc.describe_error(RpcError(rpc.REFUSED, error["message"]), None)
        answer.set_data(orjson.dumps({**error, **described}))
    return answer


@blp.post("/mcp", operation_id="callMcpServer")
@blp.doc(
    parameters=[PARAMETER, DOCUMENTED_QUERY],
    requestBody=DOCUMENTED_BODY,
    responses=DOCUMENTED_RESPONSES,
)
@blp.raises(
    "username_reserved", "body_too_large", "unsupported_media_type", "too_many_streams",
    "server_busy", "shutting_down", *CODES,
)  # fmt: skip
def call_server() -> Response:
    """Answer a message of MCP (streamable HTTP, versions 2025-03-26 to 2026-07-28).

    The tool `chat` sends a `message` to an agent, optionally with `session_id` and `config_id`.
    The response is an event stream. With a `progressToken` the stream has the text as progress. The
    sessions of the username are resources. There are no protocol sessions: any worker answers any
    message, and `GET` returns 405.
    """
    version = request.headers.get("MCP-Protocol-Version", "") or rpc.BATCH_VERSION
    body = None
    try:
        _check_origin()
        body = _read_body()  # before any other error, which repeats the id of the request
        if version not in rpc.VERSIONS:
            data = {"supported": list(rpc.VERSIONS), "requested": version[:100]}
            raise RpcError(
                rpc.UNSUPPORTED_VERSION, "Unsupported protocol version", data, status=400
            )
        with _wrong_requests():
            read_client_key("mcp")  # rejects an invalid one, also of a batch
            username = choose_username("mcp", request.args.get("username", "").strip())
        if isinstance(body, list):
            return _answer_batch(body, version, username)
        return _answer_message(body, version, username)
    except RpcError as error:
        answer = rpc.describe_error(error, rpc.find_id(body))
        return answer_json(answer, rpc.find_status(error, version))


def _read_body() -> Any:
    try:
        return read_json(request, get_state().settings.max_json_bytes)
    except ApiError as error:
        code = rpc.PARSE_ERROR if error.code == "malformed_json" else rpc.INVALID_REQUEST
        raise RpcError(code, error.message, status=error.status) from error


@contextmanager
def _wrong_requests() -> Iterator[None]:
    """Convert the errors of invalid requests to errors of the protocol."""
    try:
        yield
    except ApiError as error:
        if error.status != 400:
            raise
        raise RpcError(rpc.INVALID_REQUEST, error.message, status=400) from error


def _check_origin() -> None:
    """Reject requests from pages of other sites, except the sites in a setting.

    Source: "Security Warning" of the transport's page in the specification.

    :raises RpcError: with the status 403.
    """
    if not is_of_host(request) and not is_of_named_origin(request, get_state().settings):
        raise RpcError(
            rpc.INVALID_REQUEST,
            "the Origin is not allowed; add it to ASTRBOT_CORS_ORIGINS",
            status=403,
        )


def _answer_message(value: Any, version: str, username: str) -> Response:
    call = rpc.read_call(value, version)
    if call is None or call.call_id is None:
        _note(call, username)
        return Response(status=202)  # notifications and responses need no answer
    if call.is_stateless:
        rpc.check_stateless(call, request.headers.get)
    with _wrong_requests():
        client_key = read_client_key("mcp", value)
    accepted = request.headers.get("Accept", "")
    if call.method != "tools/call" or "text/event-stream" not in accepted:
        return answer_json(_answer_call(call, username, client_key))
    _check_tool(call)
    try:
        watch = open_chat(call, username, client_key)
    except ApiError as error:
        return answer_json(describe_refusal(call, error))
    answer = ChatAnswer(call, watch.run_id, watch.session_id)
    response = stream_response(watch, answer, on_disconnect=_make_stop(call, watch))
    response.headers[RUN_HEADER] = watch.run_id
    return response


def _make_stop(call: Call, watch: Watch) -> Callable[[], object]:
    """Return what a disconnect does. It cancels only requests of the stateless version."""
    stop = partial(get_state().chat.runs.stop, [watch.run_id])
    return stop if call.is_stateless else lambda: None


def _note(call: Call | None, username: str) -> None:
    """Read a notification. Only cancellations matter; responses of the client do not."""
    if call is not None and call.method == "notifications/cancelled":
        request_id = call.params.get("requestId")
        if rpc.is_id(request_id):
            cancel_chat(request_id, username)


def _answer_batch(values: list[Any], version: str, username: str) -> Response:
    """Answer the requests of a batch one after the other.

    The key is checked again for each, because turns take time. So each counts for its rate.
    """
    if version != rpc.BATCH_VERSION or not 0 < len(values) <= rpc.MAX_BATCH:
        raise RpcError(
            rpc.INVALID_REQUEST,
            f"send one message; only version {rpc.BATCH_VERSION} allows a batch, of 1 to "
            f"{rpc.MAX_BATCH} messages",
            status=400,
        )
    answers = []
    for number, value in enumerate(values):
        let_others_run()
        try:
            if number:
                _check_key()
            call = rpc.read_call(value, version)
            if call is None or call.call_id is None:
                _note(call, username)
            else:
                answers.append(_answer_call(call, username, None))
        except RpcError as error:
            answers.append(rpc.describe_error(error, rpc.find_id(value)))
    return answer_json(answers) if answers else Response(status=202)


def _check_key() -> None:
    try:
        require_scope(blp.scope)
    except ApiError as error:
        raise RpcError(rpc.REFUSED, error.message) from error


def _answer_call(call: Call, username: str, client_key: ClientKey | None) -> dict[str, Any]:
    """Return the whole response of a request.

    :raises RpcError: for an unknown method or invalid parameters.
    """
    if call.method == "tools/call":
        return _chat(call, username, client_key)
    if call.method == "resources/list":
        return list_resources(call, username)
    if call.method == "resources/read":
        return read_resource(call, username)
    if call.method == "resources/templates/list":
        return list_templates(call)
    if call.method == "tools/list":
        return call.answer({"tools": [describe_chat()]}, listed=True)
    if call.method == "ping" and not call.is_stateless:
        return call.answer({})
    if call.method == "initialize" and not call.is_stateless:
        return _initialize(call)
    if call.method == "server/discover" and call.is_stateless:
        return call.answer(
            {
                "supportedVersions": list(rpc.VERSIONS), "capabilities": _CAPABILITIES,
                "instructions": _INSTRUCTIONS,
            },
            listed=True,
        )  # fmt: skip
    raise RpcError(rpc.METHOD_NOT_FOUND, f"Method not found: {call.method[:100]}")


def _initialize(call: Call) -> dict[str, Any]:
    """Agree on the client's version, or on the newest version with a handshake."""
    asked = call.params.get("protocolVersion")
    version = asked if asked in rpc.HANDSHAKE_VERSIONS else rpc.HANDSHAKE_VERSIONS[-1]
    return call.answer(
        {
            "protocolVersion": version, "capabilities": _CAPABILITIES,
            "serverInfo": rpc.describe_server(), "instructions": _INSTRUCTIONS,
        }
    )  # fmt: skip


def _check_tool(call: Call) -> None:
    name, arguments = call.params.get("name"), call.params.get("arguments")
    if name != CHAT:
        raise RpcError(rpc.INVALID_PARAMS, f"Unknown tool: {str(name)[:100]}")
    if not isinstance(arguments, dict | None):
        raise RpcError(rpc.INVALID_PARAMS, "arguments must be an object")


def _chat(call: Call, username: str, client_key: ClientKey | None) -> dict[str, Any]:
    """Run a turn and return its result in one response."""
    _check_tool(call)
    try:
        watch = open_chat(call, username, client_key)
        answer = ChatAnswer(call, watch.run_id, watch.session_id)
        stop = _make_stop(call, watch)
        wait_for_end(watch, answer.fold.add, "; accept an event stream", on_disconnect=stop)
    except ApiError as error:
        return describe_refusal(call, error)
    return answer.describe()
