"""The agents as an MCP server. ``tests/clients/test_mcp_client.py`` uses the official client."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from astrbot_api import Tool
from astrbot_api.agent.provider import ModelMessage, TextDelta, ToolCallDelta
from astrbot_api.agent.tools import ToolContext
from astrbot_api.db.models.keys import ApiKey
from astrbot_api.db.models.runs import Run
from astrbot_api.errors import StorageError
from astrbot_api.http.mcp import chat_tool, routes
from astrbot_api.http.mcp import messages as rpc
from astrbot_api.testing import ScriptedModel

from ..waiting import wait_for
from .conftest import Api
from .test_guard_rails import make_key

Make = Callable[..., tuple[Api, ScriptedModel]]

NEWEST = "2026-07-28"
BOTH = "application/json, text/event-stream"


def post(api: Api, body: Any, path: str = "/api/v1/mcp", **headers: str) -> Any:
    sent = {"X-API-Key": api.key, **{name.replace("_", "-"): one for name, one in headers.items()}}
    return api.client.post(path, headers=sent, json=body)


def call(method: str, call_id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}


def chat(message: str = "Hello", **more: Any) -> dict[str, Any]:
    arguments = {"message": message, **more.pop("arguments", {})}
    return call("tools/call", name="chat", arguments=arguments, **more)


def stateless(method: str, **params: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a request of the version without a handshake, and its headers."""
    about = "io.modelcontextprotocol/"
    meta = {about + "protocolVersion": NEWEST, about + "clientCapabilities": {}}
    headers = {"MCP_Protocol_Version": NEWEST, "Mcp_Method": method}
    if method in ("tools/call", "resources/read"):
        headers["Mcp_Name"] = params.get("name") or params["uri"]
    return call(method, **params, _meta={**meta, **params.pop("_meta", {})}), headers


def test_a_client_without_event_streams_gets_one_object(api: Api) -> None:
    answer = post(api, chat(arguments={"session_id": "s"}))
    assert answer.mimetype == "application/json"
    result = answer.get_json()["result"]
    assert result["structuredContent"]["text"] == "Hello from mock."
    assert result["structuredContent"]["session_id"] == "s"
    assert result["isError"] is False


def test_progress_is_sent_on_request(api: Api) -> None:
    plain = post(api, chat(), Accept=BOTH).get_data().decode()
    assert "notifications/progress" not in plain
    told = post(api, chat(_meta={"progressToken": "p"}), Accept=BOTH).get_data().decode()
    lines = [json.loads(one[6:]) for one in told.split("\n\n") if one.startswith("data: ")]
    *news, last = lines
    assert {one["params"]["progressToken"] for one in news} == {"p"}
    steps = [one["params"]["progress"] for one in news]
    assert steps == sorted(set(steps))
    assert last["result"]["content"][0] == {"type": "text", "text": "Hello from mock."}


def test_a_model_that_sees_only_the_content_can_continue_the_conversation(api: Api) -> None:
    """Continue's CLI and openai-agents give their model the texts, not the structured content."""
    first = post(api, chat()).get_json()["result"]
    answer, others = [one["text"] for one in first["content"]]
    assert answer == "Hello from mock."
    assert json.loads(others) == {"session_id": first["structuredContent"]["session_id"]}


def test_tools_are_progress_and_their_files_are_attachments(make_scripted: Make) -> None:
    def answer(messages: list[ModelMessage]) -> Any:
        done = messages[-1]["role"] == "tool"
        return "Done." if done else [ToolCallDelta(0, "c1", "draw", "{}")]

    def draw(arguments: Any, context: ToolContext) -> str:
        context.send_file(b"x", "plan.txt")
        return "drawn"

    api, _ = make_scripted(answer, tools=[Tool("draw", "Draw.", draw)])
    shown = post(api, chat(_meta={"progressToken": 1}), Accept=BOTH).get_data().decode()
    *news, last = [json.loads(one[6:]) for one in shown.split("\n\n") if one.startswith("data: ")]
    assert "".join(one["params"]["message"] for one in news) == "[draw]\nDone."
    (file,) = last["result"]["structuredContent"]["attachments"]
    assert file["filename"] == "plan.txt"
    assert json.loads(last["result"]["content"][1]["text"])["attachments"] == [file]


