"""MCP tools in turns, with the real server, sidecar and MCP servers."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from astrbot_api.testing.fake_openai import FakeOpenAI

from ..clients.npm_packages import NPM, find_node
from ..mcp_servers.running import Sidecar, run_http_server, run_sidecar, server_table
from ..servers import Server, create_key, write_config
from ..strict_endpoint import StrictEndpoint, call, has_result, say, step
from ..waiting import LIMIT_S, wait_for
from .test_serve import Serve, children, command_line, is_running

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("mcp") is None, reason="the extra mcp is not installed: make test"
    ),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

DOWN = "error: the MCP server odd is not running; it is being restarted"
ENDED = "error: the MCP server odd ended during the call; it is being restarted"
NO_SIDECAR = "error: the MCP sidecar ended during the call; try again later"


class Case:
    """A server with two configs that have their own MCP servers."""

    def __init__(self, folder: Path, sidecar: Sidecar, model: FakeOpenAI, url: str) -> None:
        self.folder = folder
        self.mark = folder / "mark"
        self.model = model
        self.sidecar = sidecar
        self.web_url = url
        path = write_config(folder, model.base_url, agent="titles = false")
        _append(path, server_table("odd", "--mark", str(self.mark)))
        path = write_config(folder, model.base_url, name="other", agent="titles = false")
        _append(path, f'[mcp.web]\nurl = "{url}"\n')
        path = write_config(folder, model.base_url, name="public", agent="titles = false")
        _append(path, _list_public(folder))
        self.key = create_key(folder, "chat", "config", "file")
        self.server = Server(
            folder, workers=1, ASTRBOT_MCP_SOCKET=str(sidecar.path), ASTRBOT_LOG_LEVEL="INFO"
        )

    def turn(self, message: str, **body: Any) -> list[dict[str, Any]]:
        events = self.server.chat(self.key, message=message, **body)
        assert [one["type"] for one in events][-2:] == ["message_saved", "end"], events
        assert not [one for one in events if one["type"] == "error"]
        return events

    def call(self, tool: str, arguments: str = "{}", **body: Any) -> tuple[str, str]:
        """Let the model call a tool, and return its public name and its result."""
        events = self.turn(f"TOOL={tool.replace('.', '__')} TOOLARGS={arguments}", **body)
        return find_call(events)

    def wait_for_tools(self, config: str, *tools: str) -> None:
        """Wait until the model of a config is offered these tools."""
        wait_for(lambda: set(tools) <= set(self.offered(config)))

    def offered(self, config: str) -> list[str]:
        """Run a turn and return the tool names in the request to the model's endpoint."""
        self.turn("hi", config_id=config)
        return [one["function"]["name"] for one in self.model.requests()[-1].get("tools", [])]

    def read_marks(self) -> list[int]:
        """Return the process of each call of ``wait``."""
        words = self.mark.read_text().split() if self.mark.exists() else []
        return [int(one) for one in words if one != "cancelled"]


def _list_public(folder: Path) -> str:
    """Return the tables of installed servers from PyPI and npm."""
    shared = folder / "shared"
    shared.mkdir()
    (shared / "note.txt").write_text("water the plants")
    commands = {
        "time": [sys.executable, "-m", "mcp_server_time"],
        "fetch": [
            *(sys.executable, "-m", "mcp_server_fetch"),
            *("--ignore-robots-txt", "--allow-private-ips"),
        ],
        "git": [
            sys.executable,
            "-m",
            "mcp_server_git",
            "--repository",
            str(_make_repository(folder)),
        ],
        "files": ["node", str(_NPM / "server-filesystem/dist/index.js"), str(shared)],
        "everything": ["node", str(_NPM / "server-everything/dist/index.js"), "stdio"],
    }
    if not _NPM.is_dir():
        del commands["files"], commands["everything"]
    return "".join(
        f"[mcp.{name}]\ncommand = {orjson.dumps(command).decode()}\n"
        for name, command in commands.items()
    )


_NPM = NPM / "node_modules" / "@modelcontextprotocol"


