"""A gateway with two workers sends few turns at a time to AstrBot, and none twice."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import urllib3

from astrbot_api.testing import FakeAstrBot

from ..servers import ROOT, Server, add_config, create_key, parse_events
from ..waiting import wait_for
from .crowd import chat_at_once

pytestmark = pytest.mark.e2e

_CLIENTS = 64


def write_upstream(data_dir: Path, astrbot: FakeAstrBot) -> None:
    name, password = astrbot.owner
    add_config(
        data_dir,
        f'[upstream]\nbase_url = "{astrbot.url}"\napi_key = "{astrbot.key}"\n'
        f'owner_username = "{name}"\nowner_password = "{password}"\n',
    )


def test_sixty_four_clients_get_correct_answers_while_connections_break(tmp_path: Path) -> None:
    with FakeAstrBot("4.29") as astrbot:
        write_upstream(tmp_path, astrbot)
        key = create_key(tmp_path, "chat")
        astrbot.break_next(*[2 + number % 7 for number in range(20)])
        with Server(tmp_path) as server:
            outcomes = chat_at_once(server.port, key, _CLIENTS, "ECHO")
    wrong = [one for one in outcomes if not one.right]
    assert not wrong, wrong[:3]
    assert astrbot.max_seen <= 4
    assert len(astrbot.asked) == len(set(astrbot.asked)) == _CLIENTS


def test_a_killed_worker_repeats_no_request_and_frees_its_slots(tmp_path: Path) -> None:
    words = "DELAY=50 N=20"
    with FakeAstrBot("4.29") as astrbot:
        write_upstream(tmp_path, astrbot)
        key = create_key(tmp_path, "chat")
        with Server(tmp_path, ASTRBOT_WORKER_LEASE_S="2") as server:
            opened = [
                server.open_chat(key, {"username": f"u{number}", "message": f"{words} {number}"})
                for number in range(6)
            ]
            wait_for(lambda: len(astrbot.asked) == 4)
            os.kill(server.list_workers()[0], signal.SIGKILL)
            for one in opened:
                with suppress(urllib3.exceptions.HTTPError):  # the killed worker's connection
                    one.read()
            for number in range(4):
                events = server.chat(key, username=f"v{number}", message=f"ECHO after {number}")
                assert [e["data"] for e in events if e["type"] == "complete"] == [
                    f"echo: ECHO after {number}"
                ]
    assert max(Counter(astrbot.asked).values()) == 1


def test_the_first_start_checks_the_scopes_of_the_key(tmp_path: Path) -> None:
    with FakeAstrBot("4.29", scopes=("chat", "config")) as astrbot:
        command = [sys.executable, "-m", "astrbot_api", "serve", "--port", "0"]
        command += ["--upstream", f"{astrbot.url}/api/v1", "--upstream-key", astrbot.key]
        with (
            (tmp_path / "out.txt").open("w") as out,
            subprocess.Popen(
                [*command, "--data-dir", str(tmp_path / "data")],
                stdout=out, stderr=subprocess.STDOUT, cwd=ROOT,
            ) as serving,
        ):  # fmt: skip
            try:
                printed = wait_for(lambda: _find_banner(tmp_path / "out.txt"))
                said = urllib3.request(
                    "POST", f"{printed[1]}/api/v1/chat", headers={"X-API-Key": printed[2]},
                    json={"username": "alice", "message": "Hello"},
                )  # fmt: skip
            finally:
                serving.send_signal(signal.SIGTERM)
        text = (tmp_path / "out.txt").read_text()
    events = parse_events(said.data)
    assert [one["data"] for one in events if one["type"] == "complete"] == ["Hello from mock."]
    assert f"Answered by the AstrBot at {astrbot.url}." in text
    assert "files in messages and answers will be missing; give the key the scope file" in text
    assert "its messengers are not available; give the key the scope im" in text
    assert astrbot.key not in text


def test_an_astrbot_without_chats_is_rejected_before_any_file_is_written(
    tmp_path: Path,
) -> None:
    with FakeAstrBot("4.29", scopes=("im",)) as astrbot:
        command = [sys.executable, "-m", "astrbot_api", "serve", "--port", "0"]
        done = subprocess.run(
            [*command, "--upstream", astrbot.url, "--data-dir", str(tmp_path / "data")],
            env={**os.environ, "ASTRBOT_UPSTREAM_KEY": astrbot.key},
            capture_output=True, text=True, timeout=60, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 2
    assert "does not accept the key for chats" in done.stderr
    assert not (tmp_path / "data" / "configs").exists()


def _find_banner(path: Path) -> re.Match[str] | None:
    text = path.read_text()
    return re.search(r"answers at (\S+)/api/v1.*(abk_[\w-]+)", text, re.DOTALL)
