"""The contract kit runs as its users run it: pytest in a separate process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI
from astrbot_api.testing.odd_network import ScriptedServer, answer

from ..servers import ROOT, Server, create_key, write_config

pytestmark = pytest.mark.e2e

KIT = [
    *(sys.executable, "-m", "pytest", "-p", "astrbot_api.testing.pytest_plugin"),
    *("-q", "-p", "no:cacheprovider", "-c", "/dev/null"),
]

#: Example of a client's test with the mock server.
CLIENT_TEST = """
import json
import urllib.request

def test_my_client(astrbot_mock_server):
    request = urllib.request.Request(
        astrbot_mock_server.url + "/api/v1/chat",
        json.dumps({"message": "ECHO hi", "username": "a"}).encode(),
        {"X-API-Key": astrbot_mock_server.key, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as stream:
        assert b"echo: ECHO hi" in stream.read()
"""


def play(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KIT, *options], capture_output=True, text=True, timeout=300, check=False, cwd=ROOT
    )


def test_this_server_keeps_the_whole_contract(tmp_path: Path, fake_model: FakeOpenAI) -> None:
    write_config(tmp_path, fake_model.base_url, agent="titles = false")
    with Server(tmp_path, workers=1) as server:
        key = create_key(tmp_path, "chat", "config", "file", "im")
        options = ["--astrbot-url", server.url, "--astrbot-key", key, "--astrbot-strict"]
        done = play("--pyargs", "astrbot_api.testing.contract", *options)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^4\d passed in", done.stdout, re.MULTILINE), done.stdout


def test_a_server_that_breaks_the_contract_fails_the_check() -> None:
    with ScriptedServer([answer(b'{"status":"ok","message":null,"data":{}}')]) as server:
        options = ["--astrbot-url", server.url, "--astrbot-key", "abk_x"]
        done = play("--pyargs", "astrbot_api.testing.contract", *options)
    assert done.returncode == 1
    assert "passed" not in done.stdout.splitlines()[-1]


def test_a_client_is_tested_against_the_mock_server(tmp_path: Path) -> None:
    (tmp_path / "test_client.py").write_text(CLIENT_TEST, encoding="utf-8")
    done = play(str(tmp_path))
    assert done.returncode == 0, done.stdout
