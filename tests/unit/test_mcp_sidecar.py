"""The sidecar as a process with real MCP servers: a test server and one from PyPI."""

from __future__ import annotations

import base64
import importlib.util
import json
import math
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.agent.calling import ProgressReporter
from astrbot_api.agent.cancel import Cancellation
from astrbot_api.config.mcp import hash_definition
from astrbot_api.errors import RunCancelled, ToolError
from astrbot_api.mcp.link import Link
from astrbot_api.mcp.wire import MAX_TEXT_CHARS

from ..mcp_servers.running import ODD, RAW, Sidecar, run_http_server, run_sidecar
from ..waiting import LIMIT_S, is_alive, wait_for
from .loopback_proxy import LoopbackProxy

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mcp") is None, reason="the extra mcp is not installed: make test"
)

DOWN = "the MCP server odd is not running; it is being restarted"
ENDED = "the MCP server odd ended during the call; it is being restarted"


def stdio(*arguments: str, name: str = "odd", program: str = RAW, **env: str) -> dict[str, Any]:
    command = [sys.executable, program, *arguments]
    return {"name": name, "command": command, "env": env, "cwd": ""}


class Worker:
    """A worker's end: received states of its servers, and calls in threads.

    The tests use short names of servers, the sidecar their hashes.
    """

    def __init__(self, sidecar: Sidecar) -> None:
        self._changed = threading.Condition()
        self._keys: dict[str, str] = {}
        #: Received states of each server, and how many of them were checked.
        self._told: dict[str, list[Mapping[str, Any]]] = {}
        self._seen: Counter[str] = Counter()
        self.link = Link(
            str(sidecar.path), on_state=self._take, on_lost=lambda: None, on_quiet=lambda: None
        )
        self.threads = ThreadPoolExecutor(30)

    def _take(self, state: Mapping[str, Any]) -> None:
        with self._changed:
            self._told.setdefault(state["server"], []).append(state)
            self._changed.notify_all()

    def ask_for(self, **servers: dict[str, Any]) -> None:
        """Request these servers."""
        self._keys = {name: hash_definition(one) for name, one in servers.items()}
        self.link.set_servers({self._keys[name]: one for name, one in servers.items()})

    def want(self, **servers: dict[str, Any]) -> None:
        """Request these servers and wait until they run."""
        self.ask_for(**servers)
        for name in servers:
            self.wait(name, "running")

    def wait(self, name: str, status: str, tool: str = "") -> list[str]:
        """Wait until a server has a status, and a tool, after the previous wait.

        :returns: The names of its tools.
        """
        key = self._keys[name]

        def find() -> int:
            told = self._told.get(key, [])
            for at in range(self._seen[key], len(told)):
                if told[at]["status"] == status and (not tool or tool in names_of(told[at])):
                    return at + 1
            return 0

        with self._changed:
            assert self._changed.wait_for(find, LIMIT_S), self._told
            self._seen[key] = find()
            return names_of(self._told[key][self._seen[key] - 1])

    def call(
        self, key: str, tool: str, /, cancel: Cancellation | None = None, **arguments: Any
    ) -> Any:
        request = {"tool": tool, "arguments": arguments}
        return self.ask(key, request, cancel or Cancellation())

    def ask(self, key: str, request: dict[str, Any], *more: Any) -> Any:
        """Send a request to a server."""
        return self.link.call(self._keys[key], request, *(more or (Cancellation(),)))

    def find(self, key: str) -> Mapping[str, Any]:
        """Return the last state of a server."""
        return self._told[self._keys[key]][-1]

    def start(
        self, key: str, tool: str, /, cancel: Cancellation | None = None, **arguments: Any
    ) -> Future[Any]:
        return self.threads.submit(self.call, key, tool, cancel, **arguments)

    def say(self, key: str, tool: str, /, **arguments: Any) -> str:
        """Call a tool and return its text."""
        content = self.call(key, tool, **arguments)["content"]
        return "\n".join(part["text"] for part in content)

    def close(self) -> None:
        self.link.close()
        self.threads.shutdown()


