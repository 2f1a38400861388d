"""Route ``GET /chat/ws``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import orjson
from flask import Blueprint, Response, request

from ...chat.watching.watch import Watch
from ...errors import ApiError, StorageError
from ...events import decode_event
from ..auth import check_username, get_caller, get_holder, make_reservation, require_scope
from ..blueprint import ApiBlueprint
from ..own_runs import decide_as_caller, find_run_to_decide
from ..state import get_http_state, get_state
from ..websocket.connection import POLICY, RESTART, TRY_AGAIN, WebSocket, find_socket
from ..websocket.sockets import OpenSocket
from .schemas import read_turn_request
from .websocket_frames import (
    decided_frame,
    error_frame,
    event_frame,
    load_decision,
    load_request,
    parse_frame,
    read_message_id,
)

log = logging.getLogger(__name__)

#: Maximum time to wait for the client's close frame, in seconds.
_LINGER_S = 2.0

#: Pause after a rejected frame, in seconds. Rejecting a frame costs as much as answering one, and a
#: client that floods the server with bad frames gets nothing else.
_REFUSED_S = 0.02

#: Error that closes a connection after its key was revoked or has expired.
_KEY_ENDED = ApiError("invalid_api_key", "Invalid API key")

blp = ApiBlueprint(
    "websocket", __name__, tag="WebSocket", scope="chat",
    description="Run turns over a WebSocket.",
    checks_key=False,  # an invalid key is reported in a frame, after the handshake
)  # fmt: skip


class _Handled(Response):
    """Response to a request whose connection became a WebSocket."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "gunicorn.socket" in environ:
            # gunicorn's workers then close the connection without sending a response.
            raise StopIteration
        return super().__call__(environ, start_response)


@blp.route("/chat/ws", methods=["GET"])
@blp.doc(
    operationId="openChatWebSocket",
    responses={101: {"description": "The connection switches to the WebSocket protocol."}},
)
@blp.raises("upgrade_required", "websocket_unsupported")
def open_websocket() -> Response:
    """Open a WebSocket that carries any number of turns.

    Send `{"t":"send"}` together with the fields of a chat request. The events of the turn come back
    as JSON frames with the `message_id` of the turn, without `user_message_saved`. Several turns
    can run at once. `{"t":"decide"}` with `run_id`, the `id` of an approval and the fields of a
    decision approves or rejects a tool call, and returns `decided`. `{"t":"ping"}` returns
    `{"type":"pong"}`. A rejected frame returns `{"type":"error","code","data"}`, and the connection
    stays open. `code` is `BAD_USER`, `SESSION_ERROR`, `CONFIG_ERROR`, `INVALID_MESSAGE` or
    `PROCESSING_ERROR`. The handshake succeeds with any key. An invalid key returns the code
    `UNAUTHORIZED`, and the connection is closed with 1008. The key is checked again for each turn.
    """
    if request.headers.get("Upgrade", "").strip().lower() != "websocket":
        require_scope("chat")
        raise ApiError(
            "upgrade_required",
            "this path needs a WebSocket handshake; send Upgrade: websocket",
            headers={"Upgrade": "websocket"},
        )
    find_socket(request.environ)
    settings = get_state().settings
    with make_reservation() as reservation:
        websocket = WebSocket(
            request.environ, max_bytes=settings.max_json_bytes,
            ping_s=settings.websocket_ping_s, reservation=reservation,
        )  # fmt: skip
        try:
            _serve(websocket)
        except Exception:
            log.exception("a WebSocket failed")
            websocket.break_off()
    websocket.linger(_LINGER_S)
    return _Handled(status=101)


# Werkzeug routes WebSocket requests separately. Both rules have one view, and one operation in the
# OpenAPI document.
Blueprint.add_url_rule(
    blp, "/chat/ws", "open_websocket_upgrade", open_websocket, methods=["GET"], websocket=True
)


def _serve(websocket: WebSocket) -> None:
    """Answer frames until the connection ends."""
    sockets = get_http_state().sockets
    try:
        require_scope("chat")
        opened = sockets.open(websocket, get_holder(), partial(_dismiss, websocket, _KEY_ENDED))
    except (ApiError, StorageError) as error:
        _dismiss(websocket, error)
        return
    try:
        while (raw := websocket.receive()) is not None:
            if not _answer(opened, raw):
                return
    finally:
        sockets.forget(opened)


