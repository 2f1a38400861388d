"""Many requests for long answers at once, beside a small request."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ..servers import MOCK_CONFIG, Server, add_config, create_key

pytestmark = pytest.mark.e2e

_TEXT = "ECHO " + "漢" * 600_000


@pytest.fixture(scope="module")
def server(module_dir: Path) -> Iterator[Server]:
    add_config(module_dir, MOCK_CONFIG)
    with Server(module_dir, workers=1) as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server, module_dir: Path) -> str:
    return create_key(module_dir, "chat", "config")


@pytest.fixture(scope="module")
def paths(server: Server, key: str) -> dict[str, str]:
    def post(path: str, **body: Any) -> str:
        return json.loads(server.request("POST", f"/api/v1/openai/{path}", key, json=body).data)[
            "id"
        ]

    conversation = post("conversations")
    response = post("responses", model="default", input=_TEXT, conversation=conversation)
    server.chat(key, username="alice", session_id="s1", message=_TEXT)
    return {
        "response": f"openai/responses/{response}",
        "response stream": f"openai/responses/{response}?stream=true",
        "input items": f"openai/responses/{response}/input_items",
        "conversation items": f"openai/conversations/{conversation}/items",
        "session": "chat/sessions/s1?username=alice",
        "messages": "chat/sessions/s1/messages?username=alice",
    }


@pytest.mark.parametrize(
    "name",
    [
        "response", "response stream", "input items", "conversation items", "session", "messages",
    ],
)  # fmt: skip
def test_a_small_request_waits_for_few_of_many_long_answers(
    server: Server, key: str, paths: dict[str, str], name: str
) -> None:
    asked = f"GET /api/v1/{paths[name]} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode()
    with ExitStack() as stack:
        crowd = [stack.enter_context(server.connect()) for _ in range(100)]
        for one in crowd:
            one.sendall(asked[:-1])
        assert server.request("GET", "/healthz").status == 200  # all connections are accepted
        for one in crowd:
            one.sendall(asked[-1:])
        select.select(crowd, [], [])  # until the first answer has begun
        assert server.request("GET", "/healthz").status == 200
        begun = select.select(crowd, [], [], 0)[0]
    assert len(begun) < 20
