"""All features of plugins and all built-in plugins are documented."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from astrbot_api.agent.tools import ToolContext
from astrbot_api.config.agents import (
    RESERVED_PLUGIN_NAMES,
    AgentSettings,
    ToolSettings,
    read_config,
)
from astrbot_api.plugins import hookspecs
from astrbot_api.plugins.builtin import BUILT_IN_PLUGINS
from astrbot_api.plugins.commands import CommandContext
from astrbot_api.plugins.context import Host, TurnContext
from astrbot_api.testing.plugins import list_commands, list_tools

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "plugins.rst").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", hookspecs.HOOKS)
def test_every_hook_is_documented_with_its_parameters(name: str) -> None:
    function = getattr(hookspecs, name)
    assert function.__doc__
    code = function.__code__
    assert f"``{name}({', '.join(code.co_varnames[: code.co_argcount])})``" in PAGE


@pytest.mark.parametrize("kind", BUILT_IN_PLUGINS)
def test_every_built_in_plugin_is_documented(kind: Any) -> None:
    assert f"\n``{kind.name}``\n" in PAGE
    for tool in list_tools(kind()):
        assert f"``{tool}``" in PAGE, tool
    for command in list_commands(kind()):
        assert f"``/{command}``" in PAGE, command
    schema = getattr(kind, "settings_schema", None)
    for setting in schema().fields if schema else ():
        assert f"``{setting}`` (" in PAGE, setting


@pytest.mark.parametrize("name", RESERVED_PLUGIN_NAMES)
def test_every_setting_of_the_plugins_table_is_documented(name: str) -> None:
    assert f"\n    {name} = " in PAGE
    assert f"\n    {name} = " in CONFIGURATION


@pytest.mark.parametrize("kind", [AgentSettings, ToolSettings])
def test_every_setting_of_agent_and_tools_is_documented(kind: Any) -> None:
    for item in fields(kind):
        assert f"\n    {item.name} = " in CONFIGURATION, item.name


@pytest.mark.parametrize("kind", [TurnContext, ToolContext, CommandContext, Host])
def test_everything_a_plugin_is_given_is_documented(kind: Any) -> None:
    for item in fields(kind):
        if item.name != "message_number":  # for /reset alone
            assert f"{item.name}`" in PAGE or f"{item.name}(" in PAGE, item.name


@pytest.mark.parametrize("name", ["tutor", "researcher"])
def test_the_example_configs_can_be_used(name: str) -> None:
    config = read_config(ROOT / "examples" / "configs" / f"{name}.toml", name)
    assert config.name == name
    assert "{time}" in config.agent.system_prompt
