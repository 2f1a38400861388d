"""Tools run concurrently on a real worker, and are abandoned if they never return."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, create_key, write_config
from .tool_app import MEETING

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(module_dir: Path, fake_model: FakeOpenAI) -> Iterator[Server]:
    write_config(module_dir, fake_model.base_url, agent="titles = false")
    app = "tests.e2e.tool_app:create_tool_app()"
    with Server(module_dir, app=app, workers=1) as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server, module_dir: Path) -> str:
    return create_key(module_dir, "chat")


def _results(events: list[dict[str, Any]]) -> list[str]:
    return [
        orjson.loads(event["data"])["result"]
        for event in events
        if event.get("chain_type") == "tool_call_result"
    ]


def test_the_tools_of_a_hundred_turns_run_concurrently(server: Server, key: str) -> None:
    def chat(number: int) -> list[dict[str, Any]]:
        # The tool returns after all the others have been called, too.
        return server.chat(key, username=f"u{number}", message="TOOL=meet")

    with ThreadPoolExecutor(MEETING) as pool:
        turns = list(pool.map(chat, range(MEETING)))
    for events in turns:
        assert _results(events) == ["met"]
        assert events[-3]["data"] == "tool said: met"


def test_a_hanging_tool_gets_a_clear_result_and_the_next_turn_works(
    server: Server, key: str
) -> None:
    events = server.chat(key, session_id="s", message="TOOL=never_return")
    assert _results(events) == ["error: the tool never_return did not answer within 1 s"]
    assert events[-1]["type"] == "end"
    assert _results(server.chat(key, session_id="s", message="TOOL=wait_a_second")) == ["waited"]


def test_a_built_in_tool_works_on_a_gevent_worker(server: Server, key: str) -> None:
    events = server.chat(key, message='TOOL=calculate TOOLARGS={"expression":"6*7"}')
    assert _results(events) == ["42"]
    events = server.chat(key, message='TOOL=remember TOOLARGS={"key":"k","value":"v"}')
    assert _results(events) == ["Kept: k"]
    assert _results(server.chat(key, message="TOOL=recall")) == ["k: v"]
