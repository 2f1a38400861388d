"""Behaviour of all clients of ``clients/``. Each test is a row in the table of its README.

The first line of a test's docstring is the text of its row.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI
from astrbot_api.testing.odd_network import CuttingProxy, ScriptedServer, answer, stream

from ..nginx import FrontedServer
from ..servers import Server, create_key, write_config
from ..waiting import wait_for
from .driving import CLIENTS, Driver

pytestmark = pytest.mark.e2e

RUN = "7254cd9a-814f-498e-a202-2c1777b1bd2d"

#: A header that AstrBot does not send. Clients recognise this server by it.
OURS = {"X_Request_ID": "r1"}


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url, agent="titles = false")
    careful = 'titles = false\n[tools]\napprove = ["calculate"]'
    write_config(module_dir, fake_model.base_url, name="careful", agent=careful)
    with Server(module_dir, ASTRBOT_WORKER_LEASE_S="2") as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server, module_dir: Path) -> str:
    return create_key(module_dir, "chat", "file", "im")


@pytest.fixture(scope="module", params=CLIENTS)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    driver = Driver(request.param, tmp_path_factory.mktemp("driver"))
    yield driver
    driver.close()


def frame(number: int | None, kind: str, data: Any = "", **more: Any) -> str:
    """Return a frame. Without a number it has no id, like AstrBot's frames."""
    line = json.dumps({"type": kind, "data": data, **more}, separators=(",", ":"))
    return f"data: {line}" + (f"\nid: {number}" if number is not None else "")


def begin(numbered: bool = True) -> list[str]:
    numbers = (1, 2) if numbered else (None, None)
    return [
        frame(numbers[0], "session_id", None, session_id="s1"),
        frame(numbers[1], "run_started", {"run_id": RUN}, message_id=RUN),
    ]


def plain(number: int | None, text: str, message_id: str = RUN) -> str:
    return frame(number, "plain", text, chain_type=None, message_id=message_id)


def test_streams(client: Driver, server: Server, key: str) -> None:
    """Streams typed events, and returns the reply: text, reasoning, numbers, tokens"""
    # With the path, as the server's first lines show it.
    got = client.run("chat", f"{server.url}/api/v1/", key, message="THINK Hello")
    assert "".join(got["deltas"]) == "Hello from mock."
    assert len(got["deltas"]) == 4
    assert got["numbers"] == list(range(1, len(got["numbers"]) + 1))
    assert [one["type"] for one in got["raw"][:3]] == [
        "session_id", "user_message_saved", "run_started",
    ]  # fmt: skip
    reply = got["reply"]
    assert (reply["text"], reply["reasoning"]) == ("Hello from mock.", "Let me think about it.")
    assert reply["message_id"]
    assert reply["stats"]["token_usage"]["output"] == 4


def test_tools(client: Driver, server: Server, key: str) -> None:
    """Returns tool calls with their arguments and results"""
    message = 'TOOL=calculate TOOLARGS={"expression":"6*7"}'
    got = client.run("chat", server.url, key, message=message)
    [call] = got["reply"]["tool_calls"]
    assert (call["name"], call["arguments"]) == ("calculate", {"expression": "6*7"})
    assert "42" in call["result"]


def test_refusals(client: Driver, server: Server, key: str, module_dir: Path) -> None:
    """Raises errors with status, code and the server's message"""
    wrong = client.fail("text", server.url, "abk_wrong", message="Hello")
    assert (wrong["status"], wrong["code"]) == (401, "invalid_api_key")
    narrow = client.fail("text", server.url, create_key(module_dir, "file"), message="Hello")
    assert (narrow["status"], narrow["code"]) == (403, "insufficient_scope")
    empty = client.fail("text", server.url, key, message=[])
    assert empty["status"] == 400
    assert client.run("self", server.url, key) == ["chat", "file", "im"]