def _answer(opened: OpenSocket, raw: str | bytes) -> bool:
    """Answer one frame. Return whether the connection stays open."""
    websocket = opened.websocket
    opened.used_at = time.monotonic()
    try:
        frame = parse_frame(raw)
        if frame.get("t") == "ping":
            return websocket.send('{"type":"pong"}')
        try:
            # Checked for each turn, because a key may be revoked while the connection is open.
            require_scope("chat")
        except ApiError as error:
            if error.status == 429:  # rate limit of the key; the client can retry later
                return _refuse_frame(websocket, error)
            _dismiss(websocket, error)
            return False
        if frame.get("t") == "decide":
            return _decide(websocket, frame)
        _start(opened, frame)
    except (ApiError, StorageError) as error:
        return _refuse_frame(websocket, error)
    except Exception:
        log.exception("a frame could not be answered")
        return _refuse_frame(websocket, ApiError("internal_error", "The server failed."))
    return True


def _refuse_frame(websocket: WebSocket, error: ApiError | StorageError) -> bool:
    stays_open = _refuse(websocket, error)
    time.sleep(_REFUSED_S)
    return stays_open


def _decide(websocket: WebSocket, frame: dict[str, Any]) -> bool:
    """Decide a pending tool call. The turn's own connection shows the rest of the turn."""
    body = load_decision(frame)
    run = find_run_to_decide(frame["run_id"], body["username"])
    decided = decide_as_caller(run, frame["id"], body)
    return websocket.send(orjson.dumps(decided_frame(frame, decided.left)).decode())


def _start(opened: OpenSocket, frame: dict[str, Any]) -> None:
    """Start the turn of a frame, with a thread that sends its events.

    :raises ApiError: the errors of a chat request.
    """
    body = load_request(frame)
    check_username(body["username"])
    state = get_state()
    turn = read_turn_request(body, state.settings, get_caller())
    opened.begin_turn()
    try:
        watch = state.chat.service.open(turn, opened.websocket.break_off)
    except BaseException:
        opened.finish_turn()
        raise
    shown = turn.shown_session_id if turn.session_id else watch.session_id
    try:
        named = (opened, watch, shown, read_message_id(frame))
        threading.Thread(target=_show, args=named, name="ws", daemon=True).start()
    except RuntimeError as error:  # no thread can be started; does not happen with greenlets
        watch.close()
        opened.finish_turn()
        raise ApiError(
            "server_busy", "This worker cannot start another thread; try again."
        ) from error


def _show(opened: OpenSocket, watch: Watch, session_id: str | int, message_id: str) -> None:
    """Send the frames of a turn until the turn ends or the client disconnects.

    :param message_id: The client's id of the turn, or empty if it sent none.
    """
    websocket = opened.websocket
    try:
        # Keep watching a turn that waits for an approval, since the connection is open anyway.
        while not (watch.finished or watch.leaving or websocket.closed):
            for number, line in watch.take(1.0):
                # A pushed message, which has no number, keeps its own id.
                own = message_id if number is not None else ""
                frame = event_frame(decode_event(line), watch.run_id, session_id, own)
                if frame is not None and not websocket.send(orjson.dumps(frame).decode()):
                    return  # the turn continues after a disconnect
    except StorageError as error:
        _refuse(websocket, error)
    finally:
        watch.close()
        opened.finish_turn()


def _dismiss(websocket: WebSocket, error: ApiError | StorageError) -> None:
    """Send an error and close the connection. Clients connect again unless the code is 1008."""
    code = POLICY
    if isinstance(error, StorageError) or error.code == "server_busy":
        code = TRY_AGAIN
    elif error.code == "shutting_down":
        code = RESTART
    websocket.close(code, str(error), last=_write_refusal(error))


def _refuse(websocket: WebSocket, error: ApiError | StorageError) -> bool:
    return websocket.send(_write_refusal(error))


def _write_refusal(error: ApiError | StorageError) -> str:
    if isinstance(error, StorageError):
        error = ApiError("storage_error", str(error))
    return orjson.dumps(error_frame(error)).decode()
