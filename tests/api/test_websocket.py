"""The WebSocket route on servers without WebSockets, and on a server with threads."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from astrbot_api.http.chat import websocket

from ..waiting import wait_for
from ..websocket import CLOSE, PONG, TEXT, WebSocketClient, handshake
from .conftest import Api

HANDSHAKE = {
    "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}  # fmt: skip


def test_a_server_without_raw_sockets_rejects_with_a_clear_error(api: Api) -> None:
    answer = api.get("/api/v1/chat/ws", headers=HANDSHAKE)
    assert (answer.status_code, answer.get_json()["code"]) == (501, "websocket_unsupported")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/chat",
        "/api/v1/chat/wss",
        "/api/chat/ws",
        "/v1/responses",
        "/v1/models",
        "/v1/realtime",
    ],
)
def test_a_handshake_on_another_path_is_answered_with_the_reason(
    make_api: Callable[..., Api], path: str
) -> None:
    """OpenAI's clients can also use WebSockets, for Responses and Realtime."""
    api = make_api(ASTRBOT_OPENAI_AT_ROOT=True)
    answer = api.get(path, headers=HANDSHAKE)
    body = answer.get_json()
    error = body["error"] if path.startswith("/v1") else body
    assert (answer.status_code, error["code"]) == (404, "path_not_found")
    assert error["message"].startswith(f"There is no WebSocket at {path}; ")
    assert api.client.get(path, headers=HANDSHAKE).status_code == 401


def test_the_error_of_a_handshake_names_the_path_below_a_prefix(
    make_api: Callable[..., Api],
) -> None:
    answer = make_api(ASTRBOT_URL_PREFIX="/bot").get("/bot/api/v1/chat", headers=HANDSHAKE)
    assert answer.get_json()["message"].endswith("; connect to /bot/api/v1/chat/ws")


def test_websockets_work_with_threads_and_leave_nothing(
    api: Api, serve: Callable[[Api], int]
) -> None:
    with WebSocketClient(serve(api), handshake(api.key)) as client:
        client.send({"username": "alice", "message": "Hello"})
        kinds = [one["type"] for one in client.iter_turn()]
        assert kinds[:2] == ["session_id", "run_started"]
        assert kinds[-4:] == ["agent_stats", "complete", "message_saved", "end"]
        assert api.http.sockets.open_count == 1
        client.send_frame(CLOSE, b"\x03\xe8")
        assert client.receive() is None
        assert client.closed_with == (1000, "")
        assert client.is_at_end()
    wait_for(lambda: api.http.sockets.open_count == 0)
    assert api.state.chat.streams.open_count == 0


def test_a_websocket_of_gunicorn_ends_without_an_exception(api: Api) -> None:
    """Tracers such as Sentry wrap the application and report each exception of it."""
    ours, theirs = socket.socketpair()
    headers = {**HANDSHAKE, "X-API-Key": api.key}
    environ = EnvironBuilder(path="/api/v1/chat/ws", headers=headers).get_environ()
    with ours, theirs:
        theirs.sendall(b"\x88\x80mask")  # a close frame
        _, status, _ = run_wsgi_app(api.app, {**environ, "gunicorn.socket": ours})
    assert status == "101 SWITCHING PROTOCOLS"


@pytest.mark.parametrize("part", [{}, {"attachment_id": "nope"}], ids=["no id", "unknown id"])
def test_a_segment_without_its_attachment_is_an_invalid_message(
    api: Api, serve: Callable[[Api], int], part: dict[str, str]
) -> None:
    message = [{"type": "plain", "text": "Look:"}, {"type": "image", **part}]
    with WebSocketClient(serve(api), handshake(api.key)) as client:
        client.send({"username": "alice", "message": message})
        assert client.receive()["code"] == "INVALID_MESSAGE"


def test_a_silent_client_is_pinged_and_then_disconnected(
    make_api: Callable[..., Api], serve: Callable[[Api], int]
) -> None:
    api = make_api(ASTRBOT_WEBSOCKET_PING_S=0.05)
    with WebSocketClient(serve(api), handshake(api.key)) as client:
        assert client.read_frame()[0] == 9
        assert client.is_at_end()


def test_an_idle_connection_is_notified_that_the_worker_stops(
    api: Api, serve: Callable[[Api], int]
) -> None:
    with WebSocketClient(serve(api), handshake(api.key)) as client:
        client.send({"t": "ping"})
        assert client.receive() == {"type": "pong"}
        api.state.chat.runs.drain()
        api.http.sockets.close_idle()
        assert client.receive() is None
        assert client.closed_with is not None
        assert client.closed_with[0] == 1012