def test_failed_turns(client: Driver, server: Server, key: str) -> None:
    """Raises the code of a failed turn, with the text so far"""
    failed = client.fail("text", server.url, key, message="DROP=2 Hello")
    assert (failed["kind"], failed["code"]) == ("TurnFailed", "provider_error")
    assert "from" in failed["reply"]["text"] or failed["reply"]["text"].startswith("Hello")


def test_cut_connections(client: Driver, server: Server, key: str) -> None:
    """Reads 1,000 tokens through a proxy that cuts each connection after 2 KB, byte for byte"""
    with CuttingProxy(server.port, 2048) as proxy:
        got = client.run("chat", proxy.url, key, message="N=1000 Hello")
        assert proxy.connections > 20
    whole = server.chat(key, message="N=1000 Hello")[-3]["data"]
    said = "".join(got["deltas"])
    assert said == whole
    assert got["reply"]["text"] == said
    assert got["numbers"] == list(range(1, len(got["numbers"]) + 1))
    assert [one["type"] for one in got["raw"][-3:]] == ["complete", "message_saved", "end"]


def test_asked_once(client: Driver, server: Server, key: str) -> None:
    """Asks a question once, if the connection breaks before the first byte"""
    session = f"once-{id(client)}"
    with CuttingProxy(server.port, 0, cuts=2) as proxy:
        text = client.run("text", proxy.url, key, message="Hello", session_id=session)
    assert text == "Hello from mock."
    path = f"/api/v1/chat/sessions/{session}/messages?order=asc&username=alice"
    listed = json.loads(server.request("GET", path, key).data)["data"]["messages"]
    assert [one["content"]["type"] for one in listed] == ["user", "bot"]


def test_server_away(client: Driver) -> None:
    """Raises a clear error if the server stays unreachable"""
    with ScriptedServer([b""]) as gone:
        url = gone.url
    failed = client.fail("text", url, "abk_x", message="Hello", retry_s=0.5)
    assert failed["kind"] == "ConnectionLost"


def test_killed_worker(client: Driver, tmp_path: Path, fake_model: FakeOpenAI) -> None:
    """Returns the stored reply if a worker is killed during the turn"""
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, ASTRBOT_WORKER_LEASE_S="1") as server:
        key = create_key(tmp_path, "chat")
        client.send(
            "chat", server.url, key, message="DELAY=100 N=30 x", session_id="k", say_started=True
        )
        assert client.read() == {"started": True}
        for worker in server.list_workers():
            os.kill(worker, signal.SIGKILL)
        while (got := client.read()) == {"started": True}:
            pass
        stored = json.loads(
            server.request(
                "GET", "/api/v1/chat/sessions/k/messages?order=asc&username=alice", key
            ).data
        )["data"]["messages"]
    kept = "".join(one.get("text", "") for one in stored[-1]["content"]["message"])
    assert got["ok"]["reply"]["text"] == kept
    assert got["ok"]["raw"][-1]["type"] == "end"
    assert got["ok"]["numbers"] == sorted(set(got["ok"]["numbers"]))


def test_resume(client: Driver, server: Server, key: str) -> None:
    """Resumes a closed stream after its last event, also from another program"""
    left, rest = client.run("resume", server.url, key, message="N=30 DELAY=5 x")
    assert rest["numbers"][0] == left["last"] + 1
    whole = "".join([*left["deltas"], *rest["deltas"]])
    assert whole.split() == [f"tok{at}" for at in range(30)]


def test_resume_after_what_was_read(client: Driver) -> None:
    """Resumes after the last event that was read, not the last one that was received"""
    whole = stream(*begin(), plain(3, "one "), plain(4, "two "), plain(5, "three"), **OURS)
    with ScriptedServer([whole]) as server:
        got = client.run("chat", server.url, "abk_x", message="Hello", leave=True)
    assert (got["deltas"], got["last"]) == (["one "], 3)


