"""Frameworks that use OpenAI's API, unchanged. ``make sdks`` installs and runs them.

They are not part of ``make test``. They need gigabytes, minutes and separate environments.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import Server, create_key, write_config

pytestmark = pytest.mark.e2e

#: Folder of their environments, one per requirements file.
_FOLDER = os.environ.get("ASTRBOT_TEST_SDKS", "")

DRIVER = Path(__file__).parent / "sdks" / "driver.py"

Do = Callable[[str], Any]


@pytest.fixture(scope="module")
def do(tmp_path_factory: pytest.TempPathFactory, fake_model: FakeOpenAI) -> Iterator[Do]:
    """Run a job of ``sdks/driver.py`` and return its result."""
    if not _FOLDER:
        pytest.skip("make sdks installs the frameworks and runs these tests")
    data_dir = tmp_path_factory.mktemp("frameworks")
    write_config(data_dir, fake_model.base_url, agent="titles = false")
    with Server(data_dir) as server:
        key = create_key(data_dir, "chat")

        def run(job: str) -> Any:
            environment = "llama" if job.startswith("llama") else "frameworks"
            python = Path(_FOLDER) / environment / "bin" / "python"
            done = subprocess.run(
                [str(python), str(DRIVER), job, server.url, key],
                capture_output=True, text=True, timeout=200, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout.splitlines()[-1])

        yield run


@pytest.mark.parametrize("api", ["completions", "responses"])
def test_langchain_chats_binds_tools_and_parses(do: Do, api: str) -> None:
    assert do(f"langchain_{api}") == {
        "text": "Hello from mock.", "stream": "Hello from mock.",
        "calls": [["get_weather", {"city": "Oslo"}]], "answer": "tool said: sunny",
        "agent": "tool said: sunny in Oslo", "structured": "Oslo",
    }  # fmt: skip


def test_langchain_continues_from_the_previous_response(do: Do) -> None:
    found = do("langchain_threads")
    assert found["text"] == "echo: ECHO again"
    assert found["id"].startswith("resp_")


def test_litellm_chats_streams_and_calls_tools(do: Do) -> None:
    assert do("litellm_completions") == {
        "text": "Hello from mock.", "stream": "Hello from mock.", "reason": "tool_calls",
        "arguments": '{"city":"Oslo"}',
    }  # fmt: skip
    assert do("litellm_responses") == {
        "text": "Hello from mock.", "types": ["response.created", "response.in_progress"],
        "last": "response.completed", "next": "echo: ECHO again",
    }  # fmt: skip


def test_llama_index_chats_streams_and_calls_tools(do: Do) -> None:
    assert do("llama_index") == {
        "text": "Hello from mock.", "stream": "Hello from mock.", "complete": "Hello from mock.",
        "calls": [["get_weather", {"city": "Oslo"}]],
    }  # fmt: skip


def test_openai_agents_stream_and_parse(do: Do) -> None:
    found = do("agents_run")
    assert {"response.created", "response.completed"} <= set(found.pop("kinds"))
    assert found == {
        "text": "tool said: sunny in Oslo", "again": "echo: ECHO again",
        "thread": "echo: ECHO thread", "streamed": "Hello from mock.", "structured": "Oslo",
        "completions": "tool said: sunny in Oslo",
    }  # fmt: skip


def test_openai_agents_keep_their_history_in_a_conversation(do: Do) -> None:
    assert do("agents_conversation") == {
        "text": "tool said: sunny in Oslo", "next": "echo: ECHO again",
        "items": [
            "message", "function_call", "function_call_output", "message", "message", "message",
        ],
    }  # fmt: skip