def test_a_client_that_connects_while_the_worker_stops_connects_again(
    api: Api, serve: Callable[[Api], int]
) -> None:
    port = serve(api)
    api.state.chat.runs.drain()
    with WebSocketClient(port, handshake(api.key)) as client:
        assert client.receive()["error_code"] == "shutting_down"
        assert client.receive() is None
        assert client.closed_with == (1012, "The server is shutting down; try again.")


def test_a_client_of_a_busy_server_tries_again(
    make_api: Callable[..., Api], serve: Callable[[Api], int]
) -> None:
    api = make_api(ASTRBOT_MAX_STREAMS_PER_WORKER=1)
    port = serve(api)
    with WebSocketClient(port, handshake(api.key)) as first:
        first.send({"t": "ping"})
        assert first.receive() == {"type": "pong"}
        with WebSocketClient(port, handshake(api.key)) as second:
            assert second.receive()["error_code"] == "server_busy"
            assert second.receive() is None
            assert second.closed_with is not None
            assert second.closed_with[0] == 1013


def test_connections_of_a_key_are_limited(
    make_api: Callable[..., Api], serve: Callable[[Api], int]
) -> None:
    api = make_api(ASTRBOT_MAX_STREAMS_PER_KEY=1)
    port = serve(api)
    with WebSocketClient(port, handshake(api.key)) as first:
        first.send({"t": "ping"})
        assert first.receive() == {"type": "pong"}
        with WebSocketClient(port, handshake(api.key)) as second:
            error = second.receive()
            assert (error["code"], error["error_code"]) == ("PROCESSING_ERROR", "too_many_streams")
            assert second.receive() is None
            assert second.closed_with is not None
            assert second.closed_with[0] == 1008