def test_silent_longer_than_retries(client: Driver) -> None:
    """Resumes a stream that broke after a silence longer than the time for retries"""
    cut = stream(*begin(), plain(3, "one "), **OURS)
    silent = stream(": heartbeat", **OURS)
    rest = stream(plain(4, "two"), frame(5, "end"), **OURS)
    with ScriptedServer([cut, silent, rest]) as server:
        got = client.run("text", server.url, "abk_x", message="Hello", retry_s=1e-6)
    assert got == "one two"


def test_stop(client: Driver, server: Server, key: str) -> None:
    """Stops a turn; its stream ends with the text so far"""
    got = client.run("chat", server.url, key, message="N=400 DELAY=50 x", stop=True)
    assert [one["type"] for one in got["raw"][-3:]] == ["complete", "message_saved", "end"]
    assert "tok399" not in got["reply"]["text"]


def test_files(client: Driver, server: Server, key: str) -> None:
    """Uploads files with progress and downloads them byte for byte, also through that proxy"""
    with CuttingProxy(server.port, 40_000, cuts=3) as proxy:
        got = client.run("files", proxy.url, key, size=150_000)
    assert got == {"same": True, "last": True, "filename": "a.bin"}


def test_large_files(client: Driver, server: Server, key: str) -> None:
    """Uploads large files in chunks, and only the missing ones after an interruption"""
    size, chunk = 9 * 2**20 + 5, 2**20
    with CuttingProxy(server.port, 0, cuts=3) as proxy:
        got = client.run("large", proxy.url, key, size=size, stop_at=4 * chunk)
    assert got == {"same": True, "first": 4 * chunk, "last": size, "filename": "large.bin"}


def test_sessions(client: Driver, server: Server, key: str) -> None:
    """Creates, lists, reads, renames and deletes sessions"""
    got = client.run("sessions", server.url, key, username=f"u{id(client)}", count=101)
    assert got == {
        "made": 101, "listed": 101, "messages": ["user", "bot"], "display_name": "Title",
    }  # fmt: skip


def test_inbox(client: Driver, server: Server, key: str) -> None:
    """Reads each pushed message of the inbox once, across broken connections"""
    session = f"inbox-{id(client)}"
    server.chat(key, message="Hello", session_id=session)
    umo = f"webchat:FriendMessage:webchat!alice!{session}"
    messages = [f"news {at} " + "x" * 300 for at in range(8)]
    with CuttingProxy(server.port, 2048) as proxy:
        assert client.run("inbox", proxy.url, key, umo=umo, messages=messages) == messages


def test_retry_after(client: Driver) -> None:
    """Waits for the time of Retry-After"""
    busy = answer(
        b'{"status":"error","code":"server_busy","message":"busy","data":null}',
        status=503, Retry_After="1", **OURS,
    )  # fmt: skip
    whole = stream(*begin(), plain(3, "Hi"), frame(4, "end"), **OURS)
    with ScriptedServer([busy, whole]) as server:
        assert client.run("text", server.url, "abk_x", message="Hello") == "Hi"
    first, second = server.requests
    assert second.at - first.at >= 1
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_rewind(client: Driver) -> None:
    """Removes the text that a rewind event takes back"""
    whole = stream(
        *begin(), plain(3, "Right. "), plain(4, "Wrong.\U0001f600"),
        frame(5, "rewind", {"chars": 7}), plain(6, "Better."), frame(7, "end"), **OURS,
    )  # fmt: skip
    with ScriptedServer([whole]) as server:
        got = client.run("chat", server.url, "abk_x", message="Hello")
    assert got["reply"]["text"] == "Right. Better."


