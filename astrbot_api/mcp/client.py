"""The tools and prompts that the MCP servers of the configs have."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..agent.tools import Tool
from ..config.agents import AgentConfig
from ..config.mcp import McpServerConfig, hash_definition
from ..runtime.per_process import PerProcess
from .link import Link
from .prompts import Prompt, make_prompts
from .tools import make_tools

log = logging.getLogger(__name__)

#: How long after a server was first wanted a turn waits for its tools, in
#: seconds. Later turns take what is known.
FIRST_WAIT_S = 2.0


class _Server:
    """What is known of one server that some config has."""

    def __init__(self, config: McpServerConfig, definition: Mapping[str, Any]) -> None:
        self.config = config
        self.definition = definition
        self.tools: tuple[Tool, ...] = ()
        self.prompts: tuple[Prompt, ...] = ()
        #: What the sidecar said of them; making them of it costs much more.
        self.described: Any = None
        #: Set once there is nothing to wait for any more.
        self.known = threading.Event()
        self.wait_until = time.monotonic() + FIRST_WAIT_S


class McpTools:
    """The MCP servers of all configs, kept up to date through the sidecar.

    Starts nothing and connects to nobody before it is first used. A forked
    process connects for itself.

    :param list_configs: Returns the configs as they are now.
    :param socket_path: The sidecar's socket; empty: there is none.
    """

    def __init__(self, list_configs: Callable[[], Sequence[AgentConfig]], socket_path: str) -> None:
        self._list_configs = list_configs
        self._path = socket_path
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._link = PerProcess(self._begin)
        self._servers: dict[str, _Server] = {}
        self._keys: dict[McpServerConfig, str] = {}

    def start(self) -> None:
        """Have the sidecar start the servers that the configs have now; waits for nothing."""
        self._sync()

    def list_tools(self, config: AgentConfig) -> Sequence[Tool]:
        """Return the tools of a config's servers, named ``server.tool``.

        Those of a server that is down are among them, as they were last
        known; called, they say so.
        """
        return [tool for server in self._iter_known(config) for tool in server.tools]

    def list_prompts(self, config: AgentConfig) -> Sequence[Prompt]:
        """Return the prompts of a config's servers, named ``server.prompt``."""
        return [prompt for server in self._iter_known(config) for prompt in server.prompts]

    def _iter_known(self, config: AgentConfig) -> Iterator[_Server]:
        """Yield the servers of a config; one that is new is waited for, but not for long."""
        self._sync()
        if not config.mcp:
            return
        if not self._path:
            self._warn(config)
            return
        for server in config.mcp.values():
            known = self._servers.get(self._keys.get(server, ""))
            if known is not None:
                known.known.wait(max(0.0, known.wait_until - time.monotonic()))
                yield known

    def close(self) -> None:
        """End the connection."""
        if link := self._link.current:
            link.close()

    def _warn(self, config: AgentConfig) -> None:
        if config.id not in self._warned:
            self._warned.add(config.id)
            log.error(
                "%s has MCP servers, but no MCP sidecar runs: start the server with "
                "astrbot-api serve, or a sidecar beside it (docs/mcp.rst)",
                config.path,
            )

    def _sync(self) -> None:
        """Notify the sidecar when the configs want other servers than before."""
        if not self._path:
            return
        configs = [server for one in self._list_configs() for server in one.mcp.values()]
        with self._lock:
            link = self._link.get()
            if self._keys.keys() == set(configs):
                return
            servers: dict[str, _Server] = {}
            keys: dict[McpServerConfig, str] = {}
            for server in configs:
                definition = server.to_definition()
                key = keys[server] = hash_definition(definition)
                servers[key] = self._servers.get(key) or _Server(server, definition)
            self._servers, self._keys = servers, keys
        link.want({key: server.definition for key, server in servers.items()})

    def _begin(self) -> Link:
        """Forget what this process has from its parent, if anything."""
        for parents in self._link.inherited:
            parents.abandon()
        self._servers, self._keys = {}, {}
        return Link(
            self._path, on_state=self._take, on_lost=self._stop_waiting, on_quiet=self._sync
        )

    def _take(self, state: Mapping[str, Any]) -> None:
        """Take in what the sidecar says of a server."""
        server, link = self._servers.get(state["server"]), self._link.current
        if server is None or link is None:
            return
        described = [state["tools"], state["resources"], state["prompts"]]
        if state["tools"] is not None and described != server.described:
            server.described = described
            server.tools = make_tools(server.config, state, state["server"], link)
            server.prompts = make_prompts(server.config, state["prompts"], state["server"], link)
        if state["status"] != "starting":
            server.known.set()

    def _stop_waiting(self) -> None:
        for server in self._servers.values():
            server.known.set()
