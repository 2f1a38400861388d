"""Invalid input gets a clear error that names the field, and stores nothing."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from astrbot_api.runtime import memory

from .conftest import Api

HELLO = '{"username": "alice", "message": "你好"}'.encode()


def check_refused(api: Api, answer: Any, *, status: int = 400, names: str = "") -> str:
    """Check an error envelope and that nothing was stored. Return the message."""
    assert answer.status_code == status, answer.get_data()
    body = answer.get_json()
    assert body["status"] == "error"
    assert body["data"] is None
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert names in body["message"]
    for table in ("chat_session", "message", "run"):
        assert api.count_rows(table) == 0
    message: str = body["message"]
    return message


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("username", ["a"], "username must be a string"),
        ("username", {"a": 1}, "username must be a string"),
        ("username", True, "username must be a string"),
        ("username", 1.5, "username must be a string"),
        ("username", "a\x00b", "username must not contain the character NUL (U+0000)"),
        (
            "username",
            "x" * 2_000_000,
            "username has 2000000 characters; at most 255 are allowed",
        ),
        ("session_id", {"a": 1}, "session_id must be a string"),
        ("session_id", ["a"], "session_id must be a string"),
        ("session_id", True, "session_id must be a string"),
        ("session_id", "x" * 256, "session_id has 256 characters; at most 255 are allowed"),
        ("session_id", "\x00", "session_id must not contain the character NUL (U+0000)"),
        ("message", 7, "message must be a string or list"),
        ("message", True, "message must be a string or list"),
        ("message", "a\x00", "message must not contain the character NUL (U+0000)"),
        ("message", ["x"], "message[0]: message part must be an object"),
        (
            "message",
            [{"type": "plain", "text": ["x"]}],
            "message[0].text must be a string",
        ),
        (
            "message",
            [{"type": "reply", "message_id": {}}, {"type": "plain", "text": "x"}],
            "message[0].message_id must be a string or an integer",
        ),
        (
            "message",
            [{"type": "plain", "text": "x"}] * 101,
            "message has 101 segments; at most 100 are allowed",
        ),
        ("enable_streaming", "yes", "enable_streaming must be true or false"),
        ("enable_streaming", 1, "enable_streaming must be true or false"),
        ("flags", [1], "flags must be an object"),
        (
            "flags",
            {"enable_streaming": 1},
            "flags.enable_streaming must be true or false",
        ),
        ("_skip_user_history", "no", "_skip_user_history must be true or false"),
        ("config_id", [1], "config_id must be a string"),
        ("selected_provider", {}, "selected_provider must be a string"),
        ("selected_model", 1.5, "selected_model must be a string"),
    ],
)
def test_a_wrong_value_names_its_field(api: Api, field: str, value: Any, message: str) -> None:
    answer = api.post_chat(**{"username": "alice", "message": "hi", field: value})
    assert check_refused(api, answer) == message


@pytest.mark.parametrize("alias", [{"a": 1}, "x" * 256, "\x00"])
def test_a_conversation_id_beside_a_session_id_is_ignored(api: Api, alias: Any) -> None:
    body = {"username": "alice", "message": "hi", "conversation_id": alias}
    assert "conversation_id" in check_refused(api, api.post_chat(**body))
    assert api.post_chat(**body, session_id="s").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{nope",
        b'{"username": "a", "message": "\\ud800"}',
        b'{"username": "a", "message": NaN}',
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"username": "a"',
    ],
)
def test_malformed_json_is_a_400(api: Api, body: bytes) -> None:
    answer = api.post_raw(body)
    assert answer.get_json()["code"] == "malformed_json"
    check_refused(api, answer, names="valid JSON")


def test_json_in_the_code_page_of_a_console_is_refused_with_the_encoding_to_send(api: Api) -> None:
    answer = api.post_raw('{"username": "a", "message": "你好"}'.encode("gbk"))
    assert answer.get_json()["code"] == "malformed_json"
    assert check_refused(api, answer) == (
        "the request body is not UTF-8: byte 30 is invalid; send UTF-8"
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", "chat/runs/r/approvals/a", {"decision": 5}, "decision: Not a valid string."),
        ("POST", "chat/runs/r/approvals/a", {"decision": None}, "Missing key: decision"),
        ("POST", "keys/session", {"username": "a", "expires_in_s": None}, "expires_in_s: "),
        ("POST", "chat/sessions/batch-delete", {"session_ids": [None]}, "session_ids: "),
        ("POST", "aisdk", {"messages": [], "approvals": 5}, "approvals must be true or false"),
        ("GET", "openai/responses/resp_1?stream=x", None, "stream must be true or false"),
    ],
)
def test_every_route_names_the_field_of_a_wrong_value(
    api: Api, method: str, path: str, body: Any, message: str
) -> None:
    headers = {"X-API-Key": api.key}
    answer = api.client.open(f"/api/v1/{path}", method=method, headers=headers, json=body)
    assert answer.status_code == 400
    assert message in answer.get_data(as_text=True)


@pytest.mark.parametrize("body", [b"[1]", b'"text"', b"7", b"true"])
def test_json_that_is_not_an_object_is_a_400(api: Api, body: bytes) -> None:
    check_refused(api, api.post_raw(body), names="must be a JSON object")


def test_another_content_type_is_a_415(api: Api) -> None:
    answer = api.post_raw(b"username=a&message=hi", "application/x-www-form-urlencoded")
    check_refused(api, answer, status=415, names="application/json")


@pytest.mark.parametrize(
    ("body", "content_type", "named"),
    [
        (gzip.compress(HELLO, mtime=0), "application/json", "Content-Encoding gzip"),
        (HELLO.decode().encode("gbk"), "application/json; charset=GBK", "charset GBK"),
        (HELLO, 'application/json; charset="iso-8859-1"', "charset iso-8859-1"),
        (HELLO.decode().encode("utf-16"), "application/json", "UTF-16"),
        (HELLO.decode().encode("utf-32"), "application/json", "UTF-16 or UTF-32"),
    ],
)
def test_an_unsupported_content_coding_is_a_415_that_names_it(
    api: Api, body: bytes, content_type: str, named: str
) -> None:
    headers = {"X-API-Key": api.key}
    if named.startswith("Content-Encoding"):
        headers["Content-Encoding"] = "gzip"
    answer = api.client.post("/api/v1/chat", headers=headers, data=body, content_type=content_type)
    check_refused(api, answer, status=415, names=named)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (codecs.BOM_UTF8 + HELLO, "application/json"),
        (HELLO, "application/json; charset=UTF8"),
        (HELLO, 'application/vnd.api+json; charset="utf-8"'),
    ],
)
def test_every_name_of_utf_8_is_accepted(api: Api, body: bytes, content_type: str) -> None:
    answer = api.post_raw(body, content_type)
    assert answer.status_code == 200
    assert "message_saved" in answer.get_data(as_text=True)


def test_an_empty_body_needs_no_charset_and_no_coding(api: Api) -> None:
    api.chat(session_id="s")
    for body in (b"", codecs.BOM_UTF8):
        answer = api.post(
            "/api/v1/chat/sessions/s/stop",
            headers={"Content-Encoding": "gzip"},
            data=body,
            content_type="text/plain; charset=ISO-8859-1",
        )
        assert answer.status_code == 200


def test_a_compressed_upload_is_refused(api: Api) -> None:
    answer = api.post(
        "/api/v1/file",
        headers={"Content-Encoding": "br"},
        data=b"x",
        content_type="multipart/form-data; boundary=b",
    )
    check_refused(api, answer, status=415, names="Content-Encoding br")


def test_a_body_above_the_limit_is_a_413_that_names_the_limit(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_MAX_JSON_BYTES=2000)
    answer = api.post_chat(username="a", message="x" * 3000)
    check_refused(api, answer, status=413, names="2000 bytes")


def test_a_message_above_the_limit_is_rejected(make_api: Callable[..., Api]) -> None:
    api = make_api(ASTRBOT_MAX_MESSAGE_CHARS=10)
    assert "10" in check_refused(api, api.post_chat(username="a", message="x" * 11))
    parts = [{"type": "plain", "text": "x" * 6}] * 2
    assert "12" in check_refused(api, api.post_chat(username="a", message=parts))


def test_the_first_fault_in_the_contracts_order_is_reported(api: Api) -> None:
    assert check_refused(api, api.post_chat()) == "Missing key: username"
    assert check_refused(api, api.post_chat(username="")) == "username is empty"


@pytest.mark.parametrize("query", ["username=%00", "username=a&page=%00", "username=a&order_by=x"])
def test_a_bad_query_of_the_session_list_is_a_400(api: Api, query: str) -> None:
    check_refused(api, api.get(f"/api/v1/chat/sessions?{query}"))


def test_a_page_far_beyond_the_end_is_empty(api: Api) -> None:
    page = "9" * 30
    body = api.get(f"/api/v1/chat/sessions?username=a&page={page}").get_json()
    assert body["data"]["sessions"] == []


def test_parts_of_a_message_that_are_no_objects_are_dropped(api: Api) -> None:
    parts = ["x", None, 7, ["y"], {"type": "plain", "text": "Hello"}]
    events = api.chat(username="a", session_id="s", message=parts)
    assert events[-1]["type"] == "end"
    stored = api.get("/api/v1/chat/sessions/s/messages?username=a").get_json()["data"]
    assert stored["messages"][-1]["content"]["message"] == [parts[-1]]


def test_an_integer_is_read_as_its_digits(api: Api) -> None:
    events = api.chat(username=42, session_id=7)
    assert events[0]["session_id"] == 7
    listed = api.get("/api/v1/chat/sessions?username=42").get_json()["data"]["sessions"]
    assert [one["session_id"] for one in listed] == ["7"]


def test_errors_and_logs_never_show_a_key(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    answer = api.client.get(f"/api/v1/nope?api_key={api.key}")
    assert answer.status_code == 404
    api.client.get(f"/api/v1/im/bots?key={api.key}")
    assert api.key not in answer.get_data(as_text=True)
    assert api.key not in caplog.text


def test_a_route_without_a_message_accepts_256_kib(api: Api) -> None:
    body = b'{"username":"a","session_ids":["' + b"x" * 256 * 1024 + b'"]}'
    answer = api.post_raw(body, path="/api/v1/chat/sessions/batch-delete")
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")
    assert "262144" in answer.get_json()["message"]


def test_a_body_with_too_many_members_is_rejected_before_it_is_parsed(api: Api) -> None:
    members = b",".join(b'"%x":0' % number for number in range(60_000))
    answer = api.post_raw(b'{"username":"a","message":"x","flags":{' + members + b"}}")
    check_refused(api, answer, names="more than 50000 members")


def test_a_missing_scope_is_reported_before_the_body_is_read(make_api: Any) -> None:
    api = make_api()
    api.key = api.create_key("config")
    answer = api.post_raw(b"{nope", path="/api/v1/keys/session")
    assert answer.get_json()["code"] == "insufficient_scope"


@pytest.mark.parametrize("field", ["selected_text", "message_id"])
def test_every_part_of_a_quotation_counts_as_text(make_api: Any, field: str) -> None:
    api = make_api(ASTRBOT_MAX_MESSAGE_CHARS=100)
    reply = {"type": "reply", "message_id": 1, field: "x" * 101}
    answer = api.post_chat(username="a", message=[reply, {"type": "plain", "text": "hi"}])
    check_refused(api, answer, names="at most 100 are allowed")


def test_the_parts_of_a_completion_are_counted_before_a_file_is_stored(api: Api) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:;base64,AA=="}}
    body = {"model": "default", "messages": [{"role": "user", "content": [part] * 101}]}
    answer = api.post_raw(json.dumps(body).encode(), path="/api/v1/openai/chat/completions")
    assert answer.status_code == 400
    assert "at most 100" in answer.get_json()["error"]["message"]
    assert api.count_rows("attachment") == 0


class _Stalled(io.BytesIO):
    """A body whose end comes late."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def readinto(self, buffer: Any) -> int:
        self.begun.set()
        assert self.go_on.wait(30)
        return super().readinto(buffer)