def test_rewind_again(client: Driver) -> None:
    """Removes a whole step that is repeated after its worker died"""
    thought = {"type": "plain", "data": "Hm.", "chain_type": "reasoning", "message_id": RUN}
    whole = stream(
        *begin(), plain(3, "Let me see. "), f"id: 4\ndata: {json.dumps(thought)}\n\n",
        plain(5, "It is"), frame(6, "rewind", {"to": 3, "chars": 5, "reasoning_chars": 3,
                                               "again": True}),
        plain(7, "It is six."), frame(8, "end"), **OURS,
    )  # fmt: skip
    with ScriptedServer([whole]) as server:
        got = client.run("chat", server.url, "abk_x", message="Hello")
    assert (got["reply"]["text"], got["reply"]["reasoning"]) == ("Let me see. It is six.", "")


def test_pushed_messages(client: Driver) -> None:
    """Marks a pushed message, and keeps it out of the reply"""
    whole = stream(
        *begin(), plain(3, "My "), plain(None, "News!", "other"),
        frame(None, "message_saved", {"id": 9}), plain(4, "answer"),
        frame(5, "message_saved", {"id": 10}), frame(6, "end"), **OURS,
    )  # fmt: skip
    with ScriptedServer([whole]) as server:
        got = client.run("chat", server.url, "abk_x", message="Hello")
    assert (got["reply"]["text"], got["reply"]["message_id"]) == ("My answer", 10)
    assert [one["type"] for one in got["pushed"]] == ["plain", "message_saved"]


def test_odd_streams(client: Driver) -> None:
    """Tolerates unknown events, comments, U+2028, CRLF and data that is not JSON"""
    body = "\r\n\r\n".join(
        [": hi", *(one.replace("\n", "\r\n") for one in begin()), "data: nonsense",
         frame(3, "novelty", {"a": 1}).replace("\n", "\r\n"),
         f'data:{{"type":"plain","data":"a\u2028b\x85全","chain_type":null,"message_id":"{RUN}"}}',
         frame(None, "end", message_id=RUN), ""]
    ).encode()  # fmt: skip
    odd = answer(body, kind="text/event-stream", length=False)
    with ScriptedServer([odd]) as server:
        got = client.run("chat", server.url, "abk_x", message="Hello")
    assert "novelty" in [one["type"] for one in got["raw"]]
    assert "".join(one["data"] for one in got["raw"] if one["type"] == "plain") == "a\u2028b\x85全"


def test_an_astrbot_streams(client: Driver) -> None:
    """AstrBot: continues a broken stream without event numbers from its snapshot"""
    first = stream(*begin(False), plain(None, "Hello "))
    content = {"type": "bot", "message": [{"type": "plain", "text": "Hello dear "}]}
    rest = stream(
        frame(None, "run_snapshot", {"content": content, "status": "running"}, message_id=RUN),
        plain(None, "world"), frame(None, "complete", "Hello dear world", message_id=RUN),
        frame(None, "end", message_id=RUN),
    )  # fmt: skip
    with ScriptedServer([first, rest]) as server:
        got = client.run("chat", server.url, "abk_x", message="Hello")
    assert got["deltas"] == ["Hello ", "dear ", "world"]
    assert got["reply"]["text"] == "Hello dear world"


def test_an_astrbot_errors(client: Driver) -> None:
    """AstrBot: raises clear errors for errors with status 200 and missing routes"""
    wrong = answer(b'{"status":"error","message":"Missing key: username","data":null}')
    with ScriptedServer([wrong]) as server:
        failed = client.fail("text", server.url, "abk_x", message="Hello")
    assert failed["message"] == "Missing key: username"
    missing = answer(b"<h1>Not Found</h1>", status=404, kind="text/html")
    with ScriptedServer([missing]) as server:
        failed = client.fail("self", server.url, "abk_x")
    assert failed["kind"] == "UnsupportedError"
    assert "does not have GET /api/v1/keys/self" in failed["message"]


def test_an_astrbot_is_not_asked_twice(client: Driver) -> None:
    """AstrBot: does not repeat a question that may have arrived"""
    missing = answer(b'{"status":"error","message":"Not Found"}', status=404)
    with ScriptedServer([b"", missing]) as server:
        failed = client.fail("text", server.url, "abk_x", message="Hello")
        assert [one.method for one in server.requests] == ["POST", "GET"]
    assert failed["kind"] == "ConnectionLost"
    assert "not sent again" in failed["message"]