def test_a_flood_of_invalid_frames_is_throttled(
    api: Api, serve: Callable[[Api], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "_REFUSED_S", 0.05)
    with WebSocketClient(serve(api), handshake(api.key)) as client:
        begun = time.monotonic()
        for frame in ({"message": "no username"}, {"t": "nothing"}, []) * 2:
            client.send(frame)
            assert client.receive()["type"] == "error"
        client.send({"t": "ping"})
        assert client.receive() == {"type": "pong"}
        assert time.monotonic() - begun >= 6 * 0.05


def test_a_rejected_connection_is_closed_even_if_it_keeps_sending(
    api: Api, serve: Callable[[Api], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "_LINGER_S", 0.2)
    # Without the disconnect, pytest's timeout ends it.
    with (
        WebSocketClient(serve(api), handshake("abk_wrong")) as client,
        pytest.raises(OSError, match=r"(?i)reset|pipe|abort"),
    ):
        _send_for_ever(client)


def _send_for_ever(client: WebSocketClient) -> None:
    while True:
        client.send_frame(PONG, b"")


def test_a_message_with_too_many_fragments_is_rejected(
    api: Api, serve: Callable[[Api], int]
) -> None:
    with WebSocketClient(serve(api), handshake(api.key)) as client:
        client.send_frame(TEXT, b"a", final=False)
        for _ in range(1_001):
            client.send_frame(0, b"a", final=False)
        assert client.receive() is None
        assert client.closed_with is not None
        assert client.closed_with[0] == 1009


def test_a_long_message_in_one_frame_is_read(api: Api, serve: Callable[[Api], int]) -> None:
    with WebSocketClient(serve(api), handshake(api.key)) as client:
        client.send({"t": "ping", "padding": "a" * 5_000_000})
        assert client.receive() == {"type": "pong"}


def test_unfinished_messages_cannot_fill_the_memory(
    api: Api, serve: Callable[[Api], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    receiving = api.state.worker.receiving
    monkeypatch.setattr(receiving, "_max_bytes_of_one", 1_000_000)
    port = serve(api)
    with (
        WebSocketClient(port, handshake(api.key)) as first,
        WebSocketClient(port, handshake(api.key)) as second,
    ):
        first.send_frame(TEXT, b" " * 700_000, final=False)
        wait_for(lambda: receiving._bytes.total() > 600_000)
        second.send_frame(TEXT, b" " * 700_000, final=False)
        assert second.receive() is None
        assert second.closed_with is not None
        assert second.closed_with[0] == 1013
        wait_for(lambda: receiving._bytes.total() < 700_000)
        first.send_frame(0, b'{"t":"ping"}')
        assert first.receive() == {"type": "pong"}
        assert not receiving._bytes


def test_an_idle_connection_is_closed_after_a_timeout(
    make_api: Callable[..., Api], serve: Callable[[Api], int]
) -> None:
    # The server notices after ping_s that this client does not confirm the close.
    api = make_api(ASTRBOT_WEBSOCKET_IDLE_S=0.05, ASTRBOT_WEBSOCKET_PING_S=0.5)
    with WebSocketClient(serve(api), handshake(api.key)) as client:
        wait_for(lambda: api.http.sockets.open_count == 1)
        wait_for(lambda: api.http.sockets.close_idle() or api.http.sockets.open_count == 0)
        assert client.receive() is None
        assert client.closed_with == (1000, "the connection was idle for too long; connect again")


UNIFIED = "/api/v1/unified-chat/ws"

#: The frames that AstrBot 4.29.3 sends for one turn, and their fields.
RECORDED_TURN = {
    "user_message_saved": {"ct", "type", "data", "message_id"},
    "run_started": {"ct", "type", "data", "streaming", "message_id"},
    "plain": {"ct", "type", "data", "streaming", "chain_type", "message_id"},
    "agent_stats": {"ct", "type", "data", "message_id"},
    "complete": {"ct", "type", "data", "reasoning", "streaming", "message_id"},
    "message_saved": {"ct", "type", "data", "message_id"},
    "end": {"ct", "type", "data", "streaming", "message_id"},
}


@pytest.mark.parametrize("path", [UNIFIED, "/api/unified_chat/ws"], ids=["4.29", "4.25"])
def test_the_chat_page_of_astrbot_runs_a_turn_with_its_login(
    make_api: Callable[..., Api], serve: Callable[[Api], int], path: str
) -> None:
    """The page sends its login in the query, because it cannot set headers of a WebSocket."""
    api = make_api(ASTRBOT_ADMIN_PASSWORD="correct horse battery")
    body = {"username": "astrbot", "password": "correct horse battery"}
    token = api.client.post("/api/v1/auth/login", json=body).get_json()["data"]["token"]
    with WebSocketClient(serve(api), handshake("", f"?token={token}", path=path)) as client:
        client.send({
            "ct": "chat", "t": "send", "session_id": "s1", "message_id": "m1",
            "message": [{"type": "plain", "text": "Hello"}], "flags": {"enable_streaming": True},
            "locale": "zh-CN", "selected_provider": "", "selected_model": "",
        })  # fmt: skip
        frames = {one["type"]: one for one in client.iter_turn()}
    for kind, fields in RECORDED_TURN.items():
        assert fields <= set(frames[kind]), kind
    assert {(one["ct"], one["message_id"]) for one in frames.values()} == {("chat", "m1")}
    headers = {"Authorization": f"Bearer {token}"}
    session = api.client.get("/api/v1/chat/sessions/s1", headers=headers).get_json()["data"]
    assert [one["id"] for one in session["history"]] == [
        frames["user_message_saved"]["data"]["id"], frames["message_saved"]["data"]["id"]
    ]  # fmt: skip
    assert session["creator"] == "astrbot"


@pytest.mark.parametrize("given", ["m1", None], ids=["own id", "id of the server"])
def test_an_interrupt_stops_only_the_named_turn(
    api: Api, serve: Callable[[Api], int], given: str | None
) -> None:
    with WebSocketClient(serve(api), handshake(api.key, path=UNIFIED)) as client:
        for name in (given, "m2"):
            client.send({
                "ct": "chat", "t": "send", "message_id": name, "username": "alice",
                "message": "N=50 DELAY=20",
            })  # fmt: skip
        while (frame := client.receive())["type"] != "plain" or frame["message_id"] == "m2":
            pass
        first = frame["message_id"]
        client.send({"ct": "chat", "t": "interrupt", "message_id": first})
        answers: dict[str, str] = {}
        while len(answers) < 3:
            frame = client.receive()
            if frame["type"] == "error":
                answers["error"] = frame["message_id"]
                assert (frame["ct"], frame["t"], frame["code"]) == ("chat", "error", "INTERRUPTED")
            elif frame["type"] == "complete":
                answers[frame["message_id"]] = frame["data"]
    assert answers.pop("error") == first == (given or first)
    assert len(answers[first]) < len(answers["m2"])
    assert answers["m2"].endswith("tok49")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"ct": "chat", "t": "nope"}, "Unsupported message type: nope"),
        ({"ct": "live", "t": "send"}, "Unsupported ct: live"),
        ({"ct": "chat", "t": "send", "message": []}, "Message content is empty"),
    ],
)
def test_an_invalid_frame_of_the_chat_page_names_its_turn(
    api: Api, serve: Callable[[Api], int], frame: dict[str, str], reason: str
) -> None:
    with WebSocketClient(serve(api), handshake(api.key, path=UNIFIED)) as client:
        client.send({**frame, "username": "alice", "message_id": "m1"})
        answer = client.receive()
    assert answer.pop("data").startswith(reason)
    assert answer == {
        "ct": "chat", "t": "error", "type": "error", "code": "INVALID_MESSAGE_FORMAT",
        "message_id": "m1",
    }  # fmt: skip
