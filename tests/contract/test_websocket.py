"""Recorded WebSocket connections, replayed on two gunicorn workers.

Divergences, by the numbers of the contract's section 8 and its sections:

- §4: every frame of a turn has ``message_id``, because several turns may share a connection. The
  recorded server omits it in ``agent_stats`` and ``message_saved``. There is ``run_started`` (§3).
- §4: a frame that is not JSON gets an error. The recorded server closes the connection.
- §4: several turns run at once, and a ``ping`` is answered meanwhile.
- 7: a pushed message has its own ``message_id`` and is in no turn's text.
- 14: the answer to a disconnected client is stored completely.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.db import keys
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..nginx import choose_server
from ..servers import FAILED, Server, create_key, write_config
from ..waiting import wait_for
from ..websocket import BINARY, CLOSE, TEXT, WebSocketClient, handshake
from . import wire

GROUP = "60-websocket"

_SENT = re.compile(r"\[ *[\d.]+\] ([<> ]) (.*)", re.DOTALL)

#: Connections whose frames are compared one by one with the recorded ones.
STRAIGHT = (
    "auth-missing", "auth-insufficient-scope", "carrier-query-api_key", "carrier-query-key",
    "carrier-x-api-key", "carrier-bearer", "carrier-apikey", "bad-messages", "binary-frame",
)  # fmt: skip


def load() -> dict[str, dict[str, Any]]:
    path = wire.RECORDINGS / f"{GROUP}.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["case"]: row for row in rows}


RECORDED = load()


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url)
    for stem in ("one", "two"):
        path = write_config(module_dir, fake_model.base_url, name=stem)
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('name = "default"', 'name = "dup"'), encoding="utf-8")
    with choose_server()(module_dir) as started:
        yield started


@pytest.fixture(scope="module")
def placeholders(server: Server, module_dir: Path) -> dict[str, str]:
    made = {f"KEY_{scope.upper()}": create_key(module_dir, scope) for scope in keys.PUBLIC_SCOPES}
    made["KEY_ALL"] = create_key(module_dir, *keys.PUBLIC_SCOPES)
    server.chat(made["KEY_ALL"], session_id="ws-4.25.1", message="hi")
    return made


def connect(server: Server, case: str, placeholders: dict[str, str]) -> WebSocketClient:
    head = RECORDED[case]["request_head"].removesuffix("\r\n\r\n")
    for name, value in placeholders.items():
        head = head.replace(f"{{{{{name}}}}}", value)
    assert "{{" not in head
    client = WebSocketClient(server.connect(), head)
    assert client.status == 101, client.head
    return client


def frames_of(case: str) -> list[tuple[str, str]]:
    found = []
    for text in RECORDED[case]["frames"]:
        match = _SENT.match(text)
        assert match, text
        found.append((match[1], match[2]))
    return found


def send_recorded(client: WebSocketClient, text: str) -> None:
    match = re.match(r"\(op (\d+)\) (b'.*')", text, re.DOTALL)
    if match:
        client.send_frame(int(match[1]), ast.literal_eval(match[2]))
    else:
        client.send_frame(TEXT, text.encode())


@pytest.mark.parametrize("case", STRAIGHT)
def test_a_recorded_connection_gets_the_recorded_frames(
    server: Server, placeholders: dict[str, str], case: str
) -> None:
    with connect(server, case, placeholders) as client:
        for direction, text in frames_of(case):
            if direction == ">":
                send_recorded(client, text)
                continue
            got = client.receive()
            closed = re.fullmatch(r"CLOSE code=(\d+) reason=(.*)", text)
            if closed:
                assert got is None
                assert client.closed_with == (int(closed[1]), closed[2])
                continue
            assert got == json.loads(text)


def test_several_turns_run_in_order_and_a_ping_is_answered_meanwhile(
    server: Server, placeholders: dict[str, str]
) -> None:
    case = "pipelined-messages"
    recorded = [json.loads(text) for way, text in frames_of(case) if way == "<" and text[0] == "{"]
    sent = [text for way, text in frames_of(case) if way == ">" and text[0] == "{"]
    got: list[Any] = []
    with connect(server, case, placeholders) as client:
        send_recorded(client, sent[0])
        while not got or got[-1].get("data") != "tok0":
            got.append(client.receive())
        for text in sent[1:]:
            send_recorded(client, text)
        while sum(one["type"] == "end" for one in got) < 2:
            got.append(client.receive())
    pong = got.index({"type": "pong"})
    assert pong < next(at for at, one in enumerate(got) if one["type"] == "complete")
    starts = [one["message_id"] for one in got if one["type"] == "session_id"]
    assert len(starts) == 2
    expected: list[list[Any]] = [[], []]
    turns = list(dict.fromkeys(one["message_id"] for one in recorded if "message_id" in one))
    current = ""
    for one in recorded:
        current = one.get("message_id", current)
        if one["type"] != "pong":
            expected[turns.index(current)].append({**one, "message_id": current})
    for number, run_id in enumerate(starts):
        shown = [one for one in got if one.get("message_id") == run_id]
        assert [one["type"] for one in shown].count("run_started") == 1
        shown = [wire.comparable(one) for one in shown if one["type"] != "run_started"]
        assert shown == [wire.comparable(one) for one in expected[number]]
    rows = wire.stored_rows(server.data_dir, "ws2-4.25.1")
    by_turn = [rows[0], rows[2], rows[1], rows[3]]  # the second was sent before the first reply
    texts = [one["content"]["message"] for one in by_turn]
    recorded_rows = [
        json.loads(json.loads(text[9:])[5])["message"] for text in RECORDED[case]["stored"]
    ]
    assert texts == recorded_rows


def test_the_whole_reply_is_stored_after_the_client_left(
    server: Server, placeholders: dict[str, str]
) -> None:
    case = "disconnect-mid-answer"
    with connect(server, case, placeholders) as client:
        send_recorded(client, frames_of(case)[0][1])
        while client.receive().get("data") != " tok2":
            pass
    rows = wait_for(
        lambda: len(found := wire.stored_rows(server.data_dir, "ws3-4.25.1")) == 2 and found
    )
    assert rows[1]["content"]["message"][0]["text"].endswith(" tok19")


def test_a_pushed_message_has_its_own_id(server: Server, placeholders: dict[str, str]) -> None:
    case = "im-message-into-ws-result"
    push = RECORDED["im-message-into-ws"]
    got: list[Any] = []
    with connect(server, case, placeholders) as client:
        send_recorded(client, frames_of(case)[0][1])
        while not got or got[-1].get("data") != " tok2":
            got.append(client.receive())
        answer = server.request(
            "POST", "/api/v1/im/message", placeholders["KEY_ALL"],
            json=json.loads(push["request_body"]),
        )  # fmt: skip
        assert answer.status == 200
        while got[-1]["type"] != "end":
            got.append(client.receive())
    run_id = got[0]["message_id"]
    pushed = [one for one in got if one["message_id"] != run_id]
    assert [one["type"] for one in pushed] == ["plain", "message_saved"]
    assert pushed[0]["data"] == "PUSHED INTO WS"
    assert pushed[1]["session_id"] == "ws4-4.25.1"
    (complete,) = [one for one in got if one["type"] == "complete"]
    recorded = [json.loads(text) for way, text in frames_of(case) if text[0] == "{" and way == "<"]
    assert complete["data"] == recorded[-3]["data"]
    rows = wire.stored_rows(server.data_dir, "ws4-4.25.1")
    texts = [one["content"]["message"][0]["text"] for one in rows]
    assert texts == ["SLOW please", "PUSHED INTO WS", complete["data"]]


def test_a_frame_that_is_not_json_does_not_end_the_connection(
    server: Server, placeholders: dict[str, str]
) -> None:
    with connect(server, "malformed-json", placeholders) as client:
        for payload in (b"{nope", b"\x00", b"[" * 20_000):
            client.send_frame(TEXT, payload)
            error = client.receive()
            assert (error["type"], error["code"]) == ("error", "INVALID_MESSAGE")
        client.send_frame(BINARY, b"\xff\xfe")
        assert client.receive()["code"] == "INVALID_MESSAGE"
        client.send({"t": "ping"})
        assert client.receive() == {"type": "pong"}


def test_a_fragmented_message_is_one_message(server: Server, placeholders: dict[str, str]) -> None:
    with WebSocketClient(server.connect(), handshake(placeholders["KEY_CHAT"])) as client:
        client.send_frame(TEXT, b'{"t":', final=False)
        client.send_frame(9, b"are you there?")
        client.send_frame(0, b'"ping"}')
        assert client.read_frame() == (10, b"are you there?")
        assert client.receive() == {"type": "pong"}


def test_a_failed_turn_is_reported_and_the_connection_stays_open(
    server: Server, placeholders: dict[str, str]
) -> None:
    with WebSocketClient(server.connect(), handshake(placeholders["KEY_CHAT"])) as client:
        client.send({"username": "alice", "message": "FAIL=401"})
        frames = list(client.iter_turn())
        assert [one["type"] for one in frames[-4:]] == FAILED
        assert frames[-4]["code"] == "provider_error"
        assert frames[-4]["data"] == frames[-3]["data"]
        client.send({"username": "alice", "message": "LONG " + "x" * 300_000})
        text = "".join(one["data"] for one in client.iter_turn() if one["type"] == "plain")
        assert len(text) == 4000


def test_at_most_twenty_turns_run_on_one_connection(
    server: Server, placeholders: dict[str, str]
) -> None:
    with WebSocketClient(server.connect(), handshake(placeholders["KEY_CHAT"])) as client:
        for _ in range(21):
            client.send({"username": "alice", "message": "FIRST=3000 ECHO"})
        frames: list[Any] = []
        while not frames or frames[-1]["type"] != "error":
            frames.append(client.receive())
        assert frames[-1]["code"] == "PROCESSING_ERROR"
        assert frames[-1]["error_code"] == "too_many_turns"
        client.send_frame(CLOSE, b"\x03\xe8")


@pytest.mark.parametrize("asks", [True, False], ids=["that asks again", "that waits"])
def test_a_client_gets_an_error_when_its_key_is_revoked(
    server: Server, module_dir: Path, asks: bool
) -> None:
    from ..servers import create_key_row, run_cli

    row = create_key_row(module_dir, "chat")
    with WebSocketClient(server.connect(), handshake(row["api_key"])) as client:
        client.send({"username": "alice", "message": "hi"})
        assert list(client.iter_turn())[-1]["type"] == "end"
        run_cli("keys", "revoke", row["key_id"], data_dir=module_dir)
        if asks:
            client.send({"username": "alice", "message": "hi"})
        error = client.receive()
        assert (error["code"], error["data"]) == ("UNAUTHORIZED", "Invalid API key")
        assert client.receive() is None
        assert client.closed_with == (1008, "Invalid API key")


def test_a_protocol_violation_closes_the_connection_with_its_code(
    server: Server, placeholders: dict[str, str]
) -> None:
    head = handshake(placeholders["KEY_CHAT"])
    with WebSocketClient(server.connect(), head) as client:
        client.send_raw(b"\x81\x02hi")  # not masked
        assert client.receive() is None
        assert client.closed_with is not None
        assert client.closed_with[0] == 1002
        assert client.is_at_end()
    with WebSocketClient(server.connect(), head) as client:
        for opcode in (TEXT, *[0] * 8):
            client.send_frame(opcode, b" " * 1_000_000, final=False)
        assert client.receive() is None
        assert client.closed_with is not None
        assert client.closed_with[0] == 1009


def test_a_plain_request_gets_426(server: Server, placeholders: dict[str, str]) -> None:
    path = "/api/v1/chat/ws"
    assert server.request("GET", path).status == 401
    assert server.request("GET", path, placeholders["KEY_FILE"]).status == 403
    answer = server.request("GET", path, placeholders["KEY_CHAT"])
    assert (answer.status, answer.json()["code"]) == (426, "upgrade_required")
    head = handshake(placeholders["KEY_CHAT"]).replace("Version: 13", "Version: 8")
    with WebSocketClient(server.connect(), head) as client:
        assert client.status == 426
        assert "Sec-WebSocket-Version: 13" in client.head
    head = handshake(placeholders["KEY_CHAT"]).replace("GET ", "HEAD ", 1)
    with WebSocketClient(server.connect(), head) as client:
        assert client.status == 426


def test_every_recording_is_replayed() -> None:
    elsewhere = {
        "malformed-json", "pipelined-messages", "disconnect-mid-answer", "im-message-into-ws",
        "im-message-into-ws-result",
    }  # fmt: skip
    assert RECORDED.keys() == elsewhere | set(STRAIGHT)