@pytest.mark.parametrize("name", CLIENTS)
def test_nginx(name: str, tmp_path: Path, fake_model: FakeOpenAI) -> None:
    """Works behind nginx with TLS, also if nginx returns 502 during a restart"""
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with FrontedServer(tmp_path, workers=1, ASTRBOT_WORKER_LEASE_S="1") as server:
        key = create_key(tmp_path, "chat", "file")
        certificate = str(server.nginx.certificate)
        trust = {"SSL_CERT_FILE": certificate, "NODE_EXTRA_CA_CERTS": certificate}
        driver = Driver(name, tmp_path, **trust)
        try:
            job = {"message": "DELAY=20 N=60 x", "say_started": True}
            driver.send("chat", server.url, key, **job)
            assert driver.read() == {"started": True}
            [worker] = server.list_workers()
            os.kill(worker, signal.SIGKILL)
            wait_for(lambda: server.list_workers() not in ([], [worker]))
            while (got := driver.read()) == {"started": True}:
                pass
            assert got["ok"]["raw"][-1]["type"] == "end"
            assert driver.run("files", server.url, key, size=150_000)["same"]
        finally:
            driver.close()


@pytest.mark.parametrize(
    ("decision", "result"),
    [("approve", "4"), ("edit", "9"), ("reject", "not today")],
)
def test_decides(client: Driver, server: Server, key: str, decision: str, result: str) -> None:
    """Approves, edits or rejects a waiting tool call, and continues the turn"""
    asked, reply = client.run(
        "decide", server.url, key, decision=decision,
        message='TOOL=calculate TOOLARGS={"expression":"2+2"}',
        **{"edit": {"arguments": {"expression": "3*3"}}, "reject": {"comment": "not today"}}.get(
            decision, {}
        ),
    )  # fmt: skip
    assert asked == [["calculate", {"expression": "2+2"}]]
    assert result in reply["tool_calls"][0]["result"]
    assert reply["error"] is None
    assert len(reply["tool_calls"]) == 1


def test_decides_during_the_end(client: Driver) -> None:
    """Continues after a decision that overtook the server's answer that nothing follows"""
    call = {"id": "a1", "tool": "pay", "arguments": {}, "expires_at": ""}
    asked = stream(*begin(), frame(3, "approval_required", call, message_id=RUN), **OURS)
    rest = stream(plain(4, "paid"), frame(5, "end", message_id=RUN), **OURS)
    decided = answer(b'{"status":"ok","message":null,"data":{}}')
    with ScriptedServer([asked, decided, answer(b"", status=204), rest]) as server:
        _, reply = client.run(
            "decide", server.url, "abk_x", message="Hello", decision="approve", inside=True
        )
    assert (reply["text"], reply["waiting"]) == ("paid", [])


def test_asked_again(client: Driver) -> None:
    """Lists a waiting call once, even if it is requested again after its worker died"""
    call = {"id": "a1", "tool": "pay", "arguments": {"amount": 4}, "expires_at": ""}
    asked = [frame(number, "approval_required", call, message_id=RUN) for number in (3, 4)]
    with ScriptedServer([stream(*begin(), *asked, **OURS), answer(b"", status=204)]) as server:
        got = client.run("chat", server.url, "abk_x", message="Hello")
        assert got["reply"]["waiting"] == [{"id": "a1", "name": "pay", "arguments": {"amount": 4}}]
    with ScriptedServer([stream(*begin(), *asked, **OURS), answer(b"", status=204)]) as server:
        failure = client.fail("text", server.url, "abk_x", message="Hello")
    assert (failure["kind"], failure["code"]) == ("TurnFailed", "approval_required")
