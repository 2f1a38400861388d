"""The rest of a rejected request's body is read after the response."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse, create_environ

from astrbot_api import wiring
from astrbot_api.http import draining
from astrbot_api.http.request_body import BODY_SILENCE_S

from .conftest import Api


class Body(io.BytesIO):
    """A request body that counts its reads."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(bytes(size_bytes))
        self.reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


class BrokenBody(Body):
    """A body whose client disconnected."""

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        raise ConnectionResetError


def _send(api: Api, body: Body, *, terminated: bool = True, length: str = "") -> TestResponse:
    return api.client.post(
        "/api/v1/file",
        headers={"X-API-Key": "wrong"},
        environ_overrides={
            "wsgi.input": body,
            "wsgi.input_terminated": terminated,
            "CONTENT_LENGTH": length or str(len(body.getvalue())),
        },
    )


def test_a_large_body_is_read_to_its_end_in_large_pieces(api: Api) -> None:
    body = Body(5_000_000)
    answer = _send(api, body)
    assert (answer.status_code, answer.get_json()["code"]) == (401, "invalid_api_key")
    assert body.reads == 0
    answer.close()
    assert body.tell() == 5_000_000
    assert body.reads < 30


def test_bodies_that_are_drained_take_turns(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    body = Body(5_000_000)
    read: list[int] = []
    monkeypatch.setattr(draining, "wait_turn", lambda: read.append(body.tell()))
    _send(api, body).close()
    assert read == [min(5_000_000, 262_144 * (turn + 1)) for turn in range(20)]


def test_a_body_without_a_length_is_not_read(api: Api) -> None:
    body = Body(5_000_000)
    _send(api, body, terminated=False).close()
    assert body.tell() == 0


def test_a_small_body_is_read_by_the_server(api: Api) -> None:
    body = Body(1000)
    _send(api, body).close()
    assert body.tell() == 0


def test_a_disconnected_client_is_not_an_error(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    body = BrokenBody(0)
    answer = _send(api, body, length="5000000")
    assert (answer.status_code, body.reads) == (401, 0)
    answer.close()
    assert body.reads == 1
    assert [one for one in caplog.records if one.exc_info or one.levelname == "ERROR"] == []


class Silent:
    """A body whose rest never arrives."""

    def read(self, *size: int) -> bytes:
        raise TimeoutError("timed out")

    readline = read


class FakeConnection:
    """The attributes of gunicorn's connection that are used."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def settimeout(self, timeout_s: float | None) -> None:
        self.done.append(timeout_s)

    def shutdown(self, how: int) -> None:
        self.done.append("shut")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("chat", "application/json"), ("file", "multipart/form-data; boundary=B")],
)
def test_reading_a_stalled_body_is_aborted(api: Api, path: str, content_type: str) -> None:
    connection = FakeConnection()
    environ = {
        "wsgi.input": Silent(), "wsgi.input_terminated": True, "gunicorn.socket": connection,
        "CONTENT_LENGTH": "1000", "CONTENT_TYPE": content_type,
    }  # fmt: skip
    answer = api.post(f"/api/v1/{path}", environ_overrides=environ)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")
    answer.close()
    assert connection.done == [BODY_SILENCE_S, None, "shut"]


def test_an_answer_that_is_cut_off_before_it_is_sent_holds_no_memory(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "_MAX_UNREAD_BYTES", 300_000)
    api = make_api()
    assert api.chat(message="x" * 200_000, session_id="s")[-1]["type"] == "end"
    path = "/api/v1/chat/sessions/s/messages?username=alice"
    environ = create_environ(path, headers={"X-API-Key": api.key})
    with contextlib.ExitStack() as opened:
        answers = []
        for _ in range(2):
            ours, _theirs = map(opened.enter_context, socket.socketpair())
            environ = {**environ, "gunicorn.socket": ours}
            answers.append(api.app.wsgi_app(environ, lambda *_: print))
            opened.callback(answers[-1].close)
        sizes = [sum(map(len, one)) for one in answers]
    assert sizes[0] == 0
    assert sizes[1] > 200_000
