"""Registry of the tools and prompts of all configured MCP servers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..agent.tools import Tool
from ..config.agents import AgentConfig
from ..config.mcp import McpServerConfig, hash_definition
from ..runtime.per_process import PerProcess
from .link import Link
from .prompts import Prompt, make_prompts
from .tools import Ask, make_tools
from .wire import STARTING

log = logging.getLogger(__name__)

#: Seconds after a server's first use during which turns wait for its tools.
#: Later turns use the last known tools.
FIRST_WAIT_S = 2.0


class _Server:
    """State of one configured server.

    Configs with the same definition share it in the sidecar, but not its timeout and its trust.
    """

    def __init__(self, config: McpServerConfig) -> None:
        self.config = config
        self.definition = config.to_definition()
        self.key = hash_definition(self.definition)
        self.tools: tuple[Tool, ...] = ()
        self.prompts: tuple[Prompt, ...] = ()
        self.status = STARTING
        #: Last description from the sidecar, to rebuild the tools only when it changes.
        self.described: Any = None
        #: Set when turns need not wait for the server any longer.
        self.known = threading.Event()
        self.wait_until = time.monotonic() + FIRST_WAIT_S


class McpTools:
    """The MCP servers of all configs, updated by the sidecar.

    It connects on first use. A forked process opens its own connection.

    :param socket_path: The sidecar's socket, or empty without a sidecar.
    """

    def __init__(self, list_configs: Callable[[], Sequence[AgentConfig]], socket_path: str) -> None:
        self._list_configs = list_configs
        self._path = socket_path
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._link = PerProcess(self._begin)
        self._servers: dict[McpServerConfig, _Server] = {}

    def list_tools(self, config: AgentConfig) -> Sequence[Tool]:
        """Return the tools of a config's servers, named ``server.tool``.

        They include the last known tools of a server that is down. A call to
        them fails with an error that says so.
        """
        return [tool for server in self._iter_known(config) for tool in server.tools]

    def list_servers(self, config: AgentConfig) -> list[tuple[str, str, int]]:
        """Return each server of a config: its name, status and number of tools. Does not wait.

        The status is ``starting``, ``running``, ``down``, or empty without a sidecar.
        """
        self.start()
        found = []
        for name, server in sorted(config.mcp.items()):
            known = self._servers.get(server)
            found.append((name, known.status, len(known.tools)) if known else (name, "", 0))
        return found

    def list_prompts(self, config: AgentConfig) -> Sequence[Prompt]:
        """Return the prompts of a config's servers, named ``server.prompt``."""
        return [prompt for server in self._iter_known(config) for prompt in server.prompts]

    def _iter_known(self, config: AgentConfig) -> Iterator[_Server]:
        """Yield the servers of a config. Wait for new servers up to ``FIRST_WAIT_S``."""
        self.start()
        if config.mcp and not self._path:
            self._warn(config)
            return
        for server in config.mcp.values():
            known = self._servers.get(server)
            if known is not None:
                known.known.wait(max(0.0, known.wait_until - time.monotonic()))
                yield known

    def close(self) -> None:
        if link := self._link.current:
            link.close()

    def _warn(self, config: AgentConfig) -> None:
        if config.path not in self._warned:
            self._warned.add(config.path)
            log.error(
                "%s has MCP servers, but no MCP sidecar runs: start the server with "
                "astrbot-api serve, or a sidecar beside it (docs/mcp.rst)",
                config.path,
            )

    def start(self) -> None:
        """Let the sidecar start the configured servers if they have changed, without waiting."""
        if not self._path:
            return
        with self._lock:  # until all is sent, so that the newest configs are sent last
            used = [(one.id, server) for one in self._list_configs() for server in one.mcp.values()]
            link = self._link.get()
            if self._servers.keys() == {server for _, server in used}:
                return
            self._servers = {one: self._servers.get(one) or _Server(one) for _, one in used}
            wanted: dict[str, Any] = {}
            for config_id, server in used:
                one = self._servers[server]
                entry = wanted.setdefault(one.key, {**one.definition, "configs": []})
                entry["configs"].append(config_id)
            link.set_servers(wanted)

    def _begin(self) -> Link:
        """Drop inherited connections and state, and return a new connection."""
        for parents in self._link.inherited:
            parents.abandon()
        self._servers = {}
        return Link(
            self._path,
            on_state=self._handle,
            on_lost=self._stop_waiting,
            on_quiet=self.start,
        )

    def _handle(self, state: Mapping[str, Any]) -> None:
        """Handle a ``state`` message of the sidecar."""
        link = self._link.current
        for server in self._servers.values():
            if server.key == state["server"] and link is not None:
                _update(server, state, partial(link.call, server.key))

    def _stop_waiting(self) -> None:
        for server in self._servers.values():
            server.known.set()


def _update(server: _Server, state: Mapping[str, Any], ask: Ask) -> None:
    described = [state["tools"], state["resources"], state["prompts"]]
    if state["tools"] is not None and described != server.described:
        server.described = described
        server.tools = make_tools(server.config, state, ask)
        server.prompts = make_prompts(server.config, state["prompts"], ask)
    server.status = state["status"]
    if server.status != STARTING:
        server.known.set()
