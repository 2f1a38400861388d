"""Tools of the configs' MCP servers, with a fake sidecar."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.config.agents import AgentConfig, read_config
from astrbot_api.mcp import client as client_module
from astrbot_api.mcp.client import McpTools
from astrbot_api.mcp.link import Link
from astrbot_api.runtime import per_process

from ..mcp_servers.peer import FakeSidecar, play_sidecar
from ..waiting import LIMIT_S, wait_for

TIME = '[mcp.time]\ncommand = ["time"]\n'
WEB = '[mcp.web]\nurl = "http://127.0.0.1:9/mcp"\n'

NOW = {"name": "now", "description": "Tell the time.", "parameters": {"type": "object"}}
THEN = {**NOW, "name": "then"}


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    with play_sidecar() as fake:
        yield fake


class Configs:
    """The configs of a folder that a test changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._configs: dict[str, AgentConfig] = {}

    def write(self, name: str, text: str) -> AgentConfig:
        path = self._folder / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        config = self._configs[name] = read_config(path, path.name)
        return config

    def list_all(self) -> list[AgentConfig]:
        return list(self._configs.values())


@pytest.fixture
def configs(tmp_path: Path) -> Configs:
    return Configs(tmp_path)


@pytest.fixture
def make(configs: Configs) -> Iterator[Callable[[str], McpTools]]:
    """Create clients that are closed at the end."""
    made = []

    def make_one(path: str) -> McpTools:
        made.append(McpTools(configs.list_all, path))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def names(tools: McpTools, config: AgentConfig) -> list[str]:
    return [tool.name for tool in tools.list_tools(config)]


def key_of(wanted: dict[str, Any], name: str) -> str:
    return next(key for key, one in wanted.items() if one["name"] == name)


def test_each_config_has_the_tools_of_its_own_servers(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools]
) -> None:
    one, other = configs.write("one", TIME), configs.write("other", WEB)
    neither = configs.write("neither", "")
    tools = make(sidecar.path)
    tools.start()
    peer = sidecar.accept()
    wanted = peer.hello()
    assert sorted(one["name"] for one in wanted.values()) == ["time", "web"]
    for name in ("time", "web"):
        peer.send(type="state", server=key_of(wanted, name), status="running", tools=[NOW])
    wait_for(lambda: names(tools, other))
    assert names(tools, one) == ["time.now"]
    assert names(tools, other) == ["web.now"]
    assert names(tools, neither) == []


def test_the_first_turn_waits_for_the_tools(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", LIMIT_S)
    config = configs.write("one", TIME)
    tools = make(sidecar.path)
    with ThreadPoolExecutor(1) as threads:
        turn = threads.submit(names, tools, config)
        peer = sidecar.accept()
        (key,) = peer.hello()
        peer.send(type="state", server=key, status="starting", tools=[THEN])
        wait_for(lambda: tools.list_servers(config) == [("time", "starting", 1)])
        peer.send(type="state", server=key, status="running", tools=[NOW])
        assert turn.result(LIMIT_S) == ["time.now"]


def test_no_turn_waits_longer_than_that(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.01)
    config = configs.write("one", TIME)
    tools = make(sidecar.path)
    with ThreadPoolExecutor(1) as threads:
        turn = threads.submit(names, tools, config)
        peer = sidecar.accept()
        (key,) = peer.hello()
        # The sidecar does not respond before the turn continues without it.
        went_on, _ = wait([turn], timeout=30)
        peer.send(type="state", server=key, status="running", tools=[NOW])
    assert went_on, "the turn waited for the sidecar"
    assert turn.result() == []
    wait_for(lambda: names(tools, config) == ["time.now"])


def test_nobody_waits_for_a_server_or_a_sidecar_that_is_down(
    configs: Configs, make: Callable[[str], McpTools], monkeypatch: pytest.MonkeyPatch,
    sidecar: FakeSidecar,
) -> None:  # fmt: skip
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 10 * LIMIT_S)
    config = configs.write("one", TIME)
    assert names(make("/no/such/socket"), config) == []
    tools = make(sidecar.path)
    tools.start()
    peer = sidecar.accept()
    (key,) = peer.hello()
    peer.send(type="state", server=key, status="down", tools=None)
    assert names(tools, config) == []


def test_the_tools_of_a_server_that_is_down_stay_listed(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools]
) -> None:
    config = configs.write("one", TIME)
    tools = make(sidecar.path)
    tools.start()
    peer = sidecar.accept()
    (key,) = peer.hello()
    peer.send(type="state", server=key, status="running", tools=[NOW])
    wait_for(lambda: names(tools, config) == ["time.now"])
    peer.send(type="state", server=key, status="down", tools=[NOW])
    peer.send(type="state", server=key, status="running", tools=[NOW, THEN])
    wait_for(lambda: names(tools, config) == ["time.now", "time.then"])
    peer.close()
    assert names(tools, config) == ["time.now", "time.then"]


