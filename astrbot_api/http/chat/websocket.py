"""Routes ``GET /chat/ws`` and ``GET /unified-chat/ws``."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import Any

import orjson
from flask import Blueprint, Response, request

from ...chat.watching.watch import Watch
from ...errors import ApiError, StorageError
from ...events import decode_event
from ..auth import (
    QUERY_TOKEN_KEY,
    get_holder,
    make_reservation,
    read_secret,
    require_scope,
)
from ..blueprint import ApiBlueprint
from ..decisions import decide_as_caller, find_run_to_decide
from ..state import get_http_state, get_state
from ..usernames import check_username
from ..websocket.connection import POLICY, RESTART, TRY_AGAIN, WebSocket, find_socket
from ..websocket.sockets import OpenSocket
from .schemas import read_turn_request
from .websocket_frames import (
    BadFrame,
    ChatFrames,
    UnifiedFrames,
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

_TOKEN = {
    "in": "query", "name": "token", "schema": {"type": "string"}, "example": "InFvQzI1MWMx…",
    "description": "The owner's login token, for pages. Programs send a header.",
}  # fmt: skip

blp = ApiBlueprint(
    "websocket", __name__, tag="WebSocket", scope="chat",
    description="Run turns over a WebSocket.",
    checks_key=False,  # an invalid key is reported in a frame, after the handshake
)  # fmt: skip


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
    return _open(ChatFrames())


@blp.route("/unified-chat/ws", methods=["GET"])
@blp.doc(
    operationId="openUnifiedChatWebSocket",
    parameters=[_TOKEN],
    responses={101: {"description": "The connection switches to the WebSocket protocol."}},
)
@blp.raises("upgrade_required", "websocket_unsupported")
def open_unified_websocket() -> Response:
    """Open a WebSocket with the frames of AstrBot's own chat page.

    Frames are those of `/chat/ws` with `"ct":"chat"`, and `user_message_saved` is sent, too.
    `{"ct":"chat","t":"interrupt"}` stops the turns of this connection, or the one of `message_id`,
    and returns an `error` with the code `INTERRUPTED`. An invalid frame has the code
    `INVALID_MESSAGE_FORMAT`.
    """
    token = request.args.get("token", "").strip()
    if token and not read_secret(request):
        # Pages cannot set headers of a WebSocket.
        request.environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        request.environ[QUERY_TOKEN_KEY] = True
    return _open(UnifiedFrames())


# Werkzeug routes WebSocket requests separately. Both rules have one view, and one operation in the
# OpenAPI document.
for _path, _view in (("/chat/ws", open_websocket), ("/unified-chat/ws", open_unified_websocket)):
    Blueprint.add_url_rule(
        blp, _path, f"{_view.__name__}_upgrade", _view, methods=["GET"], websocket=True
    )


def _open(frames: ChatFrames) -> Response:
    """Serve the current request's connection until it ends."""
    upgrade = request.headers.get("Upgrade", "").strip().lower()
    if upgrade != "websocket" or request.method != "GET":  # HEAD
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
            _serve(websocket, frames)
        except Exception:
            log.exception("a WebSocket failed")
            websocket.break_off()
    websocket.linger(_LINGER_S)
    # Not sent, because the connection is shut down. Tracers would report an exception.
    return Response(status=101)


def _serve(websocket: WebSocket, frames: ChatFrames) -> None:
    """Answer frames until the connection ends."""
    sockets = get_http_state().sockets
    try:
        require_scope("chat")
        refuse = partial(_dismiss, websocket, frames, _KEY_ENDED)
        opened = sockets.open(websocket, get_holder(), refuse)
    except (ApiError, StorageError) as error:
        _dismiss(websocket, frames, error)
        return
    try:
        conversation = _Conversation(opened, frames)
        while (raw := websocket.receive()) is not None:
            if not conversation.answer(raw):
                return
    finally:
        sockets.forget(opened)


