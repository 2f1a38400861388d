"""The application of the contract tests: ours, with the recorded server's tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask

from astrbot_api import AstrBotAPI, Tool, ToolContext, create_app


def _future_task(arguments: Mapping[str, Any], context: ToolContext) -> str:
    """Answer what the recorded server's tool answered to an empty call."""
    return "error: action must be one of create, edit, delete, or list."


def create_contract_app() -> Flask:
    """Return the application with one tool, as the recordings need it."""
    tool = Tool("future_task", "Manage tasks for later.", _future_task)
    return create_app(api=AstrBotAPI(tools=[tool]))
