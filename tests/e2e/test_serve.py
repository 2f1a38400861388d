"""``astrbot-api serve``: its output, processes and files."""

from __future__ import annotations

import importlib.util
import os
import resource
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import urllib3

from astrbot_api.providers.local_model import find_demo_gguf
from astrbot_api.testing.fake_openai import FakeOpenAI

from ..servers import ROOT, iter_events, parse_events
from ..waiting import LIMIT_S, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

needs_embedded_model = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or find_demo_gguf() is None,
    reason="the embedded model is not installed: make install",
)

#: A turn of two seconds, which runs during the test's event.
LONG_TURN = {"message": "N=20 DELAY=100", "username": "alice"}

#: A turn that would take a minute.
ENDLESS_TURN = {"message": "N=600 DELAY=100", "username": "alice"}

#: No titles, because generating one delays the end of the server.
CONFIG = """\
[provider]
type = "auto"
[agent]
titles = false
"""


def _restore_signals() -> None:
    """Restore signals that nohup, and a shell's background, make a program ignore."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class Serve:
    """One ``astrbot-api serve`` on a free port."""

    def __init__(self, data_dir: Path, *arguments: str, **environ: str) -> None:
        data_dir.mkdir(exist_ok=True)
        self.data_dir = data_dir / "data"
        self._out, self._err = data_dir / "out.txt", data_dir / "err.txt"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ASTRBOT_") and name not in ("OPENAI_API_KEY", "WEB_CONCURRENCY")
        }
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "astrbot_api", "serve"),
                    *("--port", "0", "--data-dir", str(self.data_dir), *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env={**inherited, **environ},
                preexec_fn=_restore_signals,
            )
        self.http = urllib3.PoolManager(retries=False, timeout=LIMIT_S)

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def wait_started(self) -> Serve:
        """Wait for the ``curl`` line."""
        wait_for(lambda: "curl -N " in self.out or self.process.poll() is not None, 2 * LIMIT_S)
        assert self.process.poll() is None, self.err
        return self

    def curl_words(self) -> list[str]:
        """Return the ``curl`` line, split like in a shell."""
        return shlex.split(next(line for line in self.out.splitlines() if "curl -N " in line))

    def open_turn(self, key: str, body: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        return self.http.request(
            "POST",
            self.curl_words()[2],
            headers={"Authorization": f"Bearer {key}"},
            json=body,
            preload_content=False,
        )

    def chat(self, key: str, message: str) -> list[dict[str, Any]]:
        with self.open_turn(key, {"message": message, "username": "alice"}) as answer:
            assert answer.status == 200
            events = parse_events(answer.read())
        # An idle connection would delay a stopping worker by five seconds.
        self.http.clear()
        return events

    def key(self) -> str:
        return next(word for word in self.out.split() if word.startswith("abk_"))

    def find_child(self, mark: str) -> int:
        """Return the id of the child with this text in its command line."""
        (found,) = [pid for pid in children(self.process.pid) if mark in command_line(pid)] or [0]
        return found

    def wait_ended(self) -> int:
        return self.process.wait(LIMIT_S)

    def close(self) -> None:
        """Kill the process and its children if they still run."""
        self.http.clear()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    """Return the ids of a process's running children."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(folder.name))
    return found


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def started() -> Iterator[list[Serve]]:
    """Servers that are closed at the end of the test."""
    servers: list[Serve] = []
    yield servers
    for one in servers:
        one.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder whose ``data`` has a config, but no database and no keys."""
    configs = tmp_path / "data" / "configs"
    configs.mkdir(parents=True)
    (configs / "default.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


@pytest.fixture
def served(data_dir: Path, fake_model: FakeOpenAI, started: list[Serve]) -> Serve:
    """A server with the fake model."""
    server = Serve(data_dir, ASTRBOT_MODEL_URL=fake_model.base_url, ASTRBOT_MODEL="mock")
    started.append(server)
    return server.wait_started()


@needs_embedded_model
def test_the_printed_curl_streams_the_answer_of_a_real_model(
    tmp_path: Path, started: list[Serve]
) -> None:
    server = Serve(tmp_path)
    started.append(server)
    words = server.wait_started().curl_words()
    if "Ollama" in server.out:
        pytest.skip("an Ollama runs on this machine, and wins")
    assert "SmolLM2" in server.out
    assert "demonstration model" in server.out
    url, headers, data = words[2], words[4:7:2], words[8]
    assert words[:2] == ["curl", "-N"]
    answer = server.http.request(
        "POST", url, headers=dict(one.split(": ", 1) for one in headers), body=data.encode()
    )
    events = parse_events(answer.data)
    assert answer.status == 200
    said = [one["data"] for one in events if one["type"] == "plain"]
    assert len(said) > 1
    assert "".join(said)
    assert events[-1]["type"] == "end"
    assert not [one for one in events if one["type"] == "error"]


@needs_embedded_model
def test_a_killed_model_is_restarted_and_the_next_turn_waits_for_it(
    data_dir: Path, started: list[Serve]
) -> None:
    server = Serve(data_dir)
    started.append(server)
    key = server.wait_started().key()
    if "Ollama" in server.out:
        pytest.skip("an Ollama runs on this machine, and wins")
    first = server.find_child("providers/local_model.py")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: "was killed by SIGKILL; restarting it" in server.err)
    events = server.chat(key, "Hello")
    assert not [one for one in events if one["type"] == "error"]
    second = server.find_child("providers/local_model.py")
    assert second != first
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_ended() == 0
    assert not is_running(second)


@needs_embedded_model
def test_a_killed_server_leaves_no_process(tmp_path: Path, started: list[Serve]) -> None:
    server = Serve(tmp_path)
    started.append(server)
    server.wait_started()
    direct = children(server.process.pid)
    family = [*direct, *(one for pid in direct for one in children(pid))]
    assert len(family) >= 3
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not [pid for pid in family if is_running(pid)])


def test_only_the_first_start_shows_a_key(
    served: Serve, data_dir: Path, fake_model: FakeOpenAI, started: list[Serve]
) -> None:
    key = served.key()
    assert "shown only once" in served.out
    served.process.send_signal(signal.SIGTERM)
    assert served.wait_ended() == 0
    second = Serve(data_dir, ASTRBOT_MODEL_URL=fake_model.base_url, ASTRBOT_MODEL="mock")
    started.append(second)
    second.wait_started()
    assert "abk_" not in second.out
    assert "keys create NAME --scope chat" in second.out
    assert "Authorization: Bearer $ASTRBOT_KEY" in second.curl_words()
    assert second.chat(key, "hi")[-1]["type"] == "end"


def test_a_first_start_that_is_killed_loses_no_key_and_no_password(
    data_dir: Path, started: list[Serve]
) -> None:
    killed = Serve(data_dir, ASTRBOT_MODEL_URL="http://127.0.0.1:9/v1")
    started.append(killed)
    wait_for(lambda: "Listening at" in killed.err)
    killed.process.kill()
    killed.process.wait()
    out = killed.out
    second = Serve(data_dir, ASTRBOT_MODEL_URL="http://127.0.0.1:9/v1")
    started.append(second)
    out += second.wait_started().out
    assert (out.count("Authorization: Bearer abk_"), out.count("    password  ")) == (1, 1)


def test_too_many_open_files_are_one_line_in_the_log(data_dir: Path, started: list[Serve]) -> None:
    server = Serve(data_dir, "--workers", "1", ASTRBOT_MODEL_URL="http://127.0.0.1:9/v1")
    started.append(server)
    server.wait_started()
    server.http.clear()
    (worker,) = children(server.find_child("gunicorn"))
    url = server.curl_words()[2].removesuffix("/api/v1/chat") + "/healthz"
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    # Its files may have any numbers, and some may have just been closed.
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, limits[1]))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.http.request, "GET", url)
        wait_for(lambda: "new connections wait: Too many open files" in server.err)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
        assert waiting.result().status == 200
    assert "Traceback" not in server.err
    assert server.err.count("LimitNOFILE") == 1


def test_the_folder_of_the_metrics_is_created(data_dir: Path, started: list[Serve]) -> None:
    folder = data_dir / "run" / "metrics"
    server = Serve(
        data_dir,
        ASTRBOT_MODEL_URL="http://127.0.0.1:9/v1",
        PROMETHEUS_MULTIPROC_DIR=str(folder),
    )
    started.append(server)
    server.wait_started()
    assert folder.is_dir()


def test_the_first_start_shows_a_valid_password(served: Serve) -> None:
    lines = [line.split() for line in served.out.splitlines()]
    name = next(line[1] for line in lines if line[:1] == ["name"])
    password = next(line[1] for line in lines if line[:1] == ["password"])
    url = served.curl_words()[2].removesuffix("/api/v1/chat") + "/api/auth/login"
    answer = served.http.request("POST", url, json={"username": name, "password": password})
    assert answer.status == 200
    assert answer.json()["data"]["token"]
    served.http.clear()


def test_term_finishes_a_running_turn_and_rejects_new_ones(served: Serve) -> None:
    key = served.key()
    master = served.find_child("gunicorn")
    with served.open_turn(key, LONG_TURN) as turn:
        events = iter_events(turn)
        seen = [next(events) for _ in range(4)]
        served.process.send_signal(signal.SIGTERM)
        seen += events
    assert [one["type"] for one in seen][-3:] == ["complete", "message_saved", "end"]
    assert served.wait_ended() == 0
    assert not is_running(master)
    assert "Traceback" not in served.err


def test_a_turn_beyond_the_stop_timeout_is_kept_for_the_next_start(
    data_dir: Path, fake_model: FakeOpenAI, started: list[Serve]
) -> None:
    server = Serve(
        data_dir,
        ASTRBOT_MODEL_URL=fake_model.base_url,
        ASTRBOT_MODEL="mock",
        ASTRBOT_GRACEFUL_TIMEOUT_S="5",
    )
    started.append(server)
    key = server.wait_started().key()
    with server.open_turn(key, ENDLESS_TURN) as turn:
        events = iter_events(turn)
        seen = [next(events) for _ in range(4)]
        server.process.send_signal(signal.SIGTERM)
        seen += events
    # The stream ends like an interrupted one, so the client resumes it.
    assert {"error", "end"}.isdisjoint(one["type"] for one in seen)
    assert server.wait_ended() == 0
    with closing(sqlite3.connect(data_dir / "data" / "astrbot.db")) as db:
        assert db.execute("SELECT status, worker_id FROM run").fetchall() == [("running", "")]


def test_a_second_interrupt_stops_at_once(served: Serve) -> None:
    key = served.key()
    with served.open_turn(key, ENDLESS_TURN) as turn:
        events = iter_events(turn)
        assert next(events)["type"] == "session_id"
        served.process.send_signal(signal.SIGINT)
        wait_for(lambda: "Ctrl-C again" in served.out)
        # The master must have started its graceful stop. Otherwise it gets both signals at once.
        wait_for(lambda: "Handling signal: term" in served.err)
        served.process.send_signal(signal.SIGINT)
        assert served.wait_ended() == 0


def test_hup_replaces_the_workers_during_a_turn(served: Serve) -> None:
    key = served.key()
    master = served.find_child("gunicorn")
    before = set(children(master))
    with served.open_turn(key, LONG_TURN) as turn:
        events = iter_events(turn)
        seen = [next(events) for _ in range(4)]
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(set(children(master)) - before) == 2)
        seen += events
    assert seen[-1]["type"] == "end"
    assert not [one for one in seen if one["type"] == "error"]
    wait_for(lambda: not before & set(children(master)))
    assert served.chat(key, "hi")[-1]["type"] == "end"


def has_database(pid: int) -> bool:
    """Return whether a worker has loaded the application."""
    try:
        return any("astrbot.db" in os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False


def test_hup_with_an_invalid_config_keeps_the_workers(served: Serve) -> None:
    key = served.key()
    master = served.find_child("gunicorn")
    wait_for(lambda: len([pid for pid in children(master) if has_database(pid)]) == 2)
    before = set(children(master))
    config = served.data_dir / "configs" / "default.toml"
    valid = config.read_text(encoding="utf-8")
    config.write_text("[provider", encoding="utf-8")
    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "not reloaded" in served.err)
    assert "astrbot-api: configs/default.toml: " in served.err
    assert set(children(master)) == before
    assert served.chat(key, "hi")[-1]["type"] == "end"
    config.write_text(valid, encoding="utf-8")
    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: not before & set(children(master)))
    assert served.chat(key, "hi")[-1]["type"] == "end"


def test_a_port_in_use_prints_one_line_and_creates_nothing(
    tmp_path: Path, started: list[Serve]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Serve(tmp_path, "--port", str(port))
        started.append(server)
        assert server.wait_ended() == 2
    assert server.err.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in server.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ASTRBOT_HEARTBEAT_S", "often"),
        ("ASTRBOT_GRACEFUL_TIMEOUT_S", "soon"),
        ("ASTRBOT_LOCAL_GGUF", "/no/such/file.gguf"),
        ("ASTRBOT_MODEL_URL", "no-url"),
    ],
)
def test_a_wrong_setting_prints_one_line(
    name: str, value: str, tmp_path: Path, started: list[Serve]
) -> None:
    server = Serve(tmp_path, **{name: value})
    started.append(server)
    assert server.wait_ended() == 2
    assert server.err.count("\n") == 1
    assert name in server.err
    assert "gunicorn" not in server.err
