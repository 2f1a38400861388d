"""All reports of a turn with a plugin's tool, an MCP tool and a built-in tool agree."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from astrbot_api.testing import FakeTelegram

from ..mcp_servers.running import run_sidecar, server_table
from ..servers import Server, add_config, create_key
from ..waiting import wait_for
from .agreeing_app import CALLS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("mcp") is None, reason="the extra mcp is not installed: make test"
    ),
]

ANSWER = "Let me see. They said: Hello Ulla, from far, 42"

_CONFIG = """
[provider]
id = "three"
type = "mock"
[agent]
titles = false
"""

_BOT = """
[[bot]]
id = "tg"
type = "telegram"
token = "{token}"
base_url = "{url}"
"""


class Case:
    """A server with a bot, and its reports of a turn."""

    def __init__(self, server: Server, key: str, telegram: FakeTelegram) -> None:
        self.server = server
        self.key = key
        self.telegram = telegram

    def read_stored(self, session_id: str, username: str) -> list[dict[str, Any]]:
        """Return the parts of a session's newest stored answer."""
        answer = self.server.request(
            "GET",
            f"/api/v1/chat/sessions/{session_id}/messages",
            self.key,
            fields={"username": username},
        )
        assert answer.status == 200, answer.data
        found = orjson.loads(answer.data)["data"]["messages"]
        bots = [one["content"] for one in found if one["content"]["type"] == "bot"]
        parts: list[dict[str, Any]] = bots[-1]["message"]
        return parts


@pytest.fixture(scope="module")
def case(module_dir: Path) -> Iterator[Case]:
    add_config(module_dir, _CONFIG + server_table())
    key = create_key(module_dir, "chat")
    app = "tests.e2e.agreeing_app:create_agreeing_app()"
    with FakeTelegram() as telegram, run_sidecar() as sidecar:
        bot = _BOT.format(token=telegram.token, url=telegram.url)
        (module_dir / "bots.toml").write_text(bot)
        socket = str(sidecar.path)
        with Server(module_dir, app=app, workers=1, ASTRBOT_MCP_SOCKET=socket) as server:
            case = Case(server, key, telegram)
            # The worker gets the MCP server's tools shortly after its start.
            wait_for(lambda: server.chat(key, message="hi")[-3]["data"] == ANSWER)
            yield case


def summarise(parts: list[dict[str, Any]]) -> tuple[list[tuple[str, str, str]], str]:
    """Return the calls (name, arguments, result) and the text of a stored answer."""
    calls = [
        (call["name"], orjson.dumps(call["args"]).decode(), str(call["result"]))
        for part in parts
        if part["type"] == "tool_call"
        for call in part["tool_calls"]
    ]
    text = "".join(part["text"] for part in parts if part["type"] == "plain")
    return calls, text


def test_stream_stored_message_and_messenger_reply_agree(case: Case) -> None:
    expected = [
        (name, arguments, result)
        for (name, arguments), result in zip(CALLS, ("Hello Ulla", "from far", "42"), strict=True)
    ]
    events = case.server.chat(case.key, session_id="room", message="Ask all three")
    called = [orjson.loads(one["data"]) for one in events if one.get("chain_type") == "tool_call"]
    results = {
        found["id"]: found["result"]
        for one in events
        if one.get("chain_type") == "tool_call_result"
        for found in [orjson.loads(one["data"])]
    }
    streamed = [
        (one["name"], orjson.dumps(one["args"]).decode(), results[one["id"]]) for one in called
    ]
    text = "".join(
        one["data"] for one in events if one["type"] == "plain" and one["chain_type"] is None
    )
    assert (streamed, text) == (expected, ANSWER)
    assert summarise(case.read_stored("room", "alice")) == (expected, ANSWER)

    case.telegram.queue(case.telegram.make_update("Ask all three", chat_id=4711))
    (message,) = case.telegram.wait_for_messages(1)
    assert str(message["chat_id"]) == "4711"
    # A messenger shows the texts before and after the tools as paragraphs.
    assert " ".join(message["text"].split()) == ANSWER
    umo = "tg:FriendMessage:4711"
    assert summarise(case.read_stored(umo, umo)) == (expected, ANSWER)