class _Conversation:
    """The turns of one connection."""

    def __init__(self, opened: OpenSocket, frames: ChatFrames) -> None:
        self._opened = opened
        self._websocket = opened.websocket
        self._frames = frames
        #: The client's id of each running turn, or empty if it sent none.
        self._watches: dict[Watch, str] = {}

    def answer(self, raw: str | bytes) -> bool:
        """Answer one frame. Return whether the connection stays open."""
        self._opened.used_at = time.monotonic()
        frame: dict[str, Any] = {}
        try:
            frame = parse_frame(raw)
            self._frames.check(frame)
            if frame.get("t") == "ping":
                return self._websocket.send('{"type":"pong"}')
            try:
                # Checked for each turn, because a key may be revoked while the connection is open.
                require_scope("chat")
            except ApiError as error:
                if error.status == 429:  # rate limit of the key; the client can retry later
                    return self._refuse(error, frame)
                _dismiss(self._websocket, self._frames, error)
                return False
            if frame.get("t") == "decide":
                return self._decide(frame)
            if frame.get("t") == "interrupt":
                return self._interrupt(frame)
            self._start(frame)
        except (ApiError, StorageError) as error:
            return self._refuse(error, frame)
        except Exception:
            log.exception("a frame could not be answered")
            return self._refuse(ApiError("internal_error", "The server failed."), frame)
        return True

    def _refuse(self, error: ApiError | StorageError, frame: dict[str, Any]) -> bool:
        stays_open = self._websocket.send(_write(self._frames.write_error(error, frame)))
        time.sleep(_REFUSED_S)
        return stays_open

    def _decide(self, frame: dict[str, Any]) -> bool:
        """Decide a pending tool call. The turn's own connection shows the rest of the turn."""
        body = load_decision(frame)
        run = find_run_to_decide(frame["run_id"], body["username"])
        decided = decide_as_caller(run, frame["id"], body)
        return self._websocket.send(_write(self._frames.write_decided(frame, decided.left)))

    def _interrupt(self, frame: dict[str, Any]) -> bool:
        """Stop the turns of this connection, or only the one that has the frame's id."""
        named = read_message_id(frame)
        watches = list(self._watches.items())
        get_state().chat.runs.stop(
            [watch.run_id for watch, own in watches if named in ("", own or watch.run_id)]
        )
        return self._refuse(BadFrame("INTERRUPTED", "INTERRUPTED"), frame)

    def _start(self, frame: dict[str, Any]) -> None:
        """Start the turn of a frame, with a thread that sends its events.

        :raises ApiError: the errors of a chat request.
        """
        body = load_request(frame)
        check_username(body["username"])
        turn = read_turn_request(body)
        self._opened.begin_turn()
        try:
            watch = get_state().chat.service.open(turn, self._websocket.break_off)
        except BaseException:
            self._opened.finish_turn()
            raise
        self._watches[watch] = read_message_id(frame)
        shown = turn.shown_session_id if turn.session_id else watch.session_id
        try:
            threading.Thread(target=self._show, args=(watch, shown), name="ws", daemon=True).start()
        except RuntimeError as error:  # no thread can be started; does not happen with greenlets
            self._end(watch)
            raise ApiError(
                "server_busy", "This worker cannot start another thread; try again."
            ) from error

    def _show(self, watch: Watch, session_id: str | int) -> None:
        """Send the frames of a turn until the turn ends or the client disconnects."""
        message_id = self._watches[watch]
        try:
            # Keep watching a turn that waits for an approval, since the connection is open anyway.
            while not (watch.finished or watch.leaving or self._websocket.closed):
                for number, line in watch.take(1.0):
                    # A pushed message, which has no number, keeps its own id.
                    own = message_id if number is not None else ""
                    event = decode_event(line)
                    frame = self._frames.write_event(event, watch.run_id, session_id, own)
                    if frame is not None and not self._websocket.send(_write(frame)):
                        return  # the turn continues after a disconnect
        except StorageError as error:
            self._websocket.send(_write(self._frames.write_error(error, {})))
        finally:
            self._end(watch)

    def _end(self, watch: Watch) -> None:
        watch.close()
        del self._watches[watch]
        self._opened.finish_turn()


def _dismiss(websocket: WebSocket, frames: ChatFrames, error: ApiError | StorageError) -> None:
    """Send an error and close the connection. Clients connect again unless the code is 1008."""
    code = POLICY
    if isinstance(error, StorageError) or error.code == "server_busy":
        code = TRY_AGAIN
    elif error.code == "shutting_down":
        code = RESTART
    websocket.close(code, str(error), last=_write(frames.write_error(error, {})))


def _write(frame: dict[str, Any]) -> str:
    return orjson.dumps(frame).decode()
