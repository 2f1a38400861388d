"""The application of ``test_tools.py``: a plugin with slow tools."""

from __future__ import annotations

import threading
import time
from typing import Any

from flask import Flask

from astrbot_api import AstrBotAPI, Tool, create_app, hookimpl, tool

#: Number of calls of ``meet`` that return together, and the seconds that each waits.
MEETING = 100
_MEETING_S = 60

_barrier = threading.Barrier(MEETING)


class Slow:
    """Plugin with tools that wait for a second, for each other, or forever."""

    name = "slow"

    @hookimpl
    def register_tools(self) -> list[Tool]:
        """Return the tools."""
        return [
            tool(wait_a_second),
            tool(timeout_s=2 * _MEETING_S)(meet),
            tool(timeout_s=1)(never_return),
        ]


def wait_a_second() -> str:
    """Wait a second, like a network call."""
    time.sleep(1)
    return "waited"


def meet() -> str:
    """Return when a hundred calls wait here at the same time."""
    _barrier.wait(_MEETING_S)
    return "met"


def never_return() -> str:
    """Never return."""
    while True:
        time.sleep(3600)


def create_tool_app() -> Flask:
    """Return the application."""
    plugins: list[Any] = [Slow]
    return create_app(api=AstrBotAPI(plugins=plugins))
