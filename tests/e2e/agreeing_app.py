"""The application of ``test_agreeing.py``: a plugin's tool, and a model that calls three tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flask import Flask

from astrbot_api import AstrBotAPI, Tool, create_app, hookimpl, tool
from astrbot_api.agent.provider import (
    Delta,
    ModelMessage,
    ModelOptions,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
)

#: Name and arguments of each tool: of a plugin, of an MCP server, built in.
CALLS = (
    ("greet", '{"name":"Ulla"}'),
    ("odd.echo", '{"text":"from far"}'),
    ("calculate", '{"expression":"6*7"}'),
)


class Greeter:
    """A plugin with one tool."""

    name = "greeter"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return the tool."""
        return [tool(greet)]


def greet(name: str) -> str:
    """Greet somebody.

    :param name: Who it is.
    """
    return f"Hello {name}"


class ThreeCalls:
    """Calls the three tools at once, then repeats their results."""

    def stream(
        self, messages: Sequence[ModelMessage], tools: Sequence[ToolSpec], options: ModelOptions
    ) -> Iterator[Delta]:
        """Answer one request."""
        results = [str(one["content"]) for one in messages if one["role"] == "tool"]
        if len(results) < len(CALLS):
            offered = {one["function"]["name"] for one in tools}
            missing = {name for name, _ in CALLS} - offered
            if missing:
                yield TextDelta(f"not yet: {sorted(missing)}")
                return
            yield TextDelta("Let me see. ")
            for number, (name, arguments) in enumerate(CALLS):
                yield ToolCallDelta(number, f"call{number}", name, arguments)
            return
        yield TextDelta("They said: ")
        yield TextDelta(", ".join(results[-len(CALLS) :]))


def create_agreeing_app() -> Flask:
    """Return the application."""
    plugins: list[Any] = [Greeter]
    return create_app(api=AstrBotAPI(plugins=plugins, providers={"three": ThreeCalls()}))