def test_attachments_are_sent_whole_even_if_no_text_fits(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_tool, "MAX_LINE_BYTES", 100)
    result = post(api, chat()).get_json()["result"]["structuredContent"]
    assert (result["text"], result["truncated"]) == ("", True)


def test_a_long_answer_is_cut_to_one_line(make_scripted: Make) -> None:
    api, _ = make_scripted("漢" * 200_000)
    answer = post(api, chat(_meta={"progressToken": 1}), Accept=BOTH).get_data()
    assert max(map(len, answer.split(b"\n"))) < 256 * 1024
    last = json.loads(answer.split(b"\n\n")[-2][6:])
    assert last["result"]["structuredContent"]["truncated"] is True


class Waiting:
    """A model that waits until its turn is stopped."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)

    def __call__(self, messages: list[ModelMessage]) -> Any:
        yield "one"
        self.asked.release()
        yield threading.Event()


def begin(api: Api, call_id: Any, path: str = "/api/v1/mcp", **more: Any) -> threading.Thread:
    body = {**chat(arguments=more), "id": call_id}
    thread = threading.Thread(target=lambda: post(api, body, path, Accept=BOTH).get_data())
    thread.start()
    return thread


def cancel(api: Api, request_id: Any, **query: str) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    path = "/api/v1/mcp" + "".join(f"?{name}={one}" for name, one in query.items())
    assert post(api, {**note, "params": {"requestId": request_id}}, path).status_code == 202


def count_asked_to_stop(api: Api) -> int:
    """Return how many runs were asked to stop. A run ends only some time later."""
    with api.state.db.read() as db:
        return int(Run.select().where(Run.stop_requested_at.is_null(False)).count(db))


@pytest.mark.parametrize("call_id", [0, 7, "x7", 'a"b%_\\'])
def test_a_client_cancels_its_own_call(make_scripted: Make, call_id: Any) -> None:
    model = Waiting()
    api, _ = make_scripted(model)
    thread = begin(api, call_id)
    assert model.asked.acquire(timeout=30)
    other = str(call_id) if isinstance(call_id, int) else call_id.swapcase()
    for wrong in (other, None, [], "none"):
        cancel(api, wrong)
    cancel(api, call_id, username="another")
    assert count_asked_to_stop(api) == 0
    cancel(api, call_id)
    assert count_asked_to_stop(api) == 1
    thread.join(30)
    assert not thread.is_alive()


def test_a_call_is_found_among_those_of_other_users_with_its_id(make_scripted: Make) -> None:
    model = Waiting()
    api, _ = make_scripted(model)
    users = ("alice", "bob", "carol")
    threads = [begin(api, 1, f"/api/v1/mcp?username={user}") for user in users]
    for _ in threads:
        assert model.asked.acquire(timeout=30)
    for asked, user in enumerate(users, start=1):
        cancel(api, 1, username=user)
        assert count_asked_to_stop(api) == asked
    for thread in threads:
        thread.join(30)


def test_a_cancellation_that_names_two_calls_stops_neither(make_scripted: Make) -> None:
    model = Waiting()
    api, _ = make_scripted(model)
    threads = [begin(api, 3, session_id=one) for one in "ab"]
    for _ in threads:
        assert model.asked.acquire(timeout=30)
    cancel(api, 3)
    assert count_asked_to_stop(api) == 0
    with api.state.db.read() as db:
        found = [one for (one,) in Run.select(Run.run_id).tuples().execute(db)]
    api.state.chat.runs.stop(found)
    for thread in threads:
        thread.join(30)


def test_a_handshake_negotiates_a_version(api: Api) -> None:
    for asked, agreed in (("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")):
        result = post(api, call("initialize", protocolVersion=asked)).get_json()["result"]
        assert result["protocolVersion"] == agreed
        assert set(result["capabilities"]) == {"tools", "resources"}
    assert post(api, call("ping", "a" * 255)).get_json()["result"] == {}
    for unanswered in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
    ):
        done = post(api, unanswered)
        assert (done.status_code, done.get_data()) == (202, b"")


def test_a_stateless_request_is_checked_against_its_headers(api: Api) -> None:
    body, headers = stateless("server/discover")
    result = post(api, body, **headers).get_json()["result"]
    assert NEWEST in result["supportedVersions"]
    assert (result["resultType"], result["cacheScope"]) == ("complete", "private")
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "astrbot-api"
    for wrong in ({"Mcp_Method": "ping"}, {"MCP_Protocol_Version": "2025-13-01"}):
        refused = post(api, body, **{**headers, **wrong})
        error = refused.get_json()
        assert (refused.status_code, error["id"], "error" in error) == (400, body["id"], True)
    assert error["error"]["data"] == {"supported": list(rpc.VERSIONS), "requested": "2025-13-01"}
    body, headers = stateless("tools/call", name="chat", arguments={"message": "Hello"})
    for wrong in ("else", "=?base64?Y2hhd?=", "=?base64?\xe9?="):
        refused = post(api, body, **{**headers, "Mcp_Name": wrong})
        assert refused.get_json()["error"]["code"] == -32020
    answer = post(api, body, **{**headers, "Mcp_Name": "=?base64?Y2hhdA==?="})
    assert answer.get_json()["result"]["resultType"] == "complete"
    for method in ("initialize", "ping"):
        body, headers = stateless(method)
        assert post(api, body, **headers).status_code == 404
    body, headers = stateless("resources/read", uri="astrbot://sessions/nobody")
    assert post(api, body, **headers).get_json()["error"]["code"] == -32602


def test_a_stateless_request_names_its_version_in_the_body(api: Api) -> None:
    body, headers = stateless("tools/list")
    version = "io.modelcontextprotocol/protocolVersion"
    for meta, code in (
        (None, -32602), ({version: NEWEST}, -32602),
        ({**body["params"]["_meta"], version: "2025-11-25"}, -32020),
    ):  # fmt: skip
        refused = post(api, {**body, "params": {"_meta": meta}}, **headers)
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, code)


def test_a_disconnected_stateless_client_stops_the_turn(make_scripted: Make) -> None:
    go_on = threading.Event()
    api, _ = make_scripted([TextDelta("Let me "), go_on, TextDelta("see.")])
    body, headers = stateless("tools/call", name="chat", arguments={"message": "Hello"})
    answer = post(api, body, Accept=BOTH, **headers)
    run_id = answer.headers["X-Run-ID"]
    answer.close()
    path = f"/api/v1/chat/runs/{run_id}"
    wait_for(lambda: api.get(path).get_json()["data"]["status"] == "stopped")


@pytest.mark.parametrize("version", [rpc.BATCH_VERSION, NEWEST])
def test_a_disconnect_stops_the_turn_of_a_stateless_client_without_event_streams(
    make_scripted: Make, version: str
) -> None:
    model = Waiting()
    api, _ = make_scripted(model, heartbeat_s=0.05)
    body, headers = chat(), {}
    if version == NEWEST:
        body, headers = stateless("tools/call", name="chat", arguments={"message": "Hello"})
    client, connection = socket.socketpair()
    sent = {"X-API-Key": api.key, **{name.replace("_", "-"): one for name, one in headers.items()}}
    with ThreadPoolExecutor() as pool, connection:
        posted = pool.submit(
            api.client.post, "/api/v1/mcp", headers=sent, json=body,
            environ_overrides={"gunicorn.socket": connection},
        )  # fmt: skip
        assert model.asked.acquire(timeout=30)
        client.close()
        result = posted.result(30).get_json()["result"]
    assert "disconnected" in result["content"][0]["text"]
    assert count_asked_to_stop(api) == (version == NEWEST)


def test_a_stopping_worker_stops_no_turn_of_a_stateless_client(make_scripted: Make) -> None:
    go_on = threading.Event()
    api, _ = make_scripted([TextDelta("Let me "), go_on, TextDelta("see.")])
    body, headers = stateless("tools/call", name="chat", arguments={"message": "Hello"})
    answer = post(api, body, Accept=BOTH, **headers)
    api.state.chat.runs.end_streams()
    assert "The turn continues" in answer.get_data(as_text=True)
    answer.close()
    go_on.set()
    assert api.state.chat.runs.wait_until_idle(30)
    run = api.get(f"/api/v1/chat/runs/{answer.headers['X-Run-ID']}").get_json()["data"]
    assert run["status"] == "completed"


@pytest.mark.parametrize("body", [[], [7], call("ping")])
def test_an_invalid_idempotency_key_is_refused_for_any_body(api: Api, body: Any) -> None:
    refused = post(api, body, Idempotency_Key="é")
    assert (refused.status_code, "Idempotency-Key" in refused.text) == (400, True)


def test_only_one_version_supports_batches(api: Api) -> None:
    batch = [call("ping", 1), {"jsonrpc": "2.0", "method": "x"}, call("nothing", 2), 7]
    answers = post(api, batch).get_json()
    assert [one["id"] for one in answers] == [1, 2, None]
    assert [one.get("error", {}).get("code") for one in answers] == [None, -32601, -32600]
    assert post(api, [{"jsonrpc": "2.0", "method": "x"}]).status_code == 202
    for refused in (
        post(api, batch, MCP_Protocol_Version="2025-06-18"),
        post(api, []),
        post(api, [call("ping")] * 21),
    ):
        assert refused.status_code == 400


def test_each_message_of_a_batch_counts_as_a_request(api: Api) -> None:
    limited = Api(api.app, key=make_key(api, requests_per_minute=4))
    assert post(limited, [call("ping", 1), call("ping", 2)]).status_code == 200
    answers = post(limited, [call("ping", number) for number in (1, 2, 3)]).get_json()
    assert [one.get("error", {}).get("code") for one in answers] == [None, None, rpc.REFUSED]
    assert "requests_per_minute" in answers[2]["error"]["message"]


def test_a_batch_ends_with_its_key(make_scripted: Callable[..., Any]) -> None:
    """Its turns may take hours."""

    def answer(messages: list[ModelMessage]) -> str:
        # Not keys.revoke_key, which also stops this turn.
        api.state.db.write(lambda db: ApiKey.update(revoked_at=1).execute(db))
        return "Hello"

    api, model = make_scripted(answer)
    batch = [call("tools/call", at, name="chat", arguments={"message": "hi"}) for at in (1, 2)]
    first, second = post(api, batch).get_json()
    assert first["result"]["content"][0]["text"] == "Hello"
    assert second["error"]["message"] == "Invalid API key"
    assert len(model.seen) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (7, -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": 1}, -32600),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": "a" * 256, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}, -32602),
        (call("prompts/list"), -32601),
        (call("tools/call", name="else"), -32602),
        (call("tools/call", name="chat", arguments=[]), -32602),
        (call("resources/list", cursor="x"), -32602),
        (call("resources/read"), -32602),
        (call("resources/read", uri="astrbot://sessions/nobody"), -32002),
        (call("resources/read", uri="file:///etc/passwd"), -32002),
        (call("resources/read", uri="astrbot://sessions/a%00b"), -32002),
    ],
)
def test_an_invalid_request_gets_an_error_of_the_protocol(api: Api, body: Any, code: int) -> None:
    answer = post(api, body)
    assert answer.get_json()["error"]["code"] == code
    assert answer.status_code in (200, 400)


def test_invalid_json_is_a_parse_error(api: Api) -> None:
    for sent in (b"{", b"[" * 10_000):
        answer = api.post_raw(sent, path="/api/v1/mcp")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, -32700)


def test_a_rejected_turn_is_an_error_of_the_tool(api: Api) -> None:
    for arguments in (
        {"config_id": "nowhere"}, {"message": " "}, {"message": 7}, {"session_id": []},
        {"session_id": "a\0b"},
    ):  # fmt: skip
        result = post(api, chat(arguments=arguments)).get_json()["result"]
        assert result["isError"] is True
    post(api, chat(arguments={"session_id": "s"}), "/api/v1/mcp?username=alice")
    other = post(api, chat(arguments={"session_id": "s"}), "/api/v1/mcp?username=bob").get_json()
    assert "session_of_another_user" in other["result"]["content"][0]["text"]


def test_only_their_user_reads_sessions_page_by_page(api: Api) -> None:
    alice = "/api/v1/mcp?username=alice"
    for number in range(51):
        post(api, chat(arguments={"session_id": f"s{number}"}), alice)
    for number in range(30):
        post(api, chat(f"m{number}", arguments={"session_id": "s0"}), alice)
    first = post(api, call("resources/list"), alice).get_json()["result"]
    rest = post(api, call("resources/list", cursor=first["nextCursor"]), alice).get_json()["result"]
    assert (len(first["resources"]), len(rest["resources"])) == (50, 1)
    assert "nextCursor" not in rest
    assert post(api, call("resources/list")).get_json()["result"]["resources"] == []
    uri = "astrbot://sessions/s0"
    page = read_text(post(api, call("resources/read", uri=uri), alice))
    assert page["messages"][-1]["text"] == "Hello from mock."
    earlier = call("resources/read", uri=f"{uri}?before={page['before']}")
    before = read_text(post(api, earlier, alice))
    assert len(page["messages"]) + len(before["messages"]) == 62
    assert before["before"] is None
    none = read_text(post(api, call("resources/read", uri=f"{uri}?before=1"), alice))
    assert (none["messages"], none["before"]) == ([], None)
    bound = Api(api.app, key=make_key(api, session_id="s1"))
    for reader, path, wrong in (
        (api, "/api/v1/mcp?username=bob", uri), (bound, alice, uri), (api, alice, "s0"),
        (api, alice, f"{uri}?before=x"), (api, alice, f"{uri}?before={2**63}"),
    ):  # fmt: skip
        missing = post(reader, call("resources/read", uri=wrong), path).get_json()
        assert missing["error"]["code"] == -32002
    (listed,) = [
        one["name"]
        for cursor in ("1", "2")
        for one in post(bound, call("resources/list", cursor=cursor), alice).get_json()["result"][
            "resources"
        ]
    ]
    assert listed == "s1"


def read_text(answer: Any) -> Any:
    return json.loads(answer.get_json()["result"]["contents"][0]["text"])


def test_pages_of_other_sites_are_rejected_unless_a_setting_allows_them(
    make_api: Callable[..., Api],
) -> None:
    api = make_api(ASTRBOT_CORS_ORIGINS="https://shop.example.com")
    for origin, status in (
        ("https://evil.example.com", 403), ("null", 403), ("http://[", 403),
        ("http://localhost", 200),
        ("https://shop.example.com", 200),
    ):  # fmt: skip
        assert post(api, call("ping"), Origin=origin).status_code == status


def test_only_post_is_supported(api: Api) -> None:
    for method in ("get", "delete"):
        answer = getattr(api.client, method)("/api/v1/mcp", headers={"X-API-Key": api.key})
        assert answer.status_code == 405
        assert "POST" in answer.headers["Allow"]


def test_a_rejected_request_is_an_error_of_both_protocols(api: Api) -> None:
    answer = api.client.post("/api/v1/mcp", json=call("ping"), headers={"X-API-Key": "abk_x"})
    body = answer.get_json()
    assert (answer.status_code, body["code"]) == (401, "invalid_api_key")
    assert (body["jsonrpc"], body["id"]) == ("2.0", None)
    assert body["error"] == {"code": -32000, "message": "Invalid API key"}


def test_an_unavailable_database_is_an_error_of_both_protocols(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(routes, "list_resources", fail)
    answer = post(api, call("resources/list"))
    body = answer.get_json()
    assert (answer.status_code, body["code"]) == (503, "storage_error")
    assert body["error"] == {"code": -32000, "message": "the disk is full"}