def _make_repository(folder: Path) -> Path:
    path = folder / "repository"
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    for arguments in (["init", "-q", str(path)], ["-C", str(path), *identity, "commit", "-q",
                      "--allow-empty", "-m", "plant the roses"]):  # fmt: skip
        subprocess.run(["git", *arguments], check=True, timeout=LIMIT_S)
    return path


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def find_call(events: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the name and the result of the one tool call of a turn."""
    (call,) = [one for one in events if one.get("chain_type") == "tool_call"]
    (result,) = [one for one in events if one.get("chain_type") == "tool_call_result"]
    name: str = orjson.loads(call["data"])["name"]
    text: str = orjson.loads(result["data"])["result"]
    return name, text


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    with run_sidecar() as one:
        yield one


@pytest.fixture(scope="module")
def case(module_dir: Path, sidecar: Sidecar, fake_model: FakeOpenAI) -> Iterator[Case]:
    with run_http_server() as (_, url):
        case = Case(module_dir, sidecar, fake_model, url)
        case.wait_for_tools("default", "odd__echo")
        case.wait_for_tools("other", "web__echo")
        yield case
        case.server.http.clear()  # otherwise an idle connection delays the worker's end
        assert case.server.stop() == 0


def test_the_model_calls_a_safe_name_and_clients_see_the_public_name(
    case: Case,
) -> None:
    name, result = case.call("odd.echo", '{"text":"hello"}')
    assert (name, result) == ("odd.echo", "hello")
    for request in case.model.requests()[-2:]:
        names = [one["function"]["name"] for one in request["tools"]]
        assert "odd__echo" in names
        assert not [one for one in names if "." in one]
    replayed = case.model.requests()[-1]["messages"][-2]
    assert replayed["tool_calls"][0]["function"]["name"] == "odd__echo"


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("time.get_current_time", {"timezone": "Asia/Tokyo"}, '+09:00"'),
        ("fetch.fetch", {"url": "{server}/healthz", "raw": True}, "Contents of"),
        ("git.git_log", {"repo_path": "{folder}/repository"}, "plant the roses"),
        ("files.read_text_file", {"path": "{folder}/shared/note.txt"}, "water the plants"),
        ("everything.get-sum", {"a": "2", "b": 40}, "42"),
        ("everything.get-structured-content", {"location": "Chicago"}, "temperature"),
        ("everything.read_resource", {"uri": "demo://resource/static/document/features.md"}, "#"),
    ],
)
def test_a_public_server_is_used_in_a_turn(
    case: Case, tool: str, arguments: dict[str, Any], said: str
) -> None:
    if tool.startswith(("files.", "everything.")):
        find_node("@modelcontextprotocol")
    case.wait_for_tools("public", tool.replace(".", "__"))
    text = orjson.dumps(arguments).decode()
    text = text.replace("{server}", case.server.url).replace("{folder}", str(case.folder))
    name, result = case.call(tool, text, config_id="public")
    assert name == tool
    assert said in result
    assert not result.startswith("error")


def test_progress_of_a_call_is_shown(case: Case) -> None:
    events = case.turn('TOOL=odd__count TOOLARGS={"to":9}')
    shown = [one["data"] for one in events if one["type"] == "tool_progress"]
    assert shown == [{"id": shown[0]["id"], "progress": 1, "total": 9, "message": "at 1"}]
    assert find_call(events) == ("odd.count", "counted to 9")


def test_a_prompt_is_a_command(case: Case) -> None:
    find_node("@modelcontextprotocol")
    case.wait_for_tools("public", "everything__echo")
    case.turn("/everything.args-prompt state=Illinois Chicago", config_id="public")
    asked = case.model.requests()[-1]["messages"][-1]["content"]
    assert "Chicago, Illinois" in asked
    (missing,) = [
        one["data"]
        for one in case.turn("/everything.args-prompt", config_id="public")
        if one["type"] == "plain"
    ]
    assert missing == "Missing: city. Usage: /everything.args-prompt city [state]"


def test_each_config_sees_only_its_own_servers(case: Case) -> None:
    default, other = case.offered("default"), case.offered("other")
    assert {"odd__echo"} == {one for one in (*default, *other) if one == "odd__echo"}
    assert not [one for one in default if one.startswith("web__")]
    assert not [one for one in other if one.startswith("odd__")]
    assert case.call("web.echo", '{"text":"over-HTTP"}', config_id="other")[1] == "over-HTTP"


def test_a_tools_picture_reaches_the_client(case: Case) -> None:
    events = case.turn("TOOL=odd__picture")
    _, result = find_call(events)
    assert result.startswith("before\n[image.png: image/png, ")
    assert result.endswith("it was shown to the user]\nafter")
    assert [one for one in events if one["type"] == "image"]


def test_twenty_simultaneous_calls_succeed(case: Case) -> None:
    with ThreadPoolExecutor(20) as threads:
        calls = [
            threads.submit(case.call, "odd.wait", '{"seconds":0.5}', username=f"user{number}")
            for number in range(20)
        ]
        results = [call.result(LIMIT_S) for call in calls]
    assert results == [("odd.wait", "waited")] * 20


def make_config(case: Case, model: StrictEndpoint, tables: str) -> str:
    """Add a config with another model and return its id."""
    name = f"strict-{id(model)}"
    path = write_config(case.folder, model.base_url, name=name, agent="titles = false")
    _append(path, tables)
    wait_for(lambda: _has_config(case, name))
    return name


def make_step(*calls: tuple[str, str]) -> list[bytes]:
    """Return an answer with several calls, as tools and their arguments."""
    return step(
        *(
            call(name, arguments, id=f"call_{at}", index=at)
            for at, (name, arguments) in enumerate(calls)
        )
    )


def test_calls_of_one_step_change_a_server_in_the_order_of_the_model(case: Case) -> None:
    calls = make_step(
        ("web__note", '{"text":"sow"}'),
        ("web__note", '{"text":"reap"}'),
        # Calls that only read run at the same time.
        ("web__read", "{}"),
        ("web__read", "{}"),
    )
    with StrictEndpoint(lambda _, body: say("Done.") if has_result(body) else calls) as model:
        config = make_config(case, model, f'[mcp.web]\nurl = "{case.web_url}"\n')
        case.turn("Write two notes and read them.", config_id=config)
        results = [one["content"] for one in model.bodies[-1]["messages"] if one["role"] == "tool"]
    assert results == ["noted", "noted", "sow reap", "sow reap"]


def test_a_call_that_waits_for_another_is_not_made_after_a_stop(case: Case) -> None:
    before = len(case.read_marks())
    calls = make_step(("odd__wait", "{}"), ("odd__wait", "{}"))
    with StrictEndpoint(lambda _, body: calls) as model, ThreadPoolExecutor(1) as threads:
        config = make_config(case, model, server_table("odd", "--mark", str(case.mark)))
        turn = threads.submit(case.turn, "Wait twice.", config_id=config, session_id="halted")
        wait_for(lambda: case.read_marks()[before:])
        case.server.request(
            "POST", "/api/v1/chat/sessions/halted/stop", case.key, json={"username": "alice"}
        )
        turn.result(LIMIT_S)
    # The server reads its requests in order.
    assert case.call("odd.echo", '{"text":"hello"}') == ("odd.echo", "hello")
    assert len(case.read_marks()) == before + 1


def test_a_server_killed_in_mid_call_ends_the_call_and_the_next_turn_works(case: Case) -> None:
    before = len(case.read_marks())
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(case.call, "odd.wait")
        pids = wait_for(lambda: case.read_marks()[before:])
        os.kill(pids[0], signal.SIGKILL)
        assert call.result(LIMIT_S) == ("odd.wait", ENDED)
    results = []

    def ask() -> bool:
        results.append(case.call("odd.echo", '{"text":"back"}')[1])
        return results[-1] == "back"

    wait_for(ask)
    assert set(results) <= {DOWN, ENDED, "back"}


def test_a_sidecar_killed_in_mid_call_ends_the_call_and_the_next_turn_works(case: Case) -> None:
    before = len(case.read_marks())
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(case.call, "odd.wait")
        wait_for(lambda: case.read_marks()[before:])
        case.sidecar.kill()
        assert call.result(LIMIT_S) == ("odd.wait", NO_SIDECAR)
    # Its tools stay listed and report the cause.
    down = "error: the MCP sidecar is not running; try again later"
    assert case.call("odd.echo", '{"text":"x"}') == ("odd.echo", down)
    case.sidecar.start()
    wait_for(lambda: case.call("odd.echo", '{"text":"back"}')[1] == "back")


def test_a_server_added_to_a_config_needs_no_restart(case: Case, fake_model: FakeOpenAI) -> None:
    path = write_config(
        case.server.data_dir, fake_model.base_url, name="late", agent="titles = false"
    )
    wait_for(lambda: _has_config(case, "late"))
    assert not [one for one in case.offered("late") if one.startswith("new__")]
    _append(path, server_table("new", "--prefix", "new: "))
    case.wait_for_tools("late", "new__echo")
    assert case.call("new.echo", '{"text":"x"}', config_id="late") == ("new.echo", "new: x")


def _has_config(case: Case, config: str) -> bool:
    answer = case.server.request("GET", "/api/v1/configs", case.key)
    return any(one["id"] == config for one in answer.json()["data"]["configs"])


def test_serve_starts_the_sidecar_on_demand_and_restarts_it(
    tmp_path: Path, fake_model: FakeOpenAI
) -> None:
    configs = tmp_path / "data" / "configs"
    configs.mkdir(parents=True)
    default = configs / "default.toml"
    default.write_text('[provider]\ntype = "auto"\n[agent]\ntitles = false\n')
    environ = {"ASTRBOT_MODEL_URL": fake_model.base_url, "ASTRBOT_MODEL": "mock"}
    server = Serve(tmp_path, "--workers", "1", **environ).wait_started()
    try:
        key = server.key()
        assert server.chat(key, "hi")[-1]["type"] == "end"
        assert not _sidecars(server)
        _append(default, server_table())

        def says(text: str) -> bool:
            events = server.chat(key, f'TOOL=odd__echo TOOLARGS={{"text":"{text}"}}')
            calls = [one for one in events if one.get("chain_type") == "tool_call_result"]
            return bool(calls) and orjson.loads(calls[0]["data"])["result"] == text

        wait_for(lambda: says("one"))
        (first,) = _sidecars(server)
        odd = children(first)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: "The MCP sidecar was killed by SIGKILL; restarting it" in server.err)
        wait_for(lambda: says("two"))
        (second,) = _sidecars(server)
        odd += children(second)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_ended() == 0
        wait_for(lambda: not [pid for pid in (first, second, *odd) if is_running(pid)])
        assert "Traceback" not in server.err
    finally:
        server.close()


def _sidecars(server: Serve) -> list[int]:
    every = children(server.process.pid)
    return [one for one in every if "mcp/sidecar/main.py" in command_line(one)]
