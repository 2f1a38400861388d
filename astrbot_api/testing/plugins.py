"""Utilities for tests of plugins.

::

    plugin = load_plugin(Path(__file__).parent)
    assert call_tool(plugin, "greet", {"name": "Ada"}) == "Hello, Ada!"
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ..agent.cancel import Cancellation
from ..agent.toolbox import Toolbox
from ..agent.tools import Tool, ToolAttachment, ToolContext
from ..plugins.commands import Command
from ..plugins.context import TurnContext
from ..plugins.finding import FOLDER, FoundPlugin, load_folder
from ..plugins.loading import Loader


def load_plugin(plugin: Path | type) -> object:
    """Load a plugin from its class, or from the folder of its ``plugin.py``.

    :raises PluginError: when the server could not load it.
    """
    if isinstance(plugin, Path):
        folder = plugin
        name = folder.name
        found = FoundPlugin(name, FOLDER, name, lambda: load_folder(folder, name))
    else:
        kind = plugin
        found = FoundPlugin("plugin", FOLDER, kind.__name__, lambda: kind)
    return Loader().load(found)


def list_tools(plugin: object) -> dict[str, Tool]:
    """Return the tools of a plugin by name."""
    tools: Any = getattr(plugin, "register_tools", tuple)()
    return {tool.name: tool for tool in tools}


def list_commands(plugin: object) -> dict[str, Command]:
    """Return the commands of a plugin by name."""
    commands: Any = getattr(plugin, "register_commands", tuple)()
    return {command.name: command for command in commands}


def call_tool(
    plugin: object,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    attachments: tuple[ToolAttachment, ...] = (),
) -> str:
    """Call a tool as the model does, and return the result for the model."""
    context = ToolContext(
        "alice", "session", "default", Cancellation(),
        attachments=attachments, settings=dict(settings or {}),
    )  # fmt: skip
    box = Toolbox(list_tools(plugin).values(), allow=["*", name])
    return box.run(name, orjson.dumps(dict(arguments or {})).decode(), context)


def make_turn_context(settings: Mapping[str, Any] | None = None) -> TurnContext:
    """Return a context for calling a hook."""
    return TurnContext(
        "run", "alice", "session", "default", "webchat", Cancellation(), dict(settings or {})
    )