def test_bodies_that_stall_cannot_fill_the_memory(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.state.worker.receiving, "_max_bytes_of_one", 1_000_000)
    monkeypatch.setattr(memory, "_MAX_WAIT_S", 0.0)
    long = HELLO + b" " * 700_000
    stalled = _Stalled(long)

    def send_slowly() -> Any:
        return api.post(
            "/api/v1/chat", input_stream=stalled, content_length=len(long),
            content_type="application/json",
        )  # fmt: skip

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send_slowly)
        assert stalled.begun.wait(30)
        refused = api.post_raw(long)
        assert (refused.status_code, refused.get_json()["code"]) == (503, "server_busy")
        assert api.post_raw(HELLO).status_code == 200
        stalled.go_on.set()
        assert first.result(30).status_code == 200
    assert api.post_raw(long).status_code == 200


def test_the_longest_allowed_message_has_room_in_the_memory(make_api: Callable[..., Api]) -> None:
    longest = 2**29
    api = make_api(ASTRBOT_MAX_JSON_BYTES=longest)
    memory.Reservation(api.state.worker.receiving, "one").resize(longest)
    memory.Reservation(api.state.chat.runs._memory, "one").resize(4 * longest)


@pytest.mark.parametrize("path", ["chat", "file"])
def test_a_body_in_chunks_that_the_server_does_not_pass_on_is_a_400(api: Api, path: str) -> None:
    answer = api.post(
        f"/api/v1/{path}", input_stream=io.BytesIO(HELLO), headers={"Transfer-Encoding": "chunked"},
        content_type="multipart/form-data; boundary=x" if path == "file" else "application/json",
    )  # fmt: skip
    check_refused(api, answer, names="send Content-Length, or run the server with gunicorn")


def test_bodies_in_chunks_count_what_has_arrived(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.state.worker.receiving, "_max_bytes_of_one", 1_000_000)
    for spaces, status in ((700_000, 200), (1_400_000, 503)):
        answer = api.post(
            "/api/v1/chat", input_stream=io.BytesIO(HELLO + b" " * spaces),
            content_type="application/json", headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        )  # fmt: skip
        assert answer.status_code == status