def names_of(state: Mapping[str, Any]) -> list[str]:
    return [tool["name"] for tool in state["tools"] or ()]


@pytest.fixture(scope="module")
def shared() -> Iterator[Sidecar]:
    """A sidecar shared by tests that do not damage it."""
    with run_sidecar() as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def shared_worker(shared: Sidecar) -> Iterator[Worker]:
    """A worker with the test server, over stdio as ``S`` and over HTTP as ``H``."""
    worker = Worker(shared)
    with run_http_server() as (_, url):
        worker.want(S=stdio(program=ODD), H={"name": "odd", "url": url, "headers": {}})
        yield worker
        worker.close()


@pytest.fixture
def worker(shared: Sidecar) -> Iterator[Worker]:
    """Another worker of the shared sidecar."""
    worker = Worker(shared)
    yield worker
    worker.close()


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    """A sidecar for a single test."""
    with run_sidecar() as own:
        yield own


@pytest.fixture
def own_worker(sidecar: Sidecar) -> Iterator[Worker]:
    worker = Worker(sidecar)
    yield worker
    worker.close()


def read_marks(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def wait_mark(path: Path, count: int = 1) -> list[str]:
    """Wait until ``wait`` has started this often, and return the ids of its processes."""
    wait_for(lambda: len(read_marks(path)) >= count)
    return read_marks(path)


both = pytest.mark.parametrize("key", ["S", "H"])


@both
def test_a_tool_is_called(shared_worker: Worker, key: str) -> None:
    assert shared_worker.say(key, "echo", text="hé\n\u2028 \0 👋") == "hé\n\u2028 \0 👋"


@both
def test_a_tool_that_fails_says_why(shared_worker: Worker, key: str) -> None:
    answer = shared_worker.call(key, "fail")
    assert answer["is_error"] is True
    assert "it went wrong" in answer["content"][0]["text"]


@both
def test_a_picture_comes_between_its_texts(shared_worker: Worker, key: str) -> None:
    before, picture, after = shared_worker.call(key, "picture")["content"]
    assert (before["text"], after["text"]) == ("before", "after")
    assert picture["mime"] == "image/png"
    assert base64.b64decode(picture["data"]).startswith(b"\x89PNG")


@both
def test_a_huge_text_is_cut(shared_worker: Worker, key: str) -> None:
    text, cut = shared_worker.call(key, "long", chars=MAX_TEXT_CHARS + 5)["content"]
    assert len(text["text"]) == MAX_TEXT_CHARS
    assert cut["text"] == f"[cut: the text has {MAX_TEXT_CHARS + 5} characters]"


@both
def test_a_tool_that_is_unknown_is_an_error(shared_worker: Worker, key: str) -> None:
    answer = shared_worker.call(key, "nothing")
    assert answer["is_error"] is True
    assert "Unknown tool" in answer["content"][0]["text"]


@both
def test_calls_run_side_by_side(shared_worker: Worker, key: str) -> None:
    waiting = shared_worker.start(key, "wait")
    assert shared_worker.say(key, "echo", text="meanwhile") == "meanwhile"
    assert not waiting.done()
    calls = [shared_worker.start(key, "wait", seconds=0.5) for _ in range(20)]
    assert [call.result(LIMIT_S)["content"][0]["text"] for call in calls] == ["waited"] * 20
    assert not waiting.done()


@both
def test_resources_are_listed_and_read(shared_worker: Worker, key: str) -> None:
    assert shared_worker.find(key)["resources"] == [
        {"uri": "note://today", "name": "today", "description": "What is to be done."},
        {
            "uri": "note://{day}",
            "name": "day",
            "description": "Return the note of a day.",
            "template": True,
        },
    ]
    for uri, words in [("note://today", "water the plants"), ("note://may", "the note of may")]:
        assert shared_worker.ask(key, {"uri": uri})["content"] == [{"type": "text", "text": words}]
    with pytest.raises(ToolError, match="the MCP server odd refused: "):
        shared_worker.ask(key, {"uri": "other://x"})


@both
def test_prompts_are_listed_and_filled_in(shared_worker: Worker, key: str) -> None:
    (prompt,) = shared_worker.find(key)["prompts"]
    assert (prompt["name"], prompt["description"]) == ("greet", "Greet somebody.")
    assert [(one["name"], one["required"]) for one in prompt["arguments"]] == [
        ("name", True),
        ("style", False),
    ]
    answer = shared_worker.ask(key, {"prompt": "greet", "arguments": {"name": "Ann"}})
    said = {"type": "text", "text": "Write a warm greeting for Ann.", "role": "user"}
    assert answer["content"] == [said]
    with pytest.raises(ToolError, match="the MCP server odd refused: "):
        shared_worker.ask(key, {"prompt": "greet", "arguments": {}})


@both
def test_the_progress_of_a_call_is_passed_on_at_a_bearable_rate(
    shared_worker: Worker, key: str
) -> None:
    reported: list[Any] = []
    request = {"tool": "count", "arguments": {"to": 500}}
    answer = shared_worker.ask(key, request, Cancellation(), lambda *one: reported.append(one))
    assert answer["content"][0]["text"] == "counted to 500"
    assert reported[0] == (1, 500, "at 1")
    assert len(reported) < 100


@both
def test_a_question_in_the_middle_of_a_call_is_refused_and_named(
    shared_worker: Worker, shared: Sidecar, key: str
) -> None:
    try:
        answer = shared_worker.call(key, "ask")
        assert answer["is_error"]
        said = "\n".join(one["text"] for one in answer["content"])
    except ToolError as error:
        said = str(error)
    assert "asks for input in the middle of a call" in said
    assert "MCP server odd requests elicitation/create, which is not supported" in shared.read_log()


@both
def test_new_tools_are_reported(shared_worker: Worker, key: str) -> None:
    assert shared_worker.say(key, "grow") == "grew"
    shared_worker.wait(key, "running", "grown")
    assert shared_worker.say(key, "grown") == "grown"


def test_a_cancelled_call_is_cancelled_in_the_server(worker: Worker, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    worker.want(S=stdio("--mark", str(mark)))
    cancel = Cancellation()
    call = worker.start("S", "wait", cancel)
    wait_mark(mark)
    cancel.cancel()
    with pytest.raises(RunCancelled):
        call.result(LIMIT_S)
    wait_for(lambda: "cancelled" in read_marks(mark))
    assert worker.say("S", "echo", text="still here") == "still here"


def test_a_server_that_dies_ends_its_calls_and_comes_back(worker: Worker, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    worker.want(S=stdio("--mark", str(mark)))
    calls = [worker.start("S", "wait"), worker.start("S", "wait")]
    first = int(wait_mark(mark, 2)[0])
    os.kill(first, signal.SIGKILL)
    for call in calls:
        with pytest.raises(ToolError, match=ENDED):
            call.result(LIMIT_S)
    assert "echo" in worker.wait("S", "down")
    worker.wait("S", "running")
    assert worker.say("S", "echo", text="back") == "back"
    assert not is_alive(first)


def test_a_server_with_a_url_that_dies_ends_its_calls_and_comes_back(
    worker: Worker, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with run_http_server("--mark", str(mark)) as (_, url):
        worker.want(H={"name": "odd", "url": url, "headers": {}})
        call = worker.start("H", "wait")
        os.kill(int(wait_mark(mark)[0]), signal.SIGKILL)
        with pytest.raises(ToolError, match=ENDED):
            call.result(LIMIT_S)
        assert "echo" in worker.wait("H", "down")
        with pytest.raises(ToolError, match=DOWN):
            worker.say("H", "echo", text="x")
    port = url.split(":")[2].split("/")[0]
    with run_http_server("--port", port):
        worker.wait("H", "running")
        assert worker.say("H", "echo", text="back") == "back"


def test_a_server_with_a_url_is_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with run_http_server() as (_, url):
        host = url.split("/")[2]
        with LoopbackProxy(int(host.split(":")[1])) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            with run_sidecar() as sidecar:
                worker = Worker(sidecar)
                # The server accepts only its own host name.
                headers = {"Host": host}
                worker.want(H={"name": "odd", "url": "http://mcp.test/mcp", "headers": headers})
                assert worker.say("H", "echo", text="x") == "x"
                worker.close()
            assert "POST http://mcp.test/mcp" in proxy.asked


def test_a_server_that_cannot_be_started_says_so_and_others_work(
    shared: Sidecar, worker: Worker
) -> None:
    missing = {"name": "odd", "command": ["/no/such/program"], "env": {}, "cwd": ""}
    worker.ask_for(M=missing, S=stdio(name="fine"))
    worker.wait("M", "down")
    with pytest.raises(ToolError, match=DOWN):
        worker.say("M", "echo", text="x")
    worker.wait("S", "running")
    assert worker.say("S", "echo", text="x") == "x"
    assert "MCP server odd cannot be used: FileNotFoundError" in shared.read_log()


def test_a_server_whose_json_is_not_strict_affects_no_other(worker: Worker) -> None:
    half = "cut \ud83d"
    schema = {"type": "object", "properties": {"a": {"description": half, "default": math.nan}}}
    results = {"t": {"content": [{"type": "text", "text": half}]}}
    script = {"tools": [{"name": "t", "inputSchema": schema}], "results": results}
    worker.want(A=stdio(json.dumps(script)), B=stdio())
    (tool,) = worker.find("A")["tools"]
    assert tool["parameters"]["properties"]["a"] == {"description": "cut ?", "default": None}
    assert worker.say("B", "echo", text="x") == "x"
    assert worker.say("A", "t") == "cut ?"
    reports: list[Any] = []
    report = ProgressReporter("c", reports.append)
    request = {"tool": "count", "arguments": {"to": 1, "odd": "nan"}}
    worker.ask("B", request, Cancellation(), report)
    assert [one.progress for one in reports] == [1]


def test_servers_differ_by_their_arguments(worker: Worker) -> None:
    worker.want(A=stdio("--prefix", "a:"), B=stdio("--prefix", "b:"))
    assert worker.say("A", "echo", text="x") == "a:x"
    assert worker.say("B", "echo", text="x") == "b:x"


def test_what_servers_write_is_logged_without_their_secrets(
    shared: Sidecar, worker: Worker
) -> None:
    # Its own name, because other tests may have used up the lines of a server for some seconds.
    worker.want(S=stdio(name="dying", SECRET="swordfish"))
    assert worker.say("S", "env", name="SECRET") == "swordfish"
    with pytest.raises(ToolError, match="the MCP server dying ended during the call"):
        worker.say("S", "die")
    wait_for(lambda: "MCP server dying | dying with the secret ***" in shared.read_log())
    assert "MCP server dying | raw is here" in shared.read_log()
    assert "swordfish" not in shared.read_log()
    assert "\x1b" not in shared.read_log()


def test_the_log_is_json_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRBOT_LOG_FORMAT", "json")
    with run_sidecar() as sidecar:
        worker = Worker(sidecar)
        worker.want(S=stdio())
        assert worker.say("S", "echo", text="x") == "x"
        worker.close()
        wait_for(lambda: "raw is here" in sidecar.read_log())
        lines = [json.loads(line) for line in sidecar.read_log().splitlines()]
        assert "MCP server odd | raw is here" in {one["message"] for one in lines}


def test_a_server_gets_no_variable_that_is_not_its_own(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.want(S=stdio(OWN="mine"))
    assert worker.say("S", "env", name="OWN") == "mine"
    assert worker.say("S", "env", name="PYTEST_CURRENT_TEST") == "(unset)"


def test_a_server_ends_when_no_worker_wants_it(sidecar: Sidecar, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    one, other = Worker(sidecar), Worker(sidecar)
    server = stdio("--mark", str(mark))
    one.want(S=server)
    other.want(S=server)
    one.close()
    call = other.start("S", "wait", seconds=0)
    assert call.result(LIMIT_S)["content"][0]["text"] == "waited"
    other.close()
    pid = int(wait_mark(mark)[0])
    assert is_alive(pid)  # for some time, because workers restart
    sidecar.stop()
    wait_for(lambda: not is_alive(pid))


@pytest.mark.parametrize(
    "line", [b"no json\n", b"{}\n", b'{"type": "call"}\n', b"x" * (5 * 1024 * 1024)]
)
def test_a_worker_that_talks_nonsense_is_cut_off_and_no_other(
    shared: Sidecar, shared_worker: Worker, line: bytes
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(shared.path))
        try:
            connection.sendall(line)
            while connection.recv(65536):
                pass
        except ConnectionError:  # interrupted in the middle of the line
            pass
    assert shared_worker.say("S", "echo", text="x") == "x"


def test_nobody_else_may_connect(shared: Sidecar) -> None:
    assert stat.S_IMODE(shared.path.stat().st_mode) == 0o600


def test_the_sidecar_and_its_servers_end_with_its_standard_input(
    sidecar: Sidecar, own_worker: Worker, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    own_worker.want(S=stdio("--mark", str(mark)))
    call = own_worker.start("S", "wait")
    pid = int(wait_mark(mark)[0])
    sidecar.process.send_signal(signal.SIGTERM)  # ending turns still need it
    assert own_worker.say("S", "echo", text="x") == "x"
    assert sidecar.stop() == 0
    with pytest.raises(ToolError, match="ended during the call"):
        call.result(LIMIT_S)
    assert not is_alive(pid)
    assert not sidecar.path.exists()


def test_servers_end_with_a_sidecar_that_is_killed(
    sidecar: Sidecar, own_worker: Worker, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    own_worker.want(S=stdio("--mark", str(mark)))
    call = own_worker.start("S", "wait")
    pid = int(wait_mark(mark)[0])
    sidecar.kill()
    with pytest.raises(ToolError, match="the MCP sidecar ended during the call; try again later"):
        call.result(LIMIT_S)
    wait_for(lambda: not is_alive(pid))
    sidecar.start()
    own_worker.wait("S", "running")
    assert own_worker.say("S", "echo", text="back") == "back"


def test_started_by_hand_it_stays_until_it_is_asked_to_end() -> None:
    with run_sidecar() as sidecar:
        sidecar.stop()
        sidecar.process = subprocess.Popen(
            [sys.executable, "-m", "astrbot_api.mcp.sidecar.main", "--socket", str(sidecar.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert sidecar.process.stdout is not None
        assert sidecar.process.stdout.readline() == "ready\n"
        worker = Worker(sidecar)
        worker.want(S=stdio())
        assert worker.say("S", "echo", text="x") == "x"
        worker.close()
        sidecar.process.send_signal(signal.SIGTERM)
        assert sidecar.process.wait(LIMIT_S) == 0
        assert not sidecar.path.exists()


def test_a_second_sidecar_does_not_take_the_socket_over(shared: Sidecar) -> None:
    from astrbot_api.mcp.sidecar import main as mcp_main

    done = subprocess.run(
        [sys.executable, "-P", mcp_main.__file__, "--socket", str(shared.path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "another process listens there" in done.stderr


def test_without_the_package_the_sidecar_says_what_to_install() -> None:
    from astrbot_api.mcp.sidecar import main as mcp_main

    program = (
        "import asyncio, runpy, sys\n"
        "sys.modules['mcp'] = None\n"
        f"sys.argv = ['x', *{['--socket', '{path}', '--until-eof']!r}]\n"
        f"runpy.run_path({mcp_main.__file__!r}, run_name='__main__')\n"
    )
    with run_sidecar() as sidecar:
        sidecar.stop()
        sidecar.process = subprocess.Popen(
            [sys.executable, "-c", program.replace("{path}", str(sidecar.path))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert sidecar.process.stdout is not None
        assert sidecar.process.stdout.readline() == "ready\n"
        worker = Worker(sidecar)
        worker.ask_for(S=stdio())
        worker.wait("S", "down")
        with pytest.raises(ToolError, match=r"pip install 'astrbot-api\[mcp\]'"):
            worker.say("S", "echo", text="x")
        worker.close()
