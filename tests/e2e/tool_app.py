"""The application of the tools' end-to-end test: a plugin with a slow tool."""

from __future__ import annotations

import time
from typing import Any

from flask import Flask

from astrbot_api import AstrBotAPI, Tool, create_app, hookimpl, tool


class Slow:
    """Has a tool that takes a second and one that never returns."""

    name = "slow"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return both."""
        return [tool(wait_a_second), tool(timeout_s=1)(never_return)]


def wait_a_second() -> str:
    """Wait a second, as a network call does."""
    time.sleep(1)
    return "waited"


def never_return() -> str:
    """Wait for ever."""
    while True:
        time.sleep(3600)


def create_tool_app() -> Flask:
    """Return the application."""
    plugins: list[Any] = [Slow]
    return create_app(api=AstrBotAPI(plugins=plugins))
