"""Contract tests, to run against any server that implements this API.

::

    pytest --pyargs astrbot_api.testing.contract --astrbot-url http://127.0.0.1:6185 \
        --astrbot-key abk_…

The expected texts are recorded from AstrBot 4.25. The server may use any model. Each test calls
it at most once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import urllib3

from .pytest_plugin import AstrBotTarget

_MAX_LINE_BYTES = 256 * 1024

#: Further line ends of Python's ``str.splitlines``, which httpx uses to read lines.
_LINE_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


class Refused(NamedTuple):
    """A request that the server must reject.

    :param message: Error text or its start, or empty for any text.
    """

    name: str
    method: str
    path: str
    body: Any
    message: str
    status: int = 400
    key: str | None = "right"


_CHAT, _IM = "/api/v1/chat", "/api/v1/im/message"
_ASKED = {"message": "x", "username": "a"}
_WEB = "webchat:FriendMessage:b"


def _chat(name: str, body: Any, message: str, **more: Any) -> Refused:
    return Refused(name, "POST", _CHAT, body, message, **more)


def _im(name: str, body: Any, message: str, **more: Any) -> Refused:
    return Refused(name, "POST", _IM, body, message, **more)


def _get(name: str, path: str, message: str, **more: Any) -> Refused:
    return Refused(name, "GET", path, None, message, **more)


REFUSED = (
    _chat("no key", _ASKED, "Missing API key", status=401, key=None),
    _chat("wrong key", _ASKED, "Invalid API key", status=401, key="abk_wrong"),
    Refused("no key for configs", "GET", "/api/v1/configs", None, "Missing API key", 401, None),
    Refused("no key for files", "GET", "/api/v1/file", None, "Missing API key", 401, None),
    _chat("no message", {"username": "a"}, "Missing key: message"),
    _chat("no username", {"message": "x"}, "Missing key: username"),
    _chat("blank username", {"message": "x", "username": " "}, "username is empty"),
    _chat(
        "message is a number", {"message": 7, "username": "a"}, "message must be a string or list"
    ),
    _chat(
        "reply alone",
        {"message": [{"type": "reply", "message_id": 1}], "username": "a"},
        "Message content is empty (reply only is not allowed)",
    ),
    _chat(
        "unknown config",
        {**_ASKED, "config_id": "nowhere"},
        "config_id not found: nowhere",
        status=404,
    ),
    _chat(
        "unknown config name",
        {**_ASKED, "config_name": "nowhere"},
        "config_name not found: nowhere",
        status=404,
    ),
    _get("sessions of nobody", "/api/v1/chat/sessions", "Missing key: username"),
    _get(
        "a page that is no number",
        "/api/v1/chat/sessions?username=a&page=x",
        "page and page_size must be integers",
    ),
    _get("no attachment named", "/api/v1/file", "Missing key: attachment_id"),
    _get(
        "unknown attachment",
        "/api/v1/file?attachment_id=nowhere",
        "Attachment not found",
        status=404,
    ),
    Refused("upload without a file", "POST", "/api/v1/file", None, "Missing key: file"),
    _im("im without message", {"umo": "a:FriendMessage:b"}, "Missing key: message"),
    _im("im without umo", {"message": "x"}, "Missing key: umo"),
    _im("im with half a umo", {"umo": "a:b", "message": "x"}, "Invalid umo: "),
    _im(
        "im to an unknown bot",
        {"umo": "nowhere:FriendMessage:b", "message": "x"},
        "Bot not found or not running for platform: nowhere",
        status=404,
    ),
    _im(
        "im with an unknown segment",
        {"umo": _WEB, "message": [{"type": "dance"}]},
        "unsupported message part type: dance",
    ),
    _im(
        "im with a picture without id",
        {"umo": _WEB, "message": [{"type": "image"}]},
        "image part missing attachment_id",
    ),
    _im(
        "im with a segment that is no object",
        {"umo": _WEB, "message": ["x"]},
        "message part must be an object",
    ),
    _chat("JSON that ends too early", b"{", ""),
    _chat("JSON that is a list", b"[1]", ""),
    _chat("JSON nested 10,000 deep", b"[" * 10_000, ""),
    _chat("bytes that are not UTF-8", b'{"message":"\xff","username":"a"}', ""),
    _chat("a session id that is an object", {**_ASKED, "session_id": {}}, ""),
)


class Caller:
    """Sends requests to the server."""

    def __init__(self, target: AstrBotTarget) -> None:
        self.target = target
        self._http = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(connect=10, read=120)
        )

    def send(
        self, method: str, path: str, body: Any = None, key: str | None = "right", **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and read the response."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["X-API-Key"] = self.target.key if key == "right" else key
        if body is not None:
            headers["Content-Type"] = "application/json"
            options["body"] = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._http.request(method, self.target.url + path, headers=headers, **options)

    def chat(self, **body: Any) -> urllib3.BaseHTTPResponse:
        """Run one turn and read the response."""
        return self.send("POST", _CHAT, {"username": "contract", **body})

    def close(self) -> None:
        self._http.clear()


@pytest.fixture(scope="module")
def caller(astrbot_target: AstrBotTarget) -> Iterator[Caller]:
    """HTTP client of the server."""
    caller = Caller(astrbot_target)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def turn(caller: Caller) -> urllib3.BaseHTTPResponse:
    """A streamed turn of a new session."""
    return caller.chat(message="Say hello.")


def read_events(answer: urllib3.BaseHTTPResponse) -> list[dict[str, Any]]:
    """Parse the events of a stream as strictly as the strictest client in use."""
    assert answer.status == 200, answer.data
    events = []
    for line in answer.data.split(b"\n"):
        if line.startswith(b"data: "):
            assert len(line) < _MAX_LINE_BYTES
            events.append(json.loads(line[6:]))
        else:
            assert line == b"" or line.startswith((b":", b"id: ", b"retry: ")), line
    return events


def read_data(answer: urllib3.BaseHTTPResponse) -> Any:
    """Return ``data`` of a successful envelope."""
    assert answer.status == 200, answer.data
    envelope = json.loads(answer.data)
    assert envelope["status"] == "ok", envelope
    return envelope["data"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_wrong_request_is_refused_in_the_words_of_the_contract(
    caller: Caller, case: Refused
) -> None:
    answer = caller.send(case.method, case.path, case.body, case.key)
    allowed = {case.status} if caller.target.strict else {case.status, 200}
    if case.status == 404 and not caller.target.strict:
        allowed.add(400)
    assert answer.status in allowed, (answer.status, answer.data)
    envelope = json.loads(answer.data)
    assert envelope["status"] == "error"
    assert envelope["data"] is None
    assert envelope["message"].startswith(case.message)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "{}"}, {"X-API-Key": " {} "}, {"Authorization": "Bearer {}"},
        {"Authorization": "bearer {}"}, {"Authorization": "ApiKey {}"},
    ],
    ids=str,
)  # fmt: skip
def test_a_key_is_read_from_each_of_its_headers(caller: Caller, headers: dict[str, str]) -> None:
    filled = {name: text.format(caller.target.key) for name, text in headers.items()}
    answer = caller.send("GET", "/api/v1/configs", key=None, headers=filled)
    assert any(one["id"] == "default" for one in read_data(answer)["configs"])


@pytest.mark.parametrize("name", ["api_key", "key"])
def test_a_key_is_read_from_the_query(caller: Caller, name: str) -> None:
    answer = caller.send("GET", f"/api/v1/configs?{name}={caller.target.key}", key=None)
    assert read_data(answer)["configs"]


def test_a_stream_is_marked_as_one(turn: urllib3.BaseHTTPResponse) -> None:
    assert turn.headers["Content-Type"].startswith("text/event-stream")
    assert "no-cache" in turn.headers["Cache-Control"]


def test_the_events_of_a_turn_come_in_their_order(turn: urllib3.BaseHTTPResponse) -> None:
    kinds = [one["type"] for one in read_events(turn)]
    assert kinds[0] == "session_id"
    assert kinds[-1] == "end"
    wanted = ["session_id", "user_message_saved", "plain", "complete", "message_saved", "end"]
    assert [one for one in wanted if one in kinds] == wanted
    places = [kinds.index(one) for one in wanted]
    assert places == sorted(places)


def test_the_pieces_of_an_answer_are_its_whole_text(turn: urllib3.BaseHTTPResponse) -> None:
    events = read_events(turn)
    said = [
        one["data"] for one in events if one["type"] == "plain" and one.get("chain_type") is None
    ]
    [whole] = [one["data"] for one in events if one["type"] == "complete"]
    assert "".join(said) == whole
    assert whole


def test_an_answer_without_streaming_is_one_piece(caller: Caller) -> None:
    events = read_events(caller.chat(message="Say hello.", enable_streaming=False))
    said = [one for one in events if one["type"] == "plain" and one.get("chain_type") is None]
    assert len(said) == 1
    assert said[0]["streaming"] is False


def test_no_line_end_but_lf_stands_in_a_line(caller: Caller) -> None:
    answer = caller.chat(message=f"ECHO a{_LINE_ENDS}b 全部完成")
    read_events(answer)
    text = answer.data.decode()
    assert [one for one in _LINE_ENDS if one in text] == []


def test_a_new_session_is_listed_and_belongs_to_its_user(caller: Caller) -> None:
    name, session = f"contract-{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
    read_events(caller.chat(message="Say hello.", username=name, session_id=session))
    page = read_data(caller.send("GET", f"/api/v1/chat/sessions?username={name}"))
    assert [one["session_id"] for one in page["sessions"]] == [session]
    assert {"page", "page_size", "total"} <= page.keys()
    stolen = caller.chat(message="x", username=name + "2", session_id=session)
    assert json.loads(stolen.data)["message"] == "session_id belongs to another username"


def test_a_file_comes_back_byte_for_byte(caller: Caller) -> None:
    data = b"some text \x00\x01" * 1000
    sent = caller.send("POST", "/api/v1/file", fields={"file": ("a name.bin", data)})
    kept = read_data(sent)
    assert {"attachment_id", "filename", "type"} <= kept.keys()
    back = caller.send("GET", f"/api/v1/file?attachment_id={kept['attachment_id']}")
    assert back.data == data


def test_two_files_of_one_name_keep_their_own_bytes(caller: Caller) -> None:
    sent = [
        read_data(caller.send("POST", "/api/v1/file", fields={"file": ("same.txt", data)}))
        for data in (b"first", b"second")
    ]
    back = [
        caller.send("GET", f"/api/v1/file?attachment_id={one['attachment_id']}") for one in sent
    ]
    assert [one.data for one in back] == [b"first", b"second"]


def test_a_pushed_message_is_taken(caller: Caller) -> None:
    session = str(uuid.uuid4())
    read_events(caller.chat(message="Say hello.", session_id=session))
    umo = f"webchat:FriendMessage:webchat!contract!{session}"
    answer = caller.send("POST", _IM, {"umo": umo, "message": "News"})
    assert isinstance(read_data(answer), dict)


def test_the_bots_are_listed(caller: Caller) -> None:
    assert isinstance(read_data(caller.send("GET", "/api/v1/im/bots"))["bot_ids"], list)