def test_a_changed_config_changes_what_is_wanted(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools]
) -> None:
    configs.write("one", TIME)
    tools = make(sidecar.path)
    tools.start()
    peer = sidecar.accept()
    (first,) = peer.hello()
    peer.send(type="state", server=first, status="running", tools=[NOW])
    config = configs.write("one", TIME)
    wait_for(lambda: names(tools, config) == ["time.now"])
    config = configs.write("one", TIME + 'env = { A = "b" }\n')
    tools.start()
    wanted = peer.read()["servers"]
    assert list(wanted) != [first]
    configs.write("one", "")
    tools.start()
    assert peer.read()["servers"] == {}
    assert names(tools, configs.list_all()[0]) == []


@pytest.mark.parametrize(
    ("owner", "method"), [(Configs, "list_all"), (Link, "set_servers"), (Link, "_send")]
)
def test_of_two_quick_changes_the_last_is_sent_last(
    sidecar: FakeSidecar,
    configs: Configs,
    make: Callable[[str], McpTools],
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
) -> None:
    configs.write("one", TIME)
    tools = make(sidecar.path)
    tools.start()
    peer = sidecar.accept()
    (first,) = peer.hello()
    peer.send(type="state", server=first, status="running", tools=[NOW])
    wait_for(lambda: names(tools, configs.list_all()[0]) == ["time.now"])
    real, begun, overtaken = getattr(owner, method), threading.Event(), threading.Event()

    def hold_first(*args: Any) -> Any:
        is_first = not begun.is_set()
        listed = real(*args) if owner is Configs else None
        if is_first:
            begun.set()
            overtaken.wait(0.5)  # it is not set if the second change waits for the first
        return listed or real(*args)

    monkeypatch.setattr(owner, method, hold_first)
    monkeypatch.setattr(tools, "_list_configs", configs.list_all)
    configs.write("one", WEB)
    with ThreadPoolExecutor(1) as threads:
        changing = threads.submit(tools.start)
        assert begun.wait(LIMIT_S)
        configs.write("one", TIME + 'env = { A = "b" }\n')
        tools.start()
        overtaken.set()
        changing.result(LIMIT_S)
    sent = [peer.read()["servers"] for _ in range(2)]
    assert [one["name"] for one in sent[-1].values()] == ["time"]


def test_two_configs_with_the_same_server_share_it(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools]
) -> None:
    configs.write("one", TIME)
    configs.write("other", TIME)
    tools = make(sidecar.path)
    tools.start()
    (server,) = sidecar.accept().hello().values()
    assert server["configs"] == ["one", "other"]


def test_configs_that_share_a_server_have_their_own_limits_and_trust(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools]
) -> None:
    one = configs.write("one", f"{TIME}timeout_s = 20\ntrust_hints = true\n")
    other = configs.write("other", f"{TIME}timeout_s = 30\n")
    tools = make(sidecar.path)
    tools.start()
    peer = sidecar.accept()
    (key,) = peer.hello()
    state = {"type": "state", "server": key, "status": "running"}
    peer.send(**state, tools=[{**NOW, "hints": ["destructive"]}])

    def look(config: AgentConfig) -> list[tuple[float | None, bool]]:
        return [(tool.timeout_s, tool.needs_approval) for tool in tools.list_tools(config)]

    wait_for(lambda: look(other) == [(30, False)])
    assert look(one) == [(20, True)]
    changed = configs.write("one", f"{TIME}timeout_s = 5\n")
    tools.start()
    assert list(peer.read()["servers"]) == [key]
    peer.send(**state, tools=[{**NOW, "hints": ["destructive"]}])
    wait_for(lambda: look(changed) == [(5, False)])
    assert look(other) == [(30, False)]


def test_where_there_is_no_sidecar_the_log_says_so_once(
    configs: Configs, make: Callable[[str], McpTools], caplog: pytest.LogCaptureFixture
) -> None:
    config = configs.write("one", TIME)
    tools = make("")
    tools.start()
    assert names(tools, config) == names(tools, config) == []
    assert [one for one in caplog.messages if "no MCP sidecar runs" in one] == [
        "one.toml has MCP servers, but no MCP sidecar runs: start the server with "
        "astrbot-api serve, or a sidecar beside it (docs/mcp.rst)"
    ]


def test_without_servers_nobody_connects(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools]
) -> None:
    config = configs.write("one", "")
    tools = make(sidecar.path)
    tools.start()
    assert names(tools, config) == []
    assert tools._link.current is None or tools._link.current._thread is None


def test_a_forked_process_has_a_connection_of_its_own(
    sidecar: FakeSidecar, configs: Configs, make: Callable[[str], McpTools],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    configs.write("one", TIME)
    tools = make(sidecar.path)
    tools.start()
    parent = sidecar.accept()
    parent.hello()
    parents_link = tools._link.current
    assert parents_link is not None
    # Simulates the child's state without a fork, because the process has threads.
    monkeypatch.setattr(parents_link, "abandon", lambda: None)
    monkeypatch.setattr(per_process, "_forks", [1])
    tools.start()
    child = sidecar.accept()
    assert len(child.hello()) == 1
    assert tools._link.current not in (None, parents_link)
    tools.close()
    parents_link.close()
